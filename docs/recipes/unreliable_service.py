from collections import Counter
from collections.abc import Callable
from functools import partial

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio

from trio_conman import ConMan, RetriableError, RetryConfig
from trio_conman.http import raise_for_status

LIMIT = 3  # tasks at once; below STREAMS
STREAMS = 4  # requests at once that the server takes on a connection


class LastingClient:
    """An httpx client that is made anew, once for all tasks, when it is beyond help."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self.make = make
        self.client = make()
        self.made = 1
        self.in_use = Counter[httpx.AsyncClient]()  # requests that each client has
        self.pool_timeouts = 0  # in a row

    async def get(self, path: str) -> httpx.Response:
        client = self.client
        self.in_use[client] += 1
        try:
            response = await client.get(path)
        except (httpx.LocalProtocolError, httpx.PoolTimeout) as error:
            if client is self.client:  # nobody has been here before
                self.pool_timeouts += isinstance(error, httpx.PoolTimeout)
                if isinstance(error, httpx.LocalProtocolError) or self.pool_timeouts == 2:
                    self.client, self.pool_timeouts = self.make(), 0
                    self.made += 1
            raise
        finally:
            self.in_use[client] -= 1
            if (
                client is not self.client and not self.in_use[client]
            ):  # the last one to leave it
                del self.in_use[client]
                with trio.move_on_after(1, shield=True):
                    await client.aclose()
        self.pool_timeouts = 0
        return response


async def fetch(client: LastingClient, path: str) -> str:
    try:
        response = await client.get(path)
    except httpx.TransportError as error:
        raise RetriableError(error) from error
    return str(raise_for_status(response).text)


async def main(url: str) -> None:
    def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url,
            http1=False,  # without TLS, HTTP/2 is agreed on before; else leave this out
            http2=True,
            limits=httpx.Limits(max_connections=LIMIT),
            timeout=5,
            trust_env=False,
        )

    client = LastingClient(make)
    retry = RetryConfig.exponential(initial_delay=0.01, jitter=False)
    try:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(
                nursery, limit=LIMIT, retry=retry, attempt_timeout=0.5
            ) as cm:
                for number in range(1, 21):
                    await cm.run(fetch, client, f"/{number}")
    finally:
        await client.client.aclose()
    print(f"{len(cm.outputs())} pages, {len(cm.errors())} errors, {client.made} clients")


async def with_service() -> None:
    """Stands for the service: it answers none of its first requests."""
    app = QuartTrio(__name__)
    unanswered: list[str] = []

    @app.get("/<page>")
    async def answer(page: str) -> str:
        if len(unanswered) < STREAMS:
            unanswered.append(page)
            await trio.sleep_forever()
        return page

    config = Config()
    config.bind = ["127.0.0.1:0"]  # any free port
    config.h2_max_concurrent_streams = STREAMS
    config.graceful_timeout = 0
    config.loglevel = "WARNING"
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(
            partial(serve, app, config, shutdown_trigger=stop.wait)
        )
        await main(url)
        stop.set()


trio.run(with_service)
