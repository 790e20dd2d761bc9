"""What `run` costs beside the block that people write by hand.

All contenders run the same no-op task (one checkpoint) in one process, in interleaved rounds, so that a
machine that speeds up or slows down does so for all. The figures are medians over the rounds, in microseconds
a task, and ratios to the hand-written pattern of the same round.

Run it with ``nox -s bench``; ``--tasks``, ``--limit`` and ``--rounds`` change the load.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from trio_conman import ConMan, RetryConfig


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


CONTENDERS: dict[str, Callable[[int, int], Awaitable[int]]] = {
    "by hand": by_hand,
    "by hand, a scope each": by_hand_with_scopes,
    "run": run,
    "run, retries configured": run_with_retries,
    "run, both timeouts": run_with_timeouts,
}


def measure(contender: Callable[[int, int], Awaitable[int]], tasks: int, limit: int) -> float:
    """Microseconds a task."""
    gc.collect()
    start = time.perf_counter()
    done = trio.run(contender, tasks, limit)
    spent = time.perf_counter() - start
    if done != tasks:
        raise RuntimeError(f"{done} of {tasks} tasks came back")
    return spent / tasks * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
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
    print(f"{'':26}{'µs a task':>18}{'by hand = 1':>20}{'with scopes = 1':>20}")
    for name in CONTENDERS:
        spent = [each[name] for each in rounds]
        row = f"{name:26}{statistics.median(spent):7.2f} ({min(spent):.1f}-{max(spent):.1f})".ljust(46)
        for base in ("by hand", "by hand, a scope each"):
            ratios = [each[name] / each[base] for each in rounds]
            row += f"{statistics.median(ratios):8.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(row)


if __name__ == "__main__":
    main()
