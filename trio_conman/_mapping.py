"""`map`: a stream of outcomes from a stream of items, in bounded memory.

**Theory of operation.** A map holds one place in the line while it could start an item. A slot that it is
given goes to a *worker*, a trio task beside the other managed ones that runs item after item: one that is
idle, or a new one. The worker draws its item itself, in its own step, so that the user's iterator runs in no
other task's clean-up; when an item has ended it goes on with the next one and keeps its slot, unless somebody
else waits for one, the line is paused, or the limit was lowered.

The memory is bounded by the *room*: nothing is drawn while twice the limit of items are drawn and not taken.
A consumer has its turn once a tick, often after all workers have had theirs. So a worker that finds no room
keeps its slot until its next turn, and only then gives it back and rests: a rest costs as much as two turns.

An async source has a trio task of its own, with a `Feeder`. Leaving the map cancels the scopes of the workers
and the feeder, and waits, shielded, until the last of them has said that it ended.
"""

from __future__ import annotations

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
from ._feeder import Feeder, close_drawn, iterate
from ._handles import Slot, TaskHandle, Terms
from ._line import Line
from ._outcomes import Outcome
from ._outlast import outlast
from ._stream import Stream
from ._worker import Worker

T = TypeVar("T")


@final
class Mapping(Generic[T]):
    """One map: what draws and runs the items behind the stream that its consumer has."""

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
        self._stream: Stream[T] = Stream(
            block, ordered=ordered, tell_taken=self.want, needs_slots=self._needs_slots
        )
        self._terms = attrs.evolve(terms, deliver=self._stream.put)
        self._reserved = 0  # workers that have a slot and no item yet
        self._in_line = False
        self._feeder: Feeder | None = None
        self._workers: set[Worker] = set()
        self._idle: dict[Worker, None] = {}
        self._living = 0  # workers and feeder
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
            self._feeder = Feeder(self._items, self._room, self._stocked)
        else:
            self._iterator = iterate(self._items)
        self._block.maps[self] = None
        try:
            if self._feeder is not None:
                self._living += 1
                self._runner.nursery.start_soon(self._feed, self._feeder, name=f"feeder of {self._name}")
            else:
                self.want()
            yield self._stream
        finally:
            del self._block.maps[self]
            self._leave()
            await outlast(self._wait_until_ended)
            self._stream.drop()
            if self._feeder is not None:
                self._feeder.raise_close_error()
            else:
                await close_drawn(self._iterator, self._items, self._drawing_context)

    async def _wait_until_ended(self) -> None:
        while self._living:
            await self._ended.park()

    # Slots

    def _room(self) -> int | float:
        """How many more outcomes may be in memory."""
        limit = self._line.limit
        return (2 * limit if limit != inf else 1000) - self._stream.drawn + self._stream.taken

    def _drawable(self) -> int | float:
        """How many items may be drawn at once."""
        if not self._stream.more:
            return 0
        return self._room() if self._feeder is None else self._feeder.has_item()

    def _needs_slots(self) -> bool:
        return self._in_line or len(self._workers) > len(self._idle)

    def want(self) -> None:
        """There may be more room than before: take as many slots as can be used, or a place in the line."""
        if self._feeder is not None:
            self._feeder.wake()
        while not self._in_line and self._may_give():
            slot = self._line.take()
            if slot is not None:
                self._give(slot)
            else:
                self._set_in_line(True)
                self._line.join(self, self._granted)
                self._line.break_rings()  # a consumer needs slots now

    def _may_give(self) -> bool:
        # Doubled again and again, since a worker costs more than an item, and there may be few items.
        return self._reserved <= self._stream.drawn and self._reserved < self._drawable()

    def _set_in_line(self, value: bool) -> None:
        self._in_line = value
        self._runner.expect(1 if value else -1)

    def _granted(self, _: object, slot: Slot | None) -> bool:
        # A worker that kept its slot may have taken what this place was for.
        assert slot is not None  # a map is told to refuse() before its line is closed
        self._runner.expect(1)  # no moment of idleness in between
        self._set_in_line(False)
        gives = self._may_give()
        if gives:
            self._give(slot)
        self.want()
        self._runner.expect(-1)
        return gives

    def _give(self, slot: Slot) -> None:
        """Let a worker draw an item for a slot."""
        if self._idle:
            worker, _ = self._idle.popitem()
            self._reserve(worker, slot, kept=False)
            worker.wake()
        else:
            worker = Worker(self, self._name)
            self._workers.add(worker)
            self._living += 1
            self._reserve(worker, slot, kept=False)
            self._runner.start_worker(worker, self._context)

    def _reserve(self, worker: Worker, slot: Slot, *, kept: bool) -> None:
        worker.slot = slot
        worker.kept = kept
        self._reserved += 1
        self._runner.expect(1)

    # Workers

    @enable_ki_protection
    def next(self, worker: Worker) -> TaskHandle[Any] | None:
        """Settle the last item of a worker, and begin the next one, if there is a slot for it."""
        last, worker.handle = worker.handle, None
        if last is not None:
            slot = last._slot
            if slot is not None and not self._line.may_keep(self._in_line):
                slot = None
            if slot is not None and self._drawable() > 0:
                return self._begin_after(worker, last)
            if slot is not None and self._stream.more:
                last._slot = None
                self._reserve(worker, slot, kept=True)
                self._runner.settle(last)
                return None
            # Idle first: the slot may come back to this map at once.
            self._idle[worker] = None
            self._runner.settle(last)
        if worker.slot is None:
            return None
        return self._begin_reserved(worker, worker.slot)

    def _begin_after(self, worker: Worker, last: TaskHandle[Any]) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with the slot of the last one."""
        try:
            worker.handle = self._draw()
        finally:
            # After the drawing, so that there is no moment of idleness in between.
            if worker.handle is not None:
                self._runner.hand_over(last, worker.handle)
            else:
                self._runner.settle(last)
        # No want(): no slot is free that was not, and there is less room.
        if self._feeder is not None:
            self._feeder.wake()
        return worker.handle

    def _begin_reserved(self, worker: Worker, slot: Slot) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with a slot that was reserved for it, or give that back."""
        self._reserved -= 1
        worker.slot = None
        may_use = self._line.may_keep(self._in_line) if worker.kept else self._line.still_grants()
        try:
            if may_use and self._drawable() > 0:
                worker.handle = self._draw()
        finally:
            if worker.handle is not None:
                self._runner.begin(worker.handle, slot, worker.handle._submitted)
            else:
                self._idle[worker] = None
                self._line.release(slot)
            self._runner.expect(-1)
        # Amid those who had no room, the consumer takes what there is before it is too much, and stays there:
        # who ends next wakes it.
        if 0 < self._reserved == self._line.limit // 2:
            self._stream.nudge()
        self.want()
        return worker.handle

    def _draw(self) -> TaskHandle[Any] | None:
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
                self._stream.refused = True  # it is no end that the consumer may take for the source's
                self._end_drawing(None)
                raise
        handle: TaskHandle[Any] = TaskHandle(
            self._name, (item,), self._call, self._terms, self._runner.now(), self._stream.drawn
        )
        handle._context = self._context
        self._stream.drawn += 1
        self._runner.accept(handle)
        return handle

    @disable_ki_protection
    def _pull(self) -> Any:
        return self._drawing_context.run(next, self._iterator)

    @enable_ki_protection
    async def rest(self, worker: Worker) -> bool:
        """Wait until there may be an item, with a slot; False when nothing is left to draw."""
        if not self._stream.more:
            return False
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
        if worker.slot is not None:  # an interrupt hit it before it could draw
            self._reserved -= 1
            self._line.release(worker.slot)
            self._runner.expect(-1)
        self.want()
        self._end_one()

    @enable_ki_protection
    def _end_one(self) -> None:
        self._living -= 1
        if not self._living:
            self._ended.unpark_all()

    # The source

    def _end_drawing(self, error: Exception | None) -> None:
        """Nothing is drawn from here on."""
        self._stream.end(error)
        if self._in_line:
            self._line.leave(self)
            self._set_in_line(False)
        for worker in self._idle:
            worker.wake()

    @enable_ki_protection
    def _stocked(self) -> None:
        """The feeder has an item."""
        self.want()

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
        self._end_drawing(error)

    # What the manager tells

    def refuse(self) -> None:
        """The manager accepts nothing new: what has started goes on."""
        if self._stream.more:
            self._stream.refused = True
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
