from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypedDict

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from trio_conman import ConMan, Failure, Success, TaskHandle

RUNNING = '{"state":"running"}'
camera = trio.Event()


class State(TypedDict):
    cm: ConMan[str]
    jobs: dict[int, TaskHandle[str]]


async def convert(video: str) -> str:
    await camera.wait()  # stands for the work, which can be done once that is on
    if video == "old":
        raise ValueError("no such format")
    return f"{video}.webm"


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=2, max_queued=1, task_timeout=60
        ) as cm:
            yield {"cm": cm, "jobs": {}}
            await cm.shutdown(grace=10)  # seconds; Hypercorn gives it 60
        print(
            f"{cm.statistics().succeeded} converted"
        )  # all that were accepted have ended


async def submit(request: Request) -> JSONResponse:
    cm: ConMan[str] = request.state.cm
    try:
        handle = cm.start_soon(convert, request.path_params["video"])
    except trio.WouldBlock:
        return JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})
    request.state.jobs[handle.index] = handle
    cm.pop_outcomes()  # else they would be kept as long as the app lives
    return JSONResponse({"job": handle.index}, 202)


async def look(request: Request) -> JSONResponse:
    jobs: dict[int, TaskHandle[str]] = request.state.jobs
    number = request.path_params["job"]
    if number not in jobs:
        return JSONResponse({"error": "no such job"}, 404)
    handle = jobs[number]
    if handle.outcome is None:
        return JSONResponse({"state": handle.state})
    del jobs[number]  # told once
    match handle.outcome:
        case Success(value=file):
            return JSONResponse({"state": "done", "file": file})
        case Failure(error=error):
            return JSONResponse({"state": "failed", "error": str(error)})


app: Any = Starlette(  # the types of Hypercorn know none of it
    routes=[
        Route("/convert/{video}", submit, methods=["POST"]),
        Route("/jobs/{job:int}", look),
    ],
    lifespan=lifespan,
)


async def visit(url: str) -> None:
    limits = httpx.Limits(max_connections=2)  # as many as there are requests at once
    async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as client:
        for video in ("cats", "old", "dogs", "cars"):
            response = await client.post(f"/convert/{video}")
            print(video, response.status_code, response.text)

        async def ask(job: int) -> str:
            return (await client.get(f"/jobs/{job}")).text

        print(0, await ask(0))
        print(2, await ask(2))
        camera.set()
        for job in (0, 1):
            answer = RUNNING
            while answer == RUNNING:
                await trio.sleep(0.01)
                answer = await ask(job)
            print(job, answer)


async def main() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]  # any free port
    config.loglevel = "WARNING"
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serving = partial(serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(serving)
        await visit(url)
        stop.set()


trio.run(main)
