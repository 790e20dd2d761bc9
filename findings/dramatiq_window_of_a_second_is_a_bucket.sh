#!/usr/bin/env bash
# dramatiq 2.2.1: a sliding window of 10 in 1 s lets in 20 within 10 ms, which it was made not to do.
#
# The documentation warns of BucketRateLimiter that it may let in twice as many around the end of a bucket, and sends
# who minds to WindowRateLimiter, which takes more memory and has not this problem. But that counts by whole seconds of
# the clock, and looks at as many of them as its window is long, the one that has just begun among them. So its window
# is up to a second shorter than said: of one second, the default, what is left is the second that has begun, that is, a
# bucket; of two seconds it lets in twice as many in a little more than one. A window that is longer by a second keeps
# the limit. The clock is set by hand here, and the counts are kept in memory. The script fails when it is not so any
# more.
#
# Seen, with a limit of 10, of 20 asked for at each time:
#   BucketRateLimiter, bucket=1000: 10 at 0.995 s, 10 at 1.005 s
#   WindowRateLimiter, window=1: 10 at 0.995 s, 10 at 1.005 s, 10 at 2.005 s
#   WindowRateLimiter, window=2: 10 at 0.995 s, 0 at 1.005 s, 10 at 2.005 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dramatiq==2.2.1
cat >main.py <<'PY'
from importlib.metadata import version
from unittest.mock import patch

from dramatiq.rate_limits import BucketRateLimiter, RateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import StubBackend


def tell(name: str, limiter: RateLimiter, times: list[float]) -> None:
    told = []
    for now in times:
        # The second begins at a whole number.
        with patch("time.time", lambda: 1_800_000_000 + now), patch("time.monotonic", lambda: 1_000 + now):
            let_in = 0
            for _ in range(20):
                with limiter.acquire(raise_on_failure=False) as acquired:
                    let_in += acquired
        told.append(f"{let_in} at {now} s")
    print(f"{name}: {', '.join(told)}")


print(f"dramatiq {version('dramatiq')}, a limit of 10, 20 asked for at each time")
tell("BucketRateLimiter, bucket=1000", BucketRateLimiter(StubBackend(), "key", limit=10, bucket=1000), [0.995, 1.005])
for window in 1, 2:
    limiter = WindowRateLimiter(StubBackend(), "key", limit=10, window=window)
    tell(f"WindowRateLimiter, window={window}", limiter, [0.995, 1.005, 2.005])
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "dramatiq 2.2.1, a limit of 10, 20 asked for at each time
BucketRateLimiter, bucket=1000: 10 at 0.995 s, 10 at 1.005 s
WindowRateLimiter, window=1: 10 at 0.995 s, 10 at 1.005 s, 10 at 2.005 s
WindowRateLimiter, window=2: 10 at 0.995 s, 0 at 1.005 s, 10 at 2.005 s" ]
