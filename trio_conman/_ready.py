"""The outcomes of a map that its consumer has not taken, in the order in which it gets them."""

from __future__ import annotations

from typing import Generic, TypeVar, final

from ._outcomes import Outcome

T = TypeVar("T")


@final
class InOrder(Generic[T]):
    """By index, from 0: what of a `collections.deque` is needed, which is in completion order itself."""

    def __init__(self) -> None:
        self._early: dict[int, Outcome[T]] = {}
        self._next = 0

    def __bool__(self) -> bool:
        return self._next in self._early

    def append(self, outcome: Outcome[T]) -> None:
        """Add an outcome."""
        self._early[outcome.index] = outcome

    def popleft(self) -> Outcome[T]:
        """The next outcome.

        Raises:
            LookupError: it is not there yet.
        """
        outcome = self._early.pop(self._next)
        self._next += 1
        return outcome

    def clear(self) -> None:
        """Drop them all."""
        self._early.clear()
