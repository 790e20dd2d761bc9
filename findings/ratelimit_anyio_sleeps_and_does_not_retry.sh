#!/usr/bin/env bash
# ratelimit-anyio 0.2.0: `sleep_and_retry` sleeps, does not retry, and gives None: of four orders, two are never placed.
#
# It takes a limit of retries, documented as 1 by default. It is the number of calls, and after each that is refused it
# sleeps until the limit is open again, also after the last. So by default a call that is refused waits for its turn,
# and then is given up, with None as its result and no error; with a limit of 2, of four that are refused at once, one
# gets through at each turn, and those that were refused twice are lost in the same way. Only a limit of 0, which is
# none, does what the name says. And where it says that there are no more than 10 calls within any 10 seconds, there are
# twice as many: 10 at the end of its 10 seconds, and 10 more as the next begin. Time is virtual here.
#
# Seen on trio, four orders, with a limit of 1 in 10 s:
#   one after the other, by default: told placed 2, told None 2, placed 2, after 20 s
#   at once, with count=2: told placed 2, told None 2, placed 2, after 20 s
#   at once, with count=0: told placed 4, told None 0, placed 4, after 30 s
#   a limit of 10 in 10 s, calls within 0.1 s: 20
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 ratelimit-anyio==0.2.0 trio==0.35.0
cat >main.py <<'PY'
from datetime import timedelta
from importlib.metadata import version

import trio
import trio.testing
from ratelimit_anyio import CallRateError, RateLimit, RateLimiter, sleep_and_retry

SPAN = timedelta(seconds=10)


async def orders(at_once: bool, *count: int) -> str:
    limiter = RateLimiter([RateLimit(SPAN, 1)])
    start = trio.current_time()
    told = {}
    placed = 0

    @limiter()
    async def place(number: int) -> str:
        nonlocal placed
        placed += 1
        return "placed"

    async def ask(number: int) -> None:
        told[number] = await sleep_and_retry(place, *(count or (1,)), number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            if at_once:
                nursery.start_soon(ask, number)
            else:
                await ask(number)
    results = list(told.values())
    words = f"told placed {results.count('placed')}, told None {results.count(None)}"
    return f"{words}, placed {placed}, after {trio.current_time() - start:.0f} s"


async def calls_at_the_edge() -> int:
    limiter = RateLimiter([RateLimit(SPAN, 10)])
    called = 0

    @limiter()
    def call() -> None:
        nonlocal called
        called += 1

    for wait in 9.9, 0.1:
        await trio.sleep(wait)
        for _ in range(20):
            try:
                call()
            except CallRateError:
                break
    return called


def tell(name: str, *args: object) -> None:
    print(f"{name}: {trio.run(*args, clock=trio.testing.MockClock(autojump_threshold=0))}")


print(f"ratelimit-anyio {version('ratelimit-anyio')} on trio, four orders, with a limit of 1 in 10 s")
tell("one after the other, by default", orders, False)
tell("at once, with count=2", orders, True, 2)
tell("at once, with count=0", orders, True, 0)
tell("a limit of 10 in 10 s, calls within 0.1 s", calls_at_the_edge)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "ratelimit-anyio 0.2.0 on trio, four orders, with a limit of 1 in 10 s
one after the other, by default: told placed 2, told None 2, placed 2, after 20 s
at once, with count=2: told placed 2, told None 2, placed 2, after 20 s
at once, with count=0: told placed 4, told None 0, placed 4, after 30 s
a limit of 10 in 10 s, calls within 0.1 s: 20" ]
