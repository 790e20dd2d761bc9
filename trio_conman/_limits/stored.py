"""Where a rate limiter stood, as it can be kept across restarts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import ceil, inf
from typing import final

import attrs

from trio_conman._base.checks import check_number, check_type
from trio_conman._base.texts import short

from .cost import check_burst, check_permits
from .meter import Meter


@final
@attrs.frozen(eq=False, repr=False)
class Stored:
    """The state of a meter, by the wall clock, without whatever a clock that is set would make larger."""

    rate: float
    per: float
    burst: int
    time: float  # of the wall clock
    owed: float
    paused_for: float  # seconds
    # What the service has said: so many permits are left for so many seconds.
    bounds: list[tuple[float, float]]

    @classmethod
    def now(cls, meter: Meter, burst: int, now: float) -> Stored:
        """The state of a meter at a time of its own clock, which is the present one."""
        pause = max(0.0, meter.resume - now)
        # Of each second the least, until the last: it is to be small.
        bounds: dict[int, tuple[float, float]] = {}
        for each in meter.bounds:
            if (seconds := each.until - now) > 0:
                least = bounds.get(ceil(seconds), (max(0.0, meter.left(each)), seconds))[0]
                bounds[ceil(seconds)] = least, seconds
        said = list(bounds.values())
        return cls(meter.rate, meter.per, burst, time.time(), meter.owed(now), pause, said)

    @classmethod
    def of(cls, snapshot: Mapping[str, float]) -> Stored:
        """What `as_dict` gave, checked: it comes from a file."""
        check_type("snapshot", snapshot, Mapping, "a mapping, as RateLimiter.snapshot() gives it")
        rate, per, burst = inf, 1.0, 1
        if not {"rate", "per", "burst"}.isdisjoint(snapshot):
            rate, per = (check_permits(_name(key), _value(snapshot, key)) for key in ("rate", "per"))
            burst = check_burst(_name("burst"), _value(snapshot, "burst"))
        bounds: list[tuple[float, float]] = []
        while (left := f"left_{len(bounds)}") in snapshot:
            bounds.append((_number(snapshot, left), _number(snapshot, f"for_{len(bounds)}")))
        seconds, owed, pause = (_number(snapshot, key) for key in ("time", "owed", "paused_for"))
        return cls(rate, per, burst, seconds, owed, pause, bounds)

    def as_dict(self) -> dict[str, float]:
        """The same for JSON, which has no infinity."""
        fields = {"time": self.time, "owed": self.owed, "paused_for": self.paused_for}
        if self.rate < inf:
            fields |= {"rate": self.rate, "per": self.per, "burst": self.burst}
        for index, (left, seconds) in enumerate(self.bounds):
            fields |= {f"left_{index}": left, f"for_{index}": seconds}
        return fields

    def present(self, meter: Meter) -> Stored:
        """Where it stands now; until now what is owed was paid off at the rate of the meter."""
        now = max(self.time, time.time())
        passed = now - self.time
        owed = max(0.0, self.owed - passed * meter.rate / meter.per)
        bounds = [(left, seconds - passed) for left, seconds in self.bounds if seconds > passed]
        return attrs.evolve(
            self, time=now, owed=owed, paused_for=max(0.0, self.paused_for - passed), bounds=bounds
        )

    def go_on(self, meter: Meter, now: float) -> None:
        """Let a meter that is new go on from here, at a time of its own clock, which is the present one."""
        here = self.present(meter)
        meter.start, meter.taken = now, here.owed
        meter.resume = now + here.paused_for
        for left, seconds in sorted(here.bounds):  # a file may have them in any order
            meter.observe(left, now + seconds, -inf, now)


def _number(snapshot: Mapping[str, float], key: str) -> float:
    return check_number(_name(key), _value(snapshot, key), finite=True)


def _name(key: str) -> str:
    return f"snapshot[{key!r}]"


def _value(snapshot: Mapping[str, float], key: str) -> float:
    try:
        return snapshot[key]
    except KeyError:
        raise TypeError(f"snapshot must have the key {key!r}, not only {short(list(snapshot))}") from None
