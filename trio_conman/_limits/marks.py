"""What the attempt of a trio task has taken, to tell who has come after it, and how much it can give back."""

from __future__ import annotations

import weakref
from typing import final

import trio

from .meter import gone


@final
class Marks:
    """Which permits of a meter each trio task took last: of all that were ever taken, from where to where."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: weakref.WeakKeyDictionary[trio.lowlevel.Task, tuple[float, float]]
        self._spans = weakref.WeakKeyDictionary()

    def note(self, permits: float, total: float) -> None:
        """The current task takes so many permits, the last of `total`."""
        if trio.lowlevel.in_trio_task():  # in guest mode the host may take some between two ticks
            self._spans[trio.lowlevel.current_task()] = total - permits, total

    def mine(self) -> float | None:
        """The total at which the current task, or the nearest one around it, has taken permits."""
        task = self._nearest()
        return None if task is None else self._spans[task][1]

    def settle(self, permits: float) -> tuple[float, float]:
        """What the current task took was more, by so many; or less, but not by more than it took last.

        Returns:
            by how many; and the total at which it took them.
        """
        task = self._nearest()
        if task is None:
            return max(permits, 0.0), 0.0
        begin, end = self._spans[task]
        permits = max(permits, begin - end)
        if permits < 0:
            for each, (first, last) in list(self._spans.items()):
                if last > end + permits:
                    less = gone(first, end, -permits), gone(last, end, -permits)
                    self._spans[each] = first - less[0], last - less[1]
        else:
            self._spans[task] = begin, end + permits
        return permits, end

    def _nearest(self) -> trio.lowlevel.Task | None:
        task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
        while task is not None and task not in self._spans:
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return task
