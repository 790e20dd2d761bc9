#!/usr/bin/env bash
# anyio 4.16.0: calls that fail empty its `lru_cache` of all that is good, and calls at once take it over its `maxsize`.
#
# A miss first drops the oldest entry, or counts one more, and then makes the call. When that fails, what was dropped is
# gone, and nothing is put in. So while a service is down for one key, each try costs one good entry, to the last. What
# is dropped may be the place of a call that is still under way, too. It puts itself in again when it is done, so that of
# calls at once all stay: the cache is larger than it may be, stays so, and tells that it is not. And when it fails, who
# has waited for the same key gets a KeyError with the arguments, and not the error. The `lru_cache` of Python puts in
# first, and drops then. Run on trio 0.35.0; the script fails when it is not so any more.
#
# Seen:
#   maxsize 100, 99 good entries, then 100 errors of one key: 99 are calculated anew
#   the same without anyio: 0 are calculated anew
#   maxsize 1, 100 calls at once: 100 are kept, said to be 1
#   maxsize 1, two calls of one key that fail, and meanwhile one of another key: OSError, KeyError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 trio==0.35.0
cat >main.py <<'PY'
import functools
from contextlib import suppress
from importlib.metadata import version

import anyio
import anyio.functools
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

GOOD = range(99)


async def anew_after_errors() -> int:
    made = []

    @anyio.functools.lru_cache(maxsize=100)
    async def price(item: int) -> int:
        made.append(item)
        if item < 0:
            raise OSError("down")
        return item

    for item in GOOD:
        await price(item)
    for _ in range(100):
        with suppress(OSError):
            await price(-1)
    made.clear()
    for item in GOOD:
        await price(item)
    return len(made)


def anew_after_errors_without_anyio() -> int:
    made = []

    @functools.lru_cache(maxsize=100)
    def price(item: int) -> int:
        made.append(item)
        if item < 0:
            raise OSError("down")
        return item

    for item in GOOD:
        price(item)
    for _ in range(100):
        with suppress(OSError):
            price(-1)
    made.clear()
    for item in GOOD:
        price(item)
    return len(made)


async def kept_of_calls_at_once() -> str:
    made = []

    @anyio.functools.lru_cache(maxsize=1)
    async def price(item: int) -> int:
        made.append(item)
        await checkpoint()
        return item

    async with anyio.create_task_group() as tasks:
        for item in range(100):
            tasks.start_soon(price, item)
    said = price.cache_info().currsize
    made.clear()
    for item in range(100):
        await price(item)
    return f"{100 - len(made)} are kept, said to be {said}"


async def errors_of_two() -> str:
    errors = []
    down = anyio.Event()

    @anyio.functools.lru_cache(maxsize=1)
    async def price(item: int) -> int:
        if item < 0:
            await down.wait()
            raise OSError("down")
        return item

    async def ask() -> None:
        try:
            await price(-1)
        except Exception as error:
            errors.append(type(error).__name__)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(ask)
            await wait_all_tasks_blocked()
        await price(1)
        down.set()
    return ", ".join(errors)


async def main() -> None:
    print(f"anyio {version('anyio')}")
    words = "are calculated anew"
    print(f"maxsize 100, 99 good entries, then 100 errors of one key: {await anew_after_errors()} {words}")
    print(f"the same without anyio: {anew_after_errors_without_anyio()} {words}")
    print(f"maxsize 1, 100 calls at once: {await kept_of_calls_at_once()}")
    print(f"maxsize 1, two calls of one key that fail, and meanwhile one of another key: {await errors_of_two()}")


anyio.run(main, backend="trio")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anyio 4.16.0
maxsize 100, 99 good entries, then 100 errors of one key: 99 are calculated anew
the same without anyio: 0 are calculated anew
maxsize 1, 100 calls at once: 100 are kept, said to be 1
maxsize 1, two calls of one key that fail, and meanwhile one of another key: OSError, KeyError" ]
