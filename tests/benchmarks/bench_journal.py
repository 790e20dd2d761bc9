"""What a journal costs: the loop, an item; the disk, 100,000 items; and the opening of a million.

The first table has the processor time of the loop's own thread, in microseconds an item: by how much an item
of a map costs more when its value, of 100 characters, is stored, and when it is recalled, than without a
journal. Beside it the stores of other libraries, in processes of their own, without what runs the tasks. What
the writing thread takes is not in it; on one processor it has to be added.

The second has what a process takes that opens a journal with so many keys, and recalls every one of them.

Run it with ``python -m tests.benchmarks.bench_journal``; ``--items`` is for the first table, ``--keys`` for
the second; ``--no-rivals`` leaves out the other libraries.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from trio_conman import ConMan
from trio_conman.journal import Journal, open_journal

from .bench_memory import BETWEEN
from .measuring import ROOT, Spread, Table, child, in_turn, options, report
from .rivals_journal import VALUE, installed

PROGRAM = ROOT / "tests" / "programs" / "recalling.py"
STORED, RECALLED, SIZE = "µs stored", "µs recalled", "MB of file"


async def job(n: int) -> str:
    return VALUE


async def through(journal: Journal | None, items: int) -> float:
    """Microseconds an item of a map, of this thread."""
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 20, journal=journal) as cm:
        start = time.thread_time()
        async with cm.map(job, range(items)) as outcomes:
            async for _ in outcomes:
                pass
        return (time.thread_time() - start) / items * 1e6


async def through_file(path: Path, items: int) -> float:
    async with open_journal(path) as journal:
        return await through(journal, items)


def journal(items: int, path: Path) -> dict[str, float]:
    without = trio.run(through, None, items)
    stored, recalled = (trio.run(through_file, path, items) - without for _ in range(2))
    return {STORED: stored, RECALLED: recalled, SIZE: path.stat().st_size / 1e6}


def rival(name: str, items: int, path: Path) -> dict[str, float]:
    found = json.loads(child("-m", "tests.benchmarks.rivals_journal", name, str(items), path))
    return {STORED: found["stored"], RECALLED: found["recalled"], SIZE: found["size"] / 1e6}


def side_by_side(names: list[str], items: int, rounds: int) -> dict[str, dict[str, Spread]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in in_turn(names, number):
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory, "items")
                found[name].append(journal(items, path) if name == "journal" else rival(name, items, path))
    return {
        name: {column: Spread.of(each[column] for each in rows) for column in (STORED, RECALLED, SIZE)}
        for name, rows in found.items()
    }


def opening(keys: int) -> Mapping[str, Spread]:
    """In a process of its own, twice: with a new file, and with that of the first time."""
    with tempfile.TemporaryDirectory() as directory:
        found = [
            json.loads(
                child("-S", "-c", BETWEEN, sys.executable, PROGRAM, str(Path(directory, "keys")), str(keys))
            )
            for _ in range(2)
        ]
    return {
        "seconds to open": Spread.of([found[1]["opening"]]),
        "MiB more, storing": Spread.of([found[0]["memory"]]),
        "MiB more, recalling": Spread.of([found[1]["memory"]]),
    }


def main() -> None:
    given = options(
        __doc__,
        full={"items": 100_000, "keys": 1_000_000, "rounds": 5},
        quick={"items": 300, "keys": 1_000, "rounds": 1},
        flags={"no-rivals": "only the journal"},
    )
    names = ["journal", *([] if given.no_rivals else installed())]
    tables = {
        "journal": Table(
            "The loop's own time for an item, and the file",
            f"{given.items:,} items of 100 characters, rounds: {given.rounds}",
            [STORED, RECALLED, SIZE],
            side_by_side(names, given.items, given.rounds),
        )
    }
    if sys.platform == "win32":
        print("no peaks: Windows has no getrusage()\n")
    else:
        row = opening(given.keys)
        tables["journal_opening"] = Table(
            "A process that goes on with a great job",
            "values of 100 characters",
            [*row],
            {f"{given.keys:,} keys": row},
        )
    report(tables, given.json)


if __name__ == "__main__":
    main()
