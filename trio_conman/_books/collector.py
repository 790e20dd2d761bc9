"""Outcomes on their way from the tasks to the readers, in completion order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import trio

from trio_conman._base.outcomes import Failure, Outcome, StopReason, was_seen

from .handles import TaskHandle
from .instruments import Instruments

T = TypeVar("T")

BATCH = 100  # outcomes


@final
class Collector(Generic[T]):
    """Takes outcomes through a memory channel into a list, or on to the user's channel.

    They travel in batches: a batch is sent when it is large enough, and what follows before it has arrived
    joins it. A reader that cannot wait for it finds what is underway in one place. So a batch may as well
    grow, for to wake the collector costs more than a tenth of a task; only a user's channel gets each outcome
    at once.

    With a user's channel, `settle` is called for each task when its outcome was taken. What the channel did
    not take, because the manager was cancelled or the consumer went away, is kept.
    """

    def __init__(
        self,
        send_to: trio.MemorySendChannel[Outcome[T]] | None,
        settle: Callable[[TaskHandle[Any]], None],
        instruments: Instruments | None,
    ) -> None:
        self._send, self._receive = trio.open_memory_channel[list[TaskHandle[T]]](math.inf)
        self._send_to = send_to
        self._settle = settle
        self._instruments = instruments
        if instruments is not None:
            instruments.wake = self.wake
        self._underway: list[TaskHandle[T]] = []
        self._sent = False  # whether what is underway is in the channel
        self._kept: list[Outcome[T]] = []
        self._looked_at = 0  # so many of these, from the first
        # Whether outcomes still go to the user's channel.
        self._forwarding = send_to is not None
        self._batch = 1 if self._forwarding else BATCH

    def put(self, handle: TaskHandle[T]) -> bool:
        """Hand over a task that has its outcome; no checkpoint. Returns whether it needs no settling."""
        self._underway.append(handle)
        if not self._sent and len(self._underway) >= self._batch:
            self.wake()
        return not self._forwarding

    def wake(self) -> None:
        """Have `collect` take in what is underway, be it much or nothing, and the instruments catch up."""
        if not self._sent:
            self._sent = True
            self._send.send_nowait(self._underway)

    @trio.lowlevel.enable_ki_protection
    async def collect(self) -> None:
        """Take batches in until `close`."""
        try:
            async for batch in self._receive:
                self._underway, self._sent = [], False
                if self._forwarding:
                    await self._forward(batch)
                else:
                    self._keep(batch)
                del batch  # or it would keep its tasks alive until the next one comes
                self._catch_up()
        finally:
            if self._forwarding:
                self._keep_from_here([])
            else:
                self.kept()  # what was not sent: outcomes in place of handles
            self._catch_up()

    def _catch_up(self) -> None:
        if self._instruments is not None:
            self._instruments.catch_up()

    async def _forward(self, batch: list[TaskHandle[T]]) -> None:
        """Send a batch to the user's channel, as far as that takes it."""
        assert self._send_to is not None
        sent = 0
        try:
            for handle in batch:
                assert handle._outcome is not None
                await self._send_to.send(handle._outcome)
                sent += 1
                self._settle(handle)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the consumer went away
        finally:
            if sent < len(batch):
                self._keep_from_here(batch[sent:])

    def _keep_from_here(self, batch: list[TaskHandle[T]]) -> None:
        """Forward no more; `batch` was not taken, nor is what is underway."""
        self._forwarding = False
        left = batch + self._underway
        self._underway.clear()
        self._keep(left)
        for handle in left:
            self._settle(handle)

    def keep(self, outcomes: list[Outcome[T]]) -> None:
        """Keep what the consumer of a map did not take; it goes to no channel."""
        self.kept().extend(outcomes)  # what is underway has ended earlier

    def _keep(self, batch: list[TaskHandle[T]]) -> None:
        self._kept += [handle._outcome for handle in batch if handle._outcome is not None]

    def close(self) -> None:
        """End `collect`. Nothing may be put after this."""
        self._sent = True  # there is nobody to wake
        self._send.close()

    def close_channel(self) -> None:
        """Close the user's channel."""
        if self._send_to is not None:
            self._send_to.close()

    @trio.lowlevel.enable_ki_protection
    def kept(self) -> list[Outcome[T]]:
        """The outcomes so far that were not forwarded, in completion order: the live list, for reading."""
        if not self._forwarding:
            self._keep(self._underway)
            self._underway.clear()
        return self._kept

    @trio.lowlevel.enable_ki_protection
    def look(self) -> list[Outcome[T]]:
        """The same, for somebody who looks at the failures among them."""
        kept = self.kept()
        self._looked_at = len(kept)
        return kept

    @trio.lowlevel.enable_ki_protection
    def pop(self) -> list[Outcome[T]]:
        """The same, forgotten here."""
        kept = self.kept()
        self._kept = []
        self._looked_at = 0
        return kept

    def unseen(self) -> list[Failure]:
        """The failures that nobody has looked at, those by cancellation aside."""
        return [
            outcome
            for outcome in self.kept()[self._looked_at :]
            if isinstance(outcome, Failure)
            and outcome.reason is not StopReason.CANCELLED
            and not was_seen(outcome)
        ]
