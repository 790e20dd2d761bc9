"""`map`: a stream of outcomes from a stream of items, in bounded memory.

**Theory of operation.** A map holds one place in the line while it could start an item. A slot that it is
given goes to a *worker*, a trio task beside the other managed ones that runs item after item: one that is
idle, or a new one. The worker draws its item itself, in its own step, so that the user's iterator runs in no
other task's clean-up; when an item has ended it goes on with the next one and keeps its slot, unless somebody
else waits for one, the line is paused, or the limit was lowered.

``outstanding`` counts the items that were drawn, or are about to be, and whose outcomes the consumer has not
taken. It is what bounds the memory: nothing is drawn while there is no room (`Mapping._has_room`).

An async source has a trio task of its own, with a `Feeder`. Leaving the map cancels the scopes of the workers
and the feeder, and waits, shielded, until the last of them has said that it ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import copy_context
from math import inf
from typing import Any, Generic, TypeVar, final

import attrs
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ._block import Block
from ._execution import Runner
from ._feeder import Feeder, close_drawn, iterate, presentable
from ._handles import Slot, TaskHandle, Terms
from ._line import Line
from ._outcomes import Outcome
from ._outlast import outlast
from ._ready import InOrder
from ._worker import Worker

T = TypeVar("T")


@final
class Mapping(Generic[T]):
    """One map: the async iterator that its consumer has, and what goes on behind it."""

    def __init__(
        self,
        block: Block,
        call: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        name: str,
        terms: Terms,
        ordered: bool,
    ) -> None:
        self._block = block
        self._line: Line = block.line
        self._runner: Runner = block.runner
        self._call = call
        self._items = items
        self._name = name
        self._terms = attrs.evolve(terms, deliver=self._put)
        self._ready: deque[Outcome[T]] | InOrder[T] = InOrder() if ordered else deque()
        self._drawn = 0
        self._outstanding = 0
        self._reserved = 0  # workers that have a slot and are about to draw
        self._in_line = False
        self._drawing = True  # whether there may be more to draw
        self._refused = False  # the manager accepts nothing new
        self._holder: trio.lowlevel.Task | None = None  # the managed task in which the consumer sleeps
        self._deadlocked = False
        self._error: Exception | None = None
        self._feeder: Feeder | None = None
        self._workers: set[Worker] = set()
        self._idle: dict[Worker, None] = {}
        self._living = 0  # workers and feeder
        self._consumers = trio.lowlevel.ParkingLot()
        self._asleep = False  # whether one may have to be woken
        self._ended = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    @enable_ki_protection
    async def opened(self) -> AsyncIterator[AsyncIterator[Outcome[T]]]:
        """The block of the map."""
        if self._block.closed:
            raise self._block.closed_error()
        self._opener = self._block.holder()
        self._context = copy_context()
        # Items see the context as it is now; what the source sets is for the source.
        self._drawing_context = copy_context()
        if isinstance(self._items, AsyncIterable):
            self._feeder = Feeder(self._items, self._has_room, self._stocked)
        else:
            self._iterator = iterate(self._items)
        self._block.maps[self] = None
        try:
            if self._feeder is not None:
                self._living += 1
                self._runner.nursery.start_soon(self._feed, self._feeder, name=f"feeder of {self._name}")
            else:
                self._want()
            yield self
        finally:
            del self._block.maps[self]
            self._leave()
            await outlast(self._wait_until_ended)
            self._ready.clear()
            self._outstanding = 0
            if self._feeder is not None:
                self._feeder.raise_close_error()
            else:
                await close_drawn(self._iterator, self._items, self._drawing_context)

    async def _wait_until_ended(self) -> None:
        while self._living:
            await self._ended.park()

    # The consumer

    def __aiter__(self) -> AsyncIterator[Outcome[T]]:
        return self

    async def __anext__(self) -> Outcome[T]:
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            outcome = self._take()
            if outcome is not None:
                return outcome
            if not self._drawing and not self._outstanding:
                self._raise_end()
            await self._sleep()

    @enable_ki_protection
    def _take(self) -> Outcome[T] | None:
        """The next outcome, if it is there; then another item may be drawn."""
        try:
            outcome = self._ready.popleft()
        except LookupError:
            return None
        self._outstanding -= 1
        self.resized()
        return outcome

    def _raise_end(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise presentable(error)
            finally:
                del error
        if self._refused:
            raise self._block.closed_error()
        raise StopAsyncIteration

    @enable_ki_protection
    async def _sleep(self) -> None:
        self._holder = self._block.holder()
        self._mind_deadlock()
        try:
            if not self._deadlocked:
                self._asleep = True
                await self._consumers.park()
        finally:
            self._holder = None
            self._line.unblock(self)
        if self._deadlocked:
            self._deadlocked = False
            raise self._line.deadlock("a map was consumed", "give the inner work a manager of its own")

    def _mind_deadlock(self) -> None:
        """Tell the line when the consumer sleeps inside a managed task and needs slots to wake."""
        needs_slots = self._in_line or len(self._workers) > len(self._idle)
        if self._holder is not None and needs_slots and not self._deadlocked:
            self._deadlocked = not self._line.block(self, self._holder, self._tell_deadlocked)

    def _tell_deadlocked(self) -> None:
        self._deadlocked = True
        self._wake_consumers()

    def _wake_consumers(self) -> None:
        self._asleep = False
        self._line.unblock(self)
        self._consumers.unpark_all()

    def _put(self, handle: TaskHandle[Any]) -> bool:
        """An item has its outcome. Returns that its worker settles the rest."""
        assert handle.outcome is not None
        self._ready.append(handle.outcome)
        if self._asleep and self._ready:
            self._wake_consumers()
        return False

    # Slots

    def _may_draw(self) -> bool:
        if not self._drawing:
            return False
        if self._feeder is not None:
            return self._feeder.has_item() and not self._reserved
        # Doubled again and again, since a worker costs more than an item, and there may be few items.
        return self._reserved <= self._drawn and self._has_room()

    def _has_room(self) -> bool:
        limit = self._line.limit
        return self._outstanding < (2 * limit if limit != inf else 1000)

    def _want(self) -> None:
        """Take as many slots as can be used, or a place in the line."""
        while not self._in_line and self._may_draw():
            slot = self._line.take()
            if slot is not None:
                self._give(slot)
            else:
                self._set_in_line(True)
                self._line.join(self, self._granted)
                if self._holder is not None:
                    self._mind_deadlock()
                    if self._deadlocked:
                        self._wake_consumers()

    def _set_in_line(self, value: bool) -> None:
        self._in_line = value
        self._runner.expect(1 if value else -1)

    def _granted(self, _: object, slot: Slot | None) -> None:
        # A worker that kept its slot may have taken what this place was for.
        assert slot is not None  # a map is told to refuse() before its line is closed
        self._runner.expect(1)  # no moment of idleness in between
        self._set_in_line(False)
        if self._may_draw():
            self._give(slot)
        else:
            self._line.release(slot)
        self._want()
        self._runner.expect(-1)

    def _give(self, slot: Slot) -> None:
        """Let a worker draw an item for a slot."""
        self._reserved += 1
        self._runner.expect(1)
        self._outstanding += self._feeder is None  # what a feeder has drawn is counted already
        if self._idle:
            worker, _ = self._idle.popitem()
            worker.slot = slot
            worker.wake()
        else:
            worker = Worker(self, self._name, slot)
            self._workers.add(worker)
            self._living += 1
            self._runner.start_worker(worker, self._context)

    # Workers

    @enable_ki_protection
    def next(self, worker: Worker) -> TaskHandle[Any] | None:
        """Settle the last item of a worker, and begin the next one, if there is a slot for it."""
        last, worker.handle = worker.handle, None
        if last is not None:
            slot = last._slot
            if slot is not None and self._may_draw() and self._line.may_keep(self):
                last._slot = None
                self._outstanding += self._feeder is None
                return self._begin(worker, slot, last)
            # Idle first: the slot may come back to this map at once.
            self._idle[worker] = None
            self._runner.settle(last)
        slot, worker.slot = worker.slot, None
        if slot is None:
            return None
        self._reserved -= 1
        try:
            return self._begin(worker, slot, None)
        finally:
            self._runner.expect(-1)

    def _begin(self, worker: Worker, slot: Slot, last: TaskHandle[Any] | None) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with a slot, maybe that of the `last` one."""
        handle = None
        try:
            if last is not None or self._line.still_grants():
                handle = self._draw()
        finally:
            if last is not None:
                self._runner.settle(last)  # now, so that there is no moment of idleness in between
            if handle is not None:
                worker.handle = handle
                self._runner.begin(handle, slot, handle._submitted)
            else:
                self._outstanding -= self._feeder is None
                self._line.release(slot)
                self._wake_if_ended()
        self._want()
        return handle

    def _draw(self) -> TaskHandle[Any] | None:
        if not self._drawing:
            return None
        if self._feeder is not None:
            item = self._feeder.take()
        else:
            try:
                item = self._pull()
            except StopIteration:
                self._end_drawing(None)
                return None
            except Exception as error:
                self._end_drawing(error)
                return None
            except BaseException:
                self._refused = True  # it is no end that the consumer may take for the source's
                self._end_drawing(None)
                raise
        handle: TaskHandle[Any] = TaskHandle(self._name, (item,), self._call, self._terms, self._runner.now())
        handle._context = self._context
        handle.index = self._drawn
        self._runner.accept(handle)
        self._drawn += 1
        return handle

    @disable_ki_protection
    def _pull(self) -> Any:
        return self._drawing_context.run(next, self._iterator)

    @enable_ki_protection
    async def rest(self, worker: Worker) -> bool:
        """Wait until there may be a slot; False when none will come, as nothing is left to draw."""
        if not self._drawing:
            return False
        self._idle[worker] = None
        worker.sleeper = trio.lowlevel.current_task()
        # Whatever cancels the workers has ended the drawing before, and that ends this rest.
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return True

    @enable_ki_protection
    def gone(self, worker: Worker) -> None:
        """A worker has ended, with or without an item."""
        self._idle.pop(worker, None)
        self._workers.discard(worker)
        if worker.handle is not None:
            self._runner.settle(worker.handle)
            worker.handle = None
        self._want()
        self._end_one()

    @enable_ki_protection
    def _end_one(self) -> None:
        self._living -= 1
        if not self._living:
            self._ended.unpark_all()
        self._wake_if_ended()

    def _wake_if_ended(self) -> None:
        if not self._drawing and not self._outstanding:
            self._wake_consumers()

    # The source

    def _end_drawing(self, error: Exception | None) -> None:
        """Nothing is drawn from here on."""
        self._drawing = False
        self._error = self._error or error
        if self._in_line:
            self._line.leave(self)
            self._set_in_line(False)
        for worker in self._idle:
            worker.wake()
        self._wake_if_ended()

    @enable_ki_protection
    def _stocked(self) -> None:
        """The feeder has an item."""
        self._outstanding += 1
        self._want()

    async def _feed(self, feeder: Feeder) -> None:
        """The trio task of an async source."""
        task = trio.lowlevel.current_task()
        self._block.stand_ins[task] = self._opener
        try:
            await feeder.draw(self._exhausted)
        finally:
            del self._block.stand_ins[task]
            self._end_one()

    @enable_ki_protection
    def _exhausted(self, feeder: Feeder, error: Exception | None) -> None:
        """A feeder draws no more."""
        if feeder.has_item():
            # Drawn, and stopped before it had a slot.
            feeder.take()
            self._outstanding -= 1
        self._end_drawing(error)

    # What the manager tells

    def resized(self) -> None:
        """There may be more room than before."""
        if self._feeder is not None:
            self._feeder.wake()
        else:
            self._want()

    def refuse(self) -> None:
        """The manager accepts nothing new: what has started goes on."""
        if self._drawing:
            self._refused = True
            self._end_drawing(None)
            if self._feeder is not None:
                self._feeder.scope.cancel(reason="the manager accepts no more tasks")

    def _leave(self) -> None:
        self._end_drawing(None)
        for worker in self._workers:
            if worker.handle is not None and worker.handle._cancelled is None:
                worker.handle._cancelled = "its map was left"
            worker.scope.cancel(reason="the map was left")
        if self._feeder is not None:
            self._feeder.scope.cancel(reason="the map was left")
