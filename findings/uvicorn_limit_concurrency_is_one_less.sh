#!/usr/bin/env bash
# uvicorn 0.54.0: with `limit_concurrency=1` each request is answered by 503, and with 10 there are nine, or none.
#
# It is documented as the most connections or tasks at once before there are answers of 503. When a request has come,
# the server looks whether there are as many connections as the limit, and that of the request is among them. So one
# less than the limit are served at once, and a limit of one serves nobody. And connections on which there is nothing to
# do count, such as those that a proxy keeps open between requests: behind one that keeps ten connections, a limit of
# ten refuses everything, while the server has nothing to do. So set it to one more than the connections that the proxy
# may hold. It is the same with h11 and httptools. The script fails when it is not so any more.
#
# Seen, requests that come one after the other and are all to be served at once:
#   limit 1, 3 requests: 0 served, 3 answered by 503
#   limit 10, 20 requests: 9 served, 11 answered by 503
#   limit 10, 3 requests, 9 idle connections: 0 served, 3 answered by 503
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h11==0.16.0 httptools==0.9.0 uvicorn==0.54.0
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

import uvicorn

REQUEST = b"GET / HTTP/1.1\r\nHost: service.invalid\r\nConnection: close\r\n\r\n"


async def counted(http: str, limit: int, requests: int, idle: int = 0) -> str:
    served = refused = 0
    told = asyncio.Event()
    end = asyncio.Event()

    async def app(scope: dict, receive: object, send: object) -> None:
        nonlocal served
        served += 1
        told.set()
        await end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        if b" 503 " in await reader.readline():
            refused += 1
            told.set()
        await reader.read()
        writer.close()

    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=http, limit_concurrency=limit, lifespan="off", log_level="critical")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(idle)]
    while len(server.server_state.connections) < idle:
        await asyncio.sleep(0.01)
    asked = []
    for _ in range(requests):
        told.clear()
        asked.append(asyncio.create_task(ask()))
        await told.wait()
    end.set()
    await asyncio.gather(*asked)
    for _, writer in kept:
        writer.close()
    server.should_exit = True
    await serving
    return f"{served} served, {refused} answered by 503"


async def main() -> None:
    print(f"uvicorn {version('uvicorn')}")
    for http in "h11", "httptools":
        print(f"{http}, limit 1, 3 requests: {await counted(http, 1, 3)}")
        print(f"{http}, limit 10, 20 requests: {await counted(http, 10, 20)}")
        print(f"{http}, limit 10, 3 requests, 9 idle connections: {await counted(http, 10, 3, idle=9)}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "uvicorn 0.54.0
h11, limit 1, 3 requests: 0 served, 3 answered by 503
h11, limit 10, 20 requests: 9 served, 11 answered by 503
h11, limit 10, 3 requests, 9 idle connections: 0 served, 3 answered by 503
httptools, limit 1, 3 requests: 0 served, 3 answered by 503
httptools, limit 10, 20 requests: 9 served, 11 answered by 503
httptools, limit 10, 3 requests, 9 idle connections: 0 served, 3 answered by 503" ]
