#!/usr/bin/env bash
# pypeln 0.4.9: in a stage of tasks, an item whose function raises TimeoutError is left out, and there is no error.
#
# A stage of `pl.task` catches each TimeoutError, as that is how its own `timeout` ends an item that takes too long.
# Such an item has no result then, and no error: the list is shorter, and is taken for whole. It is caught without a
# `timeout`, too. So where a function gives up on a slow answer, which is a TimeoutError with sockets, asyncio and
# aiohttp, its item is gone, in `map` and in `each`. Another error is raised, here that of the last item. In `pl.sync`,
# `pl.thread` and `pl.process` a TimeoutError is raised as well. So catch it in the function, and give it back as a
# result. The script fails when it is not so any more.
#
# Seen, of the items 1, 2 and 3, of which the last fails:
#   task.map, ConnectionError: ConnectionError
#   task.map, TimeoutError: [1, 2]
#   task.map, takes longer than its timeout: [1, 2]
#   task.map, put in order, TimeoutError: [1, 2]
#   task.each, TimeoutError: done
#   sync.map, TimeoutError: TimeoutError
#   thread.map, TimeoutError: TimeoutError
#   process.map, TimeoutError: TimeoutError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pypeln==0.4.9 setuptools==80.9.0
cat >main.py <<'PY'
import asyncio
from collections.abc import Callable
from importlib.metadata import version

import pypeln as pl

ITEMS = [1, 2, 3]


def fails(error: type[Exception]) -> Callable[[int], int]:
    def function(item: int) -> int:
        if item == ITEMS[-1]:
            raise error("no answer")
        return item

    return function


def fails_after_a_while(error: type[Exception]) -> Callable:
    async def function(item: int) -> int:
        await asyncio.sleep(1)
        return fails(error)(item)

    return function


async def hangs(item: int) -> int:
    return item if item < ITEMS[-1] else await asyncio.Future()


def tell(name: str, run: Callable[[], object]) -> None:
    try:
        end = run()
    except Exception as error:
        end = type(error).__name__
    print(f"{name}: {end}")


def each() -> str:
    pl.task.each(fails_after_a_while(TimeoutError), ITEMS, run=True)
    return "done"


if __name__ == "__main__":
    print(f"pypeln {version('pypeln')}")
    map_, timed_out = pl.task.map, fails_after_a_while(TimeoutError)
    tell("task.map, ConnectionError", lambda: sorted(map_(fails_after_a_while(ConnectionError), ITEMS, workers=3)))
    tell("task.map, TimeoutError", lambda: sorted(map_(timed_out, ITEMS, workers=3)))
    tell("task.map, takes longer than its timeout", lambda: sorted(map_(hangs, ITEMS, workers=3, timeout=1)))
    tell("task.map, put in order, TimeoutError", lambda: list(pl.task.ordered(map_(timed_out, ITEMS, workers=3))))
    tell("task.each, TimeoutError", each)
    for kind in ["sync", "thread", "process"]:
        tell(f"{kind}.map, TimeoutError", lambda: list(getattr(pl, kind).map(fails(TimeoutError), ITEMS)))
PY
seen=$(venv/bin/python -W ignore main.py)
echo "$seen"
[ "$seen" = "pypeln 0.4.9
task.map, ConnectionError: ConnectionError
task.map, TimeoutError: [1, 2]
task.map, takes longer than its timeout: [1, 2]
task.map, put in order, TimeoutError: [1, 2]
task.each, TimeoutError: done
sync.map, TimeoutError: TimeoutError
thread.map, TimeoutError: TimeoutError
process.map, TimeoutError: TimeoutError" ]
