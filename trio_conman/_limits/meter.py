"""How many permits are owed, and when so many can be had: the arithmetic of one rate, without a clock.

**Theory of operation.** GCRA, the generic cell rate algorithm, of ITU-T Recommendation I.371: with a permit
every ``T = per / rate`` seconds, a meter keeps the time at which nothing will be owed any more, the
*theoretical arrival time*. Each permit moves it by ``T``, from the present if it lies in the past, and to no
more than ``burst * T`` from then. So `burst` permits can be had at once after idling, and in no window of
time more than ``burst + window / T``. More than `burst` can be had when nothing is owed, and are owed
then.

That time is kept as a start and a number of permits, ``start + taken * T``: a sum of floats would drift.

What the service has said are *bounds*: until a time no more than so many may be taken in all. Only those are
kept beside which none that lasts as long is as strict; so of two the one that lasts longer allows more. The
first says what is left now, and the last that leaves too little says when there will be enough. What is given
back was never taken. Who has answered a later request has not counted it, and so allows less in all. As
answers come in about the order of their ends those bounds are the last ones, and no others are looked at.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from math import inf
from operator import attrgetter
from typing import final

import attrs

MOST = float(2**53)  # permits at once; more would be beyond a float


SAME = 1.0  # seconds: what services say is rounded
LITTLE = 2**-30  # of a cost: a sum of parts of permits is rounded too
NEARLY = 1 - LITTLE

MOST_OF, UNTIL_OF = attrgetter("most"), attrgetter("until")


def gone(total: float, last: float, permits: float) -> float:
    """How many were taken until `total` of so many that are given back, the last of them of `last`."""
    return max(0.0, min(permits, total - last + permits))


@final
@attrs.define(eq=False, repr=False)
class Bound:
    """What the service has said: until then no more than so many may be taken in all."""

    most: float
    until: float
    total: float  # all that had been taken when its answer was asked for
    latest: float  # no total is greater, of it and of those that end before


@final
@attrs.define(eq=False, repr=False)
class Meter:
    """What has been taken of one rate, and what holds it back."""

    rate: float  # inf: it only pauses
    per: float
    burst: float
    start: float = -inf  # the last time that nothing was owed
    taken: float = 0.0  # permits since then
    total: float = 0.0  # all that were ever taken
    resume: float = -inf  # the end of a pause
    bounds: list[Bound] = attrs.field(factory=list)  # by their ends; of the same order is what they allow

    def due(self, cost: float) -> float:
        """When so many permits can be had, at the earliest; a time that has passed means now."""
        room = cost - self.burst
        due = self.start + (self.taken + room if room < 0 else self.taken) * self.per / self.rate
        due = max(due, self.resume)
        return max(due, self._held_until(cost)) if self.bounds else due

    def take(self, cost: float, now: float) -> bool:
        """Take so many permits, if they are due."""
        start, taken = self.start, self.taken
        # As in due(), whose call costs as much as all the rest.
        end = start + taken * self.per / self.rate
        # Also where the sum of many is beyond a float, which does not matter without a rate.
        idle = not now <= end
        if not idle:
            room = cost - self.burst
            due = start + (taken + room) * self.per / self.rate if room < 0 else end
            if now < due and not now >= due - cost * LITTLE * self.per / self.rate:  # inf less inf is nan
                return False
        if now < self.resume or (self.bounds and now < self._held_until(cost)):
            return False
        if idle:
            self.start, taken = now, 0.0
        self.taken = taken + cost
        self.total += cost
        return True

    def is_due(self, cost: float, now: float) -> bool:
        """Whether `take` would take so many permits."""
        room = cost - self.burst
        due = self.start + (self.taken + room if room < 0 else self.taken) * self.per / self.rate
        if now < due and not now >= due - cost * LITTLE * self.per / self.rate:
            return False
        return now >= self.resume and not (self.bounds and now < self._held_until(cost))

    def _held_until(self, cost: float) -> float:
        """Until when what the service has said leaves less than so many permits."""
        # Not by what is left: of a sum of floats less one of its parts the other one may not be the rest.
        at = bisect_left(self.bounds, self.total + cost * NEARLY, key=MOST_OF)
        return self.bounds[at - 1].until if at else -inf

    def left(self, bound: Bound) -> float:
        """Permits that can be had until the bound ends; less than 0 where too many came."""
        return bound.most - self.total

    def copy(self) -> Meter:
        """Another one that stands where this one does."""
        return attrs.evolve(self, bounds=self.bounds[:])

    def reset(self) -> None:
        """Forget all: nothing was taken, and nothing holds it back."""
        self.start = self.resume = -inf
        self.taken = self.total = 0.0
        self.bounds = []

    def owed(self, now: float) -> float:
        """Permits that are paid off by and by."""
        if not now < self.start + self.taken * self.per / self.rate:
            return 0.0
        return self.taken - (now - self.start) * self.rate / self.per

    def available(self, now: float) -> float:
        """Permits that can be had now; negative when some are owed."""
        room = inf if self.rate == inf else self.burst - self.owed(now)
        at = bisect_right(self.bounds, now, key=UNTIL_OF)
        for bound in self.bounds[at : at + 1]:
            room = min(room, max(0.0, self.left(bound)))  # which nobody owes
        return min(room, 0.0) if now < self.resume else room

    def charge(self, permits: float, now: float, counted: float, total: float) -> None:
        """Owe so many permits more, or fewer; so many of them were taken when `total` was reached."""
        if self.owed(now) == 0.0:
            self.start, self.taken = now, 0.0
        self.taken = min(self.taken + permits, sys.float_info.max)
        self.total += counted
        if counted < 0:
            self._give_back(-counted, total)

    def _give_back(self, permits: float, total: float) -> None:
        """Leave more, where what has been said had not counted them as they are."""
        bounds, least = self.bounds, inf
        kept: list[Bound] = []
        while bounds and (bounds[-1].latest > total - permits or bounds[-1].most >= least):
            bound = bounds.pop()
            less = gone(bound.total, total, permits)
            if bound.most - less < least:
                least, latest = bound.most - less, bound.latest - gone(bound.latest, total, permits)
                kept.append(Bound(least, bound.until, bound.total - less, latest))
        bounds += reversed(kept)

    def observe(self, most: float, until: float, total: float, now: float) -> float:
        """Heed a bound; returns for how much longer it may hold somebody up: 0 if another is as strict."""
        bounds = self.bounds
        del bounds[: bisect_right(bounds, now, key=UNTIL_OF)]
        at = bisect_left(bounds, until, key=UNTIL_OF)
        if most == inf or any(each.most <= most for each in bounds[at : at + 1]):
            return 0.0
        begin = bisect_left(bounds, most, key=MOST_OF)
        end = bisect_right(bounds, until + SAME, key=UNTIL_OF)
        until = max([until, *(each.until for each in bounds[end - 1 : end])])
        latest = max([total, *(each.latest for each in bounds[begin - 1 : begin])])
        stricter = bisect_right(bounds, most, key=MOST_OF)
        before = max([now, *(each.until for each in bounds[stricter - 1 : stricter])])
        bounds[begin:end] = [Bound(most, until, total, latest)]
        for each in bounds[begin + 1 :]:
            if each.latest >= total:
                break
            each.latest = total
        return until - before

    def change(self, now: float, *, rate: float, per: float, burst: float) -> None:
        """From now on have another rate; what is owed stays."""
        self.start, self.taken = now, self.owed(now)
        self.rate, self.per, self.burst = rate, per, burst
