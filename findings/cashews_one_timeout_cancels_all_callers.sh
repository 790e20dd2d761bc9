#!/usr/bin/env bash
# cashews 7.6.0: when one caller of a cached function is cancelled, all that wait for the same value are cancelled, too.
#
# By default, `@cache` makes one call for all tasks that ask for the same value at the same time, so that a service is
# not asked by all of them. They all await one task, and to cancel a task that awaits another one cancels that. So a
# single caller with a short timeout, or a request whose client has gone, ends the call for all, and the others get a
# CancelledError that nobody sent them. That is worse than an error: asyncio takes such a task for one that was cancelled
# on purpose, so that a TaskGroup ends without an error, and without the value. `asyncio.shield` around each call helps,
# and so does `protected=False`, at the price of a call for each task. async-lru 2.4.0 goes on for the others.
#
# Seen, three tasks of a TaskGroup that ask at the same time, of which one has too short a timeout:
#   cashews: the group ends well; told: cancelled, timeout, cancelled; calls begun 1, ended 0
#   cashews, protected=False: the group ends well; told: value, timeout, value; calls begun 3, ended 2
#   async-lru: the group ends well; told: value, timeout, value; calls begun 1, ended 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check async-lru==2.4.0 cashews==7.6.0
cat >main.py <<'PY'
import asyncio
from collections.abc import Callable
from importlib.metadata import version

from async_lru import alru_cache
from cashews import cache


async def told(cached: Callable[[Callable], Callable]) -> str:
    begun, ended = 0, 0
    answer = asyncio.Event()

    @cached
    async def price(article: str) -> str:
        nonlocal begun, ended
        begun += 1
        await answer.wait()
        ended += 1
        return "value"

    async def impatient() -> str:
        try:
            async with asyncio.timeout(1):
                return await price("bread")
        except TimeoutError:
            return "timeout"
        finally:
            answer.set()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in (price("bread"), impatient(), price("bread"))]
        end = "the group ends well"
    except* Exception:
        end = "the group fails"
    words = ["cancelled" if task.cancelled() else task.result() for task in tasks]
    return f"{end}; told: {', '.join(words)}; calls begun {begun}, ended {ended}"


async def main() -> None:
    cache.setup("mem://")
    print(f"cashews {version('cashews')}: {await told(cache(ttl='1m'))}")
    await cache.clear()
    print(f"cashews, protected=False: {await told(cache(ttl='1m', protected=False))}")
    print(f"async-lru {version('async-lru')}: {await told(alru_cache)}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "cashews 7.6.0: the group ends well; told: cancelled, timeout, cancelled; calls begun 1, ended 0
cashews, protected=False: the group ends well; told: value, timeout, value; calls begun 3, ended 2
async-lru 2.4.0: the group ends well; told: value, timeout, value; calls begun 1, ended 1" ]
