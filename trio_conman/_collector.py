"""Outcomes on their way from the tasks to the readers, in completion order."""

from __future__ import annotations

import math
from typing import Generic, TypeVar, final

import trio

from ._outcomes import Outcome

T = TypeVar("T")


@final
class Collector(Generic[T]):
    """Takes outcomes through a memory channel into a list.

    They travel in batches: the first outcome of a batch sends it, those that follow before it has arrived
    join it. So the collector wakes once for all outcomes of a tick, and a reader that cannot wait for it
    finds what is underway in one place.
    """

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[list[Outcome[T]]](math.inf)
        self._underway: list[Outcome[T]] | None = None
        self._kept: list[Outcome[T]] = []

    @trio.lowlevel.enable_ki_protection
    def put(self, outcome: Outcome[T]) -> None:
        """Hand an outcome over; no checkpoint."""
        if self._underway is None:
            self._underway = [outcome]
            self._send.send_nowait(self._underway)
        else:
            self._underway.append(outcome)

    @trio.lowlevel.enable_ki_protection
    async def collect(self) -> None:
        """Take batches in until `close`."""
        async for batch in self._receive:
            self._kept += batch
            self._underway = None

    def close(self) -> None:
        """End `collect`. Nothing may be put after this."""
        self._send.close()

    @trio.lowlevel.enable_ki_protection
    def kept(self) -> list[Outcome[T]]:
        """All outcomes so far, in completion order: the live list, for reading."""
        if self._underway:
            self._kept += self._underway
            self._underway.clear()
        return self._kept

    @trio.lowlevel.enable_ki_protection
    def pop(self) -> list[Outcome[T]]:
        """All outcomes so far, forgotten here."""
        kept = self.kept()
        self._kept = []
        return kept
