#!/usr/bin/env bash
# hypercorn 0.18.0, HTTP/2: a connection's 1,001st request is carried out, but its answer and all under way are lost.
#
# `keep_alive_max_requests`, 1,000 by default, is how many requests a connection may have until it is closed. Over
# HTTP/1.1 the last answer tells that it is the last, and all is well. Over HTTP/2 one more is given to the application,
# and then the connection is closed at once. What is sent for it, or for any other that is still under way on this
# connection, goes nowhere. The client has errors for what was done, and cannot know whether to try again. So set the
# number so high that it is not reached. Seen on trio 0.35.0, with httpx 0.28.1 as the client. The script fails when it
# is not so any more.
#
# Seen, 1,001 requests one after the other, and 11 at once with `keep_alive_max_requests=10`:
#   HTTP/1.1, one after the other: 1001 carried out, 1001 answered
#   HTTP/2, one after the other: 1001 carried out, 1000 answered
#   HTTP/1.1, at once: 11 carried out, 11 answered
#   HTTP/2, at once: 11 carried out, 0 answered
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'httpx[http2]==0.28.1' hypercorn==0.18.0 trio==0.35.0
cat >main.py <<'PY'
from functools import partial
from importlib.metadata import version

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve


async def counted(protocol: str, at_once: bool, requests: int, **options: int) -> str:
    carried_out = answered = 0
    came = trio.Event()
    end = trio.Event()
    stop = trio.Event()

    async def app(scope: dict, receive: object, send: object) -> None:
        nonlocal carried_out
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        came.set()
        if at_once:
            await end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        carried_out += 1

    async def ask() -> None:
        nonlocal answered
        try:
            await client.get(url)
            answered += 1
        except httpx.RemoteProtocolError:
            pass

    config = Config.from_mapping(bind=["127.0.0.1:0"], errorlog=None, **options)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, config, shutdown_trigger=stop.wait))
        http2 = protocol == "HTTP/2"
        async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=60) as client:
            if at_once:
                async with trio.open_nursery() as asking:
                    for _ in range(requests):
                        came = trio.Event()
                        asking.start_soon(ask)
                        await came.wait()
                    end.set()
            else:
                for _ in range(requests):
                    await ask()
        stop.set()
    return f"{carried_out} carried out, {answered} answered"


print(f"hypercorn {version('hypercorn')}")
for name, at_once, requests, options in (
    ("one after the other", False, 1001, {}),
    ("at once", True, 11, {"keep_alive_max_requests": 10}),
):
    for protocol in "HTTP/1.1", "HTTP/2":
        told = trio.run(partial(counted, protocol, at_once, requests, **options))
        print(f"{protocol}, {name}: {told}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "hypercorn 0.18.0
HTTP/1.1, one after the other: 1001 carried out, 1001 answered
HTTP/2, one after the other: 1001 carried out, 1000 answered
HTTP/1.1, at once: 11 carried out, 11 answered
HTTP/2, at once: 11 carried out, 0 answered" ]
