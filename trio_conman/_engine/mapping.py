"""`map`: a stream of outcomes from a stream of items, in bounded memory.

**Theory of operation.** A map holds one place in the line while it could start an item. A slot that it is
given goes to a *worker*, a trio task beside the other managed ones that runs item after item: one that is
idle, or a new one. The worker draws its item itself, in its own step, so that the user's iterator runs in no
other task's clean-up; when an item has ended it goes on with the next one and keeps its slot, unless somebody
else waits for one, the line is paused, or the limit was lowered.

The memory is bounded by the *room*: nothing is drawn while twice the limit of items are drawn and not taken.
(While a shared limiter is at 0 there is room for one, so that the map is in the line when it is raised.) A
consumer has its turn once a tick, often after all workers have had theirs. So a worker that finds no room
keeps its slot until its next turn, and only then gives it back and rests: a rest costs as much as two turns.

Items that pass no checkpoint would go on one after another without a turn for anybody else. So they are
counted, and after `AT_ONCE` of them, by however many workers, no slot is given until one of these has let the
others on. What an item leaves in its task's `custom_sleep_data` shows whether it has passed a checkpoint,
since trio clears that whenever it reschedules a task.

An async source has a trio task of its own, with a `Feeder`. Leaving the map cancels the scopes of the
workers, stops the feeder, and waits, shielded, until the last of them has said that it ended. Then the map
forgets all, since an error that the consumer has kept may lead to its frames.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextvars import copy_context
from math import inf
from typing import Any, Generic, TypeVar, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outcomes import Outcome
from trio_conman._base.outlast import outlast
from trio_conman._books.handles import Slot, TaskHandle, Terms
from trio_conman._limits.line import Line

from .block import Block
from .execution import Runner
from .feeder import Feeder
from .source import Source, foreign, is_async
from .stream import AT_ONCE, Stream
from .worker import Worker

T = TypeVar("T")

# What a worker's task has in `custom_sleep_data` until it passes a checkpoint.
_NO_TURN: Any = object()


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
        self._terms = terms
        self._ordered = ordered
        self._reserved = 0  # workers that have a slot and no item yet
        self._passed = 0  # items that passed no checkpoint, since others had a turn
        self._is_pausing = False  # a worker lets others have one
        self._hurries = False  # items pass no checkpoint
        self._in_line = False
        self._feeder: Feeder | None = None
        self._workers: set[Worker] = set()
        self._idle: dict[Worker, None] = {}
        self._living = 0  # workers and feeder
        self._ended = trio.lowlevel.ParkingLot()

    def enter(self) -> AsyncIterator[Outcome[T]]:
        """Begin."""
        if self._block.closed:
            raise self._block.closed_error()
        self._opener = self._block.holder()
        self._context = copy_context()
        if is_async(self._items):
            self._feeder = Feeder(self._items, self._room, self._stocked)
        else:
            # Items see the context as it is now; what the source sets is for the source.
            self._source = Source(self._items, copy_context())
        # From here on there are cycles, until the map is left.
        self._stream: Stream[T] = Stream(
            self._block, ordered=self._ordered, tell_taken=self.want, needs_slots=self._needs_slots
        )
        self._terms = attrs.evolve(self._terms, deliver=self._stream.put)
        if self._feeder is not None:
            self._runner.nursery.start_soon(self._feed, self._feeder, name=f"feeder of {self._name}")
            self._living += 1
        self._block.maps[self] = None
        self.want()
        return self._stream

    async def leave(self, *, is_cut_off: bool) -> None:
        """End, and keep what was not taken if somebody else than the consumer has ended the map."""
        del self._block.maps[self]
        self._end_all()
        try:
            await outlast(self._wait_until_ended)
        except KeyboardInterrupt:
            is_cut_off = True
            raise
        finally:
            left = self._stream.drop()
            if is_cut_off:
                self._block.collector.keep(left)
            self._runner.idle.unpark_all()  # who waited for the consumer looks again
            try:
                if self._feeder is not None:
                    self._feeder.raise_close_error()
                else:
                    await self._source.close()
            finally:
                vars(self).clear()

    async def _wait_until_ended(self) -> None:
        while self._living:
            await self._ended.park()

    # Slots

    def _room(self) -> int | float:
        """How many more outcomes may be in memory."""
        limit = self._line.limit
        room = 1000 if limit == inf else 2 * limit or 1
        return room - self._stream.drawn + self._stream.taken

    def _drawable(self) -> int | float:
        """How many items may be drawn at once."""
        if not self._stream.more:
            return 0
        return self._room() if self._feeder is None else self._feeder.has_item()

    def _needs_slots(self) -> bool:
        return self._in_line or len(self._workers) > len(self._idle)

    def want(self) -> None:
        """There may be more room than before: take as many slots as can be used, or a place in the line."""
        if not self._stream.more:
            if self._stream.is_empty:
                self._runner.idle.unpark_all()
            return
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
        # Doubled again and again, since a worker costs more than an item, and there may be few items; and for
        # those that never wait, one more worker than run will do.
        most = self._stream.unfinished if self._hurries else self._stream.drawn
        return self._passed < AT_ONCE and self._reserved <= most and self._reserved < self._drawable()

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
            self._stream.at_once = max(AT_ONCE, len(self._workers))
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
        last = worker.handle
        if last is not None:
            slot = last._slot
            if slot is not None and not self._line.may_keep(self._in_line):
                slot = None
            if worker.task.custom_sleep_data is _NO_TURN:
                self._passed += 1
                if self._passed >= AT_ONCE:
                    self._hurries = True
                    slot = None
            elif self._hurries:
                self._hurries = False
            if slot is not None and self._drawable() > 0:
                del last  # an error of the source may lead to this frame
                return self._begin_after(worker)
            worker.handle = None
            if slot is not None and self._stream.more:
                last._slot = None
                self._reserve(worker, slot, kept=True)
                self._runner.settle(last)
                return None
            # Idle first: the slot may come back to this map at once.
            self._idle[worker] = None
            self._runner.settle(last)
        del last
        if worker.slot is None:
            return None
        return self._begin_reserved(worker, worker.slot)

    def _begin_after(self, worker: Worker) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with the slot of the last one."""
        handle = None
        try:
            handle = self._draw(worker)
        finally:
            # After the drawing, so that there is no moment of idleness in between.
            last, worker.handle = worker.handle, handle
            assert last is not None
            if handle is not None:
                self._runner.hand_over(last, handle)
            else:
                self._runner.settle(last)
            del last
        # No want(): no slot is free that was not, and there is less room.
        if self._feeder is not None:
            self._feeder.wake()
        return handle

    def _begin_reserved(self, worker: Worker, slot: Slot) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with a slot that was reserved for it, or give that back."""
        self._reserved -= 1
        worker.slot = None
        worker.task = trio.lowlevel.current_task()
        worker.status = worker.task._cancel_status
        may_use = self._line.may_keep(self._in_line) if worker.kept else self._line.still_grants()
        try:
            if may_use and self._passed < AT_ONCE and self._drawable() > 0:
                worker.handle = self._draw(worker)
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

    def _draw(self, worker: Worker) -> TaskHandle[Any] | None:
        if self._feeder is not None:
            item = self._feeder.take()
        else:
            try:
                item = self._source.draw()
                if worker.task._cancel_status is not worker.status:
                    self._source.blame()
            except StopIteration:
                return self._drawn_all(worker, None)
            except Exception as error:
                return self._drawn_all(worker, foreign(error))
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
        worker.task.custom_sleep_data = _NO_TURN
        return handle

    def _drawn_all(self, worker: Worker, error: Exception | None) -> TaskHandle[Any] | None:
        worker.is_spoiled = worker.task._cancel_status is not worker.status
        self._end_drawing(error)
        return None

    @enable_ki_protection
    async def rest(self, worker: Worker) -> bool:
        """Wait until there may be an item, with a slot; False when nothing is left to draw."""
        if not self._stream.more:
            return False
        if self._passed >= AT_ONCE and not self._is_pausing:
            await self._let_others_on()
            return True
        worker.sleeper = trio.lowlevel.current_task()
        # Whatever cancels the workers has ended the drawing before, and that ends this rest.
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return True

    async def _let_others_on(self) -> None:
        self._is_pausing = True
        self._runner.expect(1)  # no moment of idleness meanwhile
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._passed = 0
        self._is_pausing = False
        self.want()
        self._runner.expect(-1)

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
        self.want()  # it may be empty

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

    # What the manager asks and tells

    def holds_up(self, task: trio.lowlevel.Task) -> bool:
        """Whether there is something left to draw or to take, by others than that trio task."""
        return not (self._stream.is_empty or self._stream.is_consumed_by(task))

    def refuse(self) -> None:
        """The manager accepts nothing new: what has started goes on."""
        if self._stream.more:
            self._stream.refused = True
            self._end("the manager accepts no more tasks")

    def _end_all(self) -> None:
        self._end("the map was left")
        if self._runner.stopped is not None:
            return  # the items know why
        for worker in self._workers:
            if worker.handle is not None and worker.handle._cancelled is None:
                worker.handle._cancelled = "its map was left"
            worker.scope.cancel(reason="the map was left")

    def _end(self, reason: str) -> None:
        self._end_drawing(None)
        if self._feeder is not None:
            self._feeder.stop(reason)
