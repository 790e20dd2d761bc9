"""Most of what a manager does, once, checked without `assert`, which ``python -O`` leaves out.

    python everything.py plain|guest|mock

On trio's own loop, as a guest of asyncio, or on a virtual clock. Exits with a text when something is wrong.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import outcome
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, Outcome, RateLimiter, RetriableError, RetryBudget, RetryConfig

RETRY = RetryConfig.linear(initial_delay=0.01, max_delay=0.01)


def must(what: str, is_so: object) -> None:
    if not is_so:
        sys.exit(f"not so: {what}")


async def square(number: int) -> int:
    await trio.sleep(0.01)
    return number * number


async def numbers() -> AsyncIterator[int]:
    for number in range(4):
        yield number


class Flaky:
    left = 2

    async def execute(self) -> str:
        await trio.lowlevel.checkpoint()
        if self.left:
            self.left -= 1
            raise RetriableError(OSError("busy"))
        return "done"


async def results(nursery: trio.Nursery) -> None:
    async with ConMan[Any].open(
        nursery, 2, retry=RETRY, rate=RateLimiter(1_000, burst=10), retry_budget=RetryBudget(10)
    ) as cm:
        await cm.run(Flaky(), name="flaky")
        for number in range(3):
            await cm.run(square, number)
        cm.start_soon(trio.sleep_forever, attempt_timeout=0.02, retry=RetryConfig.none(max_attempts=1))
        handle = cm.start_soon(trio.sleep_forever)
        await trio.sleep(0.3)
        handle.cancel("enough")
    must("outputs", sorted(map(str, cm.outputs())) == ["0", "1", "4", "done"])
    reasons = sorted(each.reason.name for each in cm.outcomes() if isinstance(each, Failure))
    must("reasons", reasons == ["ATTEMPT_TIMEOUT", "CANCELLED"])
    statistics = cm.statistics()
    must("retries", statistics.retries == 3)
    must("nothing left", (statistics.running, statistics.queued, statistics.backing_off) == (0, 0, 0))


async def streams(nursery: trio.Nursery) -> None:
    async with ConMan[int].open(nursery, 2) as cm:
        for source in (range(4), numbers()):
            async with cm.map(square, source, ordered=True) as outcomes:
                must(
                    "ordered",
                    [each.value async for each in outcomes if not isinstance(each, Failure)] == [0, 1, 4, 9],
                )
        async with cm.map(square, iter(int, 1)) as endless:
            async for _ in endless:
                break
    send, receive = trio.open_memory_channel[Outcome[int]](0)
    taken: list[Outcome[int]] = []

    async def take() -> None:
        async for each in receive:
            taken.append(each)

    async with trio.open_nursery() as taking:
        taking.start_soon(take)
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            for number in range(5):
                await cm.run(square, number)
    must("sent", len(taken) == 5 and not cm.outcomes())


async def ends(nursery: trio.Nursery) -> None:
    async with ConMan[None].open(nursery, 2, timeout=0.05) as cm:
        while True:
            await cm.run(trio.sleep_forever)
    must("timed out", cm.timed_out and len(cm.errors()) == 2)
    async with ConMan[None].open(nursery, 2) as cm:
        await cm.run(trio.sleep_forever)
        await cm.shutdown(grace=0.01)
    must(
        "shut down",
        [each.reason.name for each in cm.outcomes() if isinstance(each, Failure)] == ["CANCELLED"],
    )
    try:
        async with ConMan[None].open(nursery, 2, max_errors=0) as cm:
            await cm.run(square, None)  # which fails
            await trio.sleep_forever()
    except* TypeError as group:
        must("one error", len(group.exceptions) == 1)
    else:
        must("an error", False)


async def main() -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await results(nursery)
            await streams(nursery)
            await ends(nursery)
    print("all is well")


async def host() -> None:
    """asyncio, with trio as its guest."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
    )
    (await ended).unwrap()


if __name__ == "__main__":
    if sys.argv[1] == "guest":
        asyncio.run(host())
    else:
        trio.run(main, clock=MockClock(autojump_threshold=0) if sys.argv[1] == "mock" else None)
