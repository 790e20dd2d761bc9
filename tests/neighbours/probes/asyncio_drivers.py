"""Drivers that are made for asyncio: what they say on trio, and their answers through trio-asyncio.

The loop is opened outside of the nursery, before the manager, and closed last.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.loopback import serving

from .answers import POOL, delay_of, each_its_own
from .servers import answer, nats_server, postgres_server, redis_server

Ask = Callable[[int], Awaitable[object]]
Opened = Callable[[], AbstractAsyncContextManager[Ask]]
Tried = Callable[[Opened], Awaitable[dict[str, str]]]
SHIFTING = re.compile(r" <.*")  # from the repr of an object on


async def on_trio(opened: Opened) -> dict[str, str]:
    """What a driver says on trio as it is. In a process without trio-asyncio, which changes what is said."""
    try:
        async with opened() as ask:
            return {"on trio": f"answers {await ask(1)}"}
    except Exception as exc:
        return {"on trio": f"{type(exc).__qualname__}: {SHIFTING.sub('', str(exc))}"}


async def in_loop(opened: Opened) -> dict[str, str]:
    """The answers through trio-asyncio."""
    from trio_asyncio import aio_as_trio, open_loop

    async with open_loop():
        async with aio_as_trio(opened()) as ask:
            return {"answers": await each_its_own(aio_as_trio(ask))}


async def asyncpg(tried: Tried) -> dict[str, str]:
    import asyncpg as library

    async with postgres_server() as port:

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ask]:
            address = {"host": "127.0.0.1", "port": port, "user": "postgres", "database": "postgres"}
            async with library.create_pool(**address, ssl=False, max_size=POOL, min_size=1) as pool:

                async def ask(n: int) -> object:
                    question = "SELECT $1::int FROM pg_sleep($2)"
                    return await pool.fetchval(question, n, delay_of(n))

                yield ask

        return await tried(opened)


async def psycopg(tried: Tried) -> dict[str, str]:
    from psycopg_pool import AsyncConnectionPool

    async with postgres_server() as port:

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ask]:
            address = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
            async with AsyncConnectionPool(address, min_size=1, max_size=POOL, open=False) as pool:

                async def ask(n: int) -> object:
                    async with pool.connection() as connection:
                        cursor = await connection.execute(
                            "SELECT %s::int FROM pg_sleep(%s)", (n, delay_of(n))
                        )
                        (row,) = await cursor.fetchall()
                        return row[0]

                yield ask

        return await tried(opened)


async def redis(tried: Tried) -> dict[str, str]:
    from redis.asyncio import BlockingConnectionPool, Redis

    async with redis_server() as port:

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ask]:
            pool = BlockingConnectionPool(host="127.0.0.1", port=port, max_connections=POOL, timeout=30)
            async with Redis(connection_pool=pool) as client:

                async def ask(n: int) -> object:
                    return int(await client.echo(str(n)))

                yield ask
            await pool.disconnect()

        return await tried(opened)


async def aiosqlite(tried: Tried) -> dict[str, str]:
    import aiosqlite as library

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ask]:
        async with library.connect(":memory:") as connection:

            async def ask(n: int) -> object:
                async with connection.execute("SELECT ?", (n,)) as cursor:
                    (row,) = await cursor.fetchall()
                    return row[0]

            yield ask

    return await tried(opened)


async def aiohttp(tried: Tried) -> dict[str, str]:
    from aiohttp import ClientSession, TCPConnector

    async with serving(answer) as url:

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ask]:
            async with ClientSession(connector=TCPConnector(limit=POOL)) as session:

                async def ask(n: int) -> object:
                    async with session.get(f"{url}{n}") as response:
                        return int(await response.text())

                yield ask

        return await tried(opened)


async def nats(tried: Tried) -> dict[str, str]:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    async with nats_server() as port:

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ask]:
            client = Client()
            await client.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)

            async def echo(message: Msg) -> None:
                await message.respond(message.data)

            await client.subscribe("echo", cb=echo)

            async def ask(n: int) -> object:
                return int((await client.request("echo", str(n).encode(), timeout=10)).data)

            yield ask
            await client.close()

        return await tried(opened)
