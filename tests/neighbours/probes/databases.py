"""Databases and message servers that are used on trio itself."""

from __future__ import annotations

from .answers import POOL, each_its_own
from .servers import redis_server


async def coredis() -> dict[str, str]:
    from coredis import ConnectionPool, Redis

    async with redis_server() as port:
        pool = ConnectionPool(host="127.0.0.1", port=port, max_connections=POOL, decode_responses=True)
        async with pool, Redis(connection_pool=pool) as client:

            async def ask(n: int) -> object:
                return int(str(await client.echo(str(n))))

            return {"answers": await each_its_own(ask)}


async def anysqlite() -> dict[str, str]:
    import anysqlite as library

    connection = await library.connect(":memory:")

    async def ask(n: int) -> object:
        cursor = await connection.execute("SELECT ?", (n,))
        return (await cursor.fetchone())[0]

    seen = await each_its_own(ask)
    await connection.close()
    return {"answers": seen}
