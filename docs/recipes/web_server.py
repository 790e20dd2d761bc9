from collections import Counter
from functools import partial

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from trio_conman import ConMan

VISITORS = 6


async def query(database: trio.Event, table: str) -> str:
    await database.wait()  # it is down at first
    return f"3 {table}"


def create_app(cm: ConMan[str], database: trio.Event) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/<table>")
    async def report(table: str) -> ResponseReturnValue:
        try:
            handle = cm.start_soon(query, database, table, name=table)
        except trio.WouldBlock:
            return "busy", 503, {"Retry-After": "1"}
        try:
            return await handle.result()
        finally:
            handle.cancel("the client is gone")  # does nothing to a task that has ended
            cm.pop_outcomes()  # else they would be kept as long as the app lives

    return app


async def visit(url: str, database: trio.Event) -> None:
    answers = Counter[str]()
    limits = httpx.Limits(max_connections=VISITORS)  # a connection for each
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=30, trust_env=False
    ) as client:

        async def get_users() -> None:
            response = await client.get("/users")
            answers[f"{response.status_code} {response.text}"] += 1
            if answers["503 busy"] == 2:
                database.set()

        async with trio.open_nursery() as nursery:
            for _ in range(VISITORS):
                nursery.start_soon(get_users)
    for answer, count in sorted(answers.items()):
        print(f"{count} x {answer}")


async def main() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]  # any free port
    config.loglevel = "WARNING"
    database, stop = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=2, max_queued=2, task_timeout=20
        ) as cm:
            app = create_app(cm, database)
            async with trio.open_nursery() as server:  # ends before the manager
                (url,) = await server.start(
                    partial(serve, app, config, shutdown_trigger=stop.wait)
                )
                await visit(url, database)
                stop.set()
    print(f"tasks: {cm.statistics().submitted}")


trio.run(main)
