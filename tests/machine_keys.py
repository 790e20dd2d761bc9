"""Keys and priorities in random programs: what they allow, counted anew from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import attrs

from .machine_program import Entry


@attrs.define(eq=False)
class KeyMeter:
    """How many tasks of each key may run at once, as the program has said."""

    limits: dict[int, int]
    highest: dict[int, int] = attrs.field(init=False)
    # The highest of that instant: who starts then may have had its slot a moment ago.
    _instant: float = attrs.field(default=-1.0, init=False)
    _high: dict[int, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.highest = dict(self.limits)
        self._high = {}

    def limit_at(self, key: int, now: float) -> int:
        """The highest limit of a key in this instant."""
        return self._high.get(key, self.limits[key]) if now == self._instant else self.limits[key]

    def set(self, key: int, limit: int, now: float) -> None:
        """The limit of a key changes now."""
        high = max(self.limit_at(key, now), limit)
        if now != self._instant:
            self._instant, self._high = now, {}
        self._high[key], self.limits[key] = high, limit
        self.highest[key] = max(self.highest[key], high)


def overtaken(entries: Sequence[Entry], *, is_rated: bool) -> Iterator[str]:
    """Who has started too late, of those who wait for the same, in the order in which they were submitted.

    Higher priorities go first, and else who came first. With another priority a task comes anew.
    """
    started = [(each, *each.started) for each in entries if each.started is not None]
    for (one, _, turn), (other, _, other_turn) in combinations(started, 2):
        if turn > other_turn and one.rank() <= other.rank() and not (one.reordered or other.reordered):
            yield f"{one.handle} has started after {other.handle}"
    if not is_rated:  # else their slots may have been taken earlier
        for (one, at, _), (other, other_at, _) in permutations(started, 2):
            if one.rank() < other.rank() and one.since < other_at < at:
                yield f"{one.handle} has started after {other.handle}, whose rank is lower"
