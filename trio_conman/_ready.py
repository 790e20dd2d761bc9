"""The outcomes of a map that its consumer has not taken, in the order in which it gets them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, final

from ._outcomes import Outcome

T = TypeVar("T")


@final
class Ready(Generic[T]):
    """In completion order, or by index, from 0, when `ordered`."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._completed: deque[Outcome[T]] = deque()
        self._early: dict[int, Outcome[T]] = {}
        self._next = 0

    def put(self, outcome: Outcome[T]) -> bool:
        """Add an outcome. Returns whether `take` gives one now."""
        if not self._ordered:
            self._completed.append(outcome)
            return True
        self._early[outcome.index] = outcome
        return outcome.index == self._next

    def clear(self) -> None:
        """Drop them all."""
        self._completed.clear()
        self._early.clear()

    def take(self) -> Outcome[T] | None:
        """The next outcome, if it is there."""
        if not self._ordered:
            return self._completed.popleft() if self._completed else None
        outcome = self._early.pop(self._next, None)
        if outcome is not None:
            self._next += 1
        return outcome
