"""What is refused of rate limiters, limits by key, Retry-After, and retry budgets."""

import trio

from trio_conman import (
    AdaptiveLimit,
    ConMan,
    KeyedLimit,
    RateLimiter,
    RateLimiterStatistics,
    RetryBudget,
    parse_retry_after,
)


def opening(nursery: trio.Nursery) -> None:
    ConMan[int].open(nursery, rate=10)  # error
    ConMan[int].open(nursery, rate=[10])  # error
    ConMan[int].open(nursery, retry_budget=0.1)  # error
    ConMan[int].open(nursery, per_key=3)  # error
    ConMan[int].open(nursery, per_key=[str])  # error
    ConMan[int].open(nursery, max_queued=None)  # error


def keys(limit: KeyedLimit, cm: ConMan[None]) -> None:
    KeyedLimit(3)  # error
    KeyedLimit(3, str)  # error
    KeyedLimit("3", key=str)  # error
    KeyedLimit(3, key="host")  # error
    KeyedLimit(3, key=str, limits=[3])  # error
    limit.limit = "3"  # error
    limit.limits["host"] = "3"  # error
    limit.limits = {}  # error
    limit.statistics()["host"].running = 3  # error
    cm.start_soon(trio.sleep, 1, priority="high")  # error
    cm.start_soon(trio.sleep, 1).priority = 0.5  # error
    cm.map(trio.sleep, [1], lookahead="3")  # error
    cm.start_soon(trio.sleep, 1, lookahead=3)  # error


def rates(rate: RateLimiter, statistics: RateLimiterStatistics) -> None:
    RateLimiter()  # error
    RateLimiter("10")  # error
    RateLimiter(10, 60)  # error
    RateLimiter(10, cost="1")  # error
    RateLimiter(10, cost=str)  # error
    rate.burst = 1.5  # error
    rate.observe(3, 5)  # error
    rate.acquire("1")  # error
    RateLimiter.restore(3)  # error
    RateLimiter(10, burst=1.5)  # error
    rate.pause_for(None)  # error
    rate.acquire()  # error
    rate.rates = 3  # error
    statistics.rate = 3  # error


def budgets(budget: RetryBudget) -> None:
    RetryBudget("100")  # error
    RetryBudget(ratio=None)  # error
    budget.refund()  # error
    budget.tokens = 3  # error


def adaptive(limit: AdaptiveLimit) -> None:
    AdaptiveLimit("2")  # error
    AdaptiveLimit(2, 200, 10)  # error
    AdaptiveLimit(overloaded=len)  # error
    AdaptiveLimit(overloaded=True)  # error
    limit.limit = 3  # error
    limit.statistics().cuts = 3  # error


def headers(header: bytes, text: str) -> None:
    parse_retry_after(header)  # error
    parse_retry_after(text, now=0.0)  # error
    seconds: float = parse_retry_after(text)  # error
    print(seconds)


class OwnRate(RateLimiter):  # error
    pass


class OwnLimit(AdaptiveLimit):  # error
    pass


class OwnBudget(RetryBudget):  # error
    pass
