"""A job with a journal, which says what came of each item when it is published: ran, recalled, or failed.

    python journaling.py FILE ITEMS [--durable] [--size BYTES] [--nobody] [--break-at ITEM FLAG] [--hold]

With --size no file may grow beyond it, as on a disk that is full; with --nobody it gives up the rights of
root; --break-at makes a file in the middle, by which the test's stand-in for the disk begins to fail. With
--hold it waits for the end of its input in place of all work.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import trio

sys.path.append(str(Path(__file__).parents[2]))
from trio_conman import ConMan, Failure  # found by the line above
from trio_conman.journal import JournalError, open_journal


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main(given: argparse.Namespace) -> None:
    async def work(item: int) -> str:
        if given.break_at and item == int(given.break_at[0]):
            Path(given.break_at[1]).touch()
        await trio.sleep(random.random() / 1000)
        return f"value of {item} " + "x" * 100

    async with open_journal(given.file, durable=given.durable) as journal:
        say("open")
        if given.hold:
            await trio.to_thread.run_sync(sys.stdin.read)
        async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 10, journal=journal) as cm:
            async with cm.map(work, range(0 if given.hold else given.items)) as outcomes:
                async for outcome in outcomes:
                    (item,) = outcome.args
                    if isinstance(outcome, Failure):
                        say(f"failed {item} {time.monotonic()} {outcome.error}")
                    else:
                        assert outcome.value == f"value of {item} " + "x" * 100
                        say(f"{'recalled' if outcome.recalled else 'ran'} {item} {time.monotonic()}")


parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("items", type=int)
parser.add_argument("--durable", action="store_true")
parser.add_argument("--size", type=int)
parser.add_argument("--nobody", action="store_true")
parser.add_argument("--break-at", nargs=2)
parser.add_argument("--hold", action="store_true")
arguments = parser.parse_args()
if arguments.size:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.size, arguments.size))
if arguments.nobody and os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
if arguments.hold:
    sys.stdin.readline()
try:
    trio.run(main, arguments)
except JournalError as error:
    sys.exit(str(error))
