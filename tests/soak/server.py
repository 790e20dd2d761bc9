"""An HTTP server with faults, for the soak: it counts what it receives, by what it did to it.

It prints its port, serves on the loopback interface, and ends with its standard input. Most requests it
answers at once, some late, some with 503 and Retry-After; on some it closes the connection without an answer
or in the middle of one, and some it never answers. ``/books`` has the counts, and is not counted.
"""

import json
import random
import sys
from collections import Counter
from functools import partial
from http.client import responses

import h11
import trio

from tests.soak.books import descriptors
from trio_conman._leaves.demo_server import next_request

WEIGHTS = {"ok": 80, "slow": 6, "busy": 5, "drop": 4, "cut": 4, "hang": 1}
LATE = 0.1  # seconds
BODY = b"x" * 1000


class Server:
    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.chance = random.Random(7)

    async def converse(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection; trio closes it at the return."""
        connection = h11.Connection(h11.SERVER)
        try:
            while (path := await next_request(connection, stream)) is not None:
                if not await self.answer(connection, stream, path):
                    break
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # the client has gone away

    async def answer(self, connection: h11.Connection, stream: trio.SocketStream, path: str) -> bool:
        """Answer a request; whether the connection is still good."""
        if path == "/books":
            books = {**self.received, "descriptors": descriptors()}
            await send(connection, stream, 200, json.dumps(books).encode())
            return True
        (kind,) = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        self.received[kind] += 1
        match kind:
            case "drop":
                return False
            case "hang":
                while await stream.receive_some():
                    pass
                return False
            case "cut":
                head = h11.Response(status_code=200, headers=[("Content-Length", str(len(BODY)))])
                await stream.send_all((connection.send(head) or b"") + BODY[: len(BODY) // 2])
                return False
            case "busy":
                # A whole second only now and then, for all of the client's requests wait for it.
                wait = "0" if self.received["busy"] % 40 else "1"
                await send(connection, stream, 503, b"", ("Retry-After", wait))
            case "slow" | "ok":
                await trio.sleep(LATE if kind == "slow" else 0)
                await send(connection, stream, 200, BODY)
        return True


async def send(
    connection: h11.Connection, stream: trio.SocketStream, status: int, body: bytes, *headers: tuple[str, str]
) -> None:
    response = h11.Response(
        status_code=status, reason=responses[status], headers=[("Content-Length", str(len(body))), *headers]
    )
    data = [connection.send(each) or b"" for each in (response, h11.Data(body), h11.EndOfMessage())]
    await stream.send_all(b"".join(data))


async def main() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.converse, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
