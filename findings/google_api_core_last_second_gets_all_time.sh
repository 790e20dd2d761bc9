#!/usr/bin/env bash
# google-api-core 2.44.0: of a deadline of 60 s, an attempt in the last second gets 60 s again, and the call 119.5 s.
#
# TimeToDeadlineTimeout gives each attempt what is left until the deadline: 60 s, then 30 s, then 10 s. But of less than
# a second it gives the whole time once more. A comment tells that gRPC takes no time of 0, or below; the code does so
# for all under 1. The retry around it looks at the clock between two attempts only. So who waits for a server that
# hangs may wait for twice as long as was said. Of a deadline that is shorter than a second nothing is ever taken off.
# Nothing is sent here, time is set by hand, and the wait between two attempts is always 1 s, or 0.1 s. The script fails
# when it is not so any more.
#
# Seen, with attempts that fail after the time that is said, and one that hangs at last:
#   60 s, after 29 s and 28 s: 60 s at 0 s, 30 s at 30 s, 1 s at 59 s; ended at 60 s
#   60 s, after 29 s and 28.5 s: 60 s at 0 s, 30 s at 30 s, 60 s at 59.5 s; ended at 119.5 s
#   0.9 s, after 0.3 s and 0.3 s: 0.9 s at 0 s, 0.9 s at 0.4 s, 0.9 s at 0.8 s; ended at 1.7 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check google-api-core==2.44.0
cat >main.py <<'PY'
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from unittest.mock import patch

from google.api_core import exceptions
from google.api_core.retry import Retry
from google.api_core.timeout import TimeToDeadlineTimeout

START = datetime(2027, 1, 1, tzinfo=timezone.utc)
now = 0.0


def sleep(seconds: float) -> None:
    global now
    now += seconds


def tell(deadline: float, wait: float, *fails_after: float) -> None:
    global now
    now = 0.0
    takes = iter(fails_after)
    told = []

    def ask(timeout: float) -> None:
        told.append(f"{timeout:g} s at {now:g} s")
        try:
            sleep(next(takes))
        except StopIteration:
            sleep(timeout)
            raise exceptions.DeadlineExceeded("hangs") from None
        raise exceptions.ServiceUnavailable("down")

    with_timeout = TimeToDeadlineTimeout(deadline, clock=lambda: START + timedelta(seconds=now))(ask)
    with_retry = Retry(initial=wait, maximum=wait, multiplier=1, timeout=deadline)(with_timeout)
    with (
        patch("time.monotonic", lambda: now),
        patch("time.sleep", sleep),
        patch("random.uniform", lambda least, most: most),
        suppress(exceptions.DeadlineExceeded),
    ):
        with_retry()
    after = " and ".join(f"{seconds:g} s" for seconds in fails_after)
    print(f"{deadline:g} s, after {after}: {', '.join(told)}; ended at {now:g} s")


print(f"google-api-core {version('google-api-core')}")
tell(60, 1, 29, 28)
tell(60, 1, 29, 28.5)
tell(0.9, 0.1, 0.3, 0.3)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "google-api-core 2.44.0
60 s, after 29 s and 28 s: 60 s at 0 s, 30 s at 30 s, 1 s at 59 s; ended at 60 s
60 s, after 29 s and 28.5 s: 60 s at 0 s, 30 s at 30 s, 60 s at 59.5 s; ended at 119.5 s
0.9 s, after 0.3 s and 0.3 s: 0.9 s at 0 s, 0.9 s at 0.4 s, 0.9 s at 0.8 s; ended at 1.7 s" ]
