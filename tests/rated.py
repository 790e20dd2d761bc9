"""What the tests of rate limiters share."""

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_conman import ConMan, RateLimiter


@asynccontextmanager
async def manager(
    rate: RateLimiter | Iterable[RateLimiter] | None,
    limit: float | trio.CapacityLimiter = math.inf,
    **options: Any,
) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, limit, rate=rate, **options) as cm:
            yield cm


async def note(record: list[Any], name: object, seconds: float = 0) -> None:
    """Write down when this attempt starts."""
    record.append((trio.current_time(), name))
    await trio.sleep(seconds)


def waiting(rate: RateLimiter) -> int:
    return rate.statistics().tasks_waiting
