"""How many attempts at once a service bears: the rule of `AdaptiveLimit`, without clock and slots.

**Theory of operation.** Each attempt that ends says when it began, and whether the service was overloaded. An
attempt *counts* when it began once the last cut was carried out: when no more ran than the limit allows. So
there is one cut in each window, about the time that an attempt takes.

*Growth* is additive. An attempt that counts adds a part of a slot, while the slots are used: `CAREFUL` near
the limit that was cut last, `FAST` where no bound is known.

*A cut* is multiplicative, and as deep as the service is overloaded: half of the share that overloads have
among the attempts of late, as DCTCP does (RFC 8257), but at least `CUT`. It is a whole slot at least: then a
bound that stays is met once in ``1 / CAREFUL`` attempts, or less often, however low it is.

*The guard* is for a service that queues instead of refusing. The limit grows in steps of a factor `STEP`, and
is held at each until the mean time of an attempt is known, first without those that end in the first window:
they have seen the limit before. By Little's law the throughput is the limit divided by that time. Where a
step up has not brought `PAYS` of the throughput that it should, it is taken back, and the limit is held and
compared again. So it goes down as long as more at once had brought no more, and each time of an attempt is
compared with one of shortly before: a service that has become slower for all costs a step, and then grows
again.
"""

from __future__ import annotations

from math import inf
from typing import final

import attrs

FAST, CAREFUL = 0.1, 0.02  # slots that an attempt adds
CUT = 0.1  # of the limit, at least
STEP = 1.4
USED = 0.9  # of the limit: what is less does not use it
# Of the throughput that a step should bring. Midway: chance hides a knee as often as it feigns one.
PAYS = 0.4
PRECISION = 0.05  # of a mean time: its standard error over it
FEWEST, MOST = 20, 1000  # attempts for a mean time


@final
@attrs.frozen(eq=False, repr=False)
class Window:
    """What was measured while the limit was held."""

    limit: float
    seconds: float
    """The mean time of an attempt."""


@final
@attrs.define(eq=False, repr=False)
class Controller:
    """Says how many attempts may run at once, a float, from how they end."""

    minimum: int
    maximum: int
    limit: float

    cuts: int = attrs.field(default=0, init=False)
    overloads: int = attrs.field(default=0, init=False)
    growth: float = attrs.field(default=0.0, init=False)
    steps_back: int = attrs.field(default=0, init=False)
    # What was measured last: what the limit may grow from.
    window: Window | None = attrs.field(default=None, init=False)

    # The share of overloads among the attempts of late; before any, the worst is to be feared.
    _share: float = attrs.field(default=1.0, init=False)
    # What was cut last.
    _bound: float = attrs.field(default=inf, init=False)
    # What began since then counts; inf while the last cut is not carried out.
    _since: float = attrs.field(default=-inf, init=False)
    # Whether the guard measures; how many attempts, their times, and the squares of these. Less than none:
    # those of the first window are still to end.
    _is_held: bool = attrs.field(default=True, init=False)
    _count: int = attrs.field(init=False)
    _seconds: float = attrs.field(init=False)
    _squares: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._hold()

    def restart(self) -> None:
        """Go on with another manager, maybe on another clock; what is being measured goes on too."""
        self._since = -inf
        if not self._is_held:
            self._hold()

    def assign(self, limit: float) -> None:
        """Go on from another limit."""
        self.limit = limit
        self.window = None
        self._hold()

    def ended(self, began: float, now: float, in_use: int, *, overloaded: bool) -> None:
        """An attempt has ended, well or because the service was overloaded.

        Args:
            began: when it did.
            now: the time.
            in_use: how many attempts run, this one included.
            overloaded: whether it is one too many.
        """
        self._share += (overloaded - self._share) / self.limit
        counts = began >= self._since < now  # but for what begins and ends in the instant of the cut
        if overloaded:
            self.overloads += 1
            if counts:
                self._cut()
        elif counts and in_use >= USED * int(self.limit):
            if self._is_held:
                self._measure(now - began)
            else:
                self._grow()
        if self._since == inf and in_use - 1 <= self.limit:
            self._since = now

    def _cut(self) -> None:
        self.cuts += 1
        self._bound = self.limit
        self._lower(min(self.limit * (1 - max(CUT, self._share / 2)), self.limit - 1))
        self._is_held = self.window is None or self.window.limit > self.limit * STEP
        if self._is_held:
            self.window = None
            self._hold()

    def _lower(self, limit: float) -> None:
        self.limit = max(limit, self.minimum)
        self._since = inf

    def _grow(self) -> None:
        assert self.window is not None
        is_near = self._bound / STEP < self.limit < self._bound * STEP
        top = self.window.limit * STEP
        limit = min(self.limit + (CAREFUL if is_near else FAST), top, self.maximum)
        self.growth += limit - self.limit
        self.limit = limit
        if limit == top:
            self._hold()

    def _hold(self) -> None:
        self._is_held = True
        self._count = -int(self.limit)
        self._seconds = self._squares = 0.0

    def _measure(self, seconds: float) -> None:
        self._count += 1
        if self._count > 0:
            self._seconds += seconds
            self._squares += seconds * seconds
            if self._is_precise():
                self._compare(Window(self.limit, self._seconds / self._count))

    def _is_precise(self) -> bool:
        count = self._count
        # The variance of the mean over its square. A product of floats may be inf, a power raises.
        square = self._seconds * self._seconds
        variance = self._squares * count - square
        return count == MOST or (count >= FEWEST and variance <= count * PRECISION**2 * square)

    def _compare(self, window: Window) -> None:
        before, self.window = self.window, window
        self._is_held = False
        if before is not None and window.limit > self.minimum and not pays(before, window):
            self.steps_back += 1
            self._lower(self.limit / STEP)
            self._hold()


def pays(one: Window, other: Window) -> bool:
    """Whether the higher limit of two has enough of the throughput that it should have more."""
    low, high = sorted((one, other), key=lambda window: window.limit)
    # (high.throughput / low.throughput - 1) >= PAYS * (high.limit / low.limit - 1), with no time divided by.
    more = high.limit * low.seconds - low.limit * high.seconds
    return more >= PAYS * (high.limit - low.limit) * high.seconds
