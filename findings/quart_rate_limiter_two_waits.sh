#!/usr/bin/env bash
# quart-rate-limiter 0.12.1 answers a refused request with two Retry-After lines and a reset that is six times as long.
#
# Of a limit of 6 in 60 s, the seventh request at once is refused. The answer has `Retry-After: 10` twice, which HTTP
# clients join to "10, 10", no number any more: a client that reads it as a number of seconds has none. And it has
# `RateLimit-Reset: 60`, the time until all six could be had again, though the next request is let in after the 10 s.
# The clock is set by hand here.
#
# Seen:
#   the seventh request: 429, Retry-After ['10', '10'], RateLimit-Reset ['60']
#   httpx reads Retry-After: 10, 10
#   after 10 s: 200
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check freezegun==1.5.5 httpx==0.28.1 Quart==0.22.0 \
  quart-rate-limiter==0.12.1 Werkzeug==3.1.9
cat >main.py <<'PY'
import asyncio
from datetime import timedelta
from importlib.metadata import version

import httpx
from freezegun import freeze_time
from quart import Quart
from quart_rate_limiter import RateLimiter, rate_limit

app = Quart(__name__)
RateLimiter(app)


@app.get("/")
@rate_limit(6, timedelta(seconds=60))
async def home() -> str:
    return "ok"


async def main() -> None:
    print(f"quart-rate-limiter {version('quart-rate-limiter')}")
    client = app.test_client()
    with freeze_time("2026-01-01", real_asyncio=True) as clock:
        for _ in range(6):
            assert (await client.get("/")).status_code == 200
        refused = await client.get("/")
        after, reset = [refused.headers.getlist(name) for name in ("Retry-After", "RateLimit-Reset")]
        print(f"the seventh request: {refused.status_code}, Retry-After {after}, RateLimit-Reset {reset}")
        print(f"httpx reads Retry-After: {httpx.Headers(refused.headers.to_wsgi_list())['Retry-After']}")
        clock.tick(timedelta(seconds=10))
        print(f"after 10 s: {(await client.get('/')).status_code}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "quart-rate-limiter 0.12.1
the seventh request: 429, Retry-After ['10', '10'], RateLimit-Reset ['60']
httpx reads Retry-After: 10, 10
after 10 s: 200" ]
