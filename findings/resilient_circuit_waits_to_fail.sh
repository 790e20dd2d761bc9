#!/usr/bin/env bash
# resilient-circuit 0.8.6: after the last try, too, it waits, and longest of all, and then only tells that it failed.
#
# RetryWithBackoffPolicy waits after each try that fails, with no look at whether another will follow. With delays that
# double, the wait for nothing is longer than all waits for something together; with `max_retries=0` there is a wait and
# no retry. And so it is on asyncio. Each call to a service that is down holds its worker more than twice as long as it
# has to, and who called hears of it that much later. tenacity waits only between two tries. The waits are written down
# in place of being waited for.
#
# Seen, delays of 1 s that double:
#   resilient-circuit, max_retries=3: try, 1 s, try, 2 s, try, 4 s, try, 8 s, RetryLimitReached
#   resilient-circuit on asyncio, max_retries=3: try, 1 s, try, 2 s, try, 4 s, try, 8 s, RetryLimitReached
#   resilient-circuit, max_retries=0: try, 1 s, RetryLimitReached
#   tenacity, 4 attempts: try, 1 s, try, 2 s, try, 4 s, try, RetryError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check resilient-circuit==0.8.6 tenacity==9.2.1
cat >main.py <<'PY'
import asyncio
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from unittest.mock import patch

import tenacity
from resilient_circuit import ExponentialDelay, RetryWithBackoffPolicy

seen: list[str] = []


def fail() -> None:
    seen.append("try")
    raise ConnectionError("down")


async def fail_later() -> None:
    fail()


def wait(seconds: float) -> None:
    seen.append(f"{seconds:g} s")


async def wait_later(seconds: float) -> None:
    wait(seconds)


def tell(name: str, call: Callable[[], object]) -> None:
    seen.clear()
    try:
        call()
    except Exception as error:
        seen.append(type(error).__name__)
    print(f"{name}: {', '.join(seen)}")


backoff = ExponentialDelay(min_delay=timedelta(seconds=1), max_delay=timedelta(seconds=60), factor=2)
three = RetryWithBackoffPolicy(max_retries=3, backoff=backoff)
none = RetryWithBackoffPolicy(max_retries=0, backoff=backoff)
between = tenacity.retry(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_exponential(), sleep=wait)

print(f"resilient-circuit {version('resilient-circuit')}, delays of 1 s that double")
with patch("resilient_circuit.retry.sleep", wait), patch("resilient_circuit.retry.asyncio_sleep", wait_later):
    tell("resilient-circuit, max_retries=3", three(fail))
    tell("resilient-circuit on asyncio, max_retries=3", lambda: asyncio.run(three(fail_later)()))
    tell("resilient-circuit, max_retries=0", none(fail))
tell("tenacity, 4 attempts", between(fail))
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "resilient-circuit 0.8.6, delays of 1 s that double
resilient-circuit, max_retries=3: try, 1 s, try, 2 s, try, 4 s, try, 8 s, RetryLimitReached
resilient-circuit on asyncio, max_retries=3: try, 1 s, try, 2 s, try, 4 s, try, 8 s, RetryLimitReached
resilient-circuit, max_retries=0: try, 1 s, RetryLimitReached
tenacity, 4 attempts: try, 1 s, try, 2 s, try, 4 s, try, RetryError" ]
