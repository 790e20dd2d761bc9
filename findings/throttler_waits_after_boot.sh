#!/usr/bin/env bash
# throttler 1.2.3: on a machine that has just started, the first call waits until the machine is as old as the period.
#
# A new Throttler has in its list that all its calls were made at time 0 of the monotonic clock. On Linux this is when
# the machine started. Where the period is longer than the machine is up, nothing is let in until the one is as long as
# the other, and then a whole burst at once: a limit for a day, on a machine that is made for one job, makes the job
# wait for a day. On a machine that is up for longer nothing of it is seen. The clock is set by hand here, and the waits
# are written down. aiolimiter 1.3.0 begins with what its clock says.
#
# Seen:
#   machine up for 10 s, 5 calls in 60 s: the first call waits 50 s
#   machine up for 600 s, 1000 calls in 86400 s: the first call waits 85800 s
#   machine up for 864000 s, 1000 calls in 86400 s: the first call waits 0 s
#   aiolimiter, machine up for 600 s, 1000 calls in 86400 s: the first call waits 0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiolimiter==1.3.0 throttler==1.2.3
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version
from unittest.mock import patch

from aiolimiter import AsyncLimiter
from throttler import Throttler


async def waited(kind: type, up: float, calls: int, period: float) -> str:
    now = up

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += max(seconds, 0.001)  # a sleep is always a little longer

    loop = asyncio.get_running_loop()
    with patch("time.monotonic", lambda: now), patch.object(loop, "time", lambda: now), patch("asyncio.sleep", sleep):
        async with kind(calls, period):
            pass
    return f"machine up for {up} s, {calls} calls in {period} s: the first call waits {now - up:.0f} s"


async def main() -> None:
    print(f"throttler {version('throttler')}")
    for case in (10, 5, 60), (600, 1000, 86400), (864000, 1000, 86400):
        print(await waited(Throttler, *case))
    print("aiolimiter,", await waited(AsyncLimiter, 600, 1000, 86400))


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "throttler 1.2.3
machine up for 10 s, 5 calls in 60 s: the first call waits 50 s
machine up for 600 s, 1000 calls in 86400 s: the first call waits 85800 s
machine up for 864000 s, 1000 calls in 86400 s: the first call waits 0 s
aiolimiter, machine up for 600 s, 1000 calls in 86400 s: the first call waits 0 s" ]
