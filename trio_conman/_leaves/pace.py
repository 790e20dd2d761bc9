"""How many tasks run in a second, lately."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import final

RECENT, FEWEST = 30.0, 10  # seconds, and tasks, that a rate is taken from: whichever is longer
SHORTEST = 1e-6  # seconds: what is shorter tells nothing


@final
class Pace:
    """A rate, taken from how many there were at some times: about one for each second."""

    def __init__(self) -> None:
        self._marks = deque([(inf, 0)])

    def begin(self, now: float, count: int) -> None:
        """What was before tells nothing."""
        self._marks = deque([(now, count)])

    def note(self, now: float, count: int) -> None:
        """There are so many now."""
        when, before = self._marks[-1]
        if now - when >= 1 and count > before:
            self._marks.append((now, count))
            self._forget(now, count)

    def rate(self, now: float, count: int) -> float:
        """How many came in a second."""
        self._forget(now, count)
        when, before = self._marks[0]
        return per_second(count - before, now - when)

    def _forget(self, now: float, count: int) -> None:
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - RECENT and count - marks[1][1] >= FEWEST:
            marks.popleft()


def per_second(count: int, seconds: float) -> float:
    """A rate; 0 where the time tells nothing, which may be that of another clock."""
    return count / seconds if seconds >= SHORTEST else 0.0
