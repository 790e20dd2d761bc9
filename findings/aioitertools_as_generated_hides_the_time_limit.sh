#!/usr/bin/env bash
# aioitertools 0.13.0: past a time limit, `as_generated` ends as if all had come; and of five errors it gives one.
#
# It merges async iterables as their values come, and takes a cancellation for a reason to end. So the loop around it ends
# well, with what had come by then. An `asyncio.timeout` sees no CancelledError, and so raises no TimeoutError; a task that
# is cancelled goes on, and has a result. A download in parts is cut off, and passes for a whole one. With
# `return_exceptions=True` all errors are to be given beside the values. It looks for one error, then for all values, and
# when there are none, and all iterables have ended, it is at its end, whatever errors are left. And without it, an error
# comes before the values that came before it, which are dropped. No clock is waited for here. Run on asyncio of Python
# 3.11 or newer; the script fails when it is not so any more.
#
# Seen:
#   a time limit after 2 of 3 values: [1, 2], no TimeoutError
#   a task that is cancelled after 2 of 3 values: result [1, 2]
#   five iterables that fail, return_exceptions=True: 1 error
#   an iterable that gives 1 and 2, and fails: [], OSError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aioitertools==0.13.0
cat >main.py <<'PY'
import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version

from aioitertools.asyncio import as_generated


async def hangs() -> AsyncIterator[int]:
    yield 1
    yield 2
    await asyncio.Event().wait()
    yield 3


async def fails(*values: int) -> AsyncIterator[int]:
    for value in values:
        yield value
    raise OSError("down")


async def with_time_limit() -> str:
    came = []
    try:
        async with asyncio.timeout(None) as limit:
            async for value in as_generated([hangs()]):
                came.append(value)
                if value == 2:
                    limit.reschedule(asyncio.get_running_loop().time())
    except TimeoutError:
        return f"{came}, TimeoutError"
    return f"{came}, no TimeoutError"


async def cancelled() -> str:
    two = asyncio.Event()

    async def read() -> list[int]:
        came = []
        async for value in as_generated([hangs()]):
            came.append(value)
            if value == 2:
                two.set()
        return came

    task = asyncio.create_task(read())
    await two.wait()
    task.cancel()
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else f"result {task.result()}"


async def errors_of_five() -> int:
    return len([each async for each in as_generated([fails() for _ in range(5)], return_exceptions=True)])


async def before_an_error() -> str:
    came = []
    try:
        async for value in as_generated([fails(1, 2)]):
            came.append(value)
    except OSError:
        return f"{came}, OSError"
    return f"{came}"


async def main() -> None:
    print(f"aioitertools {version('aioitertools')}")
    print(f"a time limit after 2 of 3 values: {await with_time_limit()}")
    print(f"a task that is cancelled after 2 of 3 values: {await cancelled()}")
    print(f"five iterables that fail, return_exceptions=True: {await errors_of_five()} error")
    print(f"an iterable that gives 1 and 2, and fails: {await before_an_error()}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "aioitertools 0.13.0
a time limit after 2 of 3 values: [1, 2], no TimeoutError
a task that is cancelled after 2 of 3 values: result [1, 2]
five iterables that fail, return_exceptions=True: 1 error
an iterable that gives 1 and 2, and fails: [], OSError" ]
