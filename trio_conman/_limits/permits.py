"""What the attempts of one manager take permits of, and where they wait for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import TaskHandle

from .forecast import Request
from .meter import Meter
from .rate import RateLimiter
from .turns import Claims, Gate, link
from .waiters import Waiters


@final
@attrs.define(eq=False, repr=False)
class Permits(Waiters):
    """The part of a manager that knows its rate limiters.

    A cost is computed anew for each attempt, once, before it takes anything. Where that fails, `take` raises
    what the task is to fail with.
    """

    gates: tuple[Gate, ...] = attrs.field(init=False)
    claims: Claims | None = attrs.field(init=False)
    limiters: tuple[RateLimiter, ...]
    # No attempt takes less.
    _least: tuple[tuple[Meter, float], ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gates = tuple(limiter._gate for limiter in self.limiters)
        costs = [0.0 if callable(limiter._cost) else limiter._cost for limiter in self.limiters]
        self.claims = tuple(zip(self.gates, costs, strict=True)) if all(costs) else None
        self._least = tuple(zip((gate.meter for gate in self.gates), costs, strict=True))

    def open(self, undo: ExitStack, on_pause: Callable[[], None]) -> None:
        """Use the limiters, and hear of their pauses, until that is undone.

        Raises:
            RuntimeError: another trio run uses one of them.
        """
        run = trio.lowlevel.current_trio_token()
        for limiter in self.limiters:
            limiter._enter_run(users=1)
            undo.callback(limiter._leave_run, run)
        link(self.gates)
        for gate in self.gates:
            gate.on_pause[on_pause] = None
            undo.callback(gate.on_pause.pop, on_pause)
        if self.paused_for():
            on_pause()

    def paused_for(self) -> float:
        """Seconds until all limiters give permits, as far as that is a pause."""
        return max(0.0, max([gate.meter.resume for gate in self.gates]) - trio.current_time())

    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds, to anybody."""
        if seconds > 0:
            for limiter in self.limiters:
                limiter.pause_for(seconds)

    @enable_ki_protection
    def earliest(self, deadline: float, latest: float) -> float:
        """When who asks from now on can have permits, at the earliest, if that may be after one of these."""
        request = Request(self._least, deadline=deadline, latest=latest)
        if request.soonest == inf:
            return -inf  # whenever that is
        for gate in self.gates:
            gate.refresh()
        return self.gates[0].forecast.due(request, trio.current_time())

    def _claims_of(self, key: TaskHandle[Any]) -> Claims:
        claims = self._priced.get(key)
        if claims is None:
            try:
                claims = tuple([(limiter._gate, limiter._price(key._args)) for limiter in self.limiters])
                self._priced[key] = claims
            finally:
                del key
        return claims
