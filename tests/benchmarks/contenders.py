"""The contenders that run on trio: the blocks that people write by hand, and the manager's doors.

All of them run the same no-op task: one checkpoint.
"""

import math
from collections.abc import Awaitable, Callable

import trio

from trio_conman import ConMan, KeyedLimit, Outcome, RateLimiter, RetryConfig

from .measuring import Contender

Job = Callable[[int], Awaitable[int]]


async def job(n: int) -> int:
    await trio.lowlevel.checkpoint()
    return n


async def by_hand(tasks: int, limit: int, job: Job = job) -> int:
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


async def by_hand_spawned_first(tasks: int, limit: int) -> int:
    """The same, but every task is there from the start, and waits for the limiter itself."""
    limiter = trio.CapacityLimiter(limit)
    results: list[int] = []

    async def worker(n: int) -> None:
        async with limiter:
            results.append(await job(n))

    async with trio.open_nursery() as nursery:
        for n in range(tasks):
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


async def run(tasks: int, limit: int, job: Job = job) -> int:
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


def start_soon_with_keys(keys: float) -> Contender:
    """`ConMan.start_soon` with a limit by key that no key is held up by, for so many keys."""

    async def started(tasks: int, limit: int) -> int:
        each = KeyedLimit(limit, key=lambda n: n % keys)
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit, per_key=each) as cm:
            for n in range(tasks):
                cm.start_soon(job, n)
        return len(cm.outputs())

    return started


async def start_soon_by_priority(tasks: int, limit: int) -> int:
    """`ConMan.start_soon` with ten priorities, mixed."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit) as cm:
        for n in range(tasks):
            cm.start_soon(job, n, priority=n % 10)
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


BY_HAND: dict[str, Contender] = {
    "by hand": by_hand,
    "by hand, a scope each": by_hand_with_scopes,
    "by hand, all spawned first": by_hand_spawned_first,
    "pool of workers": pool,
}
LIBRARY: dict[str, Contender] = {
    "run": run,
    "run, retries configured": run_with_retries,
    "run, both timeouts": run_with_timeouts,
    "run, rate not limiting": run_with_rate,
    "run, send_to": run_with_send_to,
    "start_soon": start_soon,
    "start_soon, one key": start_soon_with_keys(1),
    "start_soon, 1,000 keys": start_soon_with_keys(1_000),
    "start_soon, a key each": start_soon_with_keys(math.inf),
    "start_soon, priorities": start_soon_by_priority,
    "map": mapped,
    "map, ordered": mapped_in_order,
}


def aiometer_contenders() -> dict[str, Contender]:
    """aiometer on trio, where it is installed."""
    try:
        import aiometer
    except ImportError:
        return {}

    async def run_on_each(tasks: int, limit: int) -> int:
        results: list[int] = []

        async def each(n: int) -> None:  # run_on_each() drops what it returns
            results.append(await job(n))

        await aiometer.run_on_each(each, range(tasks), max_at_once=limit)
        return len(results)

    async def amap(tasks: int, limit: int) -> int:
        done = 0
        async with aiometer.amap(job, range(tasks), max_at_once=limit) as results:
            async for _ in results:
                done += 1
        return done

    return {"aiometer run_on_each": run_on_each, "aiometer amap": amap}
