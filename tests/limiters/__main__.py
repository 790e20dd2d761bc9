"""Managers push requests through real rate limiters, and none is lost, and none too many is made.

    python -m tests.limiters [--keep DIR] [WORD…]

pip and npm install the packages in a temporary folder, or in DIR, where the next run finds them. Each server
listens on the loopback interface and is ended when its turn is over; the words choose those that have one of
them in their name. nginx is skipped where it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import venv
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from shutil import copytree

import attrs
import httpx
import trio

from trio_conman import ConMan, RateLimiter
from trio_conman.http import raise_for_status, retry_after

from .clients import CLIENTS, Get, httpx_client
from .servers import REQUESTS, SERVERS, WAVES, Server
from .waves import Refusal, waves

APPS = Path(__file__).parent / "apps"
LIMIT = 8  # of the manager


@attrs.define
class Result:
    """What came of the requests to one server."""

    lost: list[Exception]
    retries: int  # of the task that had most
    seconds: float
    refusals: list[Refusal]

    def is_good(self, server: Server) -> bool:
        """Whether no request was lost, and none made but those that were needed to learn of the limit."""
        if self.lost or not server.tells:
            return not self.lost
        sizes = waves(self.refusals)
        return 0 < len(sizes) <= server.waves and max(sizes) <= LIMIT and sum(sizes) <= LIMIT * WAVES


async def push(get: Get, url: str, server: Server) -> Result:
    """Make all requests, as a user of the library would."""
    refusals: list[Refusal] = []
    start = trio.current_time()

    async def fetch() -> None:
        asked = trio.current_time()
        response, status = await get(url)
        if status != HTTPStatus.OK:
            told = retry_after(response.headers, status=status) or 0.0
            refusals.append(Refusal(asked, trio.current_time() + told))
        raise_for_status(response)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, LIMIT, rate=RateLimiter.unlimited(), retry=server.retry) as cm:
            for _ in range(REQUESTS):
                await cm.run(fetch)
    outcomes = cm.outcomes()
    assert len(outcomes) == REQUESTS
    most = max(outcome.retries for outcome in outcomes)
    return Result(cm.errors(), most, trio.current_time() - start, refusals)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def running(server: Server, folder: Path) -> AsyncIterator[str]:
    """Start a server, wait until it listens, and end it when the block is left; the URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    if server.command[0] == "nginx":
        config = folder / "nginx.conf"
        config.write_text((APPS / "nginx.conf").read_text().replace("PORT", str(port)))
    async with trio.open_nursery() as nursery:
        command = server.started_as(port, folder)
        start = partial(trio.run_process, command, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        process = await nursery.start(start)
        with trio.fail_after(60):
            while not await answers(url):
                assert process.poll() is None, f"{server.name} has ended"
                await trio.sleep(0.05)
        yield url
        nursery.cancel_scope.cancel()


async def answers(url: str) -> bool:
    """Whether a server is there, and its route too. That is one of the requests it counts."""
    try:
        async with httpx_client() as get:
            _, status = await get(url)
    except httpx.TransportError:
        return False
    return status == HTTPStatus.OK


async def install(folder: Path) -> None:
    """Install what the apps need, unless it is there."""
    copytree(APPS, folder, dirs_exist_ok=True)
    async with trio.open_nursery() as nursery:
        if not (folder / "node_modules").exists():
            npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            nursery.start_soon(partial(trio.run_process, npm, cwd=folder))
        if not (folder / "venv").exists():
            await trio.to_thread.run_sync(partial(venv.create, folder / "venv", with_pip=True))
            pip = ["venv/bin/pip", "install", "--quiet", "--requirement", "requirements.txt"]
            await trio.run_process([str(folder / pip[0]), *pip[1:]], cwd=folder)


async def turn(server: Server, client: str, get: Get, folder: Path) -> bool:
    """Try one server with one client, and say what came of it."""
    async with running(server, folder) as url:
        result = await push(get, url, server)
    good = result.is_good(server)
    done = REQUESTS - len(result.lost)
    sizes = f" ({' + '.join(map(str, waves(result.refusals)))})" if server.tells else ""
    print(
        f"{server.name:40} {client:8} {done} of {REQUESTS} in {result.seconds:4.1f} s, "
        f"{len(result.refusals):2} refused{sizes}, at most {result.retries} retries of one"
        f"{'' if good else '  WRONG'}"
    )
    for error in result.lost:
        print(f"    {error!r}")
    return good


async def main(folder: Path, words: list[str]) -> int:
    await install(folder)
    chosen = [s for s in SERVERS if not words or any(word.lower() in s.name.lower() for word in words)]
    bad = 0
    for server in chosen:
        if not server.installed():
            print(f"{server.name:40} skipped: {server.command[0]} is not installed")
            continue
        async with httpx_client() as get:
            bad += not await turn(server, "httpx", get, folder)
    for name, get in CLIENTS.items():
        bad += not await turn(SERVERS[0], name, get, folder)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.limiters")
    parser.add_argument("--keep", type=Path, help="install there, and leave it")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sys.exit(trio.run(main, folder.resolve(), options.words))
