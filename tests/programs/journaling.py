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
from collections.abc import Iterator
from pathlib import Path

import trio

sys.path.append(str(Path(__file__).parents[2]))
from tests.journaled import run  # found by the line above
from trio_conman.journal import JournalError, open_journal


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main(given: argparse.Namespace) -> None:
    async def work(item: int) -> str:
        if given.break_at and item == int(given.break_at[0]):
            Path(given.break_at[1]).touch()
        await trio.sleep(random.random() / 1000)
        return f"value of {item} " + "x" * 100

    async def worker(items: Iterator[int]) -> None:
        for item in items:
            try:
                value, recalled = await run(journal, work, item)
            except JournalError as error:
                say(f"failed {item} {time.monotonic()} {error}")
            else:
                assert value == f"value of {item} " + "x" * 100
                say(f"{'recalled' if recalled else 'ran'} {item} {time.monotonic()}")

    async with open_journal(given.file, durable=given.durable) as journal:
        say("open")
        if given.hold:
            await trio.to_thread.run_sync(sys.stdin.read)
        async with trio.open_nursery() as nursery:
            items = iter(range(0 if given.hold else given.items))
            for _ in range(10):
                nursery.start_soon(worker, items)


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
