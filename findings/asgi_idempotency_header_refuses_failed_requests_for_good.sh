#!/usr/bin/env bash
# asgi-idempotency-header 0.2.0: a request that failed is refused for good as under way, and so is one that has expired.
#
# It notes each key when its request comes, so that a second one at the same time gets a 409, and stores the response
# when there is one. The note is taken away only where the response is no JSON. An error that leaves the app is no
# response here, as the 500 is made further out. So the client, who has the key to be able to ask again, is told with
# 409 by each try that the first is still under way, for good. And when a stored response has expired, after a day by
# default, its key is still noted: what is documented to be replayed until then gets a 409 from then on. It is the same
# in memory and in Redis. A 500 that the app makes itself, as JSON, is stored and replayed. So answer errors with
# something that is no JSON. The clock is set by hand here. The script fails when it is not so any more.
#
# Seen, of a first request, one with the same key after 1 s, and one after 2 days; and what was paid:
#   MemoryBackend, all is well: 200, 200 replayed, 409; paid 1
#   MemoryBackend, the first raises an error: 500, 409, 409; paid 0
#   MemoryBackend, the first answers with a 500 as JSON: 500, 500 replayed, 409; paid 0
#   MemoryBackend, the first answers with a 500 as text: 500, 200, 409; paid 1
# and the same with RedisBackend
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check asgi-idempotency-header==0.2.0 fakeredis==2.26.2 \
  fastapi==0.70.1 httpx==0.28.1 redis==4.6.0
cat >main.py <<'PY'
import asyncio
import time
from importlib.metadata import version

import httpx
from fakeredis.aioredis import FakeRedis
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import MemoryBackend, RedisBackend

DAY = 24 * 60 * 60
now = 1_800_000_000.0
time.time = lambda: now


def raise_error() -> None:
    raise ConnectionError("the database does not answer")


FIRST = {
    "all is well": lambda: None,
    "the first raises an error": raise_error,
    "the first answers with a 500 as JSON": lambda: JSONResponse({"error": "no database"}, 500),
    "the first answers with a 500 as text": lambda: PlainTextResponse("no database", 500),
}


async def tell(backend: MemoryBackend | RedisBackend, name: str) -> None:
    global now
    app = FastAPI(middleware=[Middleware(IdempotencyHeaderMiddleware, backend=backend)])
    requests, paid = 0, 0

    @app.post("/payments")
    async def pay() -> Response:
        nonlocal requests, paid
        requests += 1
        if requests == 1 and (answer := FIRST[name]()) is not None:
            return answer
        paid += 1
        return JSONResponse({"paid": True})

    answers = []
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.invalid") as client:
        for seconds in [0, 1, 2 * DAY]:
            now += seconds
            answer = await client.post("/payments", headers={"Idempotency-Key": "payment 1"})
            answers.append(f"{answer.status_code}{' replayed' * ('idempotent-replayed' in answer.headers)}")
    print(f"{type(backend).__name__}, {name}: {', '.join(answers)}; paid {paid}")


async def main() -> None:
    print(f"asgi-idempotency-header {version('asgi-idempotency-header')}")
    for name in FIRST:
        await tell(MemoryBackend(), name)
    for name in FIRST:
        await tell(RedisBackend(FakeRedis()), name)


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "asgi-idempotency-header 0.2.0
MemoryBackend, all is well: 200, 200 replayed, 409; paid 1
MemoryBackend, the first raises an error: 500, 409, 409; paid 0
MemoryBackend, the first answers with a 500 as JSON: 500, 500 replayed, 409; paid 0
MemoryBackend, the first answers with a 500 as text: 500, 200, 409; paid 1
RedisBackend, all is well: 200, 200 replayed, 409; paid 1
RedisBackend, the first raises an error: 500, 409, 409; paid 0
RedisBackend, the first answers with a 500 as JSON: 500, 500 replayed, 409; paid 0
RedisBackend, the first answers with a 500 as text: 500, 200, 409; paid 1" ]
