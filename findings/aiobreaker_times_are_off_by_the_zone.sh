#!/usr/bin/env bash
# aiobreaker 1.2.0: in New York an open circuit tells a time five hours later than when it lets calls in.
#
# It keeps the time at which it opened as UTC, without a zone, and takes the local time from it to tell what is left.
# So `time_remaining` of its error, and `time_until_open` of the breaker, are off by as much as the zone of the machine
# is. West of London `sleep_until_open` sleeps for hours, while the circuit itself looks at UTC, and lets a call in
# when its time is over. East of it the time is over before it has begun, where it is shorter than the zone is off: the
# error has no `reopen_time`, and to ask for what is left is a TypeError. On a server with UTC, where most tests run,
# all is right. So sleep for `timeout_duration`, and call. The zones are given by their offsets in winter, and nothing
# is waited for here. The script fails when it is not so any more.
#
# Seen, of a circuit that has opened just now, for 30 minutes, what is left in minutes; and then, when it is over:
#   UTC: the error says 30, the breaker says 30, sleep_until_open: 30; a call is let in
#   New York: the error says 330, the breaker says 330, sleep_until_open: 330; a call is let in
#   Berlin: the error says TypeError, the breaker says TypeError, sleep_until_open: TypeError; a call is let in
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiobreaker==1.2.0
cat >main.py <<'PY'
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version

from aiobreaker import CircuitBreaker, CircuitBreakerError

MINUTE = timedelta(minutes=1)
ZONES = {"UTC": "UTC0", "New York": "EST5", "Berlin": "CET-1"}  # the sign is that of POSIX: hours to UTC
slept: list[float] = []


async def fail() -> None:
    raise ConnectionError


async def answer() -> str:
    return "is let in"


async def write_down(seconds: float) -> None:
    slept.append(seconds)


def in_minutes(tell: Callable[[], timedelta]) -> str:
    try:
        return str(round(tell() / MINUTE))
    except TypeError as error:
        return type(error).__name__


async def slept_by(sleep_until_open: Callable[[], Awaitable[None]]) -> str:
    try:
        await sleep_until_open()
    except TypeError as error:
        return type(error).__name__
    return in_minutes(lambda: timedelta(seconds=slept[-1]))


async def main() -> None:
    print(f"aiobreaker {version('aiobreaker')}")
    asyncio.sleep = write_down
    for place, zone in ZONES.items():
        os.environ["TZ"] = zone
        time.tzset()
        breaker = CircuitBreaker(fail_max=1, timeout_duration=30 * MINUTE)
        try:
            await breaker.call_async(fail)
        except CircuitBreakerError as error:
            opened = error
        says = in_minutes(lambda: opened.time_remaining)
        breaker_says = in_minutes(lambda: breaker.time_until_open)
        sleeps = await slept_by(opened.sleep_until_open)
        breaker.timeout_duration = 0 * MINUTE
        then = await breaker.call_async(answer)
        told = f"the error says {says}, the breaker says {breaker_says}, sleep_until_open: {sleeps}"
        print(f"{place}: {told}; a call {then}")


asyncio.run(main())
PY
seen=$(venv/bin/python -W ignore main.py)
echo "$seen"
[ "$seen" = "aiobreaker 1.2.0
UTC: the error says 30, the breaker says 30, sleep_until_open: 30; a call is let in
New York: the error says 330, the breaker says 330, sleep_until_open: 330; a call is let in
Berlin: the error says TypeError, the breaker says TypeError, sleep_until_open: TypeError; a call is let in" ]
