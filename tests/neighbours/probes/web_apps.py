"""What SIGTERM does to the tasks of a web app, on hypercorn."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import trio

from trio_conman import RetryConfig

from .answers import LIMIT, each_its_own
from .servers import free_port, started


async def after_sigterm(app: str, path: str) -> tuple[str, str]:
    """The answers of an app; and what becomes of a task that runs when the signal comes."""
    with TemporaryDirectory() as folder:
        port, log = free_port(), Path(folder) / "log"
        env = os.environ | {"PROBE_LOG": str(log)}
        target = f"tests.neighbours.probes.apps:{app}"
        command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}", target]
        async with started(command, port, env=env) as server:
            limits = httpx.Limits(max_connections=LIMIT)
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False, timeout=30) as client:

                async def ask(n: int) -> object:
                    return int((await client.get(f"/answer/{n % 20}")).text) + n - n % 20

                # A request may meet a connection that the server is about to close.
                answers = await each_its_own(ask, RetryConfig(retry_on=httpx.TransportError))
                got: list[str] = []

                async def visit() -> None:
                    try:
                        response = await client.get(path)
                    except httpx.TransportError as exc:
                        got.append(f"gets {type(exc).__qualname__}")
                    else:
                        got.append(f"gets {response.status_code}")

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(visit)
                    await trio.sleep(0.5)
                    server.send_signal(signal.SIGTERM)
                with trio.fail_after(30):
                    await server.wait()
        ended = log.read_text() if log.exists() else "is lost"
        return answers, ended if path == "/start" else f"{ended}, its client {got[0]}"


async def seen(app: str) -> dict[str, str]:
    answers, alone = await after_sigterm(app, "/start")
    _, awaited = await after_sigterm(app, "/wait")
    return {
        "answers": answers,
        "SIGTERM: a task that no request waits for": alone,
        "a task that a request waits for": awaited,
    }


quart = partial(seen, "quart()")
starlette = partial(seen, "starlette()")
fastapi = partial(seen, "fastapi()")
