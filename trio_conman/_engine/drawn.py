"""A map over an iterable, which its workers draw from.

**Theory of operation.** Whoever is given a slot hires a worker, which draws the item in its own step, so that
the user's iterator runs in no other task's clean-up, and goes on with it.

Workers are hired in twice the number again and again, since one costs more than an item, and there may be few.

Items that pass no checkpoint would go on one after another without a turn for anybody else. So they are
counted, by however many workers they are run, and after `AT_ONCE` of them one worker lets others have a turn,
and the rest gives its slots back.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Generic, TypeVar, final

from trio_conman._books.handles import Slot, TaskHandle

from .mapping import Mapping
from .pool import AT_ONCE, NO_TURN, Worker
from .source import Source, foreign

T = TypeVar("T")


@final
class DrawnMap(Mapping[T], Generic[T]):
    """A map over an iterable."""

    _source: Source

    def _prepare(self) -> None:
        # What the source sets is for the source.
        self._source = Source(self._items, copy_context())
        self._passed = 0  # items that passed no checkpoint, since others had a turn
        self._hurries = False  # items do not
        self._lets_others_on: Worker | None = None

    def _begin(self) -> None:
        self.want()

    @property
    def is_coming(self) -> bool:
        """Whether something is between the source and its start."""
        return self._in_line or self._drawing > 0

    def _may_give(self) -> bool:
        stream = self._stream
        # For items that never wait, one more worker than run will do.
        most = stream.unfinished if self._hurries else stream.drawn
        return (
            stream.more and self._passed < AT_ONCE and self._drawing <= most and self._drawing < self._room()
        )

    def _give(self, slot: Slot) -> None:
        self._drawing += 1
        self._runner.pool.hire_to_draw(self, slot, self._name, self._context)

    def draw(self, worker: Worker) -> TaskHandle[Any] | None:
        """Draw an item, and begin it with the slot that the worker was hired with; see `pool.Source`."""
        if self._must_let_others_on(worker):
            return None
        handle = None
        slot = worker.slot
        assert slot is not None
        if self._passed < AT_ONCE and self._stream.more and self._room() > 0 and self._line.still_grants():
            handle = self._draw(worker)  # what is no Exception leaves the slot to missed()
        worker.source = worker.slot = None
        self._drawing -= 1
        if handle is not None:
            worker.handle = handle
            self._runner.accept(handle)
            self._runner.begin(handle, slot, handle._submitted)
            self.want()
            return handle
        if not worker.is_spoiled:
            # Idle first: the slot may come back to this map at once.
            self._runner.pool.let_go(worker)
        self._give_back(slot)
        return worker.handle

    def _must_let_others_on(self, worker: Worker) -> bool:
        """Count an item that has passed no checkpoint; whether the worker has to wait for its next turn."""
        if self._lets_others_on is worker:
            self._lets_others_on = None
            self._passed = 0
        elif not worker.is_ready:
            if worker.task.custom_sleep_data is not NO_TURN:
                self._hurries = False
            else:
                self._passed += 1
                if self._passed == AT_ONCE:
                    self._hurries = True
                    self._lets_others_on = worker
                    return True
        return False

    def missed(self, slot: Slot) -> None:
        """See `pool.Source`."""
        self._drawing -= 1
        self._give_back(slot)

    def _give_back(self, slot: Slot) -> None:
        self._line.release(slot)
        self.want()
        self._runner.tell_if_idle()
        if not self._drawing:
            self._stream.ended.unpark_all()

    def _draw(self, worker: Worker) -> TaskHandle[Any] | None:
        error = None
        try:
            item = self._source.draw()
            if worker.task._cancel_status is worker.status:
                return self._new(item)
            self._source.blame()
        except StopIteration:
            pass
        except Exception as exc:
            error = foreign(exc)
        except BaseException:
            self._stream.refused = True  # it is no end that the consumer may take for the source's
            self._end_drawing(None)
            raise
        worker.is_spoiled = worker.task._cancel_status is not worker.status
        self._end_drawing(error)
        return None

    def _stop(self, reason: str) -> None:
        pass

    async def _close(self) -> None:
        await self._source.close()
