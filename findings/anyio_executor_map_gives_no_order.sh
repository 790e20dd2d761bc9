#!/usr/bin/env bash
# anyio-executor 0.1.1: `await executor.map(...)` gives the results in the order in which they came, not in the input's.
#
# The `map` of the standard library's executors gives the results in the order of the input, and nothing is said here of
# another one. But all results go into one queue, and the list is what comes out of it, with nothing that says which is
# which: zipped with the input, each may go to another. With one worker, and where all take the same time, as in a test,
# the order is right. The functions have to give back their arguments with their results. And an item whose error goes to
# `exc_handler` puts nothing into the queue, so that whoever awaits the list waits for one more for good. Time is virtual
# here.
#
# Seen on trio, of functions that take 3, 1 and 2 s and give these back:
#   4 workers: [1, 2, 3]
#   1 worker: [3, 1, 2]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiologic==0.17.1 anyio==4.16.0 anyio-executor==0.1.1 trio==0.35.0
cat >main.py <<'PY'
from importlib.metadata import version

import trio
import trio.testing
from anyio_executor import Executor

SECONDS = [3, 1, 2]


async def take(seconds: int) -> int:
    await trio.sleep(seconds)
    return seconds


async def results(workers: int) -> list[int]:
    async with Executor(workers) as executor:
        return await executor.map(take, SECONDS)


print(f"anyio-executor {version('anyio-executor')} on trio")
for workers, words in (4, "4 workers"), (1, "1 worker"):
    print(f"{words}: {trio.run(results, workers, clock=trio.testing.MockClock(autojump_threshold=0))}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anyio-executor 0.1.1 on trio
4 workers: [1, 2, 3]
1 worker: [3, 1, 2]" ]
