"""What had been taken when the attempt of a trio task began, to tell who has come after it."""

from __future__ import annotations

import weakref
from typing import final

import trio


@final
class Marks:
    """How much had ever been taken of a meter when each trio task took permits last."""

    __slots__ = ("_totals",)

    def __init__(self) -> None:
        self._totals: weakref.WeakKeyDictionary[trio.lowlevel.Task, float] = weakref.WeakKeyDictionary()

    def note(self, total: float) -> None:
        """The current task takes permits, the last of `total`."""
        if trio.lowlevel.in_trio_task():  # in guest mode the host may take some between two ticks
            self._totals[trio.lowlevel.current_task()] = total

    def mine(self) -> float | None:
        """The total at which the current task, or the nearest one around it, has taken permits."""
        task = self._nearest()
        return None if task is None else self._totals[task]

    def add(self, permits: float) -> None:
        """What the current task took was more, by so many; or less, and so it was for all who came later."""
        task = self._nearest()
        if task is not None:
            mine = self._totals[task]
            later = [each for each, total in self._totals.items() if total >= mine]  # and itself
            for each in later if permits < 0 else [task]:
                self._totals[each] += permits

    def _nearest(self) -> trio.lowlevel.Task | None:
        task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
        while task is not None and task not in self._totals:
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return task
