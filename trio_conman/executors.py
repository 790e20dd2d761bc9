"""Calls on the executors of `concurrent.futures`, and of all who keep to its protocol, awaited from trio."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio
from trio.lowlevel import enable_ki_protection

from ._base.checks import ASYNC, check_bool, check_count, check_number, check_sync, deferral
from ._base.outlast import check_in_trio
from ._base.texts import short
from ._leaves import executor_kinds as kinds
from ._leaves.executor_calls import ExecutorCall
from ._leaves.handover import handover_to
from ._leaves.remote_errors import RemoteError
from ._leaves.restarting import Restarting

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

__all__ = ["RemoteError", "broken_worker_errors", "restarting", "run_in_executor"]

# Here, not where it is defined: a process that does not know this module must send it under that name.
RemoteError.__module__ = __name__


@enable_ki_protection
async def run_in_executor(
    executor: concurrent.futures.Executor,
    fn: Callable[[*Ts], T],
    /,
    *args: *Ts,
    abandon_on_cancel: bool = False,
    submit_in_thread: bool | None = None,
) -> T:
    """Call ``fn(*args)`` on an executor, and wait for it; always a checkpoint.

    The executor may be a pool of threads, of processes or of interpreters, that of a Dask client
    (``client.get_executor(pure=False)``: by default Dask takes equal calls for one, and a retry may get the
    error of the first attempt again), or another: see :doc:`executors`. It is neither
    started nor shut down here. On a `~concurrent.futures.ThreadPoolExecutor` the call sees the contextvars of
    its caller; on others it need not, since most cannot send them.

    Calls reach an executor in the order in which this function is called. A ``submit`` that may block is
    called in a thread, where it holds up nothing but other calls on the same executor. Those of the standard
    library's threads, and of its processes once there is one, are known to be quick, and called here.

    When it is cancelled, a call that has not reached the executor, or that the executor takes back, is not
    made. Any other is waited for, and its result or error is what comes back, as with
    `trio.to_thread.run_sync`. What it takes back is for its futures to say: they are ``cancelled()`` then.
    Pools of threads and of processes take back what has not started, except a few calls that processes have
    been sent ahead. Dask and some others let go of any call, also of one that runs, and goes on; pebble ends
    its process. Yet others take nothing back: every call counts as running.

    Args:
        executor: where to call it: a `~concurrent.futures.Executor`, or a ``pebble.ProcessPool``.
        fn: a sync callable; where it goes to another process, one that can be sent there.
        args: what to call it with.
        abandon_on_cancel: leave a running call to itself when cancelled, also one whose ``submit`` blocks;
            what becomes of it is dropped. Default: False.
        submit_in_thread: whether to call ``submit`` in a thread. Default: where it is not known to be quick.
            False suits an executor of your own that is quick, or that belongs to trio's thread.

    Returns:
        what the call returned.

    Raises:
        Exception: what the call raised, as it is, also a KeyboardInterrupt or SystemExit in another process;
            most executors add the traceback from there.
        RemoteError: what the call raised, as a text, since the error itself could not be pickled, or not
            unpickled, or is frozen: on a `~concurrent.futures.ProcessPoolExecutor`, on loky and on pebble. A
            `~trio_conman.RetriableError` that was made from such an error has it in its place, and so has a
            group that holds some.
        concurrent.futures.BrokenExecutor: the executor has lost its workers; it stays broken. See
            `broken_worker_errors` for those of other executors, and `restarting`.
        concurrent.futures.CancelledError: somebody else cancelled the call, as a shutdown of the executor
            may. It is an ordinary `Exception`, not the cancellation of a trio scope.
        RuntimeError: the executor is shut down (some raise something else, or go on), no thread could be
            started, or trio does not run here.
        TypeError: `executor` is none, or its ``submit`` returns no `~concurrent.futures.Future`; `fn` is not
            callable or is async; `abandon_on_cancel` or `submit_in_thread` is no bool.
    """
    kinds.check_executor(executor)
    _check_fn(fn)
    check_bool("abandon_on_cancel", abandon_on_cancel)
    if submit_in_thread is not None:
        check_bool("submit_in_thread", submit_in_thread)
    check_in_trio("run_in_executor()")
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        handover = handover_to(executor, submit_in_thread)
        return await ExecutorCall(executor, fn, args, handover, abandon_on_cancel=abandon_on_cancel).end()
    finally:
        # An error's traceback leads to this frame.
        del executor, fn, args


def _check_fn(fn: object) -> None:
    if not callable(fn):
        raise TypeError(f"fn must be a sync callable, not {short(fn)}: pass fn, *args, not fn(*args)")
    if deferral(fn) == ASYNC:
        raise TypeError(f"fn must be a sync callable, but {short(fn)} is async: the manager runs that itself")


def broken_worker_errors(executor: concurrent.futures.Executor) -> tuple[type[Exception], ...]:
    """Tell what the calls of an executor raise when their worker has died: what is worth another try.

    Hand it to a manager, or to a task: ``RetryConfig(retry_on=broken_worker_errors(executor))``. A call that
    is made again may have been made before, up to any point.

    Args:
        executor: as for `run_in_executor`, or one that `restarting` has made.

    Returns:
        `~concurrent.futures.BrokenExecutor`, and the errors that deadpool, Dask, executorlib, parsl or pebble
        have of their own, if `executor` is one of theirs.

    Raises:
        TypeError: `executor` is none.
    """
    kinds.check_executor(executor)
    return kinds.died_of(executor.current if isinstance(executor, Restarting) else executor)


def restarting(
    factory: Callable[[], concurrent.futures.Executor], *, max_restarts: float = 3, per: float = 60.0
) -> concurrent.futures.Executor:
    """Make an executor that is made anew when it is broken, once for all who use it.

    The calls that a pool had when it broke fail all the same, as do those of any pool; retries reach the new
    one. After too many restarts calls fail with a `~concurrent.futures.BrokenExecutor` until there have been
    fewer for a while, so that a call which kills whatever runs it does not do so for ever.

    Args:
        factory: a sync callable that makes the executor, a ``partial(ProcessPoolExecutor, 4)`` for example.
            It is called here, and later in whichever thread submits a call.
        max_restarts: how many executors may be made in `per` seconds, besides the first; an int of at least
            0, or `math.inf` for no limit. Default: 3.
        per: seconds; finite. Default: 60.

    Returns:
        an executor; to shut it down shuts down the one that it has made last.

    Raises:
        TypeError: a parameter is of the wrong kind, or `factory` returns no executor.
        ValueError: a parameter is out of its range.
    """
    check_sync("factory", factory, "a sync callable that returns an executor")
    check_count("max_restarts", max_restarts, minimum=0)
    return Restarting(factory, max_restarts, check_number("per", per, finite=True))
