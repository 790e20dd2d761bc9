#!/usr/bin/env bash
# httpx 0.28.1 over HTTP/2: a client whose connection was once full of cancelled requests is of no more use.
#
# A server allows 5 requests at once on a connection, and does not answer for a time. 5 requests are cancelled meanwhile.
# Nothing runs any more, the server answers again, and yet each later request raises LocalProtocolError, of too many
# streams, for as long as the client lives; it does not open another connection. After 4 cancelled requests it goes
# on. Run against hypercorn 0.18.0, over loopback; its default is 100 requests.
#
# Seen:
#   4 of 5 cancelled: 200, 200, 200
#   5 of 5 cancelled: LocalProtocolError, LocalProtocolError, LocalProtocolError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'httpx[http2]==0.28.1' httpcore==1.0.9 h2==4.4.1 \
  hypercorn==0.18.0
cat >main.py <<'PY'
import asyncio
import socket

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

STREAMS = 5


async def later(client: httpx.AsyncClient) -> str:
    try:
        return str((await client.get("/")).status_code)
    except httpx.HTTPError as exc:
        return type(exc).__name__


async def after_cancelled(count: int) -> str:
    up, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def app(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            for event in "startup", "shutdown":
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        arrived.release()
        await up.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config, stop = Config(), asyncio.Event()
    config.bind = [f"fd://{listener.detach()}"]
    config.h2_max_concurrent_streams, config.loglevel = STREAMS, "CRITICAL"
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    async with httpx.AsyncClient(base_url=url, http1=False, http2=True, trust_env=False) as client:
        requests = [asyncio.create_task(client.get("/")) for _ in range(count)]
        for _ in requests:
            await arrived.acquire()
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        up.set()
        seen = [await later(client) for _ in range(3)]
    stop.set()
    await server
    return f"{count} of {STREAMS} cancelled: {', '.join(seen)}"


print(asyncio.run(after_cancelled(STREAMS - 1)))
print(asyncio.run(after_cancelled(STREAMS)))
PY
seen=$(venv/bin/python main.py)
echo "httpx 0.28.1, httpcore 1.0.9, h2 4.4.1"
echo "$seen"
[ "$seen" = "4 of 5 cancelled: 200, 200, 200
5 of 5 cancelled: LocalProtocolError, LocalProtocolError, LocalProtocolError" ]
