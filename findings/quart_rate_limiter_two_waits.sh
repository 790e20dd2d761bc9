#!/usr/bin/env bash
# quart-rate-limiter 0.12.1 answers a refused request with two Retry-After lines and a reset that is six times as long.
#
# Of a limit of 6 in 60 s, the seventh request at once is refused. The answer has `Retry-After: 10` twice, which
# HTTP clients join to "10, 10", no number any more; and `RateLimit-Reset: 60`, though the next request is let
# in after the 10 s. The reset is the time until all six could be had again. Seen on Python 3.11; the script
# fails when it is not so any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet Quart==0.22.0 quart-rate-limiter==0.12.1
cat >main.py <<'PY'
import asyncio
from datetime import timedelta

from quart import Quart
from quart_rate_limiter import RateLimiter, rate_limit

app = Quart(__name__)
RateLimiter(app)


@app.get("/")
@rate_limit(6, timedelta(seconds=60))
async def home() -> str:
    return "ok"


async def main() -> list[object]:
    client = app.test_client()
    for _ in range(6):
        assert (await client.get("/")).status_code == 200
    refused = await client.get("/")
    headers = refused.headers
    return [refused.status_code, headers.getlist("Retry-After"), headers.getlist("RateLimit-Reset")]


seen = asyncio.run(main())
print("quart-rate-limiter 0.12.1: status %s, Retry-After %s, RateLimit-Reset %s" % tuple(seen))
raise SystemExit(seen not in ([429, ["10", "10"], ["60"]], [429, ["10", "10"], ["59"]]))
PY
venv/bin/python main.py
