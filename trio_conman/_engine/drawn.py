"""A map over an iterable, which its workers draw from.

**Theory of operation.** Whoever is given a slot hires a worker, which draws the item in its own step, so that
the user's iterator runs in no other task's clean-up, and goes on with it.

Workers are hired in twice the number again and again, since one costs more than an item, and there may be
few; where others wait, who would have those slots, up to `AT_ONCE` are hired at once.

A consumer has its turn once a tick, often after all workers have had theirs. So a worker that finds no room
keeps its slot until its next turn, and only then gives it back and rests: to be hired again costs more than a
turn. Where most of them had no room, the consumer comes too late, and they wake it, amid them: there it
stays, since who ends next wakes it. In the order of the items that is another one, and nothing is won.

Items that pass no checkpoint would go on one after another without a turn for anybody else. So they are
counted, by however many workers they are run, and after `AT_ONCE` of them one worker lets others have a turn,
and the rest gives its slots back.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Generic, TypeVar, final

import attrs

from trio_conman._base.tracebacks import foreign
from trio_conman._books.handles import Slot, TaskHandle

from .mapping import Mapping
from .pool import AT_ONCE, NO_TURN, Worker
from .source import SyncSource

T = TypeVar("T")


@final
class DrawnMap(Mapping[T], Generic[T]):
    """A map over an iterable."""

    _source: SyncSource

    def _prepare(self) -> None:
        # What the source sets is for the source.
        self._source = SyncSource(self._items, copy_context())
        self._passed = 0  # items that passed no checkpoint, since others had a turn
        self._hurries = False  # items do not
        self._kept = 0  # workers that had no room
        self._lets_others_on: Worker | None = None

    def _begin(self) -> None:
        self._terms = attrs.evolve(self._terms, source=self)
        self.want()

    @property
    def is_coming(self) -> bool:
        """Whether something is between the source and its start."""
        return self._in_line or self._drawing > 0

    def look_for_end(self) -> None:
        """Nothing is under way; the next slot may be long in coming, or not be used by whoever has it."""
        if self._source.is_over():
            self._end_drawing(None)

    def _may_give(self) -> bool:
        stream = self._stream
        # For items that never wait, one more worker than run will do.
        most = stream.unfinished if self._hurries else stream.drawn
        return (
            stream.more
            and self._passed < AT_ONCE
            # Who else waits would have its slots, where several get free in one instant.
            and (self._drawing <= most or (self._drawing < AT_ONCE and self._line.has_waiters()))
            and self._drawing < self._room()
        )

    def _give(self, slot: Slot) -> bool:
        self._drawing += 1
        self._runner.pool.hire_to_draw(self, slot, self._name, self._context)
        return True

    def go_on(self, worker: Worker, slot: Slot) -> None:
        """See `pool.Source`."""
        self._drawing += 1
        task, stream = worker.task, self._stream
        if task.custom_sleep_data is NO_TURN:
            self._passed += 1
            if self._passed < AT_ONCE:
                task.custom_sleep_data = None  # counted here; beyond, who is hired for another one has a turn
            elif self._passed == AT_ONCE:
                self._hurries = True
                self._let_others_on(worker)
                return
        elif self._hurries:
            self._hurries = False
        # may_keep() implies that the limiter is not shared, so `_most` is what it was told.
        if not stream.more or self._passed >= AT_ONCE or not self._line.may_keep(slot, self._in_line):
            self._give_back(worker, slot)
        elif stream.drawn - stream.taken < self._most:
            self._begin_item(worker, slot)
            if not self._in_line:
                self.want()
        else:
            worker.kept = True
            self._kept += 1
            if not self._ordered and self._kept > self._most // 4:  # most of them
                stream.waits = True

    def draw(self, worker: Worker) -> TaskHandle[Any] | None:
        """See `pool.Source`."""
        slot = worker.slot
        assert slot is not None
        is_new = not worker.kept
        if is_new:
            may_begin = self._line.still_grants()
        elif not worker.is_ready:
            return None
        else:
            worker.kept = False
            may_begin = self._line.may_keep(slot, self._in_line)
            if self._lets_others_on is worker:
                self._lets_others_on = None
                self._passed = 0
            else:
                self._kept -= 1
        if may_begin and self._passed < AT_ONCE and self._stream.more and self._room() > 0:
            self._begin_item(worker, slot)
            self.want()
        else:
            if is_new:
                self._line.pass_turn_back()
            self._give_back(worker, slot)
        if self._stream.waits and self._kept <= self._most // 4:  # amid them
            self._stream.wake()
        return worker.handle

    def _begin_item(self, worker: Worker, slot: Slot) -> None:
        """Draw an item for a worker, and begin it; what is no Exception leaves the slot to missed().

        Items that lack a key wait for it in the line, or have failed for it: they pass no checkpoint.
        """
        while True:
            try:
                item = self._source.draw()
                if worker.task._cancel_status is not worker.status:
                    self._source.blame()
            except StopIteration:
                self._drawn_all(worker, None)
                break
            except Exception as error:
                self._drawn_all(worker, foreign(error))
                break
            except BaseException:
                self._stream.refused = True  # it is no end that the consumer may take for the source's
                self._end_drawing(None)
                raise
            handle = self._new(item)
            if self._line.keyring is None or self._may_begin(handle, slot):
                worker.source = worker.slot = None
                worker.handle = handle
                self._drawing -= 1
                self._runner.begin_new(handle, slot, handle._submitted)
                return
            del handle, item  # the error of its key may lead to this frame
            self._passed += 1
            if self._passed == AT_ONCE:
                self._line.pass_turn_back()
                self._let_others_on(worker)
                return
            if not self._stream.more or self._room() <= 0:
                break
        self._line.pass_turn_back()
        self._give_back(worker, slot)

    def _let_others_on(self, worker: Worker) -> None:
        """A worker goes on in its next turn."""
        self._lets_others_on = worker
        worker.kept = True

    def _give_back(self, worker: Worker, slot: Slot) -> None:
        """There is no item for a worker."""
        worker.source = worker.slot = None
        if not worker.is_spoiled:
            # Idle first: the slot may come back to this map at once.
            self._runner.pool.let_go(worker)
        self.missed(slot)

    def missed(self, slot: Slot) -> None:
        """See `pool.Source`."""
        self._drawing -= 1
        self._line.release(slot)
        self.want()
        self._runner.tell_if_idle()
        if not self._drawing:
            self._stream.ended.unpark_all()

    def _drawn_all(self, worker: Worker, error: Exception | None) -> None:
        worker.is_spoiled = worker.task._cancel_status is not worker.status
        self._end_drawing(error)

    def _stop(self, reason: str) -> None:
        pass

    async def _close(self) -> None:
        await self._source.close()
