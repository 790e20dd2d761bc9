"""What the soak counts: the process, and the tasks."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import trio

from trio_conman import ConMan, Instrument, Outcome, TaskHandle


def descriptors() -> int:
    """Open file descriptors, and one for this very listing."""
    return len(list(Path("/proc/self/fd").iterdir()))


@attrs.frozen
class Sample:
    """The process at a moment when it has nothing to do."""

    time: float
    memory: int
    """Bytes of RSS."""
    descriptors: int
    tasks: int
    """trio's."""
    objects: int
    """The garbage collector's."""

    @classmethod
    def now(cls, *, collect: bool = False) -> Sample:
        if collect:
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return cls(
            trio.current_time(),
            pages * os.sysconf("SC_PAGE_SIZE"),
            descriptors(),
            trio.lowlevel.current_statistics().tasks_living,
            len(gc.get_objects()),
        )

    @classmethod
    def most(cls, samples: list[Sample]) -> Sample:
        """The highest of each number."""
        return cls(*(max(each) for each in zip(*map(attrs.astuple, samples), strict=True)))

    def __str__(self) -> str:
        memory = self.memory / 2**20
        return f"{memory:8.2f}{self.descriptors:14}{self.tasks:8}{self.objects:10}"


class Books(Instrument):
    """The tasks of all managers of one kind, by what they tell, what their statistics say, and what the work
    itself has counted."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.statistics: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self._unfinished: dict[TaskHandle[Any], bool] = {}  # whether an attempt was made

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self.told["submitted"] += 1
        self._unfinished[handle] = False

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self.told["attempts"] += 1
        self._unfinished[handle] = True

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        started = self._unfinished.pop(handle, None)
        if started is None or handle.outcome is not outcome:
            self.faults.append(f"{handle!r} ended twice")
        self.told["finished"] += 1
        self.told["never attempted"] += not started

    def close(self, cm: ConMan[Any]) -> None:
        """A manager has ended: take over what it says of itself."""
        told = cm.statistics()
        self.statistics["managers"] += 1
        for field in ("submitted", "succeeded", "failed", "cancelled", "retries", "recalled"):
            self.statistics[field] += getattr(told, field)
        left = told.running, told.waiting, told.queued, told.backing_off
        if any(left):
            self.faults.append(f"{cm!r} has ended with {left} running, waiting, queued, backing off")

    def check(self, what: str, *sides: int) -> None:
        """All of these must be the same number."""
        if len(set(sides)) > 1:
            self.faults.append(f"{what}: {' and '.join(map(str, sides))}")

    def balance(self, name: str) -> list[str]:
        """What does not agree. Every accepted task has one outcome, and every attempt was made."""
        told, says = self.told, self.statistics
        if self._unfinished:
            self.faults.append(f"{len(self._unfinished)} tasks have no outcome")
        self.check("tasks submitted", told["submitted"], told["finished"], says["submitted"])
        self.check("tasks ended", says["submitted"], says["succeeded"] + says["failed"])
        attempts = says["submitted"] - told["never attempted"] + says["retries"]
        self.check(
            "attempts told, by the statistics, and made", told["attempts"], attempts, self.seen["calls"]
        )
        return [f"{name}: {fault}" for fault in self.faults]
