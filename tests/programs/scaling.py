"""One thing in a great number, and what it takes.

    python scaling.py {items,handles,waiters,managers,queue,limit} COUNT

Prints, as JSON, the processor time in seconds, of all threads together, and by how many MiB the peak of the
memory has grown. The garbage collector is off: how often it looks at all there is would be a part of how the
time grows, and it would find nothing, since no task leaves a cycle behind. One that does shows in the memory.
"""

import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from trio_conman import ConMan, KeyedLimit, RateLimiter, Success, TaskHandle, as_completed
from trio_conman.journal import open_journal

MANY = 10**12


async def work(number: int) -> int:
    return number


def key(number: int) -> int:
    return number % 1_000


async def items(count: int) -> int:
    """Through a map, with keys, a rate that holds up nobody, and a journal."""
    total = 0
    rate = RateLimiter(MANY, burst=MANY)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            open_journal(Path(directory, "journal")) as journal,
            trio.open_nursery() as nursery,
            ConMan[int].open(nursery, 20, rate=rate, per_key=KeyedLimit(5, key=key), journal=journal) as cm,
            cm.map(work, range(count)) as outcomes,
        ):
            async for outcome in outcomes:
                assert isinstance(outcome, Success)
                total += 1
    return total


async def handles(count: int) -> int:
    """In the order in which they end."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 20) as cm:
        queued = [cm.start_soon(work, number) for number in range(count)]
        return len([handle.outcome async for handle in as_completed(queued)])


async def waiters(count: int) -> int:
    """Handles, each of them awaited by a trio task."""
    results: list[int] = []

    async def take(handle: TaskHandle[int]) -> None:
        results.append(await handle.result())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 20) as cm:
        async with trio.open_nursery() as waiting:
            for number in range(count):
                waiting.start_soon(take, cm.start_soon(work, number))
    return len(results)


async def managers(count: int) -> int:
    """Open all at once, on one limiter, five tasks each."""
    limiter = trio.CapacityLimiter(20)
    done = opened = 0
    all_open = trio.Event()

    async def manager() -> None:
        nonlocal done, opened
        async with trio.open_nursery() as own, ConMan[int].open(own, limiter) as cm:
            opened += 1
            if opened == count:
                all_open.set()
            await all_open.wait()
            for number in range(5):
                cm.start_soon(work, number)
            await cm.wait()
            done += len(cm.outputs())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(manager)
    assert done == 5 * count
    return count


async def queue(count: int) -> int:
    """Queued all at once; what becomes of them is kept."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 20) as cm:
        for number in range(count):
            cm.start_soon(work, number)
        await cm.wait()
        return len(cm.outputs())


async def limit(count: int) -> int:
    """So many at once, twice."""
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, count) as cm:
        for _ in range(2):
            running = 0
            full = trio.Event()

            async def fill(full: trio.Event) -> None:
                nonlocal running
                running += 1
                if running == count:
                    full.set()
                await full.wait()

            for _ in range(count):
                cm.start_soon(fill, full)
            await cm.wait()
        assert len(cm.outputs()) == 2 * count
    return count


CASES: dict[str, Callable[[int], Awaitable[int]]] = {
    each.__name__: each for each in (items, handles, waiters, managers, queue, limit)
}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


case, count = sys.argv[1], int(sys.argv[2])
gc.disable()
memory, start = peak(), time.process_time()
assert trio.run(CASES[case], count) == count
print(json.dumps({"seconds": time.process_time() - start, "memory": peak() - memory}))
