"""What the attempts of one manager take permits of, and where they wait for them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.texts import short
from trio_conman._books.handles import TaskHandle

from .rate import RateLimiter
from .turns import Gate, link, take
from .waiters import Waiters


def limiters_of(rate: object) -> tuple[RateLimiter, ...]:
    """The limiters that were given as ``rate``: one, several, or none.

    Raises:
        TypeError: it is nothing of that kind.
        ValueError: it names a limiter twice.
    """
    if rate is None:
        return ()
    if isinstance(rate, RateLimiter) or not isinstance(rate, Iterable):
        rate = (rate,)
    limiters = tuple(rate)
    for index, each in enumerate(limiters):
        if not isinstance(each, RateLimiter):
            raise TypeError(f"rate must be a RateLimiter, or several, or None, not {short(each)}")
        if each in limiters[:index]:
            raise ValueError(f"rate must have each limiter once, not {each!r} twice")
    return limiters


@final
@attrs.define(eq=False, repr=False)
class Permits(Waiters):
    """The part of a manager that knows its rate limiters.

    A cost is computed anew for each attempt, before it takes anything, and once: `take` leaves it for
    `acquire`. Where that fails, `take` raises what the task fails with.
    """

    gates: tuple[Gate, ...] = attrs.field(init=False)
    limiters: tuple[RateLimiter, ...]
    # Those of each attempt, where none of them is a callable.
    _costs: tuple[float, ...] | None = attrs.field(init=False)
    # No attempt costs less.
    _least: tuple[float, ...] = attrs.field(init=False)
    # Of those who have not joined the queues yet.
    _prices: dict[object, tuple[float, ...]] = attrs.field(factory=dict, init=False)
    _run: trio.lowlevel.TrioToken | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.gates = tuple(limiter._gate for limiter in self.limiters)
        costs = [limiter._cost for limiter in self.limiters]
        self._least = tuple(cost if isinstance(cost, float) else 0.0 for cost in costs)
        self._costs = self._least if all(self._least) else None

    @enable_ki_protection
    def open(self) -> None:
        """Use the limiters, until `close`.

        Raises:
            RuntimeError: another trio run uses one of them.
        """
        for limiter in self.limiters:
            limiter._enter_run()
        for limiter in self.limiters:
            limiter._users += 1
        link(self.gates)
        self._run = trio.lowlevel.current_trio_token()

    @enable_ki_protection
    def close(self) -> None:
        """Use the limiters no more."""
        for limiter in self.limiters:
            # It may be another run's by now, if this one crashed, and this is the garbage collector's doing.
            if limiter._run is self._run:
                limiter._users -= 1

    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds, to anybody."""
        if seconds > 0:
            for limiter in self.limiters:
                limiter.pause_for(seconds)

    @enable_ki_protection
    def earliest(self) -> float:
        """When permits can be had, at the earliest, by who asks for them from now on."""
        gates = self.gates
        meters = tuple(gate.meter for gate in gates)
        return gates[0].forecast.due(meters, self._least, trio.current_time())

    @enable_ki_protection
    def take(self, handle: TaskHandle[Any], now: float) -> bool:
        """Take permits if it is somebody's turn and they are due; no checkpoint.

        Raises:
            Exception: the cost of an attempt cannot be computed. The task fails with that.
        """
        try:
            costs = self._costs
            if costs is None:
                costs = self._price(handle)
            if self._held is None and take(handle, self.gates, costs, now):
                return True
            if self._costs is None:
                self._prices[handle] = costs
            return False
        finally:
            del handle  # where an error led to this frame

    @enable_ki_protection
    async def acquire(self, handle: TaskHandle[Any], latest: float = inf) -> float | None:
        """Wait for permits, and take them, after a `take` in vain.

        Returns:
            None; or, as soon as it is known that they would be due too late, when that is: on the effective
            deadline or after it, or after `latest`.
        """
        costs = self._costs or self._prices.pop(handle)
        try:
            return await self.wait(handle, costs, latest=latest)
        finally:
            del handle

    def _price(self, handle: TaskHandle[Any]) -> tuple[float, ...]:
        try:
            return tuple([limiter._price(handle._args) for limiter in self.limiters])
        finally:
            del handle
