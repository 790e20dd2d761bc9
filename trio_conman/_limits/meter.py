"""How many permits are owed, and when so many can be had: the arithmetic of one rate, without a clock.

**Theory of operation.** GCRA, the generic cell rate algorithm, of ITU-T Recommendation I.371: with a permit
every ``T = per / rate`` seconds, a meter keeps the time at which nothing will be owed any more, the
*theoretical arrival time*. Each permit moves it by ``T``, from the present if it lies in the past, and to no
more than ``burst * T`` from then. So `burst` permits can be had at once after idling, and in no window of
time more than ``burst + rate * window``. More than `burst` can be had when nothing is owed, and are owed
then.

That time is kept as a start and a number of permits, ``start + taken * T``: a sum of floats would drift.
"""

from __future__ import annotations

import sys
from math import inf
from typing import final

import attrs

MOST = float(2**53)  # permits at once; more would be beyond a float


SAME = 1.0  # seconds: what services say is rounded


@final
@attrs.define(eq=False, repr=False)
class Bound:
    """What the service has said: so many permits are left until then."""

    left: float
    until: float
    total: float = -inf  # all that had been taken when its answer was asked for


@final
@attrs.define(eq=False, repr=False)
class Meter:
    """What has been taken of one rate, and what holds it back."""

    rate: float  # inf: it only pauses
    per: float
    burst: float
    start: float = -inf  # the last time that nothing was owed
    taken: float = 0.0  # permits since then
    before: float = 0.0  # and before
    resume: float = -inf  # the end of a pause
    bounds: list[Bound] = attrs.field(factory=list)

    def due(self, cost: float) -> float:
        """When so many permits can be had, at the earliest; a time that has passed means now."""
        room = cost - self.burst
        due = self.start + (self.taken + room if room < 0 else self.taken) * self.per / self.rate
        due = max(due, self.resume)
        for bound in self.bounds:
            if cost > bound.left and due < bound.until:
                due = bound.until
        return due

    def take(self, cost: float, now: float) -> bool:
        """Take so many permits, if they are due."""
        start, taken = self.start, self.taken
        # As in due(), whose call costs as much as all the rest.
        end = start + taken * self.per / self.rate
        # Also where the sum of many is beyond a float, which does not matter without a rate.
        idle = not now <= end
        if not idle:
            room = cost - self.burst
            if now < (start + (taken + room) * self.per / self.rate if room < 0 else end):
                return False
        if now < self.resume or (self.bounds and not self._heed(cost, now)):
            return False
        if idle:
            self.before += taken
            self.start, taken = now, 0.0
        self.taken = taken + cost
        return True

    def _heed(self, cost: float, now: float) -> bool:
        """Take permits of what the service has said that is left."""
        if any(cost > bound.left and now < bound.until for bound in self.bounds):
            return False
        for bound in self.bounds:
            bound.left -= cost
        return True

    def copy(self) -> Meter:
        """Another one that stands where this one does."""
        return attrs.evolve(self, bounds=[attrs.evolve(bound) for bound in self.bounds])

    def reset(self) -> None:
        """Forget all: nothing was taken, and nothing holds it back."""
        self.start = self.resume = -inf
        self.taken = self.before = 0.0
        self.bounds = []

    @property
    def total(self) -> float:
        """All that was ever taken."""
        return self.before + self.taken

    def owed(self, now: float) -> float:
        """Permits that are paid off by and by."""
        if not now < self.start + self.taken * self.per / self.rate:
            return 0.0
        return self.taken - (now - self.start) * self.rate / self.per

    def available(self, now: float) -> float:
        """Permits that can be had now; negative when some are owed."""
        room = inf if self.rate == inf else self.burst - self.owed(now)
        for bound in self.bounds:
            if now < bound.until:
                room = min(room, max(0.0, bound.left))  # which nobody owes
        return min(room, 0.0) if now < self.resume else room

    def charge(self, permits: float, now: float, total: float) -> None:
        """Owe so many permits more, or fewer, than were taken when `total` was reached."""
        owed = self.owed(now)
        if owed == 0.0:
            self._settle(now, 0.0)
        self.taken = min(self.taken + permits, sys.float_info.max)
        for bound in self.bounds:
            # A service that answers later has counted them as they are.
            if permits > 0 or total > bound.total:
                bound.left -= permits
            else:
                bound.total += permits

    def observe(self, bound: Bound, now: float) -> bool:
        """Heed a bound beside those that hold; False if it says nothing, or one of those is as strict."""
        self.bounds = [each for each in self.bounds if each.until > now]
        if bound.left == inf or any(
            each.left <= bound.left and each.until >= bound.until for each in self.bounds
        ):
            return False
        same = bound.until + SAME
        for each in self.bounds:
            if bound.left < each.left and each.until <= same:
                bound.until = max(bound.until, each.until)
        self.bounds = [each for each in self.bounds if each.until > bound.until or each.left < bound.left]
        self.bounds.append(bound)
        return True

    def change(self, now: float, *, rate: float, per: float, burst: float) -> None:
        """From now on have another rate; what is owed stays."""
        self._settle(now, self.owed(now))
        self.rate, self.per, self.burst = rate, per, burst

    def _settle(self, now: float, owed: float) -> None:
        self.before += self.taken - owed
        self.start, self.taken = now, owed
