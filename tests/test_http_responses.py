"""raise_for_status: which responses are worth a retry, when, and with what margin."""

from __future__ import annotations

import copy
import itertools
import random
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.dated import DATE, EPOCH, LATER
from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig, StopReason, Success
from trio_conman.http import raise_for_status
from trio_conman.testing import FixedJitter

# Responses


class RefusedError(Exception):
    """What the responses below raise, when they are asked to."""


@attrs.define(weakref_slot=True)
class LikeRequests:
    """A response as that of requests: a status code, and headers whose names have no case."""

    status_code: int
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=httpx.Headers)

    def raise_for_status(self) -> None:
        if 400 <= self.status_code < 600:
            raise RefusedError(self.status_code)


@attrs.define(weakref_slot=True)
class LikeAiohttp:
    """A response as that of aiohttp: a status, headers that may repeat, and an error that lets go of it."""

    status: int
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    released: bool = False

    def raise_for_status(self) -> None:
        if self.status >= 400:
            self.released = True
            raise RefusedError(self.status)


def like_httpx(status: int, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://localhost/"))


KINDS: list[Any] = [like_httpx, LikeRequests, LikeAiohttp]
OWN = (httpx.HTTPStatusError, RefusedError)


def refusal(response: Any, **options: Any) -> RetriableError:
    with pytest.raises(RetriableError) as caught:
        raise_for_status(response, **options)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_a_good_response_comes_back(kind: Any, status: int) -> None:
    response = kind(status, {"Retry-After": "5"})
    assert raise_for_status(response) is response


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_worth_a_retry(kind: Any, status: int) -> None:
    error = refusal(kind(status))
    assert isinstance(error.err, OWN)
    assert error.__cause__ is error.err
    assert (error.retry_after, error.retry_config, str(error)) == (None, None, str(error.err))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 501, 505])
def test_any_other_raises_the_error_of_the_response(kind: Any, status: int) -> None:
    with pytest.raises(OWN):
        raise_for_status(kind(status))


def test_a_redirection_is_what_the_client_takes_it_for() -> None:
    with pytest.raises(httpx.HTTPStatusError):
        raise_for_status(like_httpx(302, {"Location": "/elsewhere"}))
    assert raise_for_status(LikeRequests(302)).status_code == 302


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [403, 413])
def test_what_is_forbidden_or_too_large_is_worth_a_retry_when_it_says_when(kind: Any, status: int) -> None:
    said = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7.5"}
    assert refusal(kind(status, said)).retry_after == 7.5
    with pytest.raises(OWN):
        raise_for_status(kind(status, said | {"X-RateLimit-Remaining": "3"}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_server_does_not_say_when(kind: Any) -> None:
    # Flask-Limiter puts its header on every answer, that of a failed view included.
    assert refusal(kind(500, {"Retry-After": "57"})).retry_after is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_alone_counts_where_requests_were_too_many(kind: Any) -> None:
    said = {"RateLimit-Reset": "7.5"}
    assert refusal(kind(429, said)).retry_after == 7.5
    assert refusal(kind(503, said)).retry_after is None
    with pytest.raises(OWN):
        raise_for_status(kind(403, said))


@pytest.mark.parametrize("kind", KINDS)
def test_which_statuses_are_worth_a_retry_can_be_said(kind: Any) -> None:
    assert isinstance(refusal(kind(418), statuses={418}).err, OWN)
    assert isinstance(refusal(kind(429), statuses=iter([418, 429])).err, OWN)
    for status, statuses in ((503, {429}), (429, ()), (403, {403})):
        with pytest.raises(OWN):
            raise_for_status(kind(status), statuses=statuses)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_no_error_may_be_worth_a_retry_too(kind: Any) -> None:
    error = refusal(kind(202, {"Retry-After": "5"}), statuses={202})
    assert (error.err, str(error), error.retry_after) == (None, "HTTP status 202", None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, trio.TooSlowError])
def test_what_is_no_exception_is_nothing_to_retry(error: type[BaseException]) -> None:
    class Interrupted(LikeRequests):
        def raise_for_status(self) -> None:
            raise error

    wanted = RetriableError if issubclass(error, Exception) else error
    with pytest.raises(wanted):
        raise_for_status(Interrupted(429))


@pytest.mark.parametrize("statuses", [429, "429", None, ["429"], [429.0], [None], [429, True]])
def test_statuses_that_are_no_ints_are_refused(statuses: Any) -> None:
    with pytest.raises(TypeError, match=r"^statuses must be ints, as in \{429, 503\}, not "):
        raise_for_status(like_httpx(200), statuses=statuses)


@pytest.mark.parametrize(
    "response",
    [
        None,
        429,
        "429",
        {"status": 429},
        httpx.Request("GET", "http://x/"),
        SimpleNamespace(status=429, headers={}),  # as of urllib
    ],
)
def test_what_is_no_response_is_refused(response: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"^response must have a status_code or status, headers, and raise_for_status, not be [^;]*$",
    ):
        raise_for_status(response)


async def test_a_response_that_was_not_waited_for_is_refused() -> None:
    async def get() -> httpx.Response:
        raise AssertionError

    coroutine = get()
    with pytest.raises(TypeError, match=r" not be <coroutine object .*>; await it first$"):
        raise_for_status(coroutine)
    coroutine.close()


def test_an_rng_that_is_none_is_refused() -> None:
    wrong: Any = random
    with pytest.raises(TypeError, match=r"^rng must be a random.Random or None, not <module 'random'"):
        raise_for_status(like_httpx(200), rng=wrong)


# The margin


@pytest.mark.parametrize(
    "headers, seconds, whole",
    [
        ({"Retry-After": "0"}, 0, True),
        ({"Retry-After": "57"}, 57, True),
        ({"Retry-After": "57.267"}, 57.267, False),
        ({"Retry-After": "57, 57.267"}, 57.267, False),
        ({"Retry-After": "58, 57.267"}, 58, True),
        ({"Retry-After-long": "60"}, 60, True),
        ({"Retry-After": LATER, "Date": DATE}, 60, True),
        ({"retry-after-ms": "57000"}, 57, False),
        ({"RateLimit": '"a";r=0;t=57'}, 57, True),
        ({"RateLimit": '"a";r=0;t=57.5'}, 57.5, False),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "57"}, 57, True),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "57.5"}, 57.5, False),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(EPOCH + 57), "Date": DATE}, 57, True),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{EPOCH}.5", "Date": DATE}, 0.5, False),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{EPOCH}500", "Date": DATE}, 0.5, False),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "6m0s"}, 360, True),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "120ms"}, 0.12, False),
        (
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-11-28T09:39:14Z", "Date": DATE},
            60,
            True,
        ),
        (
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2026-11-28T09:39:14.5Z", "Date": DATE},
            60.5,
            False,
        ),
    ],
)
def test_up_to_a_second_is_added_to_whole_seconds(
    headers: dict[str, str], seconds: float, whole: bool
) -> None:
    for share in (0.0, 0.25, 1.0):
        error = refusal(like_httpx(429, headers), rng=FixedJitter(share))
        assert error.retry_after == seconds + (share if whole else 0)


