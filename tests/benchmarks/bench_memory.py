"""What memory a waiting task takes, and how the peak grows with the length of a stream.

The first table has bytes a task, as `tracemalloc` counts them: tasks that `start_soon` has queued because
every slot is taken, beside trio tasks that wait in a nursery, which is how a hand-written block queues. Each
task has one argument, a number that was there before and is not counted. And what a worker takes that is
idle: so many of them are kept as ran at once, but no more than a thousand.

The second has the peak of the resident memory of a child process, in MiB, for a short stream and a long one.

Run it with ``python -m tests.benchmarks.bench_memory``; ``--tasks`` is how many wait, ``--few`` and
``--many`` are the lengths of the streams.
"""

import gc
import math
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence

import trio
from trio.testing import wait_all_tasks_blocked

from trio_conman import ConMan
from trio_conman._engine.pool import MAX_IDLE

from .measuring import ROOT, Spread, Table, child, options, report, rounds_of

PROGRAM = ROOT / "tests" / "programs" / "streaming.py"
# A process that is started begins with the peak of the one that started it, which may be more than it will
# ever need itself. So between this process and the program there is a small one.
BETWEEN = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
MODES = {"map": "map", "map, ordered": "ordered", "run, send_to": "send_to"}

BYTES = "bytes a task"


async def forever(n: int) -> None:
    await trio.sleep_forever()


async def queued(numbers: Sequence[int]) -> int:
    """Queued by `ConMan.start_soon`."""
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        for number in range(2):
            await cm.run(forever, number)
        before = traced()
        for number in numbers:
            cm.start_soon(forever, number)
        spent = traced() - before
        cm.cancel()
    return spent


async def parked(numbers: Sequence[int]) -> int:
    """A trio task each, asleep."""
    async with trio.open_nursery() as nursery:
        before = traced()
        for number in numbers:
            nursery.start_soon(forever, number)
        await wait_all_tasks_blocked()
        spent = traced() - before
        nursery.cancel_scope.cancel()
    return spent


async def limited(numbers: Sequence[int]) -> int:
    """A trio task each, asleep in a `CapacityLimiter`."""
    limiter = trio.CapacityLimiter(1)

    async def worker(number: int) -> None:
        async with limiter:
            await forever(number)

    async with trio.open_nursery() as nursery, limiter:
        before = traced()
        for number in numbers:
            nursery.start_soon(worker, number)
        await wait_all_tasks_blocked()
        spent = traced() - before
        nursery.cancel_scope.cancel()
    return spent


async def idle(numbers: Sequence[int]) -> int:
    """Workers of a manager that have ended their tasks, each of which was forgotten."""
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, math.inf) as cm:
        release = trio.Event()
        before = traced()
        for _ in numbers:
            cm.start_soon(release.wait)
        await wait_all_tasks_blocked()
        release.set()
        await wait_all_tasks_blocked()
        cm.pop_outcomes()
        gc.collect()
        return traced() - before


WAITING: dict[str, Callable[[Sequence[int]], Awaitable[int]]] = {
    "queued by start_soon": queued,
    "trio task, asleep": parked,
    "trio task, in a limiter": limited,
}


def traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def bytes_a_task(waiting: Callable[[Sequence[int]], Awaitable[int]], tasks: int) -> float:
    numbers = list(range(10**6, 10**6 + tasks))
    gc.collect()
    tracemalloc.start()
    try:
        return trio.run(waiting, numbers) / tasks
    finally:
        tracemalloc.stop()


def peak(mode: str, count: int) -> float:
    """The peak of a program that pours so many items through a manager, in MiB."""
    printed = child("-S", "-c", BETWEEN, sys.executable, PROGRAM, mode, str(count))
    _, units = map(int, printed.split())
    return units / 2**20 if sys.platform == "darwin" else units / 2**10


def main() -> None:
    given = options(
        __doc__,
        full={"tasks": 100_000, "few": 10_000, "many": 1_000_000, "rounds": 1},
        quick={"tasks": 1_000, "few": 100, "many": 1_000, "rounds": 1},
    )
    waiting = {name: {BYTES: Spread.of([bytes_a_task(each, given.tasks)])} for name, each in WAITING.items()}
    waiting["idle worker"] = {BYTES: Spread.of([bytes_a_task(idle, min(given.tasks, MAX_IDLE))])}
    tables = {
        "memory_waiting": Table("What a waiting task takes", f"{given.tasks:,} tasks", [BYTES], waiting)
    }
    if sys.platform == "win32":
        print("no peaks: Windows has no getrusage()\n")
    else:
        columns = {f"{count:,} items": count for count in (given.few, given.many)}
        measures = {
            f"{name}: {column}": lambda mode=mode, count=count: peak(mode, count)
            for name, mode in MODES.items()
            for column, count in columns.items()
        }
        rounds = rounds_of(measures, given.rounds)
        tables["memory_peaks"] = Table(
            "Peak of the process, MiB",
            f"limit 10, rounds: {given.rounds}",
            list(columns),
            {
                name: {column: Spread.of(each[f"{name}: {column}"] for each in rounds) for column in columns}
                for name in MODES
            },
        )
    report(tables, given.json)


if __name__ == "__main__":
    main()
