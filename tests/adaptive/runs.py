"""Runs of a manager against a simulated service, in virtual time."""

from __future__ import annotations

import random

import attrs
import trio
from trio.testing import MockClock

from trio_conman import AdaptiveLimit, ConMan, Failure, RetriableError

from .services import RefusedError, Scenario, Service

ITEMS = 20_000


@attrs.frozen
class Run:
    """What came of it."""

    service: Service
    limits: list[tuple[float, int]]
    """At the beginning of each call: when, and the limit."""
    seconds: float
    lost: int
    """Items that failed, after all their retries."""


def is_refusal(error: Exception) -> bool:
    return isinstance(error, RetriableError) and isinstance(error.err, RefusedError)


def run(scenario: Scenario, seed: int, limit: int | AdaptiveLimit, items: int = ITEMS) -> Run:
    """Map over so many items, each a call of the service."""
    limits: list[tuple[float, int]] = []
    lost = 0
    start = 0.0

    def now() -> float:
        return trio.current_time() - start

    service = scenario.service(seed, now, trio.sleep)

    async def main() -> float:
        nonlocal start, lost
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, limit, rng=random.Random(seed)) as cm:

                async def call(item: int) -> None:
                    limits.append((now(), int(cm.limit)))
                    try:
                        await service.call()
                    except RefusedError as error:
                        raise RetriableError(error) from None

                async with cm.map(call, range(items)) as outcomes:
                    async for outcome in outcomes:
                        lost += isinstance(outcome, Failure)
        return now()

    seconds = trio.run(main, clock=MockClock(autojump_threshold=0))
    return Run(service, limits, seconds, lost)
