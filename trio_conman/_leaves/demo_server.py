"""The flaky server of the demo: on the loopback interface only, and it behaves badly on purpose.

A page's address, ``/NUMBER/ANSWERS``, says how the page behaves: ``/7/503,drop,ok`` answers its first request
with status 503, drops the connection of the second, and delivers the page from the third request on. The last
answer goes for all further requests; the last digit of the number sets how long the page takes to answer.
At the end of its pages the server seems to break down, which uses up what is left of the retry budget.

==========  ========================================================
ok          the page
404 (etc.)  that status
busy        status 503, with ``Retry-After``: in a second
closed      status 503, with ``Retry-After``: in an hour
drop        no answer: the connection is closed
cut         a part of the page, then the connection is closed
hang        nothing, until the client hangs up
==========  ========================================================
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from http.client import responses

import h11
import trio

from trio_conman import Failure, Outcome, StopReason

SECONDS_PER_DIGIT = 0.05

RATE = 12.0
"""Requests a second that its pages should be fetched with."""

TOKENS = 20
"""The retry budget to fetch its pages with: enough for all of them but the last ones."""

_BODY = b"All work and no play makes Jack a dull boy.\n" * 40
_ANSWER = r"(?:[2-5]\d\d|ok|busy|closed|drop|cut|hang)"
_ADDRESS = re.compile(rf"/\d*(\d)/({_ANSWER}(?:,{_ANSWER})*)", re.ASCII)

_FLAKY = {
    2: "hang",
    4: "503,ok",
    5: "drop,ok",
    7: "busy,ok",
    9: "cut,ok",
    10: "404",
    11: "503,503,ok",
    13: "closed",
    14: "hang,ok",
    16: "503",
    17: "503,drop,ok",
    19: "500,cut,ok",
    22: "429,ok",
    # Last, so that it takes no retries from pages that must succeed.
    **dict.fromkeys(range(37, 41), "503"),
}

PAGES = tuple(f"/{number}/{_FLAKY.get(number, 'ok')}" for number in range(1, 41))
"""The addresses of the demo's pages, without the server's own."""


def expected(address: str, retries: int) -> StopReason | None:
    """Why fetching a page must fail at the end, when it is retried so often; None for success."""
    answers = address.rpartition("/")[2].split(",")
    last = answers[min(retries, len(answers) - 1)]
    if last == "ok":
        return None
    if last == "hang":
        return StopReason.ATTEMPT_TIMEOUT
    if last == "404" or not retries:
        return StopReason.ERROR
    return StopReason.RETRY_AFTER if last == "closed" else StopReason.RETRIES_EXHAUSTED


def unexpected(outcomes: Iterable[Outcome[int]], urls: Sequence[str], retries: int) -> list[str]:
    """Those of the URLs that did not end as they should."""
    ended = {o.name: o.reason if isinstance(o, Failure) else None for o in outcomes}

    def is_as_expected(url: str) -> bool:
        # It is a matter of luck which pages want a retry when the budget has none left.
        return url in ended and ended[url] in (expected(url, retries), StopReason.RETRY_BUDGET)

    return [url for url in urls if not is_as_expected(url)]


async def serve(*, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on a free port until cancelled; ``await nursery.start(serve)`` gives the server's address."""
    requests: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        handler = partial(_converse, requests)
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        _, port = listeners[0].socket.getsockname()
        task_status.started(f"http://127.0.0.1:{port}")


async def _converse(requests: Counter[str], stream: trio.SocketStream) -> None:
    """Answer the requests of one connection; trio closes it at the return."""
    connection = h11.Connection(h11.SERVER)
    try:
        while (address := await next_request(connection, stream)) is not None:
            requests[address] += 1
            await _answer(address, requests[address], connection, stream)
            if connection.our_state is not h11.DONE:  # an answer cut short, or the client wants no more
                break
            connection.start_next_cycle()
    except (h11.ProtocolError, trio.BrokenResourceError):
        pass  # a client that speaks no HTTP, or has gone away, must not stop the server


async def next_request(connection: h11.Connection, stream: trio.SocketStream) -> str | None:
    """The address that the client asks for, or None when it has closed the connection."""
    address = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            address = event.target.decode("ascii")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return address


async def _answer(address: str, count: int, connection: h11.Connection, stream: trio.SocketStream) -> None:
    """Answer the request number `count` for `address`."""
    answer = "404"
    if match := _ADDRESS.fullmatch(address):
        answers = match[2].split(",")
        answer = answers[min(count, len(answers)) - 1]
        await trio.sleep(int(match[1]) * SECONDS_PER_DIGIT)

    if answer == "drop":
        return
    if answer == "hang":
        await stream.receive_some()
        return
    status = {"ok": 200, "cut": 200, "busy": 503, "closed": 503}.get(answer) or int(answer)
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY)))]
    if answer in ("busy", "closed"):
        headers.append(("Retry-After", "1" if answer == "busy" else "3600"))
    response = h11.Response(status_code=status, reason=responses.get(status, ""), headers=headers)
    await stream.send_all(connection.send(response) or b"")
    if answer == "cut":
        await stream.send_all(connection.send(h11.Data(_BODY[:100])) or b"")
        return
    await stream.send_all(connection.send(h11.Data(_BODY)) or b"")
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
