"""One call on an executor: handed over, waited for, and taken back when it is cancelled.

Its future is foreign, and may do other than it should. What asks it is in part trio's own loop, which an
error would break: see `_ask`.

Where the executor's ``submit`` may block, a thread calls it. A call that is cancelled before its turn is
taken back. One that is being submitted may run already, for all that is known, and counts as running; its
future is cancelled when it is there. Which of the two threads does that does not matter: the one sets the
future and then looks whether the call is cancelled, the other says that it is and then looks for the future.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar, TypeVarTuple, final

import trio
from trio.lowlevel import Abort, RaiseCancelT

from trio_conman._base.outlast import OVER

from . import executor_kinds as kinds
from .handover import Handover, Submit
from .remote_errors import Guarded, GuardedByLoky
from .restarting import Restarting

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class InContext(Generic[T]):
    """A call for a pool of threads, which sees the context of its caller and, when it is over, holds nothing.

    The pool holds on to what it was given: in its queue, if that was cancelled, and from Python 3.14 on in a
    frame to which the traceback of the call's error leads.
    """

    __slots__ = ("_run",)

    def __init__(self, fn: Callable[[*Ts], T], args: tuple[*Ts]) -> None:
        self._run: Callable[[], T] = partial(copy_context().run, partial(fn, *args))

    def __call__(self) -> T:
        # More than once, if the pool is of a kind that repeats what failed.
        return self._run()

    def drop(self) -> None:
        """It is over, or will never be made."""
        self._run = _taken_back


def _taken_back() -> NoReturn:
    raise concurrent.futures.CancelledError


def _as_taken(
    executor: concurrent.futures.Executor, fn: Callable[[*Ts], T], args: tuple[*Ts]
) -> tuple[Callable[..., T], tuple[Any, ...]]:
    """The call in the form that is best for executors of this kind."""
    maker = executor.current if isinstance(executor, Restarting) else executor
    if kinds.runs_here(maker):
        return InContext(fn, args), ()
    if kinds.takes_timeout(maker):
        return Guarded(fn), (None, *args)
    if kinds.breaks_on_errors(maker):
        return Guarded(fn), args
    if kinds.is_loky(maker):
        return GuardedByLoky(fn), args
    return fn, args


@final
class ExecutorCall(Generic[T]):
    """A call, from its submission to its end; made by the trio task that waits for it."""

    __slots__ = (
        "_abandon",
        "_error",
        "_future",
        "_given",
        "_handover",
        "_in_context",
        "_is_left",
        "_raise_cancel",
        "_sleeper",
        "_submit",
        "_token",
    )

    def __init__(
        self,
        executor: concurrent.futures.Executor,
        fn: Callable[[*Ts], T],
        args: tuple[*Ts],
        handover: Handover | None,
        *,
        abandon_on_cancel: bool,
    ) -> None:
        taken, taken_args = _as_taken(executor, fn, args)
        self._given: list[Any] = [executor, taken, *taken_args]  # emptied when it is submitted
        self._in_context = taken if isinstance(taken, InContext) else None
        self._handover = handover
        self._submit: Submit = self._submit_now
        if handover is not None:
            self._submit = partial(copy_context().run, self._submit_now)
        self._abandon = abandon_on_cancel
        # One of them is there once it has been submitted.
        self._future: concurrent.futures.Future[T] | None = None
        self._error: BaseException | None = None
        # How to raise the cancellation that has come.
        self._raise_cancel: RaiseCancelT | None = None
        self._is_left = False
        self._token = trio.lowlevel.current_trio_token()
        # None once something has woken it or is about to; used in trio's thread only.
        self._sleeper: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    async def end(self) -> T:
        """Submit it, wait until it has ended, and return or raise what came of it."""
        try:
            self._start()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            return self._result()
        finally:
            # The future holds the error, whose traceback leads here; it also holds what tells of its end.
            self._future = self._error = None
            self._submit = _taken_back  # that, too, leads here, and to the caller's context

    def _start(self) -> None:
        if self._handover is None:
            self._submit()
            return
        try:
            self._handover.put(self._submit)
        except BaseException as exc:
            self._fail(exc)

    def _submit_now(self) -> None:
        """Hand it to the executor, in whichever thread, and raise nothing."""
        executor, fn, *args = self._given
        self._given.clear()
        future = None
        try:
            future = executor.submit(fn, *args)
            kinds.check_future(future, executor)
            self._future = future
            future.add_done_callback(self._deliver)
        except BaseException as exc:
            _ask(future, "cancel")
            self._fail(exc)
        finally:
            del executor, fn, args  # the traceback of an error leads to this frame
        if self._raise_cancel is not None:
            _ask(future, "cancel")
            if self._is_left:  # nobody will look after it
                self._future = self._error = None

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._deliver()

    def _deliver(self, _: object = None) -> None:
        # In whichever thread the call ends, this one included.
        if self._in_context is not None:
            # Though it failed it may be in the queue, of a pool that could start no thread.
            self._in_context.drop()
        try:  # noqa: SIM105  # suppress() would cost most of a microsecond, in each call
            self._token.run_sync_soon(self._wake)
        except OVER:  # it was abandoned
            pass

    def _wake(self) -> None:
        # To take the result of a call that runs would hold up everybody.
        if self._sleeper is not None and (self._error is not None or _ask(self._future, "done") is not False):
            task, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(task)

    def _abort(self, raise_cancel: RaiseCancelT) -> Abort:
        if self._is_taken_back(raise_cancel):
            self._sleeper, self._is_left = None, True
            return Abort.SUCCEEDED
        return Abort.FAILED

    def _is_taken_back(self, raise_cancel: RaiseCancelT) -> bool:
        if self._handover is not None and self._handover.take_back(self._submit):
            return True
        self._raise_cancel = raise_cancel
        future = self._future
        if self._error is not None:
            return False
        if future is None:  # it is being submitted
            if self._abandon and self._in_context is not None:
                self._in_context.drop()
            return self._abandon
        _ask(future, "cancel")  # which may do what it should and raise, or not do it and say True
        if _ask(future, "cancelled") is True:
            return True
        # What is done is on its way, and not abandoned any more.
        return self._abandon and _ask(future, "done") is not True

    def _result(self) -> T:
        if self._error is not None:
            raise self._error
        assert self._future is not None
        if self._raise_cancel is not None and _ask(self._future, "cancelled") is True:
            self._raise_cancel()  # it was cancelled while it was being submitted
        return self._future.result()


def _ask(future: object, question: str) -> object:
    """What a future answers, or None if it raises, be that an interrupt: a Ctrl-C is not raised here."""
    try:
        return getattr(future, question)()
    except BaseException:
        return None
