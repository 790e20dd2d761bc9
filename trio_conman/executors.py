"""Calls on the executors of `concurrent.futures`, and of all who keep to its protocol, awaited from trio."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Generic, NoReturn, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import Abort, RaiseCancelT, enable_ki_protection

from ._checks import check_bool, is_async
from ._texts import short

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

__all__ = ["run_in_executor"]


@enable_ki_protection
async def run_in_executor(
    executor: concurrent.futures.Executor,
    fn: Callable[[*Ts], T],
    /,
    *args: *Ts,
    abandon_on_cancel: bool = False,
) -> T:
    """Call ``fn(*args)`` on an executor, and wait for it; always a checkpoint.

    The executor may be a pool of threads or of processes, a loky executor, or that of a Dask client
    (``client.get_executor(pure=False)``: by default Dask takes equal calls for one, and a retry may get the
    error of the first attempt again). It is neither started nor shut down here. Its ``submit`` is called in
    trio's thread, so what it starts there, such as processes, holds up other tasks meanwhile. On a
    `~concurrent.futures.ThreadPoolExecutor` the call sees the contextvars of its caller; elsewhere it does
    not, since they cannot be sent.

    When it is cancelled, a call that has not started never will. One that runs is waited for, and its result
    or error is what comes back, as with `trio.to_thread.run_sync`. What runs is for the executor to say: a
    pool of processes counts a few calls that it has sent ahead as running, and Dask cancels any call. Where
    its futures cannot be cancelled, as their ``cancel`` raises, every call counts as running.

    Args:
        executor: where to call it: a `~concurrent.futures.Executor`, or an object with such a ``submit``.
        fn: a sync callable; where it goes to another process, one that can be sent there.
        args: what to call it with.
        abandon_on_cancel: leave a running call to itself when cancelled; what becomes of it is dropped.

    Returns:
        what the call returned.

    Raises:
        Exception: what the call raised, as it is, with the traceback from the other process if there is one.
        concurrent.futures.BrokenExecutor: the executor has lost its workers; it stays broken.
        concurrent.futures.CancelledError: somebody else cancelled the call, as a shutdown of the executor
            may. It is an ordinary `Exception`, not the cancellation of a trio scope.
        RuntimeError: the executor is shut down.
        TypeError: `executor` has no ``submit``, `fn` is not callable or is async, or `abandon_on_cancel` is
            no bool.
    """
    _check(executor, fn)
    check_bool("abandon_on_cancel", abandon_on_cancel)
    await trio.lowlevel.checkpoint()
    try:
        return await _end_of(_submit(executor, fn, args), abandon_on_cancel)
    finally:
        # An error's traceback leads to this frame.
        del executor, fn, args


def _check(executor: object, fn: object) -> None:
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {short(executor)}")
    if not callable(fn):
        raise TypeError(f"fn must be a sync callable, not {short(fn)}: pass fn, *args, not fn(*args)")
    if is_async(fn):
        raise TypeError(f"fn must be a sync callable, but {short(fn)} is async: the manager runs that itself")


class _Call(Generic[T]):
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

    def drop(self, _: object = None) -> None:
        """It is over, or will never be made."""
        self._run = _taken_back


def _taken_back() -> NoReturn:
    raise concurrent.futures.CancelledError


def _submit(
    executor: concurrent.futures.Executor, fn: Callable[[*Ts], T], args: tuple[*Ts]
) -> concurrent.futures.Future[T]:
    call = _Call(fn, args) if _knows_contexts(executor) else None
    try:
        if call is None:
            return executor.submit(fn, *args)
        future = executor.submit(call)
        future.add_done_callback(call.drop)
        return future
    except BaseException:
        if call is not None:
            # It may be in the queue all the same, of a pool that could start no thread.
            call.drop()
        raise
    finally:
        del executor, fn, args  # as above


def _knows_contexts(executor: object) -> bool:
    # From Python 3.14 on there is a kind that sends its calls to other interpreters, where no context can go.
    interpreters = getattr(concurrent.futures, "InterpreterPoolExecutor", None) or ()
    return isinstance(executor, concurrent.futures.ThreadPoolExecutor) and not isinstance(
        executor, interpreters
    )


async def _end_of(future: concurrent.futures.Future[T], abandon_on_cancel: bool) -> T:
    """Wait until a call has ended, and return or raise what came of it.

    Its future is foreign, and may do other than it should. What asks it is in part trio's own loop, which an
    error would break: see `_ask`.
    """
    token = trio.lowlevel.current_trio_token()
    # None once something has woken it or is about to; used in trio's thread only.
    sleeper: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def deliver(_: object) -> None:
        # In whichever thread the call ends, this one included.
        with suppress(trio.RunFinishedError):  # it was abandoned
            token.run_sync_soon(wake)

    def wake() -> None:
        nonlocal sleeper
        # To take the result of a call that runs would hold up everybody.
        if sleeper is not None and _ask(future, "done") is not False:  # noqa: F821  # bound until the end
            task, sleeper = sleeper, None
            trio.lowlevel.reschedule(task)

    def abort(_: RaiseCancelT) -> Abort:
        nonlocal sleeper
        # The second is for a cancel() that did what it should, but raised or said something else.
        cancelled = _ask(future, "cancel") is True or _ask(future, "cancelled") is True  # noqa: F821  # as above
        # What is done is on its way, and not abandoned any more.
        if cancelled or (abandon_on_cancel and _ask(future, "done") is not True):  # noqa: F821  # as above
            sleeper = None
            return Abort.SUCCEEDED
        return Abort.FAILED

    try:
        future.add_done_callback(deliver)
        await trio.lowlevel.wait_task_rescheduled(abort)
        return future.result()
    except BaseException:
        if sleeper is not None:
            # The callback was refused: nobody would hear of the end. It may still be called.
            sleeper = None
            _ask(future, "cancel")
        raise
    finally:
        # The future holds the error, whose traceback leads to this frame.
        del future


def _ask(future: object, question: str) -> object:
    """What a future answers, or None if it raises, be that an interrupt: a Ctrl-C is not raised here."""
    try:
        return getattr(future, question)()
    except BaseException:
        return None
