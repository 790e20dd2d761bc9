#!/usr/bin/env bash
# aiohttp-retry 2.9.1: of five ways to wait between tries, three wait otherwise than they are told.
#
# ListRetry never waits the first time of its list. FibonacciRetry keeps its place in the series from one request to the
# next, so that, in a client that has retried a few times, the first retry of each request waits as long as is allowed, for
# as long as the client lives. JitterRetry raises its random number to the power of `factor`, and adds it after the cut to
# `max_timeout`: with the defaults for both, an interval of 2 s becomes up to 4 s.
# A server answers 503, and the waits are written down in place of being waited for.
#
# Seen:
#   ListRetry([1, 2, 3]): waits 2, 3; the next request: 2, 3
#   FibonacciRetry(max_timeout=60): waits 2, 3; the next request: 5, 8
#   JitterRetry(max_timeout=1): of 200 waits over 1 s: True, over 3 s: True, over 5 s: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiohttp==3.14.5 aiohttp-retry==2.9.1
cat >main.py <<'PY'
import asyncio
from unittest.mock import patch

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp_retry import FibonacciRetry, JitterRetry, ListRetry, RetryClient


async def unavailable(request: web.Request) -> web.Response:
    return web.Response(status=503)


async def waits(options: object, requests: int) -> list[list[float]]:
    app = web.Application()
    app.router.add_get("/", unavailable)
    seen = []
    async with TestServer(app) as server, RetryClient(retry_options=options) as client:
        for _ in range(requests):
            seen.append([])
            with patch("aiohttp_retry.client.asyncio.sleep", side_effect=seen[-1].append):
                async with client.get(server.make_url("/")) as response:
                    assert response.status == 503
    return seen


async def main() -> None:
    for name, options in {
        "ListRetry([1, 2, 3])": ListRetry([1, 2, 3]),
        "FibonacciRetry(max_timeout=60)": FibonacciRetry(max_timeout=60),
    }.items():
        first, second = [", ".join(f"{wait:g}" for wait in each) for each in await waits(options, 2)]
        print(f"{name}: waits {first}; the next request: {second}")
    ((*many,),) = await waits(JitterRetry(attempts=201, max_timeout=1), 1)
    over = ", ".join(f"over {seconds} s: {max(many) > seconds}" for seconds in (1, 3, 5))
    print(f"JitterRetry(max_timeout=1): of {len(many)} waits {over}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "aiohttp-retry 2.9.1"
echo "$seen"
[ "$seen" = "ListRetry([1, 2, 3]): waits 2, 3; the next request: 2, 3
FibonacciRetry(max_timeout=60): waits 2, 3; the next request: 5, 8
JitterRetry(max_timeout=1): of 200 waits over 1 s: True, over 3 s: True, over 5 s: False" ]
