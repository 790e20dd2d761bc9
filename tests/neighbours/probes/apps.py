"""Web apps with a manager for their life; hypercorn runs them, as `hypercorn -k trio` does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from trio_conman import ConMan

LOG = Path(os.environ.get("PROBE_LOG", os.devnull))
GRACE = 5.0


async def job(n: int) -> int:
    await trio.sleep(n / 1000)
    return n


async def long_job() -> str:
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        LOG.write_text("is cancelled")
        raise
    LOG.write_text("is finished")
    return "done"


def quart() -> Any:
    from quart_trio import QuartTrio

    app, stack = QuartTrio(__name__), AsyncExitStack()
    held: list[ConMan[Any]] = []

    @app.before_serving
    async def opened() -> None:
        held.append(await stack.enter_async_context(ConMan[Any].open(app.nursery, 2)))

    @app.after_serving
    async def closed() -> None:
        await held[0].shutdown(GRACE)
        await stack.aclose()

    @app.get("/answer/<int:n>")
    async def answer(n: int) -> str:
        return str(await (await held[0].run(job, n)).result())

    @app.get("/start")
    async def start() -> str:
        held[0].start_soon(long_job)
        return "started"

    @app.get("/wait")
    async def wait() -> str:
        return str(await held[0].start_soon(long_job).result())

    return app


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as cm:
            app.state.cm = cm
            yield
            await cm.shutdown(GRACE)


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def answer(request: Request) -> PlainTextResponse:
        handle = await request.app.state.cm.run(job, request.path_params["n"])
        return PlainTextResponse(str(await handle.result()))

    async def start(request: Request) -> PlainTextResponse:
        request.app.state.cm.start_soon(long_job)
        return PlainTextResponse("started")

    async def wait(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.app.state.cm.start_soon(long_job).result())

    routes = [Route("/answer/{n:int}", answer), Route("/start", start), Route("/wait", wait)]
    return Starlette(routes=routes, lifespan=lifespan)


def fastapi() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI(lifespan=lifespan, default_response_class=PlainTextResponse)

    @app.get("/answer/{n}")
    async def answer(n: int) -> Any:
        return str(await (await app.state.cm.run(job, n)).result())

    @app.get("/start")
    async def start() -> Any:
        app.state.cm.start_soon(long_job)
        return "started"

    @app.get("/wait")
    async def wait() -> Any:
        return await app.state.cm.start_soon(long_job).result()

    return app
