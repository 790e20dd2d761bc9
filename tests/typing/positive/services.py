"""Rate limiters, limits by key, Retry-After, and retry budgets."""

from collections.abc import Hashable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import assert_type

import trio

from trio_conman import (
    AdaptiveLimit,
    AdaptiveLimitStatistics,
    ConMan,
    KeyedLimit,
    KeyStatistics,
    RateLimiter,
    RateLimiterStatistics,
    RetriableError,
    RetryBudget,
    RetryBudgetStatistics,
    parse_retry_after,
)


async def shared(nursery: trio.Nursery) -> None:
    rate = RateLimiter(10)
    budget = RetryBudget()
    async with (
        ConMan[int].open(nursery, rate=rate, retry_budget=budget) as first,
        ConMan.open(nursery, rate=rate, retry_budget=budget),
        ConMan[str].open(nursery, rate=None, retry_budget=None, max_queued=100),
        ConMan[str].open(nursery, rate=(rate, RateLimiter.unlimited())),
        ConMan[str].open(nursery, rate=iter([rate])),
    ):
        assert_type(first, ConMan[int])


async def keys(nursery: trio.Nursery) -> None:
    limit = KeyedLimit(2, key=str, limits={"host": 3})
    assert_type(limit.limit, int)
    assert_type(limit.limits, MutableMapping[Hashable, int])
    limit.limit = 3
    limit.limits["host"] = 4
    del limit.limits["host"]
    assert_type(limit.statistics(), Mapping[Hashable, KeyStatistics])
    assert_type(limit.statistics()["host"].running, int)
    KeyedLimit(1, key=len, limits={3: 1})
    async with (
        ConMan[int].open(nursery, per_key=limit),
        ConMan[int].open(nursery, per_key=None),
        ConMan[int].open(nursery, per_key=[limit, KeyedLimit(1, key=str)]) as cm,
    ):
        handle = cm.start_soon(answer, priority=3)
        await cm.run(answer, priority=-1)
        cm.run_nowait(answer, priority=10**30)
        assert_type(handle.priority, int)
        handle.priority = 4
        cm.map(trio.sleep, [1], priority=1, lookahead=3)
        cm.map(trio.sleep, [1], lookahead=None)


async def answer() -> int:
    return 42


def rates() -> None:
    rate = RateLimiter(0.5, per=60, burst=3)
    assert_type(rate.rate, float)
    assert_type(rate.per, float)
    assert_type(rate.burst, int)
    rate.pause_for(3)
    rate.pause_for(0.5)
    statistics = rate.statistics()
    assert_type(statistics, RateLimiterStatistics)
    assert_type(statistics.rate, float)
    assert_type(statistics.per, float)
    assert_type(statistics.burst, int)
    assert_type(statistics.tasks_waiting, int)
    assert_type(statistics.paused_for, float)
    assert_type(statistics.available, float)


def size(url: str, *, longest: int = 5) -> float:
    return len(url) * longest


async def costs() -> None:
    RateLimiter(1, cost=2.5)
    RateLimiter(1, cost=len)
    rate = RateLimiter(1, cost=size)
    rate.rate, rate.per, rate.burst = 2, 0.5, 3
    assert_type(await rate.acquire(), None)
    await rate.acquire(2.5)
    rate.acquire_nowait(3)
    rate.charge(-0.5)
    rate.observe(remaining=3, reset=1.5)
    snapshot = rate.snapshot()
    assert_type(snapshot, dict[str, float])
    assert_type(RateLimiter.restore(snapshot, cost=size), RateLimiter)
    assert_type(RateLimiter.unlimited(), RateLimiter)


def budgets() -> None:
    statistics = RetryBudget(tokens=10, ratio=0.5).statistics()
    RetryBudget(10, 1)
    assert_type(statistics, RetryBudgetStatistics)
    assert_type(statistics.tokens, float)
    assert_type(statistics.remaining, float)
    assert_type(statistics.ratio, float)
    assert_type(statistics.refused, int)


def is_busy(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


async def adaptive(nursery: trio.Nursery) -> None:
    limit = AdaptiveLimit(4, 100, initial=20, overloaded=is_busy)
    async with ConMan[int].open(nursery, limit) as cm, ConMan.open(nursery, limit=AdaptiveLimit()):
        assert_type(cm, ConMan[int])
        assert_type(cm.limit, int | float)
    statistics = limit.statistics()
    assert_type(statistics, AdaptiveLimitStatistics)
    assert_type(statistics.limit, float)
    assert_type(statistics.cuts, int)
    assert_type(statistics.overloads, int)
    assert_type(statistics.growth, float)
    assert_type(statistics.steps_back, int)
    assert_type(statistics.attempt_seconds, float | None)
    assert_type(statistics.throughput, float | None)


def headers(header: str) -> None:
    assert_type(parse_retry_after(header), float | None)
    assert_type(parse_retry_after(header, now=datetime.now(UTC)), float | None)
    RetriableError("busy", retry_after=parse_retry_after(header))
