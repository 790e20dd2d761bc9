#!/usr/bin/env bash
# py-memoize 3.1.1: a task that is cancelled in a call of a memoized function is not cancelled, but fails.
#
# The CancelledError of the call is caught along with all errors, and what comes out is a CachedMethodFailedException,
# which says that a refresh failed. So asyncio does not see that the task did as it was told: a task that handles that
# error, as one does whose service may fail, goes on after it was cancelled, and asks again; `asyncio.timeout` raises no
# TimeoutError; and a TaskGroup that cancels its tasks as one of them failed has an error more for each of them. Whoever
# waits for the same value at that time gets an AttributeError, as the CancelledError is taken for the value there. To look
# at `__cause__` in each `except` helps, where one knows of it.
#
# Seen:
#   a task that was cancelled: cancelled() False, CachedMethodFailedException caused by CancelledError
#   asyncio.timeout around a call: CachedMethodFailedException
#   a worker that handles errors, cancelled: goes on, and makes 1 call more
#   another that waits for the same value: AttributeError
#   a group with a KeyError, and a call beside it: CachedMethodFailedException, KeyError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check py-memoize==3.1.1
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

from memoize.exceptions import CachedMethodFailedException
from memoize.wrapper import memoize

calls = 0


@memoize()
async def price(article: str) -> str:
    global calls
    calls += 1
    await asyncio.sleep(5)
    return "value"


async def some_rounds() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def main() -> None:
    print(f"py-memoize {version('py-memoize')}")
    task, other = asyncio.create_task(price("bread")), asyncio.create_task(price("bread"))
    await some_rounds()
    task.cancel()
    error, other_error = await asyncio.gather(task, other, return_exceptions=True)
    cause = type(error.__cause__).__name__
    print(f"a task that was cancelled: cancelled() {task.cancelled()}, {type(error).__name__} caused by {cause}")

    try:
        async with asyncio.timeout(0.1):
            await price("butter")
    except Exception as error:
        print(f"asyncio.timeout around a call: {type(error).__name__}")

    stopped = False

    async def worker() -> None:
        while not stopped:
            try:
                await price("salt")
            except CachedMethodFailedException:
                pass

    task = asyncio.create_task(worker())
    await some_rounds()
    before = calls
    task.cancel()
    await some_rounds()
    end = "ends" if task.done() else "goes on"
    print(f"a worker that handles errors, cancelled: {end}, and makes {calls - before} call more")
    print(f"another that waits for the same value: {type(other_error).__name__}")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(price("milk"))
            await some_rounds()
            raise KeyError
    except* Exception as errors:
        names = sorted(type(error).__name__ for error in errors.exceptions)
        print(f"a group with a KeyError, and a call beside it: {', '.join(names)}")
    stopped = True
    task.cancel()
    await task


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "py-memoize 3.1.1
a task that was cancelled: cancelled() False, CachedMethodFailedException caused by CancelledError
asyncio.timeout around a call: CachedMethodFailedException
a worker that handles errors, cancelled: goes on, and makes 1 call more
another that waits for the same value: AttributeError
a group with a KeyError, and a call beside it: CachedMethodFailedException, KeyError" ]