def test_a_date_is_told_in_whole_seconds_also_where_the_time_that_is_left_is_not() -> None:
    later = datetime.now(UTC) + timedelta(days=365)
    headers = {"Retry-After": later.strftime("%a, %d %b %Y 12:00:00 GMT")}
    error = refusal(like_httpx(429, headers), rng=FixedJitter(1.0))
    without = refusal(like_httpx(429, headers), rng=FixedJitter(0.0))
    assert error.retry_after is not None and without.retry_after is not None
    assert error.retry_after - without.retry_after == pytest.approx(1, abs=0.5)


def test_nobody_says_where_chance_comes_from() -> None:
    state = random.getstate()
    waits = [refusal(like_httpx(429, {"Retry-After": "3"})).retry_after for _ in range(50)]
    assert all(wait is not None and 3 <= wait <= 4 for wait in waits)
    assert len(set(waits)) > 40
    assert random.getstate() == state


def test_the_same_seed_gives_the_same_margin() -> None:
    made = [
        refusal(like_httpx(429, {"Retry-After": "3"}), rng=random.Random(seed)).retry_after
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]


CAPPED = RetryConfig.none(max_attempts=1, max_retry_after=60)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("rate", [None, RateLimiter(1e9)])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("copied", [False, True])
async def test_the_margin_is_not_compared_with_max_retry_after(
    share: float, rate: RateLimiter | None, grouped: bool, copied: bool, autojump_clock: MockClock
) -> None:
    answers = itertools.chain([like_httpx(429, {"Retry-After": "60"})], itertools.repeat(like_httpx(200)))

    async def fetch() -> int:
        try:
            response = raise_for_status(next(answers), rng=FixedJitter(share))
        except RetriableError as error:
            raised = copy.copy(error) if copied else error
            raise (ExceptionGroup("some", [raised]) if grouped else raised) from None
        status: int = response.status_code
        return status

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, retry=CAPPED, rate=rate) as cm:
            handle = await cm.run(fetch)
    assert isinstance(handle.outcome, Success)
    assert handle.outcome.elapsed == 60 + share


async def test_what_was_told_is_compared_with_max_retry_after(autojump_clock: MockClock) -> None:
    async def fetch() -> None:
        raise_for_status(like_httpx(429, {"Retry-After": "61"}), rng=FixedJitter(0.0))

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=CAPPED) as cm:
            handle = await cm.run(fetch)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, httpx.HTTPStatusError)
    assert (outcome.reason, outcome.elapsed) == (StopReason.RETRY_AFTER, 0)


async def test_a_window_of_a_minute_as_a_date_is_waited_for_by_default(autojump_clock: MockClock) -> None:
    answers = iter([like_httpx(429, {"Date": DATE, "Retry-After": "Sat, 28 Nov 2026 09:39:15 GMT"})])

    async def fetch() -> None:
        raise_for_status(next(answers, like_httpx(200)), rng=FixedJitter(1.0))

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery) as cm:
            handle = await cm.run(fetch)
    assert isinstance(handle.outcome, Success)
    assert handle.outcome.elapsed == 62


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("status", [404, 429])
def test_no_cycle_holds_the_response_of_an_error_that_was_dropped(status: int) -> None:
    response = LikeRequests(status, {"Retry-After": "5"})
    gone = weakref.ref(response)
    with suppress(RetriableError, RefusedError):
        raise_for_status(response)
    del response
    assert gone() is None
