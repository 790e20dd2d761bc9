"""Other rules that a manager's limit may follow, to compare with."""

from __future__ import annotations

from collections import deque
from math import log10
from statistics import fmean
from typing import Any

import attrs

from trio_conman import AdaptiveLimit

from .runs import is_refusal
from .services import Scenario


@attrs.define
class Rule:
    """What an `AdaptiveLimit` asks of its controller, but for `ended`, which each rule has of its own."""

    minimum: int
    maximum: int
    limit: float

    def restart(self) -> None:
        pass

    def set(self, limit: float) -> None:
        self.limit = min(max(limit, self.minimum), self.maximum)


@attrs.define
class AimdPerDrop(Rule):
    """Additive increase of 1 for each limit of successes, and half of the limit for each refusal."""

    def ended(self, began: float, now: float, in_use: int, *, overloaded: bool) -> None:
        self.set(self.limit / 2 if overloaded else self.limit + 1 / self.limit)


@attrs.define
class Failsafe(Rule):
    """What the documentation of failsafe-go says of its adaptive limiter, with the values of its example.

    A window of 1 to 30 s and at least 50 times; the 90th percentile of it over a baseline, an average of such
    percentiles whose weights have a mean age of 10 windows; the thresholds of TCP Vegas, which it names, with
    the constants of Netflix's: 3 and 6 times the logarithm of the limit. The limit is lowered too where
    attempts in use and throughput have had no positive correlation in the last 50 windows while the former
    rose. It is raised up to 5 times those in use. Refusals are no signal: they are not mentioned.
    """

    _times: list[float] = attrs.field(factory=list)
    _began: float | None = None
    _baseline: float | None = None
    _in_use: deque[float] = attrs.field(factory=lambda: deque[float](maxlen=50))
    _throughput: deque[float] = attrs.field(factory=lambda: deque[float](maxlen=50))

    def ended(self, began: float, now: float, in_use: int, *, overloaded: bool) -> None:
        if overloaded:
            return
        if self._began is None:
            self._began = now
        self._times.append(now - began)
        if now - self._began < 1 or (len(self._times) < 50 and now - self._began < 30):
            return
        times = sorted(self._times)
        recent = times[int(0.9 * len(times))]
        self._in_use.append(in_use)
        self._throughput.append(len(times) / (now - self._began))
        self._times, self._began = [], now
        if self._baseline is None:
            self._baseline = recent
        queued = self.limit * (1 - self._baseline / recent)
        self._baseline += (recent - self._baseline) * 2 / (2 * 10 + 1)
        step = log10(max(self.limit, 10))
        if queued > 6 * step or self._is_in_vain():
            self.set(self.limit - step)
        elif queued < 3 * step and self.limit < 5 * in_use:
            self.set(self.limit + step)

    def _is_in_vain(self) -> bool:
        if len(self._in_use) < 10 or self._in_use[-1] <= self._in_use[0]:
            return False
        used, done = fmean(self._in_use), fmean(self._throughput)
        return sum((a - used) * (b - done) for a, b in zip(self._in_use, self._throughput, strict=True)) <= 0


def following(rule: type[Rule] | None, scenario: Scenario) -> AdaptiveLimit:
    """A limit that follows a rule, or its own."""
    limit = AdaptiveLimit(initial=scenario.initial, overloaded=is_refusal)
    if rule is not None:
        controller: Any = rule(2, 200, float(scenario.initial))
        limit._controller = controller
    return limit
