"""HTTP: whether a response is worth a retry, and when."""

from __future__ import annotations

import datetime  # noqa: ICN001  # by its name, the docs find it
import random
from collections.abc import Iterable
from typing import Any

from trio_conman import RetriableError

from ._base.checks import check_int, check_type
from ._base.texts import short
from ._leaves.http_headers import HeadersLike, Wait, stated_wait
from ._policy.backoff import full_jitter
from ._policy.retry_after import check_now

__all__ = ["HeadersLike", "raise_for_status", "retry_after"]

_REFUSALS = frozenset({403, 413, 429, 503})
_WORTH_A_RETRY = frozenset({403, 408, 413, 425, 429, 500, 502, 503, 504})
# Will not pass by itself, unless the server says when.
_WHEN_TOLD = frozenset({403, 413})

# It has no state to share between threads or to copy into another process, where all would wait alike.
_chance = random.SystemRandom()


def retry_after(
    headers: HeadersLike, *, status: int | None = None, now: datetime.datetime | None = None
) -> float | None:
    """The seconds that a response asks to wait, in whichever of the headers in use it says so.

    The first of these that says something counts, and of several values the longest wait:

    1. ``Retry-After``, ``Retry-After-NAME``, and in milliseconds ``retry-after-ms``,
       ``x-ms-retry-after-ms`` and ``x-amz-retry-after``;
    2. the entries of ``RateLimit`` that have nothing left;
    3. ``RateLimit-Reset``, ``X-RateLimit-Reset``, and such with more names around it, where the same header
       with ``Remaining`` is 0; of several values, those where its own is. It may be the seconds to wait, the
       seconds or milliseconds since 1970, a duration like ``6m0s``, or a date of RFC 3339;
    4. with a status of 429, the same where there is no such header with ``Remaining``.

    Dates, and times since 1970, are counted from the response's own ``Date`` where it has one.

    Args:
        headers: those of the response: a mapping, as most clients have it, or pairs of a name and a value.
        status: the status of the response, for some servers send such headers with any. Unless it is a
            refusal (403, 413, 429 or 503) there is nothing to wait for. Default: not known, taken for 429.
        now: the time to count from where the response has no ``Date``; must have a time zone. Default: the
            present.

    Returns:
        seconds, at least 0, as they were told; `raise_for_status` adds a margin. None where nothing is told
        that can be understood; no header raises.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: `now` has no time zone.
    """
    if status is not None:
        check_int("status", status, others=" or None")
    wait = stated_wait(headers, check_now(now), too_many=status in {None, 429})
    return None if wait is None or (status is not None and status not in _REFUSALS) else wait.seconds


def raise_for_status(
    response: Any, *, statuses: Iterable[int] = _WORTH_A_RETRY, rng: random.Random | None = None
) -> Any:
    """Return a good response; raise for any other, a `~trio_conman.RetriableError` if it is worth a retry.

    Which one is good is for the response's own ``raise_for_status`` to say, as those of httpx, requests and
    aiohttp have it. What it raises is what the `~trio_conman.RetriableError` is made from, or is raised as
    it is.

    The error's ``retry_after`` is what `retry_after` reads. Up to a second, at random, is added to what is
    told in whole seconds: these are often cut, and who asks too early is refused again, by some servers for
    the whole time. ``max_retry_after`` is compared with what was told. Where the manager has a rate, all its
    attempts wait; ``rate=RateLimiter.unlimited()`` is one that only pauses.

    Args:
        response: a response, whose body need not have been read, and is not.
        statuses: which are worth a retry; but 403 and 413 only with a header that says when. Default: these
            two, 408, 425, 429, 500, 502, 503 and 504.
        rng: where the part of a second comes from. Default: the operating system.

    Returns:
        the response.

    Raises:
        RetriableError: the status is worth a retry.
        Exception: what the response's own ``raise_for_status`` raised, for any other status.
        TypeError: a parameter is of the wrong kind.
    """
    codes = _codes(statuses)
    check_type("rng", rng, random.Random | None, "a random.Random or None")
    status = _status(response)
    wait = None
    if status in codes & _REFUSALS:
        wait = stated_wait(response.headers, check_now(None), too_many=status == 429)
    worth_it = status in codes and (wait is not None or status not in _WHEN_TOLD)
    try:
        response.raise_for_status()
    except Exception as error:
        if not worth_it:
            raise
        raise _retriable(error, wait, rng) from error
    if worth_it:
        raise _retriable(f"HTTP status {status}", wait, rng)
    return response


def _codes(statuses: Any) -> frozenset[int]:
    if isinstance(statuses, Iterable):
        codes = tuple(statuses)
        if all(isinstance(code, int) and not isinstance(code, bool) for code in codes):
            return frozenset(codes)
    raise TypeError(f"statuses must be ints, as in {{429, 503}}, not {short(statuses)}")


def _status(response: Any) -> int:
    for name in ("status_code", "status"):
        status = getattr(response, name, None)
        if isinstance(status, int) and callable(getattr(response, "raise_for_status", None)):
            return status
    hint = "; await it first" if hasattr(response, "__await__") else ""
    raise TypeError(
        "response must have a status_code or status, headers, and raise_for_status, "
        f"not be {short(response)}{hint}"
    )


def _retriable(error: Exception | str, wait: Wait | None, rng: random.Random | None) -> RetriableError:
    if wait is None or not wait.whole:
        return RetriableError(error, retry_after=None if wait is None else wait.seconds)
    seconds = wait.seconds + full_jitter(1.0, _chance if rng is None else rng)
    retriable = RetriableError(error, retry_after=seconds)
    # So that it is exactly what was told that is left without it.
    retriable._margin = seconds - wait.seconds
    return retriable
