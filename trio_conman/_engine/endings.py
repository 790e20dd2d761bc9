"""How tasks end: from what happened to them to their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.errors import ConManClosedError, TaskCancelledError
from trio_conman._base.outcomes import Failure, Outcome, StopReason, Success, SuccessFields
from trio_conman._books.callables import not_awaitable
from trio_conman._books.handles import DONE, TaskHandle
from trio_conman._books.ledger import Ledger
from trio_conman._limits.permits import Permits
from trio_conman._policy.retry import made_of, spend

from .pool import Worker

E = TypeVar("E", bound=BaseException)


@attrs.frozen(eq=False, repr=False)
class Stop:
    """Why all tasks of a manager were ended."""

    reason: StopReason
    text: str


def own(error: E) -> E:
    """An error without the traceback entry of the coroutine that caught it."""
    traceback = error.__traceback__
    BaseException.with_traceback(error, None if traceback is None else traceback.tb_next)
    return error


@attrs.define(eq=False, repr=False)
class Endings(Ledger):
    """Makes the outcomes of the tasks of one manager, and records them."""

    permits: Permits | None
    # Called once, when more than max_errors tasks have failed.
    too_many_errors: Callable[[], None] = attrs.field(init=False)
    # Known only inside the trio run. The clock's own method: trio.current_time() looks it up each time.
    now: Callable[[], float] = attrs.field(init=False)
    # Set once, when the tasks are cancelled together.
    stopped: Stop | None = attrs.field(default=None, init=False)

    def _success(self, handle: TaskHandle[Any], value: Any, recalled: bool = False) -> Success[Any]:
        started = handle._started
        assert started is not None
        success: Any = SuccessFields()  # to call a class with many arguments costs half as much again
        success.value = value
        success.index = handle._index
        success.name = handle._name
        success.args = handle._args
        past = handle._past
        success.retries = 0 if past is None else past.retries
        success.waited = started - handle._submitted
        success.elapsed = self.now() - started
        success.recalled = recalled
        success.__class__ = Success
        return success  # type: ignore[no-any-return]  # see SuccessFields

    def _not_awaitable(self, handle: TaskHandle[Any], result: object) -> Failure:
        return self._failure(handle, not_awaitable(handle._call, result), StopReason.ERROR)

    def _failure(self, handle: TaskHandle[Any], error: Exception, reason: StopReason) -> Failure:
        now = self.now()
        started = now if handle._started is None else handle._started
        past = handle._failures()
        past.traceback = error.__traceback__
        spend(error)
        for each in made_of(error):
            if isinstance(each, ConManClosedError):
                each._owner = None
        return Failure(
            error,
            reason,
            tuple(past.history or ()),
            handle._index,
            handle._name,
            handle._args,
            past.retries,
            started - handle._submitted,
            now - started,
        )

    @enable_ki_protection
    def _ended_by(
        self, worker: Worker, exc: BaseException, left: BaseExceptionGroup | None
    ) -> tuple[Outcome[Any] | None, BaseException | None]:
        """The outcome of a task whose worker's scope was left by `exc`, and what has to travel on.

        `left` is what those have raised whom the task has left behind in nurseries.
        """
        interrupt = unhide(exc) or interrupt_in(left)
        if worker.is_spoiled:  # the fault of a map's source, and told
            return None, interrupt
        if (handle := worker.handle) is None:
            return None, interrupt or exc
        if isinstance(exc, Exception):
            # Raised by the scope: it was not the innermost one, or it took the Cancelled out of a group.
            if exc.__context__ is None:
                exc.__context__ = worker.error  # which its attempt had raised before
            if left is not None and (errors := left.split(Exception)[0]) is not None:
                errors.__context__, exc.__context__ = exc.__context__, errors
            return self._failure(handle, own(exc), StopReason.ERROR), interrupt
        other: BaseException | None = None if isinstance(exc, trio.Cancelled) else exc
        if isinstance(exc, BaseExceptionGroup):
            cancelled, other = exc.split(trio.Cancelled)
            if isinstance(other, Exception):
                return self._failure(handle, own(other), StopReason.ERROR), cancelled
        return self._cut_short(handle, other), exc

    def _cut_short(self, handle: TaskHandle[Any], interrupt: BaseException | None = None) -> Failure:
        """The outcome of a task that was ended by a cancellation, or by an `interrupt` that it raised."""
        scope = handle._scope
        reason = StopReason.CANCELLED
        if handle._cancelled is not None:
            text = handle._cancelled
        elif scope is not None and scope.cancelled_caught:
            reason = StopReason.TASK_TIMEOUT
            waited = self.permits is not None and handle._attempted is None
            what = "it waited for a permit" if waited else "its attempts took"
            text = f"{what} longer than task_timeout={handle._terms.task_timeout:g} s"
        elif interrupt is not None:
            text = f"it raised {type(interrupt).__qualname__}"
        else:
            stop = self.stopped or Stop(reason, "a cancel scope around it was cancelled")
            reason, text = stop.reason, stop.text
        error = handle._failures().error
        if error is None:
            kind = TaskCancelledError if reason is StopReason.CANCELLED else trio.TooSlowError
            verb = "cancelled" if reason is StopReason.CANCELLED else "ended"
            error = kind(f"task {handle._name!r} (index {handle._index}) was {verb}: {text}")
        return self._failure(handle, error, reason)

    def _finish(self, handle: TaskHandle[Any], outcome: Outcome[Any] | None) -> None:
        """Record the outcome of an accepted task. Never a checkpoint."""
        if outcome is None:
            outcome = self._cut_short(handle)
        handle._outcome = outcome
        handle._call = handle._scope = handle._context = handle._keys = None
        if handle._past is not None:
            handle._past.error = handle._past.history = None
        if isinstance(outcome, Success):
            self.succeeded += 1
            if self.budget is not None and not outcome.recalled:
                self.budget._refund()
        else:
            self.count_failure(outcome)
            if handle._claimed is not None:
                release(handle)
            if self.permits is not None:
                self.permits.leave(handle)
        if self.calm is not None:
            self.tell_if_calm()
        # A handle that is kept shall not keep the manager.
        deliver, handle._terms = handle._terms.deliver, DONE
        arrived = deliver(handle)
        if self.instruments is not None:
            self.instruments.tell("task_finished", handle, outcome)
        # Before the slot is given back, which shall start nothing then.
        if self.max_errors is not None and len(self.errors) > self.max_errors:
            self.too_many_errors()
        if arrived:
            self.settle(handle)
        if handle._done is not None:
            handle._done.set()
        del self, handle, outcome, deliver  # where the cancellation above led to this frame

    def refuse(self, handle: TaskHandle[Any], error: BaseException | None = None) -> None:
        """Accept a task that cannot begin, for an error or an interrupt, or as all are cancelled."""
        self.accept(handle)
        if isinstance(error, Exception):
            self._finish(handle, self._failure(handle, own(error), StopReason.ERROR))
        else:
            self._finish(handle, self._cut_short(handle, error))
        del self, handle, error

    def cancel(self, handle: TaskHandle[Any], text: str, reason: str | None) -> None:
        """Cancel a task; `text` says why. Where all were cancelled first, that is why."""
        try:
            if self.stopped is not None:
                return
            handle._cancelled = handle._cancelled or text  # whoever takes it up looks at this first
            if handle._scope is not None:
                handle._scope.cancel(reason=reason)
            elif self.slots.leave(handle):
                self.queued -= 1
                self._finish(handle, None)
        finally:
            del self, handle  # see TaskHandle.cancel()

    def drop(self, handles: Iterable[TaskHandle[Any]], text: str) -> None:
        """Cancel tasks in the queue; `text` says why."""
        for handle in handles:
            self.cancel(handle, text, None)

    def _too_late(self, handle: TaskHandle[Any], due: float, latest: float) -> Failure:
        """The failure of a task whose next permit is due too late."""
        error = handle._failures().error
        if error is None:
            error = trio.TooSlowError(
                f"task {handle._name!r} (index {handle._index}) did not start: "
                f"its permit would have been due in {due - self.now():g} s, too late for its deadline"
            )
        elif self.budget is not None:
            self.budget._give_back()
        return self._failure(handle, error, StopReason.MAX_ELAPSED if due > latest else StopReason.DEADLINE)


def release(handle: TaskHandle[Any]) -> None:
    """A task that has claimed its key in the journal has no value for it."""
    key, handle._claimed = handle._claimed, None
    assert handle._terms.records is not None
    assert key is not None
    handle._terms.records.release(key)


def interrupt_in(error: BaseException | None) -> BaseException | None:
    """What of an error is neither an Exception nor a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((Exception, trio.Cancelled))[1]
    return None if isinstance(error, (Exception, trio.Cancelled)) else error


def unhide(error: BaseException) -> BaseException | None:
    """The interrupt in whose place trio has raised that a scope was left open, which forgets it."""
    hidden = interrupt_in(error.__context__) if type(error) is RuntimeError else None
    if hidden is not None:
        error.__context__ = None
    return hidden
