"""A server for one test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio


@asynccontextmanager
async def serving(converse: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[str]:
    """Serve on a free port of this machine alone, until the block ends; yields the address, as an URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, converse, 0, host="127.0.0.1"))
        _, port = listeners[0].socket.getsockname()
        yield f"http://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()
