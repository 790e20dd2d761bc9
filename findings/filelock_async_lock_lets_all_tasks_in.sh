#!/usr/bin/env bash
# filelock 4.3.1: an AsyncFileLock that three tasks share lets all three in at once.
#
# The lock may be taken again by who has it, and who has it is the object, not the task: the second task that enters
# only counts up. It keeps out other processes, and other objects for the same file; the tasks that it was made once for
# it keeps apart in no way, and `is_singleton=True` makes one object of all. Its neighbour AsyncReadWriteLock belongs to a
# task. So make an AsyncFileLock where it is entered, or hold an asyncio.Lock around it.
#
# Seen:
#   AsyncFileLock, one for all tasks: 3 inside at once
#   AsyncFileLock, one for each task, is_singleton: 3 inside at once
#   AsyncFileLock, one for each task: 1 inside at once
#   AsyncReadWriteLock, one for all tasks, to write: 1 inside at once
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check filelock==4.3.1
cat >main.py <<'PY'
import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from filelock import AsyncFileLock, AsyncReadWriteLock

TASKS = 3


async def most(lock: Callable[[], AbstractAsyncContextManager]) -> str:
    inside = seen = 0

    async def work() -> None:
        nonlocal inside, seen
        async with lock():
            inside += 1
            seen = max(seen, inside)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(TASKS)))
    return f"{seen} inside at once"


async def main() -> None:
    one = AsyncFileLock("one.lock")
    print(f"AsyncFileLock, one for all tasks: {await most(lambda: one)}")
    same = await most(lambda: AsyncFileLock("same.lock", is_singleton=True))
    print(f"AsyncFileLock, one for each task, is_singleton: {same}")
    print(f"AsyncFileLock, one for each task: {await most(lambda: AsyncFileLock('each.lock'))}")
    neighbour = AsyncReadWriteLock("neighbour.lock")
    print(f"AsyncReadWriteLock, one for all tasks, to write: {await most(neighbour.write_lock)}")
    await neighbour.close()


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "filelock 4.3.1"
echo "$seen"
[ "$seen" = "AsyncFileLock, one for all tasks: 3 inside at once
AsyncFileLock, one for each task, is_singleton: 3 inside at once
AsyncFileLock, one for each task: 1 inside at once
AsyncReadWriteLock, one for all tasks, to write: 1 inside at once" ]
