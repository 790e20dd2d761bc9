"""Runs random programs by the thousand, and prints the seed of one that fails.

    python -m tests.simulate --histories 100000
    python -m tests.simulate --seed 123

Each program is made from its seed, runs once, in virtual time and with trio's order of tasks seeded, and is
compared with what must hold: see `machine` and `machine_witness`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import attrs

from .machine_journal import Overnight
from .machine_seeded import program

CHUNK = 250
# What programs that failed have left: tasks of trio that never end. If those were collected while the next
# program runs in this process, their clean-up would act on its run, which may then never end either.
LEFT: list[BaseException] = []


@attrs.define
class Tally:
    """What came of some programs."""

    histories: int = 0
    counts: Counter[str] = attrs.field(factory=Counter)
    failed: tuple[int, str] | None = None

    def add(self, other: Tally) -> None:
        self.histories += other.histories
        self.counts += other.counts
        if other.failed is not None and (self.failed is None or other.failed[0] < self.failed[0]):
            self.failed = other.failed


def simulate(seed: int) -> Counter[str]:
    """Run the program of that seed; return what it exercised."""
    world = program(seed)
    if isinstance(world, Overnight):
        return world.run()
    world.run()
    counts: Counter[str] = Counter()
    counts["Ctrl-C"] += world.interrupts
    for cast in world.witnesses:
        if cast.highest:
            now = cast.cm.statistics()
            counts["tasks"] += now.submitted
            counts["succeeded"] += now.succeeded
            counts["cancelled"] += now.cancelled
            counts["retries"] += now.retries
            counts["items of maps"] += sum(entry.started is not None for each in cast.maps for entry in each)
            counts["timed out"] += cast.cm.timed_out
    return counts


def simulate_some(first: int, number: int) -> Tally:
    """The programs of some seeds, until one fails."""
    # Broken instruments are logged each time.
    logging.getLogger("trio_conman").addHandler(logging.NullHandler())
    logging.getLogger("trio_conman").propagate = False
    tally = Tally()
    for seed in range(first, first + number):
        try:
            tally.counts += simulate(seed)
        except BaseException as error:
            tally.failed = (seed, traceback.format_exc())
            LEFT.append(error)
            break
        tally.histories += 1
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--histories", type=int, default=100_000, help="how many programs")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--seed", type=int, help="only the program of this seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if given.seed is not None:
        print(program(given.seed))
        simulate(given.seed)
        return 0
    start, tally = time.monotonic(), Tally()
    firsts = range(given.first, given.first + given.histories, CHUNK)
    with ProcessPoolExecutor(given.processes) as pool:
        for each in pool.map(partial(simulate_some, number=min(CHUNK, given.histories)), firsts):
            tally.add(each)
            if tally.failed is not None:
                pool.shutdown(cancel_futures=True)
                break
            print(f"\r{tally.histories:,} histories", end="", flush=True)
    spent = time.monotonic() - start
    print(f"\n{spent:.0f} s, {tally.histories / spent:.0f} a second")
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(tally.counts.items())))
    if tally.failed is None:
        return 0
    seed, text = tally.failed
    print(f"{text}\nthe program of seed {seed} failed; run it again: python -m tests.simulate --seed {seed}")
    print("More than once, if need be: which task of a tick trio runs first is a matter of chance.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
