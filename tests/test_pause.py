"""pause and resume: nothing starts in between."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from trio_conman import ConMan, Failure, RetriableError, RetryConfig, StopReason, Success


async def job(n: int, seconds: float, record: list[Any]) -> int:
    record.append((n, trio.current_time()))
    await trio.sleep(seconds)
    return n


class Flaky:
    """Fails until it was called so often, each time to be called again `delay` seconds later."""

    def __init__(self, calls: int, delay: float, *, hold_slot: bool = False) -> None:
        self.left = calls
        self.calls: list[float] = []
        self.config = RetryConfig.linear(
            initial_delay=delay, backoff_factor=0, max_delay=delay, hold_slot=hold_slot
        )

    async def execute(self) -> int:
        self.calls.append(trio.current_time())
        self.left -= 1
        if self.left:
            raise RetriableError("again", retry_config=self.config)
        return -1


@each_kind
async def test_nothing_starts_while_paused(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        # Staggered: tasks that start in one tick run in any order.
        cm.start_soon(job, 0, 1, record)
        await wait_all_tasks_blocked()
        cm.start_soon(job, 1, 3, record)
        cm.start_soon(job, 2, 1, record)
        await trio.sleep(0.5)
        cm.pause()
        nursery.start_soon(cm.run, job, 3, 0.5, record)
        await wait_all_tasks_blocked()
        cm.start_soon(job, 4, 1, record)
        await trio.sleep(4)
        statistics = cm.statistics()
        assert (statistics.running, statistics.queued, statistics.waiting) == (0, 2, 1)
        # To say it twice is to say it once.
        cm.pause()
        cm.resume()
        cm.resume()
        await cm.wait()
        assert trio.current_time() == 6
    assert record[:2] == [(0, 0), (1, 0)]
    assert sorted(record[2:]) == [(2, 4.5), (3, 4.5), (4, 5)]
    assert sorted(cm.outputs()) == [0, 1, 2, 3, 4]


@each_kind
async def test_run_nowait_would_block_though_slots_are_free(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        cm.pause()
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, 0, 1, record)
        assert cm.statistics().submitted == 0
        cm.resume()
        cm.run_nowait(job, 1, 1, record)
    assert record == [(1, 0)]


@each_kind
async def test_a_map_draws_nothing_while_paused(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    drawn: list[float] = []

    def items() -> Any:
        for n in range(4):
            drawn.append(trio.current_time())
            yield n

    async def item(n: int) -> int:
        await trio.sleep(1)
        return n

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:

        async def pauses() -> None:
            await trio.sleep(0.5)
            cm.pause()
            await trio.sleep(5)
            cm.resume()

        nursery.start_soon(pauses)
        async with cm.map(item, items()) as outcomes:
            async for _ in outcomes:
                record.append(trio.current_time())
    assert drawn == [0, 0, 5.5, 5.5]
    assert record == [1, 1, 6.5, 6.5]


@each_kind
async def test_a_retry_that_gave_its_slot_back_is_held_too(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    flaky = Flaky(3, delay=1)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        cm.start_soon(job, 0, 3.5, record)
        handle = cm.start_soon(flaky)
        await trio.sleep(0.5)
        cm.pause()
        queued = cm.start_soon(job, 1, 1, record)
        await trio.sleep(2)
        assert (handle.state, queued.state) == ("backing_off", "queued")
        assert cm.statistics().backing_off == 1
        cm.resume()
        # It goes first: only one slot is free.
        assert queued.state == "queued"
    assert flaky.calls == [0, 2.5, 3.5]
    assert record == [(0, 0), (1, 2.5)]


@pytest.mark.parametrize("delay, hold_slot", [(1, True), (0, False)])
async def test_a_retry_that_kept_its_slot_goes_on(
    delay: float, hold_slot: bool, autojump_clock: MockClock
) -> None:
    flaky = Flaky(4, delay, hold_slot=hold_slot)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handle = await cm.run(flaky)
        cm.pause()
        assert isinstance(await handle.wait(), Success)
    assert flaky.calls == [n * delay for n in range(4)]


@each_kind
async def test_who_is_held_can_still_be_cancelled(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(3)) as cm:
        by_handle = await cm.run(Flaky(2, delay=1))
        by_timeout = await cm.run(Flaky(2, delay=1), task_timeout=5)
        await trio.sleep(0.5)
        cm.pause()
        with trio.move_on_after(2) as scope:
            await cm.run(job, 0, 1, record)
        assert scope.cancelled_caught
        assert trio.current_time() == 2.5
        by_handle.cancel()
        outcome = await by_handle.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.reason, str(outcome.error)) == (StopReason.CANCELLED, "again")
        assert trio.current_time() == 2.5
        outcome = await by_timeout.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.reason, str(outcome.error)) == (StopReason.TASK_TIMEOUT, "again")
        assert trio.current_time() == 5
        # Paused, with nothing to do: at once.
        await cm.wait()
    assert trio.current_time() == 5
    assert record == []


@each_kind
async def test_leaving_the_block_resumes(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    flaky = Flaky(2, delay=0.5)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        await cm.run(flaky)
        cm.pause()
        for n in range(3):
            cm.start_soon(job, n, 1, record)
        nursery.start_soon(cm.run, job, 3, 1, record)
        await trio.sleep(2)
        assert record == []
        with trio.move_on_after(1):
            await cm.wait()
        assert trio.current_time() == 3
    assert flaky.calls == [0, 3]
    assert sorted(cm.outputs()) == [-1, 0, 1, 2, 3]
    assert trio.current_time() == 5


@each_kind
@pytest.mark.parametrize("how", ["cancel", "timeout", "error"])
async def test_a_paused_manager_ends_as_any_other(
    how: str, limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    managers: list[ConMan[int]] = []

    async def block() -> None:
        async with trio.open_nursery() as nursery:
            timeout = 3 if how == "timeout" else math.inf
            async with ConMan[int].open(nursery, limit_of(2), timeout=timeout) as cm:
                managers.append(cm)
                await cm.run(Flaky(2, delay=1), retry=RetryConfig(initial_delay=1, jitter=False))
                await trio.sleep(0.5)
                cm.pause()
                cm.start_soon(job, 0, 1, record)
                await trio.sleep(2.5)
                if how == "cancel":
                    cm.cancel()
                elif how == "error":
                    raise KeyError(how)
                await trio.sleep_forever()

    if how == "error":
        with pytest.RaisesGroup(KeyError):
            await block()
    else:
        await block()
    assert trio.current_time() == 3
    assert record == []
    (cm,) = managers
    assert cm.statistics().failed == cm.statistics().submitted == 2
    # After the end both are without effect.
    cm.pause()
    cm.resume()


async def test_the_tokens_of_a_given_limiter_are_for_others_meanwhile(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        for n in range(4):
            cm.start_soon(job, n, 1, record)
        await wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        cm.pause()
        await wait_all_tasks_blocked()
        # Nobody waits in the limiter for a slot that could not be used.
        assert limiter.statistics().tasks_waiting == 0
        await trio.sleep(2)
        assert limiter.borrowed_tokens == 0
        async with limiter:
            limiter.acquire_on_behalf_of_nowait("another one")
            cm.resume()
            await wait_all_tasks_blocked()
            assert limiter.statistics().tasks_waiting == 1
            await trio.sleep(1)
        await trio.sleep(2)
        limiter.release_on_behalf_of("another one")
    # One token came back at 3, and served one after the other.
    assert sorted(record[:2]) == [(0, 0), (1, 0)]
    assert record[2:] == [(2, 3), (3, 4)]


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_token_granted_as_the_pause_begins_goes_back(
    resumed: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        for name in ("a", "b"):
            limiter.acquire_on_behalf_of_nowait(name)
        for n in range(2):
            cm.start_soon(job, n, 1, record)
        await wait_all_tasks_blocked()
        # In one step: the limiter grants a token, and it is wanted no more.
        limiter.release_on_behalf_of("a")
        assert limiter.borrowed_tokens == 2
        cm.pause()
        if resumed:
            cm.resume()
        await wait_all_tasks_blocked()
        assert [n for n, _ in record] == ([0] if resumed else [])
        assert limiter.borrowed_tokens == 1 + resumed
        assert limiter.statistics().tasks_waiting == resumed
        cm.pause()
        await trio.sleep(2)
        assert limiter.borrowed_tokens == 1
        cm.resume()
        await trio.sleep(5)
        limiter.release_on_behalf_of("b")
    assert record == ([(0, 0), (1, 2)] if resumed else [(0, 2), (1, 3)])


@each_kind
async def test_tasks_may_pause_resume_and_resize(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:

        async def steering() -> None:
            cm.pause()
            cm.limit = 5
            await trio.sleep(2)
            cm.resume()
            await trio.sleep(1)
            cm.limit = 2

        cm.start_soon(steering)
        await wait_all_tasks_blocked()
        for n in range(7):
            cm.start_soon(job, n, 3, record)
        await trio.sleep(3.5)  # leaving the block would resume
        assert cm.limit == 2
    # Five slots from t=2 on, one of them the steering task's until t=3, when there are two.
    assert [time for _, time in record] == [2, 2, 2, 2, 5, 5, 8]
    assert {n for n, _ in record[:4]} == {0, 1, 2, 3}


@each_kind
async def test_the_last_task_before_a_pause_may_end_it(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:

        async def interlude() -> None:
            cm.pause()
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(job, 0, 1, record)
            cm.start_soon(job, 1, 1, record)
            await trio.sleep(3)
            cm.resume()
            await cm.run(job, 2, 1, record)
            record.append(("interlude", trio.current_time()))

        cm.start_soon(interlude)
        await cm.wait()
        assert trio.current_time() == 5
    assert record in ([(1, 3), (2, 4), ("interlude", 4)], [(1, 3), ("interlude", 4), (2, 4)])


@each_kind
async def test_a_limit_lowered_during_a_pause_holds_after_it(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(4)) as cm:
        for n in range(8):
            cm.start_soon(job, n, 1 if n < 4 else 2, record)
        cm.pause()
        await trio.sleep(0.5)
        cm.limit = 3
        await trio.sleep(2.5)
        # Those whose slots wait here are not running any more.
        cm.limit = 2
        assert cm.statistics().running == 0
        cm.resume()
    assert [time for _, time in record] == [0, 0, 0, 0, 3, 3, 5, 5]


@each_kind
async def test_a_limit_raised_during_a_pause_counts_when_it_ends(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        cm.pause()
        for n in range(6):
            cm.start_soon(job, n, 10, record)
        await trio.sleep(1)
        cm.limit = 4
        await trio.sleep(1)
        assert record == []
        cm.resume()
        await wait_all_tasks_blocked()
        assert sorted(record) == [(n, 2) for n in range(4)]
    assert [time for _, time in record] == [2, 2, 2, 2, 12, 12]


@each_kind
async def test_a_map_that_is_paused_as_its_workers_are_hired_draws_nothing(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    def items() -> Iterator[int]:
        for number in range(3):
            record.append((trio.current_time(), number))
            yield number

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:
        async with cm.map(trio.sleep, items()) as outcomes:
            cm.pause()
            await trio.sleep(5)
            cm.resume()
            assert [outcome.args[0] async for outcome in outcomes] == [0, 1, 2]
    assert record == [(5, 0), (5, 1), (5, 2)]
