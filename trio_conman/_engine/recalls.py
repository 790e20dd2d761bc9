"""What a journal has to do with a task: it may know the value, and else it keeps it.

**Theory of operation.** A worker asks for the value when it takes the task up. Where that is known the task
ends with it, as if it had returned at once. Else the task claims its key, until its value is kept, or until
it has failed.

A task whose key another one has claimed waits for that one *beside* the line: queued, as it was before, so
that it has neither a slot nor a worker nor a place among those who wait for permits. When the other one has
ended it waits for a slot again, and whoever takes it up asks anew.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outcomes import Outcome, StopReason, Success
from trio_conman._base.outlast import outlast
from trio_conman._books.handles import Slot, TaskHandle
from trio_conman._books.records import Answer, Records
from trio_conman._limits.keys import keep, let_go

from .endings import Endings, own, release
from .pool import Pool, Worker


@attrs.define(eq=False, repr=False)
class Recalls(Endings):
    """Asks the journal for the values of the tasks of one manager, and has it keep them."""

    pool: Pool

    if TYPE_CHECKING:

        def granted(self, handle: TaskHandle[Any], slot: Slot | None) -> bool:
            """The end of a queued task's wait."""
            raise NotImplementedError  # the subclass does that

    @enable_ki_protection
    def _recall(
        self, worker: Worker, handle: TaskHandle[Any], records: Records[Any], key: str | None = None
    ) -> Outcome[Any] | Answer:
        """Ask for the value of a task: its outcome, if there is one, or what to do without."""
        try:
            if key is None:
                key = records.key_of(handle._args)
            answer = records.claim(key)
            if answer is Answer.RUN:
                handle._claimed = key
                if not self.slots.lacks_keys(handle):
                    return Answer.RUN
                answer = Answer.WAIT  # its value has been discarded since it joined the line
            if self.permits is not None:
                self.permits.leave(handle)  # who stands behind it need not wait for it
            if isinstance(answer, Answer):
                worker.key = key
                return answer
            self.recalled += 1
            return self._success(handle, answer, recalled=True)
        except Exception as exc:
            return self._failure(handle, own(exc), StopReason.ERROR)
        finally:
            del self, worker, handle

    async def _wait_for_value(
        self, worker: Worker, handle: TaskHandle[Any], answer: Outcome[Any] | Answer
    ) -> Outcome[Any] | Answer:
        """Wait until a value has been read, and ask again; have a task wait for another one of its key."""
        records = handle._terms.records
        key = worker.key  # not made anew: that may make another one, or fail
        assert records is not None
        assert key is not None
        try:
            while answer is Answer.READ:
                worker.set_deadline(deadline_of(handle))
                await records.arrival(key)
                answer = self._recall(worker, handle, records, key)
            if answer is Answer.WAIT:
                await trio.lowlevel.checkpoint_if_cancelled()
                self._park(worker, handle, key)
            return answer
        finally:
            del self, worker, handle, key, answer

    @enable_ki_protection
    def _park(self, worker: Worker, handle: TaskHandle[Any], key: str) -> None:
        """Have a task wait for another one of its key; its worker goes on."""
        source, records = handle._terms.source, handle._terms.records
        assert records is not None
        slot = self.put_back(handle)
        keep(slot.keys)
        self.tell_if_calm()
        self.slots.park(handle, self.granted)
        if handle._claimed is None:
            records.follow(key, partial(self._ask_again, handle, records, key))
        worker.handle = None
        if source is None:
            self.pool.let_go(worker)
            self.slots.release(slot)
        else:
            worker.source, worker.slot = source, slot
            source.go_on(worker, slot)
        if handle._claimed is not None:
            release(handle)
            self.slots.unpark(handle)

    @enable_ki_protection
    def _ask_again(self, handle: TaskHandle[Any], records: Records[Any], key: str) -> None:
        """The one that a task has waited for has ended: where that has left a value, it needs no keys."""
        if handle._keys is not None and records.holds(key):
            let_go(handle._keys)
            handle._keys = None
        self.slots.unpark(handle)

    @enable_ki_protection
    async def _store(
        self, worker: Worker, handle: TaskHandle[Any], outcome: Outcome[Any] | None
    ) -> Outcome[Any] | None:
        """What an attempt came to, once its value is kept, if it has one; mostly without a checkpoint."""
        key, records = handle._claimed, handle._terms.records
        assert key is not None
        assert records is not None
        try:
            # One that has left a scope open fails.
            if isinstance(outcome, Success) and worker.task._cancel_status is worker.status:
                ticket = records.keep(key, outcome.value)
                handle._claimed = None
                if ticket is not None:
                    await outlast(partial(records.committed, ticket))
            return outcome
        except Exception as exc:
            return self._failure(handle, own(exc), StopReason.ERROR)
        finally:
            del self, worker, handle, outcome


def deadline_of(handle: TaskHandle[Any]) -> float:
    """When the task's time is over."""
    assert handle._started is not None
    return handle._started + handle._terms.task_timeout
