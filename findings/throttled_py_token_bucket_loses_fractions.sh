#!/usr/bin/env bash
# throttled-py 3.5.0: of steady requests, a limit of 100 a minute lets in 60 a minute, and so does one of 119.
#
# Its token bucket, the default, counts time in whole seconds, adds whole tokens only, and begins to count anew with
# each request that it lets in. What had grown of the next token by then is lost: of 100 a minute, 5 tokens in 3 s, it
# gives one each second. A client that keeps under the limit, with 90 requests a minute at even times, empties the bucket
# and is refused a third of the time. Its fixed window and its GCRA let all of them in. With limits that are a
# whole number a second nothing is lost. The clock is set by hand here, and the second of two hours is told.
#
# Seen:
#   token_bucket, 100 a minute: 90 asked, 60 let in
#   fixed_window, 100 a minute: 90 asked, 90 let in
#   gcra, 100 a minute: 90 asked, 90 let in
#   token_bucket, 119 a minute: 90 asked, 60 let in
#   token_bucket, 120 a minute: 90 asked, 90 let in
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check throttled-py==3.5.0 freezegun==1.5.5
cat >main.py <<'PY'
from datetime import timedelta

from freezegun import freeze_time
from throttled import Throttled, rate_limiter, store

ASKED = 90
MINUTES = 60


def tell(using: str, limit: int) -> None:
    let_in = 0
    with freeze_time("2026-01-01") as clock:
        throttle = Throttled(using=using, quota=rate_limiter.per_min(limit), store=store.MemoryStore())
        for request in range(2 * MINUTES * ASKED):
            allowed = not throttle.limit("client").limited
            # The first hour uses up what a full bucket has at its start.
            if request >= MINUTES * ASKED:
                let_in += allowed
            clock.tick(timedelta(minutes=1) / ASKED)
    print(f"{using}, {limit} a minute: {ASKED} asked, {let_in / MINUTES:.0f} let in")


tell("token_bucket", 100)
tell("fixed_window", 100)
tell("gcra", 100)
tell("token_bucket", 119)
tell("token_bucket", 120)
PY
seen=$(venv/bin/python main.py)
echo "throttled-py 3.5.0"
echo "$seen"
[ "$seen" = "token_bucket, 100 a minute: 90 asked, 60 let in
fixed_window, 100 a minute: 90 asked, 90 let in
gcra, 100 a minute: 90 asked, 90 let in
token_bucket, 119 a minute: 90 asked, 60 let in
token_bucket, 120 a minute: 90 asked, 90 let in" ]
