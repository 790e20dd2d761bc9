"""What loses nothing to a service that refuses what is beyond its quota."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig, StopReason

PATIENT: dict[str, Any] = {"max_attempts": math.inf, "max_elapsed": 3600}


class Service:
    """Lets so many requests in, in each window of so many seconds."""

    def __init__(self, quota: int, seconds: float, *, tells: bool) -> None:
        self.quota, self.seconds, self.tells = quota, seconds, tells
        self.let_in = Counter[float]()

    async def __call__(self) -> None:
        await trio.sleep(0.05)
        window, since = divmod(trio.current_time(), self.seconds)
        if self.let_in[window] == self.quota:
            raise RetriableError("no more", retry_after=self.seconds - since if self.tells else None)
        self.let_in[window] += 1
        await trio.sleep(0.1)


async def reasons(service: Service, limit: int, **options: Any) -> set[StopReason]:
    """Why tasks have failed."""
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit, rng=random.Random(1), **options) as cm:
            for _ in range(200):
                await cm.run(service)
    return {outcome.reason for outcome in cm.outcomes() if isinstance(outcome, Failure)}


@pytest.mark.parametrize(
    "config, failed", [({}, {StopReason.RETRIES_EXHAUSTED}), (PATIENT, set())], ids=["default", "patient"]
)
async def test_who_is_refused_needs_more_retries_where_others_begin_meanwhile(
    config: dict[str, Any], failed: set[StopReason], autojump_clock: MockClock
) -> None:
    retry = RetryConfig.exponential(**config)
    service = Service(10, 2, tells=True)
    assert await reasons(service, 40, rate=RateLimiter.unlimited(), retry=retry) == failed


@pytest.mark.parametrize(
    "config, failed",
    [({"max_attempts": 6}, {StopReason.RETRIES_EXHAUSTED}), (PATIENT, set())],
    ids=["six retries", "patient"],
)
async def test_so_it_is_where_no_header_says_anything(
    config: dict[str, Any], failed: set[StopReason], autojump_clock: MockClock
) -> None:
    retry = RetryConfig.exponential(initial_delay=4, max_delay=60, **config)
    assert await reasons(Service(60, 60, tells=False), 8, retry=retry) == failed


async def test_a_rate_that_keeps_below_the_quota_is_never_refused(autojump_clock: MockClock) -> None:
    service = Service(60, 60, tells=False)
    assert (
        await reasons(service, 40, rate=RateLimiter(55, per=60, burst=5), retry=RetryConfig.none()) == set()
    )
