"""raise_for_status with real responses: httpx, over a real server on the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio

from tests.loopback import serving
from trio_conman import ConMan, Failure, RateLimiter, RetryConfig, StopReason, Success, TaskCancelledError
from trio_conman.http import raise_for_status
from trio_conman.testing import FixedJitter

AT_ONCE = RetryConfig.none(max_attempts=3)


@attrs.define
class Service:
    """Answers each request with the next of its answers, as bytes; where they end, the body never does."""

    answers: list[bytes]
    url: str = ""
    requests: int = 0
    stalled: trio.Event = attrs.field(factory=trio.Event)

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive_some()
            self.requests += 1
            if self.answers:
                await stream.send_all(self.answers.pop(0))
                return
            await stream.send_all(b"HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nContent-Length: 9\r\n\r\nhal")
            self.stalled.set()
            await stream.receive_some()  # until the client has gone


@asynccontextmanager
async def running(*answers: bytes) -> AsyncIterator[Service]:
    service = Service(list(answers))
    async with serving(service.handle) as service.url:
        yield service


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=None) as made:
        yield made


def answer(status: int, *headers: str, body: str = "ok") -> bytes:
    lines = [f"HTTP/1.1 {status} Any", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, "", body]).encode()


async def fetch(http: httpx.AsyncClient, service: Service) -> str:
    text: str = raise_for_status(await http.get(service.url), rng=FixedJitter(0.0)).text
    return text


async def stream(http: httpx.AsyncClient, service: Service) -> str:
    """Looks at the status first, and then reads."""
    async with http.stream("GET", service.url) as response:
        raise_for_status(response, rng=FixedJitter(0.0))
        return (await response.aread()).decode()


async def read_and_judge(http: httpx.AsyncClient, service: Service) -> str:
    """Reads first, for the body says more, and then looks at the status."""
    async with http.stream("GET", service.url) as response:
        await response.aread()
        text: str = raise_for_status(response, rng=FixedJitter(0.0)).text
        return text


FETCHES = [fetch, stream, read_and_judge]


@pytest.mark.parametrize("task", FETCHES)
@pytest.mark.parametrize(
    "headers",
    [
        ["Retry-After: 0", "Retry-After: 0"],
        ['RateLimit: "a";r=0;t=0', 'RateLimit: "b";r=9;t=9'],
        ["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1000000000"],
        ["Date: Sat, 28 Nov 2026 09:38:14 GMT", "Retry-After: Sat, 28 Nov 2026 09:38:14 GMT"],
        [],
    ],
)
async def test_a_refused_request_is_made_again(task: Callable[..., Any], headers: list[str]) -> None:
    refused, failed = answer(429, *headers, body="busy"), answer(503)
    async with running(refused, failed, answer(200)) as service, client() as http:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, retry=AT_ONCE, rate=RateLimiter(1e9)) as cm:
                handle = await cm.run(task, http, service)
    assert isinstance(handle.outcome, Success)
    assert (handle.outcome.value, service.requests) == ("ok", 3)
    assert [type(error) for error in cm.errors()] == []


@pytest.mark.parametrize("task", FETCHES)
async def test_what_ends_the_retries_is_the_error_of_the_response(task: Callable[..., Any]) -> None:
    async with running(*[answer(429, "Retry-After: 0", body=f"busy {n}") for n in range(4)]) as service:
        async with client() as http, trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, retry=AT_ONCE) as cm:
                handle = await cm.run(task, http, service)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, httpx.HTTPStatusError)
    assert outcome.error.response.status_code == 429
    assert (outcome.reason, service.requests) == (StopReason.RETRIES_EXHAUSTED, 4)


@pytest.mark.parametrize("task", FETCHES)
async def test_what_will_not_pass_is_not_tried_again(task: Callable[..., Any]) -> None:
    async with running(answer(404, "Retry-After: 0")) as service, client() as http:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, retry=AT_ONCE) as cm:
                handle = await cm.run(task, http, service)
    assert isinstance(handle.outcome, Failure)
    assert (handle.outcome.reason, service.requests) == (StopReason.ERROR, 1)


@pytest.mark.parametrize("task", [fetch, read_and_judge])
@pytest.mark.parametrize("whose", ["task", "manager"])
async def test_a_cancelled_reading_of_the_body_is_a_cancellation(
    task: Callable[..., Any], whose: str
) -> None:
    # The head of the answer, a refusal that asks to come back at once, has been read by then.
    async with running() as service, client() as http, trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=AT_ONCE) as cm:
            handle = await cm.run(task, http, service)
            await service.stalled.wait()
            (handle if whose == "task" else cm).cancel()
    assert isinstance(handle.outcome, Failure)
    assert isinstance(handle.outcome.error, TaskCancelledError)
    assert (handle.outcome.reason, service.requests) == (StopReason.CANCELLED, 1)


@pytest.mark.parametrize("task", [fetch, read_and_judge])
async def test_an_attempt_that_times_out_while_it_reads_the_body_has_timed_out(
    task: Callable[..., Any],
) -> None:
    async with running() as service, client() as http, trio.open_nursery() as nursery:
        # Where no retry is asked for, a timeout ends the task; a refusal would be tried again.
        async with ConMan[str].open(nursery, attempt_timeout=0.05) as cm:
            handle = await cm.run(task, http, service)
    assert isinstance(handle.outcome, Failure)
    assert isinstance(handle.outcome.error, trio.TooSlowError)
    assert (handle.outcome.reason, handle.outcome.retries) == (StopReason.ATTEMPT_TIMEOUT, 0)


async def test_a_body_that_is_not_needed_is_not_waited_for() -> None:
    async with running() as service, client() as http, trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RetryConfig.none(max_attempts=0)) as cm:
            handle = await cm.run(stream, http, service)
    assert isinstance(handle.outcome, Failure)
    assert isinstance(handle.outcome.error, httpx.HTTPStatusError)
    assert handle.outcome.reason is StopReason.RETRIES_EXHAUSTED
