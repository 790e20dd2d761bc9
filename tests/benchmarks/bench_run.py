"""What the manager costs beside the block that people write by hand, and how that grows.

All contenders run the same no-op task (one checkpoint) in one process, in interleaved rounds, so that a
machine that speeds up or slows down does so for all. The figures are medians over the rounds, in microseconds
a task, and ratios to the hand-written pattern of the same round.

A second table has the cost of a task for more and more tasks, with the manager's default limit of 10. Opening
a manager and starting the workers of a map is in it, as it is in what users pay: with a limit of 100 that is
about 2 ms, and shows where tasks do nothing and are as few as 1,000.

Run it with ``nox -s bench``; ``--tasks``, ``--limit`` and ``--rounds`` change the load, ``--growth`` is the
largest number of tasks in the second table.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from trio_conman import ConMan, Outcome, RateLimiter, RetryConfig


async def job(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return n


async def by_hand(tasks: int, limit: int) -> int:
    """A nursery, a limiter, and a list."""
    limiter = trio.CapacityLimiter(limit)
    results: list[int] = []

    async def worker(n: int) -> None:
        try:
            results.append(await job(n))
        finally:
            limiter.release_on_behalf_of(n)

    async with trio.open_nursery() as nursery:
        for n in range(tasks):
            await limiter.acquire_on_behalf_of(n)
            nursery.start_soon(worker, n)
    return len(results)


async def by_hand_with_scopes(tasks: int, limit: int) -> int:
    """The same with a cancel scope for each task."""
    limiter = trio.CapacityLimiter(limit)
    results: list[int] = []

    async def worker(n: int) -> None:
        try:
            with trio.CancelScope():
                results.append(await job(n))
        finally:
            limiter.release_on_behalf_of(n)

    async with trio.open_nursery() as nursery:
        for n in range(tasks):
            await limiter.acquire_on_behalf_of(n)
            nursery.start_soon(worker, n)
    return len(results)


async def pool(tasks: int, limit: int) -> int:
    """The floor: as many trio tasks as the limit, over one iterator."""
    items = iter(range(tasks))
    results: list[int] = []

    async def worker() -> None:
        for n in items:
            results.append(await job(n))  # as people write it

    async with trio.open_nursery() as nursery:
        for _ in range(limit):
            nursery.start_soon(worker)
    return len(results)


async def run(tasks: int, limit: int) -> int:
    """`ConMan.run`."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit) as cm:
        for n in range(tasks):
            await cm.run(job, n)
    return len(cm.outputs())


async def run_with_retries(tasks: int, limit: int) -> int:
    """`ConMan.run` with a retry config."""
    config = RetryConfig(retry_on=OSError)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit, retry=config) as cm:
        for n in range(tasks):
            await cm.run(job, n)
    return len(cm.outputs())


async def run_with_timeouts(tasks: int, limit: int) -> int:
    """`ConMan.run` with both timeouts of a task."""
    async with (
        trio.open_nursery() as nursery,
        ConMan[int].open(nursery, limit, attempt_timeout=60, task_timeout=300) as cm,
    ):
        for n in range(tasks):
            await cm.run(job, n)
    return len(cm.outputs())


async def run_with_rate(tasks: int, limit: int) -> int:
    """`ConMan.run` with a rate limiter that never makes anybody wait."""
    rate = RateLimiter(1e9, burst=tasks)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit, rate=rate) as cm:
        for n in range(tasks):
            await cm.run(job, n)
    return len(cm.outputs())


