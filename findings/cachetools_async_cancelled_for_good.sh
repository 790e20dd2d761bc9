#!/usr/bin/env bash
# cachetools-async 0.0.5: when what a cached function waits for is cancelled, each later call with its key is cancelled.
#
# It keeps a future for each key, and makes the call anew where that has an error. But a future that is cancelled is
# asked for its error in the same way, and raises CancelledError in place of telling one. A function ends so when it
# waits for a task that is cancelled, as the one that connects is in a pool that closes and opens again. From then on,
# for as long as the cache keeps it, each who calls with that key gets a CancelledError at once, and nothing is called.
# That is no Exception: `except Exception` lets it through, and in a TaskGroup a task that ends so is taken for one
# that was cancelled: the group ends well, and the work of all is not done. An error of the function is not kept; and a
# caller that is cancelled itself does no harm, as its call goes on. So turn a CancelledError that is not the caller's
# into an error in the function. The script fails when it is not so any more.
#
# Seen, of a cached call whose connection fails, or is cancelled; then calls with the same key, with all well again:
#   fails: ConnectionError, then each time value; a TaskGroup of 3: no error, 3 values; called 2
#   its caller is cancelled: CancelledError, then each time value; a TaskGroup of 3: no error, 3 values; called 1
#   is cancelled: CancelledError, then each time CancelledError; a TaskGroup of 3: no error, 0 values; called 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cachetools==5.5.2 cachetools-async==0.0.5
cat >main.py <<'PY'
import asyncio
from collections.abc import Awaitable
from importlib.metadata import version

from cachetools import TTLCache
from cachetools_async import cached


async def end_of(call: Awaitable[str]) -> str:
    try:
        return await call
    except (Exception, asyncio.CancelledError) as error:
        return type(error).__name__


async def tell(name: str) -> None:
    called = 0
    connection = asyncio.get_running_loop().create_future()

    @cached(TTLCache(maxsize=100, ttl=3600))
    async def read(key: str) -> str:
        nonlocal called
        called += 1
        if called == 1:
            await connection
        return "value"

    first = asyncio.create_task(end_of(read("key")))
    while not called:
        await asyncio.sleep(0)
    if name == "fails":
        connection.set_exception(ConnectionError())
    elif name == "is cancelled":
        connection.cancel()
    else:
        first.cancel()
    end = await first
    if not connection.done():
        connection.set_result(None)
    (later,) = {await end_of(read("key")) for _ in range(3)}
    values = []

    async def work() -> None:
        values.append(await read("key"))

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(work())
    print(f"{name}: {end}, then each time {later}; a TaskGroup of 3: no error, {len(values)} values; called {called}")


async def main() -> None:
    print(f"cachetools-async {version('cachetools-async')}")
    for name in ["fails", "its caller is cancelled", "is cancelled"]:
        await tell(name)


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "cachetools-async 0.0.5
fails: ConnectionError, then each time value; a TaskGroup of 3: no error, 3 values; called 2
its caller is cancelled: CancelledError, then each time value; a TaskGroup of 3: no error, 3 values; called 1
is cancelled: CancelledError, then each time CancelledError; a TaskGroup of 3: no error, 0 values; called 1" ]
