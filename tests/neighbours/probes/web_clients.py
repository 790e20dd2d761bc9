"""HTTP clients, and what comes between them and a service."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from tests.loopback import serving
from trio_conman import ConMan

from .answers import LIMIT, POOL, each_its_own
from .servers import answer

MANY = 30  # rounds, in which what is left to chance is seen
STREAMS = 100  # at once, that hypercorn allows on a connection of HTTP/2


async def through(client: Any, url: str) -> str:
    async def ask(n: int) -> object:
        return int((await client.get(f"{url}{n}")).text)

    return await each_its_own(ask)


async def end_by_deadline(client: Any, url: str, tasks: int, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[object].open(nursery, tasks, attempt_timeout=seconds) as cm:
            for _ in range(tasks):
                cm.start_soon(client.get, url)
    assert {type(error) for error in cm.errors()} == {trio.TooSlowError}


async def entries_left(library: Any) -> str:
    """What deadlines leave in a pool that has fewer connections than there are tasks."""

    async def be_silent(stream: trio.SocketStream) -> None:
        async with stream:
            async for _ in stream:
                pass

    def entries() -> int:
        return len(vars(client)["_transport"]._pool.connections)  # there is no public way to it

    limits = library.Limits(max_connections=LIMIT)
    async with serving(be_silent) as url, library.AsyncClient(limits=limits, trust_env=False) as client:
        for _ in range(MANY):
            await end_by_deadline(client, url, 2 * LIMIT, 0.1)
            if entries():
                return "some, that never leave"
        return "none"


@asynccontextmanager
async def http2_service(over: trio.Event) -> AsyncIterator[str]:
    """A service over HTTP/2 that answers nothing before its outage is over."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in "startup", "shutdown":
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
        else:
            await over.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

    config, stop = Config(), trio.Event()
    config.bind, config.loglevel, config.graceful_timeout = ["127.0.0.1:0"], "CRITICAL", 0
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, config, shutdown_trigger=stop.wait, mode="asgi"))
        yield url
        stop.set()
        nursery.cancel_scope.cancel()


async def after_outage(library: Any, tasks: int) -> str:
    """What a request over HTTP/2 gets after an outage in which deadlines have ended so many."""
    over = trio.Event()
    async with http2_service(over) as url:
        async with library.AsyncClient(http1=False, http2=True, trust_env=False) as client:
            await end_by_deadline(client, url, tasks, 1)
            over.set()
            return ", ".join(sorted({await told(client, url) for _ in range(3)}))


async def told(client: Any, url: str) -> str:
    try:
        return f"{(await client.get(url)).status_code}"
    except Exception as exc:
        return type(exc).__qualname__


async def httpx_like(name: str) -> dict[str, str]:
    library = importlib.import_module(name)
    limits = library.Limits(max_connections=POOL)
    async with serving(answer) as url, library.AsyncClient(limits=limits, trust_env=False) as client:
        answers = await through(client, url)
    return {
        "answers": answers,
        "fewer connections than tasks: entries left in the pool": await entries_left(library),
        f"HTTP/2, {STREAMS // 2} at once ended by deadlines: later ones get": await after_outage(
            library, STREAMS // 2
        ),
        f"HTTP/2, {STREAMS} at once: later ones get": await after_outage(library, STREAMS),
    }


async def httpx() -> dict[str, str]:
    return await httpx_like("httpx")


async def httpx2() -> dict[str, str]:
    return await httpx_like("httpx2")


async def httpxyz() -> dict[str, str]:
    return await httpx_like("httpxyz")


async def hishel() -> dict[str, str]:
    from hishel import AsyncSqliteStorage
    from hishel.httpx import AsyncCacheClient

    with TemporaryDirectory() as folder:
        storage = AsyncSqliteStorage(database_path=Path(folder) / "cache.db")
        async with serving(answer) as url, AsyncCacheClient(storage=storage, trust_env=False) as client:
            return {"answers": await through(client, url)}


async def httpx_retries() -> dict[str, str]:
    import httpx as library
    from httpx_retries import Retry, RetryTransport

    mock = library.MockTransport(lambda request: library.Response(503))
    transport = RetryTransport(transport=mock, retry=Retry(total=1, backoff_factor=0.01))
    async with library.AsyncClient(transport=transport) as client:
        try:
            seen = f"{(await client.get('http://service.invalid')).status_code}"
        except Exception as exc:
            seen = f"{type(exc).__qualname__}: {exc}"
    return {"its first retry": seen}


async def pyrate_limiter() -> dict[str, str]:
    from pyrate_limiter import Duration, Limiter, Rate

    limiter = Limiter(Rate(5, Duration.SECOND))
    try:
        seen = f"{await limiter.try_acquire_async('name', 1)}"
    except Exception as exc:
        seen = f"{type(exc).__qualname__}: {exc}"
    return {"its async calls, as try_acquire_async": seen}


async def trio_websocket() -> dict[str, str]:
    from trio_websocket import ConnectionClosed, open_websocket, serve_websocket

    async def echo(request: Any) -> None:
        socket = await request.accept()
        with suppress(ConnectionClosed):
            while True:
                await socket.send_message(await socket.get_message())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve_websocket, handler_nursery=nursery), echo, "127.0.0.1", 0, None
        )

        async def ask(n: int) -> object:
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as socket:
                await socket.send_message(str(n))
                return int(await socket.get_message())

        answers = await each_its_own(ask)
        nursery.cancel_scope.cancel()
    return {"answers": answers}
