"""A small HTTP server on the loopback interface, which costs its clients as little as it can.

    python -m tests.benchmarks.http_server MILLISECONDS

Prints its port, and answers every request after so long with the same page, until its standard input is
closed. It reads requests without a body, up to the empty line, and nothing else of HTTP.
"""

import sys
from functools import partial

import trio

BODY = b"All work and no play makes Jack a dull boy.\n" * 20
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
END = b"\r\n\r\n"


async def converse(delay: float, stream: trio.SocketStream) -> None:
    """Answer the requests of one connection."""
    received = b""
    try:
        while chunk := await stream.receive_some():
            received += chunk
            while END in received:
                _, _, received = received.partition(END)
                await trio.sleep(delay)
                await stream.send_all(ANSWER)
    except trio.BrokenResourceError:
        pass  # the client has gone away


async def main(delay: float) -> None:
    handler = partial(converse, delay)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1", backlog=1000))
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) / 1000)
