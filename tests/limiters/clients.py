"""The HTTP clients whose responses `raise_for_status` is given, each as an async ``get``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
import trio

Get: TypeAlias = Callable[[str], Awaitable[tuple[Any, int]]]  # the response, and its status


@asynccontextmanager
async def httpx_client() -> AsyncIterator[Get]:
    limits = httpx.Limits(max_connections=None)  # no request waits for one
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def get(url: str) -> tuple[Any, int]:
            response = await client.get(url)
            return response, response.status_code

        yield get


async def get_with_requests(url: str) -> tuple[Any, int]:
    import requests

    def get() -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=30)

    response = await trio.to_thread.run_sync(get)
    return response, response.status_code


async def get_with_aiohttp(url: str) -> tuple[Any, int]:
    """In a loop of its own: aiohttp needs asyncio."""
    import aiohttp

    async def get() -> aiohttp.ClientResponse:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.read()
            return response

    response = await trio.to_thread.run_sync(asyncio.run, get())
    return response, response.status


CLIENTS: dict[str, Get] = {"requests": get_with_requests, "aiohttp": get_with_aiohttp}
