"""The books of a manager: every task from its acceptance until its outcome has arrived."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

import attrs
import trio

from trio_conman._base.outcomes import Failure, StopReason
from trio_conman._policy.budget import RetryBudget

from .handles import Slot, TaskHandle
from .instruments import Instruments


class Slots(Protocol):
    """What an execution needs of the line."""

    @property
    def limit(self) -> int | float:
        """How many slots there are."""
        ...

    def release(self, slot: Slot) -> None:
        """Pass a slot on."""
        ...

    def leave(self, waiter: object) -> bool:
        """Wait for a slot no more; whether it did."""
        ...

    def park(self, handle: TaskHandle[Any], grant: Callable[[Any, Slot | None], bool]) -> None:
        """Stand beside the line, without a slot."""
        ...

    def lacks_keys(self, handle: TaskHandle[Any]) -> bool:
        """Whether a task that has its slot had no keys, and those that it needs are not free."""
        ...

    def unpark(self, handle: TaskHandle[Any]) -> None:
        """Wait for a slot again, as in `reenter`; one that has left stays away."""
        ...

    async def reenter(self, handle: TaskHandle[Any], granted: Callable[[Any], None] | None) -> None:
        """Wait for a slot again, in turn with those who have not started yet; `granted` hears of it."""
        ...


@attrs.define(eq=False, repr=False)
class Ledger:
    """Counts the tasks of one manager, and wakes who waits for all of them."""

    slots: Slots
    max_errors: int | None
    budget: RetryBudget | None
    instruments: Instruments | None

    submitted: int = attrs.field(default=0, init=False)
    succeeded: int = attrs.field(default=0, init=False)
    recalled: int = attrs.field(default=0, init=False)
    failed: int = attrs.field(default=0, init=False)
    cancelled: int = attrs.field(default=0, init=False)
    retries: int = attrs.field(default=0, init=False)
    # The real errors, for max_errors.
    errors: list[Exception] = attrs.field(factory=list, init=False)
    # Calls of run() that sleep: about to hand in a task.
    coming: int = attrs.field(default=0, init=False)
    # Accepted and not settled; those of them that have not started; of the others those backing off, some of
    # them without a slot, and those that wait for a permit of the rate.
    unfinished: int = attrs.field(default=0, init=False)
    queued: int = attrs.field(default=0, init=False)
    backing_off: int = attrs.field(default=0, init=False)
    without_slot: set[TaskHandle[Any]] = attrs.field(factory=set, init=False)
    without_permit: int = attrs.field(default=0, init=False)
    idle: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # Who waits until no attempt runs; made for the first one.
    calm: trio.lowlevel.ParkingLot | None = attrs.field(default=None, init=False)

    def error_group(self, errors: list[Exception], name: str) -> ExceptionGroup[Exception]:
        """What to raise for the errors of some tasks."""
        finished = self.succeeded + self.failed
        return ExceptionGroup(f"{len(errors)} of {finished} tasks of {name!r} failed", errors)

    def attempts(self) -> int:
        """How many attempts run: of the tasks without an outcome, those that do not wait for anything."""
        finished = self.succeeded + self.failed
        return self.submitted - finished - self.queued - self.backing_off - self.without_permit

    async def wait_calm(self) -> None:
        """Wait until no attempt runs; no checkpoint when that is so."""
        if self.calm is None:
            self.calm = trio.lowlevel.ParkingLot()
        while self.attempts():
            await self.calm.park()

    def tell_if_calm(self) -> None:
        """An attempt has ended, or has to wait."""
        if self.calm is not None and not self.attempts():
            self.calm.unpark_all()

    def tell_if_idle(self) -> None:
        """There may be nothing to wait for any more."""
        if not (self.unfinished or self.coming):
            self.idle.unpark_all()

    def accept(self, handle: TaskHandle[Any]) -> None:
        """From here on the task ends in exactly one outcome."""
        if handle._index < 0:  # an item has one
            handle._index = self.submitted
        self.submitted += 1
        self.unfinished += 1
        if self.instruments is not None:
            self._tell_submitted(handle, self.instruments)

    def _tell_submitted(self, handle: TaskHandle[Any], instruments: Instruments) -> None:
        # Who passes a slot on may be here for the submitter.
        context = copy_context() if handle._context is None else handle._context
        instruments.tell("task_submitted", handle, context=context)

    def begin(self, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        """An accepted task has its slot."""
        handle._slot = slot
        handle._started = now

    def put_back(self, handle: TaskHandle[Any]) -> Slot:
        """A task that has begun waits like one that has not; returns its slot."""
        slot = handle._slot
        assert slot is not None
        handle._slot = handle._started = handle._scope = None
        self.queued += 1
        return slot

    def begin_new(self, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        """`accept` and `begin` in one."""
        if handle._index < 0:  # as in accept()
            handle._index = self.submitted
        self.submitted += 1
        self.unfinished += 1
        handle._slot = slot
        if self.instruments is not None:
            self._tell_submitted(handle, self.instruments)
        handle._started = now

    def count_failure(self, outcome: Failure) -> None:
        """A task has failed."""
        self.failed += 1
        if outcome.reason is StopReason.CANCELLED:
            self.cancelled += 1
        elif self.max_errors is not None:
            self.errors.append(outcome.error)

    def settle(self, handle: TaskHandle[Any]) -> None:
        """The outcome of a task has arrived."""
        if self.without_slot:  # one that has ended while it had none counts until here
            self.without_slot.discard(handle)
        slot = handle._slot
        if slot is not None:
            handle._slot = None
            self.slots.release(slot)
        self.unfinished -= 1
        if not (self.unfinished or self.coming) and self.idle:  # to wake nobody costs more than to ask
            self.idle.unpark_all()
