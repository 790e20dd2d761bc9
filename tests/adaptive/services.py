"""Services in simulated time, each with something that bears only so much, and the scenarios with them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from heapq import heapreplace
from math import inf
from typing import TypeAlias

import attrs

NOISE = 0.3  # the sigma of lognormal times, whose mean is 1
REFUSAL = 0.02  # seconds that a refusal takes, in the mean


class RefusedError(Exception):
    """The service has too much to do: a 429 that does not say when to come again."""


Course: TypeAlias = Callable[[float], float]
"""How a number changes with the time."""


def always(value: float) -> Course:
    return lambda now: value


UNBOUNDED, STEADY = always(inf), always(1.0)


@attrs.define
class Service:
    """Serves a call in a second, in the mean, of whatever clock it is given."""

    rng: random.Random
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    # Above so many at once it refuses.
    capacity: Course = UNBOUNDED
    # How many it serves at once; others wait in its queue.
    servers: int | None = None
    slowness: Course = STEADY

    at_once: int = 0
    calls: int = 0
    refused: int = 0
    # When each served call began, and how long it took.
    served: list[tuple[float, float]] = attrs.field(factory=list)
    # When each server will be free.
    _free: list[float] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._free = [0.0] * (self.servers or 0)

    def _noise(self) -> float:
        return self.rng.lognormvariate(-(NOISE**2) / 2, NOISE)

    async def call(self) -> None:
        """Serve a call, or raise `RefusedError`."""
        began = self.now()
        self.calls += 1
        if self.at_once >= self.capacity(began):
            self.refused += 1
            await self.sleep(REFUSAL * self._noise())
            raise RefusedError("429")
        seconds = self._noise() * self.slowness(began)
        if self._free:
            seconds += max(self._free[0] - began, 0)
            heapreplace(self._free, began + seconds)
        self.at_once += 1
        try:
            await self.sleep(seconds)
        finally:
            self.at_once -= 1
        self.served.append((began, self.now() - began))


@attrs.frozen
class Scenario:
    """What a service bears, and how a run of calls begins."""

    title: str
    best: int  # a fixed limit that suits it
    initial: int = 10
    capacity: Course = UNBOUNDED
    servers: int | None = None
    slowness: Course = STEADY

    def service(
        self, seed: int, now: Callable[[], float], sleep: Callable[[float], Awaitable[object]]
    ) -> Service:
        """One of it, whose noise is of that seed."""
        return Service(random.Random(seed), now, sleep, self.capacity, self.servers, self.slowness)


DROP, BACK = 100.0, 200.0  # seconds
SLOW, WELL = 150.0, 180.0

SCENARIOS = {
    "refuses": Scenario("refuses above 50 at once", 50, capacity=always(50)),
    "too many": Scenario("refuses above 20 at once; begun with 200", 20, initial=200, capacity=always(20)),
    "drops": Scenario(
        "refuses above 50 at once, for 100 s above 15",
        50,
        capacity=lambda now: 15 if DROP <= now < BACK else 50,
    ),
    "queues": Scenario("serves 50 at once, and queues the rest", 50, servers=50),
    "slow": Scenario(
        "refuses above 50 at once, and takes ten times as long for 30 s",
        50,
        capacity=always(50),
        slowness=lambda now: 10.0 if SLOW <= now < WELL else 1.0,
    ),
    "unbounded": Scenario("bears whatever comes", 200),
}