async def start_soon(tasks: int, limit: int) -> int:
    """`ConMan.start_soon`."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit) as cm:
        for n in range(tasks):
            cm.start_soon(job, n)
    return len(cm.outputs())


async def run_with_send_to(tasks: int, limit: int) -> int:
    """`ConMan.run`, the outcomes sent to a channel."""
    send, receive = trio.open_memory_channel[Outcome[int]](limit)
    done = 0
    async with trio.open_nursery() as nursery:

        async def feed() -> None:
            async with ConMan[int].open(nursery, limit, send_to=send) as cm:
                for n in range(tasks):
                    await cm.run(job, n)

        nursery.start_soon(feed)
        async for _ in receive:
            done += 1
    return done


async def mapped(tasks: int, limit: int, *, ordered: bool = False) -> int:
    """`ConMan.map`."""
    done = 0
    async with (
        trio.open_nursery() as nursery,
        ConMan[int].open(nursery, limit) as cm,
        cm.map(job, range(tasks), ordered=ordered) as outcomes,
    ):
        async for _ in outcomes:
            done += 1
    return done


async def mapped_in_order(tasks: int, limit: int) -> int:
    """`ConMan.map` with ``ordered=True``."""
    return await mapped(tasks, limit, ordered=True)


CONTENDERS: dict[str, Callable[[int, int], Awaitable[int]]] = {
    "by hand": by_hand,
    "by hand, a scope each": by_hand_with_scopes,
    "pool of workers": pool,
    "run": run,
    "run, retries configured": run_with_retries,
    "run, both timeouts": run_with_timeouts,
    "run, rate not limiting": run_with_rate,
    "run, send_to": run_with_send_to,
    "start_soon": start_soon,
    "map": mapped,
    "map, ordered": mapped_in_order,
}
GROWING = ("run, send_to", "map", "map, ordered")


def measure(contender: Callable[[int, int], Awaitable[int]], tasks: int, limit: int) -> float:
    """Microseconds a task, without the start of trio."""

    async def timed() -> float:
        start = time.perf_counter()
        done = await contender(tasks, limit)
        spent = time.perf_counter() - start
        if done != tasks:
            raise RuntimeError(f"{done} of {tasks} tasks came back")
        return spent / tasks * 1e6

    gc.collect()
    return trio.run(timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--growth", type=int, default=1_000_000)
    options = parser.parse_args()

    for contender in CONTENDERS.values():
        measure(contender, options.tasks // 10, options.limit)
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        # Every other round backwards: nobody always runs after the same neighbour.
        names = list(CONTENDERS) if number % 2 else list(reversed(CONTENDERS))
        rounds.append({name: measure(CONTENDERS[name], options.tasks, options.limit) for name in names})

    print(f"Python {sys.version.split()[0]}, trio {trio.__version__}")
    print(f"{options.tasks} no-op tasks, limit {options.limit}, {options.rounds} rounds; medians (spread)\n")
    bases = ("by hand", "by hand, a scope each", "pool of workers")
    print(f"{'':26}{'µs a task':>18}{'by hand = 1':>20}{'with scopes = 1':>20}{'pool = 1':>20}")
    for name in CONTENDERS:
        spent = [each[name] for each in rounds]
        row = f"{name:26}{statistics.median(spent):7.2f} ({min(spent):.1f}-{max(spent):.1f})".ljust(46)
        for base in bases:
            ratios = [each[name] / each[base] for each in rounds]
            row += f"{statistics.median(ratios):8.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(row)
    spent = [each["run, rate not limiting"] - each["run"] for each in rounds]
    print(
        f"\nthe rate limiter's cost when it does not limit, µs an attempt: {statistics.median(spent):.2f} "
        f"({min(spent):.2f} to {max(spent):.2f})"
    )
    print_growth(options.growth)


def print_growth(most: int, limit: int = 10) -> None:
    """The cost of a task when there are more and more of them."""
    numbers = [10**power for power in range(3, 10) if 10**power <= most]
    print(f"\nµs a task, by the number of tasks, limit {limit} (medians)\n")
    print(f"{'':26}" + "".join(f"{number:>12,}" for number in numbers))
    for name in GROWING:
        spent: dict[int, list[float]] = {number: [] for number in numbers}
        for _ in range(5):
            for number in numbers:
                # The first one finds the processor's caches full of other things.
                times = max(1, 20_000 // number)
                few = [measure(CONTENDERS[name], number, limit) for _ in range(times + 1)]
                spent[number].append(statistics.median(few[1:]))
        print(f"{name:26}" + "".join(f"{statistics.median(each):12.2f}" for each in spent.values()))


if __name__ == "__main__":
    main()
