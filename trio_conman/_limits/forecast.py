"""When those who wait will have their permits, as long as nothing unforeseen happens.

**Theory of operation.** Who is expected to have permits in time stands here, in the order of the queues.
Copies of the meters run ahead: each request is taken from them at the time when it will be due. So the next
one's time is known without a look at all before it.

What happens meanwhile is not run through again each time. A start that was later than foreseen, a pause or a
charge moves no later start by more than its own delay. That is added to `_late`, the bound of how much later
than foreseen anybody can be. Who leaves, or gives back, makes others sooner. The copies are made anew only
where these bounds leave open whether somebody will be in time.

Nobody asks where there are no deadlines; then nothing is copied.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import final

import attrs

from .meter import Meter


@attrs.define(eq=False, repr=False)
class Request:
    """So many permits of each of some meters, at once, and in time."""

    costs: tuple[tuple[Meter, float], ...]
    # They must be due before the one, and not after the other.
    deadline: float = attrs.field(default=inf, kw_only=True)
    latest: float = attrs.field(default=inf, kw_only=True)
    # When they will be, as far as was foreseen.
    due: float = attrs.field(default=inf, init=False)

    @property
    def soonest(self) -> float:
        """What is due before is not too late."""
        return min(self.deadline, self.latest)

    def misses(self, due: float) -> bool:
        """Whether permits that are due then are too late."""
        return due >= self.deadline or due > self.latest


@final
@attrs.define(eq=False, repr=False)
class Forecast:
    """What is foreseen for a meter, or for several that requests have in common."""

    expected: OrderedDict[object, Request] = attrs.field(factory=OrderedDict, init=False)
    _ahead: dict[Meter, Meter] = attrs.field(factory=dict, init=False)
    # How much later than foreseen anybody may be; inf where nothing was foreseen.
    _late: float = attrs.field(default=inf, init=False)
    # Whether some may be sooner.
    _sooner: bool = attrs.field(default=False, init=False)
    # A delay that is shorter makes nobody too late.
    _margin: float = attrs.field(default=inf, init=False)
    # As `_ahead`, with those who stand behind somebody in doubt, until one of all these is judged, or leaves.
    _beyond: dict[Meter, Meter] | None = attrs.field(default=None, init=False)

    def judge(self, key: object, request: Request, now: float) -> bool:
        """Expect a request, behind all that are expected; False if it will be too late."""
        self.resolve()
        if request.soonest < inf:
            request.due = self.due(request, now)
            if request.misses(request.due):
                return False
            self._run_ahead(request)
        elif self._late < inf:
            request.due = self._foreseen(request.costs, now)
            self._run_ahead(request)
        self.expected[key] = request
        return True

    def due(self, request: Request, now: float) -> float:
        """When a request will be due that comes now; where that is in time, it may be sooner, or later."""
        if self._beyond is not None:
            return self._foreseen(request.costs, now, self._beyond)
        due = self._foreseen(request.costs, now)
        if request.misses(due + self._late) and (self._sooner or self._late > 0):
            self._renew(now)
            due = self._foreseen(request.costs, now)
        return due

    def remove(self, key: object, *, started: float = -inf) -> None:
        """Expect a request no more, since it has been taken, or else has left."""
        request = self.expected.pop(key, None)
        if not self.expected:
            self._forget()
            self._sooner, self._margin = False, inf
        elif request is not None:
            if started == -inf:
                self.hasten()
            self._late = max(self._late, started - request.due)

    def forget(self, meter: Meter) -> None:
        """Nobody is expected of this meter."""
        self._ahead.pop(meter, None)

    def hasten(self) -> None:
        """All may come sooner."""
        self._sooner, self._beyond = True, None

    def resolve(self) -> None:
        """Somebody who was in doubt is so no more."""
        self._beyond = None

    def delay(self, seconds: float, now: float) -> list[object]:
        """All come later, by so much at most.

        Returns:
            who may be too late by that; what is foreseen for those behind them holds no more, but for who
            comes in the same instant.
        """
        self._late += seconds
        if self._late == inf:
            self._forget()
        if self._margin == inf or self._late < self._margin:
            return []
        doubtful = self._renew(now, doubting=True)
        if doubtful:
            self._beyond, self._ahead = self._ahead, {}
            self._forget()
        return doubtful

    def join(self, other: Forecast) -> None:
        """Take over what is expected of other meters, which no request had in common with these so far."""
        self.expected.update(other.expected)
        self._margin = min(self._margin, other._margin)
        self._forget()

    def _forget(self) -> None:
        self._ahead.clear()
        self._late = inf

    def _foreseen(
        self, costs: tuple[tuple[Meter, float], ...], now: float, ahead: dict[Meter, Meter] | None = None
    ) -> float:
        ahead = self._ahead if ahead is None else ahead
        for meter, cost in costs:
            now = max(now, ahead.get(meter, meter).due(cost))
        return now

    def _run_ahead(self, request: Request) -> None:
        self._margin = min(self._margin, request.soonest - request.due)
        for meter, cost in request.costs:
            ahead = self._ahead.get(meter)
            if ahead is None:
                ahead = self._ahead[meter] = meter.copy()
            ahead.take(cost, request.due)
            ahead.resume = request.due  # nobody comes before who stands behind

    def _renew(self, now: float, *, doubting: bool = False) -> list[object]:
        self._ahead.clear()
        self._late, self._sooner, self._margin = 0.0, False, inf
        doubtful: list[object] = []
        for key, request in self.expected.items():
            request.due = self._foreseen(request.costs, now)
            if doubting and request.misses(request.due):
                doubtful.append(key)
            else:
                self._run_ahead(request)
        return doubtful
