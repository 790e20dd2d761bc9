"""httpx under deadlines, on a real server: what its pool of connections holds afterwards."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from tests.loopback import serving
from tests.pages import DOCS, ROOT
from trio_conman import ConMan, Failure, StopReason

SCRIPTS = [*DOCS.glob("*/*.py"), *(ROOT / "trio_conman").rglob("*.py")]
CLIENTS = [
    pytest.param(node, id=f"{script.stem}:{node.lineno}")
    for script in sorted(SCRIPTS)
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "httpx.AsyncClient"
]


class Outage:
    """A server that takes requests, and answers them once it is over."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.url = ""

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                while request := await stream.receive_some():
                    assert request.endswith(b"\r\n\r\n")
                    await self.over.wait()
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except trio.BrokenResourceError:
                pass  # the client has gone


@asynccontextmanager
async def outage() -> AsyncIterator[Outage]:
    service = Outage()
    async with serving(service.handle) as service.url:
        yield service


def pool_of(client: httpx.AsyncClient) -> list[Any]:
    """The entries of the pool; there is no public way to it."""
    entries: list[Any] = vars(client)["_transport"]._pool.connections
    return entries


@pytest.mark.parametrize("limit", [2, 8, 40])
async def test_with_a_connection_for_each_task_deadlines_leave_nothing_in_the_pool(limit: int) -> None:
    limits = httpx.Limits(max_connections=limit)
    async with outage() as service, httpx.AsyncClient(limits=limits, trust_env=False) as client:
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                async with ConMan[httpx.Response].open(nursery, limit, attempt_timeout=0.1) as cm:
                    for _ in range(2 * limit):
                        await cm.run(client.get, service.url)
            reasons = [each.reason for each in cm.outcomes() if isinstance(each, Failure)]
            assert reasons == [StopReason.ATTEMPT_TIMEOUT] * 2 * limit
            assert pool_of(client) == []
        service.over.set()
        async with trio.open_nursery() as nursery:
            async with ConMan[httpx.Response].open(nursery, limit) as cm:
                for _ in range(2 * limit):
                    await cm.run(client.get, service.url)
        assert [each.status_code for each in cm.outputs()] == [200] * 2 * limit
        assert all(each.is_idle() for each in pool_of(client))


@pytest.mark.parametrize("call", CLIENTS)
def test_every_client_that_is_shown_has_a_connection_for_each_task(call: ast.Call) -> None:
    assert "limits" in {keyword.arg for keyword in call.keywords}


def test_clients_are_found() -> None:
    assert len(CLIENTS) == 7
