#!/usr/bin/env bash
# async-lru 2.4.0: a call that is repeated at once after a time limit is neither kept nor shared.
#
# It is documented that calls with one key at the same time make one call of the function. When the only one who waits
# for a call gives up, the call is cancelled, and its entry is dropped; and when the cancelled call has ended, the
# entry of its key is dropped once more, whatever is in there by then. That is a turn or two of the event loop later,
# or as long as its `finally` takes. So where a caller tries again at once, as retries do after a time limit, the
# second call is dropped while it is under way: who comes then makes a third one, and when the second has its result,
# that is not found. It is the same with `cache_invalidate`, when the call that was under way fails in the end: the
# good value that was put in meanwhile is dropped. A pause before the second call helps, of a few turns where nothing
# is cleaned up. No clock is waited for here. The script fails when it is not so any more.
#
# Seen, of a call that is given up and repeated, and 9 more with its key while that is under way, how often it is made:
#   repeated after a pause: 2
#   repeated at once: 3
#   repeated after a pause, the first cleans up: 3
#   invalidated while under way, repeated and done, then the first fails, and one more: 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check async-lru==2.4.0
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

from async_lru import alru_cache


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def given_up(*, pause: bool, cleans_up: bool = False) -> int:
    made = 0
    answer, cleaned_up = asyncio.Event(), asyncio.Event()

    @alru_cache
    async def read(key: str) -> str:
        nonlocal made
        made += 1
        if made > 1:
            await answer.wait()
            return "value"
        try:
            return await asyncio.Future()
        finally:
            if cleans_up:
                await cleaned_up.wait()

    async def caller() -> str:
        try:
            async with asyncio.timeout(0):
                return await read("key")
        except TimeoutError:
            if pause:
                await turns()
            return await read("key")

    callers = [asyncio.create_task(caller())]
    while made < 2:
        await asyncio.sleep(0)
    cleaned_up.set()
    await turns()
    callers += [asyncio.create_task(read("key")) for _ in range(9)]
    await turns()
    answer.set()
    assert set(await asyncio.gather(*callers)) == {"value"}
    return made


async def invalidated() -> int:
    made = 0
    answer = asyncio.get_running_loop().create_future()

    @alru_cache
    async def read(key: str) -> str:
        nonlocal made
        made += 1
        return await answer if made == 1 else "value"

    first = asyncio.create_task(read("key"))
    await turns()
    read.cache_invalidate("key")
    assert await read("key") == "value"
    answer.set_exception(ConnectionError())
    await asyncio.gather(first, return_exceptions=True)
    assert await read("key") == "value"
    return made


async def main() -> None:
    print(f"async-lru {version('async-lru')}")
    print(f"repeated after a pause: {await given_up(pause=True)}")
    print(f"repeated at once: {await given_up(pause=False)}")
    print(f"repeated after a pause, the first cleans up: {await given_up(pause=True, cleans_up=True)}")
    print(f"invalidated while under way, repeated and done, then the first fails, and one more: {await invalidated()}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "async-lru 2.4.0
repeated after a pause: 2
repeated at once: 3
repeated after a pause, the first cleans up: 3
invalidated while under way, repeated and done, then the first fails, and one more: 3" ]
