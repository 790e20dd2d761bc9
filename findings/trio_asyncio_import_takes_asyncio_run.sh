#!/usr/bin/env bash
# trio-asyncio 0.16.0: importing it changes asyncio for the whole process, also where trio does not run.
#
# After the import `asyncio.run` of code that knows nothing of trio makes a loop of trio-asyncio, and in a trio task
# without such a loop `asyncio.get_event_loop()` returns None, where it made a loop before. So what a driver for asyncio
# says when it is used on trio by mistake depends on whether anything has imported trio-asyncio: errors turn
# from "no running event loop" into `'NoneType' object has no attribute …`.
# Run on Python 3.11 and 3.13 with trio 0.35.0; the script fails when it is not so any more. On 3.14.10 the import
# raises an AttributeError: asyncio has renamed the class that its policy for loops is made of.
#
# Seen:
#   before the import: asyncio.run has a _UnixSelectorEventLoop, asyncio.Future() on trio: a Future
#   after the import: asyncio.run has a SyncTrioEventLoop, asyncio.Future() on trio: AttributeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check trio==0.35.0 trio-asyncio==0.16.0
cat >main.py <<'PY'
import asyncio
import warnings

import trio

warnings.simplefilter("ignore", DeprecationWarning)


async def loop_of_asyncio() -> str:
    return type(asyncio.get_running_loop()).__name__


async def future_on_trio() -> str:
    try:
        return f"a {type(asyncio.Future()).__name__}"
    except Exception as exc:
        return type(exc).__name__


def tell(when: str) -> None:
    future = trio.run(future_on_trio)
    print(f"{when} the import: asyncio.run has a {asyncio.run(loop_of_asyncio())}, asyncio.Future() on trio: {future}")


tell("before")
import trio_asyncio

tell("after")
PY
seen=$(venv/bin/python main.py)
echo "trio-asyncio 0.16.0"
echo "$seen"
[ "$seen" = "before the import: asyncio.run has a _UnixSelectorEventLoop, asyncio.Future() on trio: a Future
after the import: asyncio.run has a SyncTrioEventLoop, asyncio.Future() on trio: AttributeError" ]
