"""The flaky server of the demo: on the loopback interface only, and it behaves badly on purpose.

A page's address, ``/NUMBER/ANSWERS``, says how the page behaves: ``/7/503,drop,ok`` answers its first request
with status 503, drops the connection of the second, and delivers the page from the third request on. The last
answer goes for all further requests; the last digit of the number sets how long the page takes to answer.
At the end of its pages the server seems to break down, which uses up what is left of the retry budget.
If it is given a `Quota`, it meters its requests and the bytes of its pages, and refuses what is too much.

==========  ========================================================
ok          the page
long        a page ten times as long
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
from math import inf

import attrs
import h11
import trio

from trio_conman import Failure, Outcome, StopReason

SECONDS_PER_DIGIT = 0.05

RATE = 12.0
"""Requests a second that its pages should be fetched with."""

BYTES = 24_000.0
"""Bytes a second that its pages should be fetched with."""

TOKENS = 20
"""The retry budget to fetch its pages with: enough for all of them but the last ones."""

_BODY = b"All work and no play makes Jack a dull boy.\n" * 40
_LENGTHS = {"long": 10}  # of the body; 1 for all others
_STATUSES = {"ok": 200, "long": 200, "cut": 200, "refused": 429, "busy": 503, "closed": 503}
_ANSWER = r"(?:[2-5]\d\d|ok|long|busy|closed|drop|cut|hang)"
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
    **dict.fromkeys(range(24, 27), "long"),
    # Last, so that it takes no retries from pages that must succeed.
    **dict.fromkeys(range(37, 41), "503"),
}

PAGES = tuple(f"/{number}/{_FLAKY.get(number, 'ok')}" for number in range(1, 41))
"""The addresses of the demo's pages, without the server's own."""


def expected(address: str, retries: int) -> StopReason | None:
    """Why fetching a page must fail at the end, when it is retried so often; None for success."""
    answers = address.rpartition("/")[2].split(",")
    last = answers[min(retries, len(answers) - 1)]
    if last in ("ok", "long"):
        return None
    if last == "hang":
        return StopReason.ATTEMPT_TIMEOUT
    if last == "404":
        return StopReason.ERROR
    return StopReason.RETRY_AFTER if last == "closed" and retries else StopReason.RETRIES_EXHAUSTED


def unexpected(outcomes: Iterable[Outcome[int]], urls: Sequence[str], retries: int) -> list[str]:
    """Those of the URLs that did not end as they should."""
    ended = {o.name: o.reason if isinstance(o, Failure) else None for o in outcomes}

    def is_as_expected(url: str) -> bool:
        # It is a matter of luck which pages want a retry when the budget has none left.
        return url in ended and ended[url] in (expected(url, retries), StopReason.RETRY_BUDGET)

    return [url for url in urls if not is_as_expected(url)]


def had_time(outcomes: Iterable[Outcome[int]]) -> bool:
    """Whether no page was given up because its next attempt would not have been in time."""
    return not any(isinstance(each, Failure) and each.reason is StopReason.DEADLINE for each in outcomes)


@attrs.define(eq=False, repr=False)
class Meter:
    """Counts what is used, of a bucket that is filled evenly and may be overdrawn once it is not empty."""

    rate: float
    """Units that come back each second."""
    burst: float
    """Units that it holds."""
    used: int = 0
    """Units, in all."""
    _left: float = attrs.field(default=inf, init=False)
    _filled: float = attrs.field(default=-inf, init=False)

    def is_empty(self) -> bool:
        """Whether there is nothing left now."""
        now = trio.current_time()
        self._left = min(self.burst, self._left + (now - self._filled) * self.rate)
        self._filled = now
        return self._left <= 0

    def use(self, units: int) -> None:
        """Take so many."""
        self._left -= units
        self.used += units


@attrs.define(eq=False, repr=False)
class Quota:
    """What the server bears, and has borne: some more at once than its clients should count on."""

    requests: Meter = attrs.Factory(lambda: Meter(RATE, burst=RATE))
    bytes: Meter = attrs.Factory(lambda: Meter(BYTES, burst=BYTES))
    refused: int = 0

    def __str__(self) -> str:
        refused = f"{self.refused or 'none'} too many"
        return f"{self.requests.used} requests, {self.bytes.used:,} bytes, as the server counts; {refused}"

    def admits(self) -> bool:
        """Count a request that comes now, unless it is too much."""
        if self.requests.is_empty() or self.bytes.is_empty():
            self.refused += 1
            return False
        self.requests.use(1)
        return True


async def serve(
    quota: Quota | None = None, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve on a free port until cancelled; ``await nursery.start(serve)`` gives the server's address."""
    server = _Server(quota)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.converse, 0, host="127.0.0.1"))
        _, port = listeners[0].socket.getsockname()
        task_status.started(f"http://127.0.0.1:{port}")


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


@attrs.define(eq=False, repr=False)
class _Server:
    """Answers requests, and remembers how often which address was asked for."""

    quota: Quota | None
    requests: Counter[str] = attrs.field(factory=Counter, init=False)

    async def converse(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection; trio closes it at the return."""
        connection = h11.Connection(h11.SERVER)
        try:
            while (address := await next_request(connection, stream)) is not None:
                await self.answer(address, connection, stream)
                if connection.our_state is not h11.DONE:  # an answer cut short, or the client wants no more
                    break
                connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError):
            pass  # a client that speaks no HTTP, or has gone away, must not stop the server

    async def answer(self, address: str, connection: h11.Connection, stream: trio.SocketStream) -> None:
        """Answer a request for `address`."""
        answer = "404"
        if self.quota is not None and not self.quota.admits():
            answer = "refused"  # it does not count as one of those that the address tells of
        elif match := _ADDRESS.fullmatch(address):
            answers = match[2].split(",")
            self.requests[address] += 1
            answer = answers[min(self.requests[address], len(answers)) - 1]
            await trio.sleep(int(match[1]) * SECONDS_PER_DIGIT)

        if answer == "drop":
            return
        if answer == "hang":
            await stream.receive_some()
            return
        await self.send(answer, connection, stream)

    async def send(self, answer: str, connection: h11.Connection, stream: trio.SocketStream) -> None:
        """Send a page, or a status."""
        status = _STATUSES.get(answer) or int(answer)
        body = _BODY * _LENGTHS.get(answer, 1)
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        if answer in ("refused", "busy", "closed"):
            headers.append(("Retry-After", "3600" if answer == "closed" else "1"))
        response = h11.Response(status_code=status, reason=responses.get(status, ""), headers=headers)
        if answer == "cut":
            body = body[:100]
        if self.quota is not None:
            self.quota.bytes.use(len(body))
        await stream.send_all(connection.send(response) or b"")
        await stream.send_all(connection.send(h11.Data(body)) or b"")
        if answer != "cut":
            await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
