#!/usr/bin/env bash
# anyio-ext 0.2.0: of a cached function, the call with -2 gets the result of the one with -1.
#
# The key of an entry is the hash of the arguments, and nothing else is kept to compare. In Python -1 and -2 have the
# same hash, and so have all whole numbers that are 2**61 - 1 apart. So two numbers may share one entry, with no error.
# A dict, and so `functools.lru_cache`, compares as well. And the time to live is rounded to whole seconds, and taken
# for "for good" where it is 0 as a number: half a second is not kept at all, a second and a half is two, and 0 never
# ends. A function of `key_fns` that makes a text of the number helps. Time is virtual here.
#
# Seen on trio, the call and then its result:
#   -1: value of -1; -2: value of -1
#   0: value of 0; 2305843009213693951: value of 0
#   -1: value of -1; -2: value of -2 (with key_fns of str)
#   asked each 0.1 s for 10 s: ttl=1: 10 calls; 0.5 s: 100 calls; 1.5 s: 5 calls; ttl=0: 1 call
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 anyio-ext==0.2.0 trio==0.35.0
cat >main.py <<'PY'
from datetime import timedelta
from importlib.metadata import version

import trio
import trio.testing
from anyio_ext import cached


async def values(*numbers: int, **options: object) -> str:
    @cached(**options)
    async def value(number: int) -> str:
        return f"value of {number}"

    return "; ".join([f"{number}: {await value(number)}" for number in numbers])


async def calls(ttl: timedelta | int) -> str:
    count = 0

    @cached(ttl=ttl)
    async def call() -> None:
        nonlocal count
        count += 1

    for _ in range(100):
        await call()
        await trio.sleep(0.1)
    return f"{count} call{'s' if count > 1 else ''}"


async def main() -> None:
    print(f"anyio-ext {version('anyio-ext')} on trio")
    print(await values(-1, -2))
    print(await values(0, 2**61 - 1))
    print(f"{await values(-1, -2, key_fns={'number': str})} (with key_fns of str)")
    half, more = [timedelta(seconds=seconds) for seconds in (0.5, 1.5)]
    words = {"ttl=1": 1, "0.5 s": half, "1.5 s": more, "ttl=0": 0}
    seen = "; ".join([f"{name}: {await calls(ttl)}" for name, ttl in words.items()])
    print(f"asked each 0.1 s for 10 s: {seen}")


trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anyio-ext 0.2.0 on trio
-1: value of -1; -2: value of -1
0: value of 0; 2305843009213693951: value of 0
-1: value of -1; -2: value of -2 (with key_fns of str)
asked each 0.1 s for 10 s: ttl=1: 10 calls; 0.5 s: 100 calls; 1.5 s: 5 calls; ttl=0: 1 call" ]
