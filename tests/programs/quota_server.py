"""An HTTP server with a quota, in a process of its own: tests ask it what it saw.

It prints its port, serves on the loopback interface, and ends with its standard input, so that it never
outlives the test that started it, however that ends.

Its arguments are RATE, BURST and, if wanted, the numbers of the requests, from 1, that come while it is down,
as in ``31-60,91``. It keeps a bucket of BURST tokens, filled with RATE of them a second, and each request
takes one. A request that finds none is answered with 429 and ``Retry-After: 1``, and so is each further one
until nobody has asked for a second; then the bucket is full again. While it is down it answers 503, or closes
the connection, by turns. ``/log`` has all other requests: when each came, for what, and the status it got.
"""

import json
import math
import sys
from functools import partial
from http.client import responses
from typing import Any

import attrs
import h11
import trio

from trio_conman._leaves.demo_server import next_request

RETRY_AFTER = 1  # seconds


@attrs.define
class Quota:
    """Answers requests, without waiting for anything, and remembers them."""

    rate: float
    burst: float
    down: frozenset[int]
    tokens: float = attrs.Factory(lambda self: self.burst, takes_self=True)
    filled: float = -math.inf
    refused: float = -math.inf
    log: list[dict[str, Any]] = attrs.Factory(list)

    def answer(self, path: str) -> int | None:
        """The status of the answer to a request that comes now; None for closing the connection."""
        now = trio.current_time()
        status = self.judge(now)
        self.log.append({"time": now, "path": path, "status": status})
        return status

    def judge(self, now: float) -> int | None:
        number = len(self.log) + 1
        if number in self.down:
            return 503 if number % 2 else None
        if self.refused != -math.inf:
            if now < self.refused + RETRY_AFTER:
                self.refused = now
                return 429
            self.tokens = self.burst
            self.refused = -math.inf
        elif self.filled != -math.inf:
            self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            self.refused = now
            return 429
        self.tokens -= 1
        return 200


async def converse(quota: Quota, stream: trio.SocketStream) -> None:
    """Answer the requests of one connection; trio closes it at the return."""
    connection = h11.Connection(h11.SERVER)
    try:
        while (path := await next_request(connection, stream)) is not None:
            if path == "/log":
                status, body = 200, json.dumps(quota.log).encode()
            else:
                answer = quota.answer(path)
                if answer is None:
                    break
                status, body = answer, b""
            headers = [("Content-Length", str(len(body)))]
            if status == 429:
                headers.append(("Retry-After", str(RETRY_AFTER)))
            response = h11.Response(status_code=status, reason=responses[status], headers=headers)
            data = [connection.send(each) or b"" for each in (response, h11.Data(body))]
            data.append(connection.send(h11.EndOfMessage()) or b"")
            await stream.send_all(b"".join(data))
            connection.start_next_cycle()
    except trio.BrokenResourceError:
        pass  # the client has gone away


def numbers(text: str) -> frozenset[int]:
    """The numbers in a list of them and of ranges."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


async def main(*arguments: str) -> None:
    rate, burst, *down = arguments
    quota = Quota(float(rate), float(burst), numbers(",".join(down)))
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(converse, quota), 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
