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
from trio_conman._books.records import Answer

from .endings import Endings, own
from .pool import Pool, Worker


@attrs.define(eq=False, repr=False)
class Recalls(Endings):
    """Asks the journal for the values of the tasks of one manager, and has it keep them."""

    pool: Pool

    if TYPE_CHECKING:

        def granted(self, handle: TaskHandle[Any], slot: Slot | None) -> bool:
            """The end of a queued task's wait."""
            raise NotImplementedError

    async def _recall(self, worker: Worker, handle: TaskHandle[Any]) -> Outcome[Any] | None:
        """The outcome of a task whose value is known; None where it is to run, or has left its worker."""
        records = handle._terms.records
        assert records is not None
        key = ""
        try:
            key = records.key_of(handle._args)
            while (answer := self._claim(handle, key)) is Answer.READ:
                worker.set_deadline(deadline_of(handle))
                await records.arrival(key)
            if answer is Answer.WAIT:
                await trio.lowlevel.checkpoint_if_cancelled()
                self._park(worker, handle, key)
            elif answer is not Answer.RUN:
                return self._success(handle, answer, recalled=True)
            return None
        except Exception as exc:
            return self._failure(handle, own(exc), StopReason.ERROR)
        finally:
            del self, worker, handle, records, key

    @enable_ki_protection
    def _claim(self, handle: TaskHandle[Any], key: str) -> Any:
        assert handle._terms.records is not None
        try:
            answer = handle._terms.records.claim(key)
            if answer is Answer.RUN:
                handle._claimed = key
            elif self.permits is not None:
                self.permits.leave(handle)  # who stands behind it need not wait for it
            return answer
        finally:
            del self, handle

    @enable_ki_protection
    def _park(self, worker: Worker, handle: TaskHandle[Any], key: str) -> None:
        """Have a task wait for another one of its key; its worker goes on."""
        source, records = handle._terms.source, handle._terms.records
        assert records is not None
        slot = self.put_back(handle)
        self.tell_if_calm()
        self.slots.park(handle, self.granted)
        records.follow(key, partial(self.slots.unpark, handle))
        worker.handle = None
        if source is None:
            self.pool.let_go(worker)
            self.slots.release(slot)
        else:
            worker.source, worker.slot = source, slot
            source.go_on(worker)

    async def _store(
        self, worker: Worker, handle: TaskHandle[Any], outcome: Outcome[Any] | None
    ) -> Outcome[Any] | None:
        """What an attempt came to, once the value is kept, if it has one."""
        records = handle._terms.records
        assert records is not None
        try:
            # One that has left a scope open fails.
            if isinstance(outcome, Success) and worker.task._cancel_status is worker.status:
                ticket = self._keep(handle, outcome.value)
                if ticket is not None:
                    await outlast(partial(records.committed, ticket))
            return outcome
        except Exception as exc:
            return self._failure(handle, own(exc), StopReason.ERROR)
        finally:
            del self, worker, handle, records, outcome

    @enable_ki_protection
    def _keep(self, handle: TaskHandle[Any], value: Any) -> int | None:
        assert handle._terms.records is not None
        assert handle._claimed is not None
        try:
            ticket = handle._terms.records.keep(handle._claimed, value)
            handle._claimed = None
            return ticket
        finally:
            del self, handle, value


def deadline_of(handle: TaskHandle[Any]) -> float:
    """When the task's time is over."""
    assert handle._started is not None
    return handle._started + handle._terms.task_timeout
