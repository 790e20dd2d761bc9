"""Runs so many items through a journal, and prints what it took: seconds to open it, and MiB at the peak.

python recalling.py FILE ITEMS
"""

import json
import resource
import sys
import time
from pathlib import Path

import trio

sys.path.append(str(Path(__file__).parents[2]))
from tests.journaled import run  # found by the line above
from trio_conman.journal import open_journal


def peak() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


async def job(n: int) -> str:
    return "x" * 100


async def main(path: str, items: int) -> None:
    before, start = peak(), time.perf_counter()
    async with open_journal(path) as journal:
        opening = time.perf_counter() - start
        for n in range(items):
            await run(journal, job, n)
            if n % 100 == 0:  # lets the journal tell what it has written
                await trio.lowlevel.checkpoint()
    print(json.dumps({"opening": opening, "memory": peak() - before}))


trio.run(main, sys.argv[1], int(sys.argv[2]))
