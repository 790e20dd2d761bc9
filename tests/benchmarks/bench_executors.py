"""What two processes gain over one, and what the manager costs beside the pool alone.

All contenders make the same calls of a pure Python loop on process pools that are up and warm, in interleaved
rounds, so that a machine that speeds up or slows down does so for all. The figures are medians over the
rounds, in milliseconds for all calls, and ratios to the pool of one process, and to the bare pool of two, of
the same round. On a machine that has fewer than two processors to spare there is little to gain.

Run it with ``python -m tests.benchmarks.bench_executors``; ``--calls``, ``--milliseconds`` and ``--rounds``
change the load.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed, wait

import trio

from trio_conman import ConMan
from trio_conman.executors import run_in_executor


def job(turns: int) -> int:
    """Keep a processor busy."""
    total = 0
    for n in range(turns):
        total += n & 7
    return total


def calibrated(milliseconds: float) -> int:
    """How many turns of the loop take so long here."""
    turns = 100_000
    spent: list[float] = []
    for _ in range(9):
        start = time.perf_counter()
        job(turns)
        spent.append(time.perf_counter() - start)
    return round(turns * milliseconds / 1000 / statistics.median(spent))


def managed(pool: ProcessPoolExecutor, calls: int, turns: int) -> int:
    """`ConMan.run` of `run_in_executor`."""

    async def main() -> int:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 8) as cm:
            for _ in range(calls):
                await cm.run(run_in_executor, pool, job, turns)
        return len(cm.outputs())

    return trio.run(main)


def completed(pool: ProcessPoolExecutor, calls: int, turns: int) -> int:
    """The pool alone, by ``submit`` and ``as_completed``."""
    futures = [pool.submit(job, turns) for _ in range(calls)]
    return len([future.result() for future in as_completed(futures)])


def mapped(pool: ProcessPoolExecutor, calls: int, turns: int) -> int:
    """The pool alone, by ``map``."""
    return len(list(pool.map(job, [turns] * calls)))


Contender = Callable[[ProcessPoolExecutor, int, int], int]
CONTENDERS: dict[str, tuple[Contender, int]] = {
    "submit, 1 process": (completed, 1),
    "manager, 1 process": (managed, 1),
    "submit, 2 processes": (completed, 2),
    "map, 2 processes": (mapped, 2),
    "manager, 2 processes": (managed, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--milliseconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    turns = calibrated(options.milliseconds)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as one, ProcessPoolExecutor(2, mp_context=spawn) as two:
        pools = {1: one, 2: two}
        for pool in pools.values():
            wait([pool.submit(job, turns) for _ in range(20)])  # every process is up, and has run it

        def measure(name: str) -> float:
            contender, processes = CONTENDERS[name]
            start = time.perf_counter()
            done = contender(pools[processes], options.calls, turns)
            spent = time.perf_counter() - start
            if done != options.calls:
                raise RuntimeError(f"{done} of {options.calls} calls came back")
            return spent * 1000

        rounds: list[dict[str, float]] = []
        for number in range(options.rounds):
            # Every other round backwards: nobody always runs after the same neighbour.
            names = list(CONTENDERS) if number % 2 else list(reversed(CONTENDERS))
            rounds.append({name: measure(name) for name in names})

    print(f"Python {sys.version.split()[0]}, trio {trio.__version__}")
    load = f"{options.calls} calls of about {options.milliseconds:g} ms"
    print(f"{load}, {options.rounds} rounds; medians (spread)\n")
    print(f"{'':22}{'ms for all':>24}{'manager, 1 = 1':>20}{'submit, 2 = 1':>20}")
    for name in CONTENDERS:
        spent = [each[name] for each in rounds]
        row = f"{name:22}{statistics.median(spent):10.0f} ({min(spent):.0f}-{max(spent):.0f})".ljust(46)
        for base in ("manager, 1 process", "submit, 2 processes"):
            ratios = [each[name] / each[base] for each in rounds]
            row += f"{statistics.median(ratios):8.3f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(row)


if __name__ == "__main__":
    main()
