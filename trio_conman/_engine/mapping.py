"""`map`: a stream of outcomes from a stream of items, in bounded memory.

**Theory of operation.** A map is a source of tasks: it holds one place in the line while it could start an
item. How a slot that it is given comes by an item depends on the items: those of an iterable are drawn by
workers (`drawn`), those of an async iterable by a feeder (`fed`). From there on an item goes the way of every
task, and its outcome to the stream that the consumer has.

The memory is bounded by the *room*: nothing is drawn while as many items are drawn and not taken as the map
may look ahead: twice the limit, where nothing else is said.
(While a shared limiter is at 0 there is room for one, so that the map is in the line when it is raised.)

Leaving the map cancels its items, stops the drawing, and waits, shielded, until the last of them has ended.
Then the map forgets all, since an error that the consumer has kept may lead to its frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import copy_context
from math import inf
from typing import Any, Generic, TypeVar

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outcomes import Outcome
from trio_conman._base.outlast import outlast
from trio_conman._base.stack import need_stack
from trio_conman._books.handles import Slot, TaskHandle, Terms, new_handle
from trio_conman._limits.keys import forget, may_hold
from trio_conman._limits.line import Line
from trio_conman._limits.rings import Need

from .block import Block
from .execution import Runner
from .pool import AT_ONCE
from .stream import Stream

T = TypeVar("T")


class Mapping(ABC, Generic[T]):
    """One map: what starts the items behind the stream that its consumer has."""

    _stream: Stream[T]
    # Its place in the line is for any item: what those count for is not known before they are drawn.
    _keys = None
    _number: int

    def __init__(
        self,
        block: Block,
        call: Callable[..., Any],
        items: Any,
        *,
        name: str,
        terms: Terms,
        ordered: bool,
        priority: int,
        lookahead: int | None,
    ) -> None:
        self._block = block
        self._line: Line = block.line
        self._runner: Runner = block.runner
        self._call = call
        self._items = items
        self._name = name
        self._terms = terms
        self._ordered = ordered
        # Of its items, and of its place in the line.
        self._priority = priority
        self._in_line = False
        self._lookahead = lookahead
        self._look_at_limit()
        # What is to end before the map is: workers that were hired and have not drawn, or else the feeder.
        self._drawing = 0

    def enter(self) -> AsyncIterator[Outcome[T]]:
        """Begin."""
        if self._block.closed:
            raise self._block.closed_error()
        # Items see the context as it is now.
        self._context = copy_context()
        self._prepare()
        if self._block.closed:  # by the source
            raise self._block.closed_error()
        # From here on there are cycles, until the map is left.
        self._stream = Stream(
            self._block,
            ordered=self._ordered,
            tell_taken=self.want,
            look_for_end=self.look_for_end,
            needs_slots=self._needs_slots,
            needs=self._needs,
        )
        # Where its consumer may wait for them in a ring, the items that were drawn and have no outcome yet.
        self._unended: dict[TaskHandle[Any], None] = {}
        self._is_watched = self._line.keyring is not None or self._block.inside.holder() is not None
        deliver = self._put if self._is_watched else self._stream.put
        self._terms = attrs.evolve(self._terms, deliver=deliver, is_watched=self._is_watched)
        self._block.maps[self] = None
        self._begin()
        return self._stream

    async def leave(self, *, is_cut_off: bool) -> None:
        """End, and keep what was not taken if somebody else than the consumer has ended the map."""
        del self._block.maps[self]
        self._end("the map was left")
        self._cancel_items()
        self._stream.is_left = True
        try:
            await outlast(self._wait_until_ended)
        except KeyboardInterrupt:
            is_cut_off = True
            raise
        finally:
            left = self._stream.drop()
            if is_cut_off or self._stream.is_stuck:
                self._block.collector.keep(left)
            del left  # see TaskHandle.cancel()
            try:
                await self._close()
            finally:
                vars(self).clear()

    async def _wait_until_ended(self) -> None:
        while self._stream.unfinished or self._drawing:
            await self._stream.ended.park()

    def _cancel_items(self) -> None:
        if self._runner.stopped is not None or not self._stream.unfinished:
            return  # the items know why
        items, why = self._unended_items(), "its map was left"
        while items:  # no item shall be left in this frame: see TaskHandle.cancel()
            self._runner.cancel(items.popleft(), why, "the map was left")

    def _unended_items(self) -> deque[TaskHandle[Any]]:
        """Those that have no outcome."""
        may_be: Iterable[TaskHandle[Any] | None] = self._unended
        if not self._is_watched:
            may_be = [*self._line.parked, *[each.handle for each in self._runner.pool.workers]]
        return deque(each for each in may_be if each is not None and each._terms is self._terms)

    # What differs

    @abstractmethod
    def _prepare(self) -> None:
        """Ask the source for its iterator, which may fail."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin to draw."""

    @abstractmethod
    def _may_give(self) -> bool:
        """Whether a slot can be used."""

    @abstractmethod
    def _give(self, slot: Slot) -> bool:
        """Start an item, or have it drawn first; whether the slot was used."""

    @abstractmethod
    def _stop(self, reason: str) -> None:
        """Draw no more."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the source; raise what that has raised."""

    def look_for_end(self) -> None:
        """The consumer has taken all that was drawn, and waits: maybe that was all."""

    # Slots

    def _room(self) -> int | float:
        """How many more outcomes may be in memory."""
        # Those who share a limiter may change it without a word.
        if self._line.shared and self._limit != self._line.limiter.total_tokens:
            self._look_at_limit()
        return self._most - self._stream.drawn + self._stream.taken

    def resized(self) -> None:
        """The limit has changed: there may be more room than before."""
        self._look_at_limit()
        self.want()

    def _look_at_limit(self) -> None:
        """How many outcomes may be in memory depends on it."""
        self._limit = self._line.limit
        self._most = most_in_memory(self._limit) if self._lookahead is None else self._lookahead

    def _needs_slots(self) -> bool:
        return self.is_coming or self._stream.unfinished > 0

    def _needs(self) -> Iterator[Need]:
        """What must be, one of all, before there is another outcome: see `Rings`."""
        if self.is_coming or (self._stream.more and self._room() > 0) or not self._unended:
            yield ()
        yield from self._unended

    def _look_for_rings(self) -> None:
        """All that is left may be items that wait, for keys or for tasks of their own."""
        if self._line.rings.has_waits():
            for task in self._stream.sleepers():
                self._line.rings.look_at(task)

    def want(self) -> None:
        """There may be more room than before: take as many slots as can be used, or a place in the line."""
        if not self._stream.more:
            if self._stream.is_empty:
                self._runner.idle.unpark_all()
        elif not self._in_line and self._may_give():
            need_stack()
            self._take_slots()
            return
        if self._is_watched:
            self._look_for_rings()

    @enable_ki_protection
    def _take_slots(self) -> None:
        """Take as many slots as can be used; the stack has room."""
        while not self._in_line and self._may_give():
            slot = self._line.take()
            if slot is not None:
                if not self._use(slot):
                    self._line.release(slot)
            else:
                self._in_line = True
                self._line.join(self, self._granted)
                self._line.rings.break_rings()  # a consumer needs slots now
        self._look_for_rings()

    def _granted(self, _: object, slot: Slot | None) -> bool:
        assert slot is not None  # a map is told to refuse() before its line is closed
        self._in_line = False
        # What this place was for may have come to its slot in another way.
        is_used = self._may_give() and self._use(slot)
        if is_used:
            self._take_slots()
        else:
            self._look_for_rings()
            self._runner.tell_if_idle()
        return is_used

    def _use(self, slot: Slot) -> bool:
        self._stream.at_once = max(AT_ONCE, len(self._runner.pool.workers))
        return self._give(slot)

    def _new(self, item: object) -> TaskHandle[Any]:
        """The handle of an item."""
        stream = self._stream
        handle = new_handle(
            self._name,
            (item,),
            self._call,
            self._terms,
            self._runner.now(),
            stream.drawn,
            self._priority,
            self._context,
        )
        if self._is_watched:
            self._unended[handle] = None
        stream.drawn += 1
        return handle

    def _may_begin(self, handle: TaskHandle[Any], slot: Slot) -> bool:
        """Whether an item that was drawn has its keys; else it waits for them in the line, or has failed."""
        keyring = self._line.keyring
        assert keyring is not None
        try:
            # Whoever gives the slot has set what it likes in the context that is here.
            self._context.copy().run(keyring.enlist, handle)
        except Exception as error:
            self._runner.refuse(handle, error)
            del handle  # the error may lead to this frame
            return False
        except BaseException as interrupt:
            self._runner.refuse(handle, interrupt)
            raise
        if self._line.closed:  # by the key, or the source
            forget(handle._keys)
            self._runner.refuse(handle)
            return False
        if may_hold(handle._keys, slot):
            return True
        self._line.join(handle, self._runner.granted)
        self._line.rejoin(self)  # whatever is drawn for its place comes after this one
        self._runner.queued += 1
        self._runner.accept(handle)
        return False

    def _put(self, handle: TaskHandle[Any]) -> bool:
        self._unended.pop(handle, None)
        arrived = self._stream.put(handle)
        self._look_for_rings()
        return arrived

    # What the manager asks and tells

    @property
    def is_coming(self) -> bool:
        """Whether it has asked for a slot, or has one and no item yet."""
        return self._in_line

    def holds_up(self, task: trio.lowlevel.Task) -> bool:
        """Whether there is something left to draw or to take, by others than that trio task."""
        return not (self._stream.is_empty or self._stream.is_consumed_by(task))

    def refuse(self) -> None:
        """The manager accepts nothing new: what has started goes on."""
        if self._stream.more:
            self._stream.refused = True
            self._end("the manager accepts no more tasks")

    def _end(self, reason: str) -> None:
        self._end_drawing(None)
        self._stop(reason)

    def _end_drawing(self, error: Exception | None) -> None:
        """Nothing is drawn from here on."""
        self._stream.end(error)
        if self._in_line:
            self._in_line = False
            self._line.leave(self)
        self._look_for_rings()
        self._runner.tell_if_idle()


def most_in_memory(limit: int | float) -> int | float:
    """How many outcomes may be in memory, of items that run, and of those that were not taken."""
    return 1000 if limit == inf else 2 * limit or 1
