#!/usr/bin/env bash
# aiometer 1.0.0: `run_any` runs all of its functions to their ends, and returns when the slowest is done.
#
# It is documented to run functions until the first is done, and to give that one's result. It does take the first
# result, but then leaves a task group, which waits for all that was started, and starts what waits for a slot as well.
# So of a fast answer and one that takes a minute it gives the fast one after a minute; ten mirrors with `max_at_once=1`,
# to ask one after the other until one answers, are all asked; and an error of one that is not needed any more takes the
# result's place. To leave the loop over `amap` by `break` is no different. A cancel scope around it helps, in which the
# result is put aside and the rest is cancelled. Time is virtual here.
#
# Seen on trio:
#   run_any of 1 s and 60 s: result 1, after 60 s
#   run_any of ten that take 1 s, max_at_once=1: result 1, after 10 s, ended 10
#   run_any of 1 s, and of one that fails after 60 s: OSError, after 60 s
#   amap over 1 s and 60 s, left after the first: result 1, after 60 s
#   amap left after the first, in a scope that is cancelled: result 1, after 1 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiometer==1.0.0 anyio==4.16.0 trio==0.35.0
cat >main.py <<'PY'
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

import aiometer
import trio
import trio.testing

ended = 0


async def take(seconds: float) -> int:
    global ended
    await trio.sleep(seconds)
    ended += 1
    return ended


async def fail(seconds: float) -> int:
    await trio.sleep(seconds)
    raise OSError("no answer")


async def first_of_map(seconds: list[float]) -> int | None:
    async with aiometer.amap(take, seconds) as results:
        async for result in results:
            break
    return result


async def first_and_cancel(seconds: list[float]) -> int | None:
    with trio.CancelScope() as scope:
        async with aiometer.amap(take, seconds) as results:
            async for result in results:
                scope.cancel()
                break
    return result


def tell(name: str, function: Callable[..., Awaitable[object]], *args: object, **options: object) -> None:
    async def main() -> str:
        start = trio.current_time()
        try:
            end = f"result {await function(*args, **options)}"
        except OSError as error:
            end = type(error).__name__
        return f"{name}: {end}, after {trio.current_time() - start:.0f} s, ended {ended}"

    global ended
    ended = 0
    print(trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)))


print(f"aiometer {version('aiometer')} on trio")
fast, slow = partial(take, 1), partial(take, 60)
tell("run_any of 1 s and 60 s", aiometer.run_any, [fast, slow])
tell("run_any of ten that take 1 s, max_at_once=1", aiometer.run_any, [fast] * 10, max_at_once=1)
tell("run_any of 1 s, and of one that fails after 60 s", aiometer.run_any, [fast, partial(fail, 60)])
tell("amap over 1 s and 60 s, left after the first", first_of_map, [1, 60])
tell("amap left after the first, in a scope that is cancelled", first_and_cancel, [1, 60])
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "aiometer 1.0.0 on trio
run_any of 1 s and 60 s: result 1, after 60 s, ended 2
run_any of ten that take 1 s, max_at_once=1: result 1, after 10 s, ended 10
run_any of 1 s, and of one that fails after 60 s: OSError, after 60 s, ended 1
amap over 1 s and 60 s, left after the first: result 1, after 60 s, ended 2
amap left after the first, in a scope that is cancelled: result 1, after 1 s, ended 1" ]
