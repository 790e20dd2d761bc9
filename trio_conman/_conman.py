"""The manager: the doors through which work comes in, and the views of what became of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVarTuple, final, overload

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._block import Block
from ._checks import check_count, check_number, check_type
from ._collector import Collector
from ._execution import Runner
from ._handles import Slot, Task, TaskHandle, Terms, callable_of, name_of
from ._line import Line
from ._outcomes import Failure, Outcome, StopReason, Success
from ._retry import RetryConfig

if TYPE_CHECKING:
    # A default (PEP 696), so that ConMan.open(nursery) passes strict checkers without a parameter.
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

Ts = TypeVarTuple("Ts")


@final
@attrs.frozen(kw_only=True)
class ConManStatistics:
    """Where the tasks of a manager stand, at one moment."""

    limit: int | float
    """How many tasks may run at once."""
    running: int
    """Tasks that run now."""
    waiting: int
    """Calls of `ConMan.run` that wait for a slot."""
    queued: int
    """Accepted tasks that have not started."""
    backing_off: int
    """Tasks that wait to be retried."""
    submitted: int
    """Tasks accepted so far."""
    succeeded: int
    """Tasks that returned."""
    failed: int
    """Tasks that did not, the cancelled ones included."""
    cancelled: int
    """Tasks that were cancelled."""
    retries: int
    """Attempts that followed a first one, of all tasks together."""


@final
class ConMan(Generic[R]):
    """A concurrency manager: runs tasks under a limit, retries them, and keeps what became of each.

    There is no public constructor; `open` is the door.
    """

    name: str
    """The manager's name, for messages and for the names of its trio tasks."""
    cancel_scope: trio.CancelScope
    """The scope around all tasks. Its ``deadline`` is that of the manager, and may be moved."""

    _terms: Terms
    _line: Line
    _collector: Collector[R]
    _runner: Runner
    _block: Block

    def __init__(self) -> None:
        raise TypeError("ConMan has no public constructor; use 'async with ConMan.open(nursery) as cm:'")

    @classmethod
    def open(
        cls,
        nursery: trio.Nursery,
        limit: int | float | trio.CapacityLimiter = 10,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float = inf,
        task_timeout: float = inf,
        timeout: float = inf,
        rng: random.Random | None = None,
    ) -> AbstractAsyncContextManager[ConMan[R]]:
        """Open a manager whose tasks live in `nursery`.

        Leaving the block waits for all tasks. Leaving it by an exception cancels them first. When the
        manager is cancelled, or its deadline passes, the block ends quietly, as with `trio.move_on_after`.
        All results so far are kept in each case.

        Args:
            nursery: what cancels it cancels the tasks; the manager never cancels it.
            limit: how many tasks run at once: an int of at least 2, `math.inf`, or a `trio.CapacityLimiter`
                that may be shared with others. Default: 10.
            name: for messages. Default: "conman".
            retry: how tasks are retried that say nothing else themselves. Default: only `RetriableError` is
                retried, by ``RetryConfig.exponential()``.
            attempt_timeout: seconds for each attempt of a task. Default: no limit.
            task_timeout: seconds for a task from its slot to its end, all attempts and delays together.
                Default: no limit.
            timeout: seconds for the whole block. Default: no limit.
            rng: the source of jitter. Default: a private `random.Random`.

        Returns:
            an async context manager for the block; it yields the manager.

        Raises:
            TypeError: a parameter is of the wrong kind.
            ValueError: a parameter is out of its range.
        """
        check_type("nursery", nursery, trio.Nursery, "a trio.Nursery")
        if not isinstance(limit, trio.CapacityLimiter):
            check_count("limit", limit, minimum=2)
        if name is not None:
            check_type("name", name, str, "a str or None")
        if retry is not None:
            check_type("retry", retry, RetryConfig, "a RetryConfig or None")
        check_number("attempt_timeout", attempt_timeout)
        check_number("task_timeout", task_timeout)
        check_number("timeout", timeout)
        if rng is not None:
            check_type("rng", rng, random.Random, "a random.Random or None")

        self: ConMan[R] = object.__new__(cls)
        self.name = "conman" if name is None else name
        self.cancel_scope = trio.CancelScope(relative_deadline=timeout)
        self._terms = Terms(retry, attempt_timeout, task_timeout)
        if isinstance(limit, trio.CapacityLimiter):
            self._line = Line(self.name, limit, shared=True)
        else:
            self._line = Line(self.name, trio.CapacityLimiter(limit), shared=False)
        self._collector = Collector()
        self._runner = Runner(self._line, self._collector.put, random.Random() if rng is None else rng)
        self._block = Block(self.name, nursery, self.cancel_scope, self._line, self._runner, self._collector)
        return self._block.opened(self)

    # Work comes in

    @overload
    async def run(
        self,
        task: Task[R],
        /,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]: ...
    @overload
    async def run(
        self,
        task: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]: ...
    async def run(  # type: ignore[misc]  # mypy does not see that *args: Any takes *args: *Ts
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]:
        """Wait for a slot, first come first served, then start a task; always a checkpoint.

        The caller's cancel scopes govern the wait only. A wait that is cancelled leaves nothing behind; once
        started, the task belongs to the manager.

        Args:
            task: an async callable, or an object with ``async def execute(self)``.
            args: what to call it with.
            name: the task's name. Default: its ``__qualname__``.
            retry: how it is retried. Default: as the manager says.
            attempt_timeout: seconds for each attempt. Default: as the manager says.
            task_timeout: seconds from its slot to its end. Default: as the manager says.

        Returns:
            the handle of the task, which has started.

        Raises:
            ConManClosedError: the manager is closed, or was closed or cancelled meanwhile.
            TypeError: `task` is no async callable, or an option is of the wrong kind.
            ValueError: an option is out of its range.
        """
        handle = self._handle(task, args, name, retry, attempt_timeout, task_timeout)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._start(handle):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._wait_in_line(handle)
        return handle

    @overload
    def run_nowait(
        self,
        task: Task[R],
        /,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]: ...
    @overload
    def run_nowait(
        self,
        task: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]: ...
    def run_nowait(  # type: ignore[misc]  # as for run
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
    ) -> TaskHandle[R]:
        """Start a task now, as `run` does, or not at all; no checkpoint.

        Args:
            task: as for `run`, and so are the others.
            args: what to call it with.
            name: the task's name.
            retry: how it is retried.
            attempt_timeout: seconds for each attempt.
            task_timeout: seconds from its slot to its end.

        Returns:
            the handle of the task, which has started.

        Raises:
            trio.WouldBlock: no slot is free, or others wait for one.
            ConManClosedError: the manager is closed.
            TypeError: `task` is no async callable, or an option is of the wrong kind.
            ValueError: an option is out of its range.
        """
        handle = self._handle(task, args, name, retry, attempt_timeout, task_timeout)
        if not self._start(handle):
            raise trio.WouldBlock
        return handle

    def _handle(
        self,
        task: Any,
        args: tuple[Any, ...],
        name: str | None,
        retry: RetryConfig | None,
        attempt_timeout: float | None,
        task_timeout: float | None,
    ) -> TaskHandle[Any]:
        call = callable_of(task)
        terms = self._terms
        if retry is not None or attempt_timeout is not None or task_timeout is not None:
            terms = _terms(terms, retry, attempt_timeout, task_timeout)
        if name is None:
            name = name_of(task)
        elif not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {name!r}")
        return TaskHandle(name, args, call, terms, self._runner.now())

    @enable_ki_protection
    def _start(self, handle: TaskHandle[Any]) -> bool:
        """Start a task if it need not wait; whether it was started."""
        if self._block.closed:
            raise self._block.closed_error()
        slot = self._line.take()
        if slot is None:
            return False
        self._runner.accept(handle)
        self._runner.start(handle, slot, handle._submitted)
        return True

    @enable_ki_protection
    async def _wait_in_line(self, handle: TaskHandle[Any]) -> None:
        caller = trio.lowlevel.current_task()
        handle._context = copy_context()

        def grant(handle: TaskHandle[Any], slot: Slot | None) -> None:
            if slot is not None:
                self._runner.accept(handle)
                self._runner.start(handle, slot, self._runner.now())
            trio.lowlevel.reschedule(caller)

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._line.leave(handle)
            return trio.lowlevel.Abort.SUCCEEDED

        self._line.join(handle, grant)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if handle.state == "queued":
            raise self._block.closed_error()

    async def wait(self) -> None:
        """Wait until no task is queued, waiting to be retried, or running; always a checkpoint.

        Tasks may add tasks meanwhile. When there is nothing to wait for it returns at once.

        Raises:
            RuntimeError: called from one of the manager's own tasks, or a child of one: it could never end.
        """
        if self._block.inside():
            raise RuntimeError(
                f"wait() was called from inside a task of {self.name!r}, which would wait for itself: "
                "call it from the block, or keep the handles of the tasks you mean and await those"
            )
        if self._runner.unfinished:
            await self._runner.wait_idle()
        else:
            await trio.lowlevel.checkpoint()

    # What became of it

    def outcomes(self) -> list[Outcome[R]]:
        """How the tasks ended so far, in completion order: a new list."""
        return self._collector.kept().copy()

    def outputs(self) -> list[R]:
        """What the tasks returned that succeeded so far, in completion order: a new list."""
        return [outcome.value for outcome in self._collector.kept() if isinstance(outcome, Success)]

    def errors(self) -> list[Exception]:
        """The errors of the tasks that failed so far, in completion order: a new list."""
        return [outcome.error for outcome in self._collector.kept() if isinstance(outcome, Failure)]

    def pop_outcomes(self) -> list[Outcome[R]]:
        """Like `outcomes`, and forgets them: for managers that live long."""
        return self._collector.pop()

    def raise_errors(self) -> None:
        """Raise the errors so far, if there are any.

        Raises:
            ExceptionGroup: of `errors`, in completion order.
        """
        errors = self.errors()
        if errors:
            finished = self._runner.succeeded + self._runner.failed
            try:
                raise ExceptionGroup(f"{len(errors)} of {finished} tasks of {self.name!r} failed", errors)
            finally:
                del errors

    def statistics(self) -> ConManStatistics:
        """Where the tasks stand now."""
        runner = self._runner
        queued = runner.unfinished - runner.in_hand
        return ConManStatistics(
            limit=self._line.limit,
            running=runner.in_hand - runner.backing_off,
            waiting=self._line.waiting - queued,
            queued=queued,
            backing_off=runner.backing_off,
            submitted=runner.submitted,
            succeeded=runner.succeeded,
            failed=runner.failed,
            cancelled=runner.cancelled,
            retries=runner.retries,
        )

    def __repr__(self) -> str:
        state = "closed" if self._block.closed else "open"
        return f"<ConMan {self.name!r} {state}, {self._runner.unfinished} unfinished>"

    # Control

    @property
    def limit(self) -> int | float:
        """How many tasks may run at once. Assign an int of at least 2, or `math.inf`, to change it.

        Raising it starts at once as many tasks as fit; lowering it ends none. The limit of a shared limiter
        changes for all who share it.

        Raises:
            TypeError: assigned what is neither an int nor `math.inf`.
            ValueError: assigned an int below 2.
        """
        return self._line.limit

    @limit.setter
    def limit(self, limit: int | float) -> None:
        check_count("limit", limit, minimum=2)
        self._line.limit = limit

    @property
    def timed_out(self) -> bool:
        """Whether the manager's deadline ended its tasks."""
        stopped = self._runner.stopped
        return stopped is not None and stopped.reason is StopReason.MANAGER_TIMEOUT

    def cancel(self, reason: str | None = None) -> None:
        """Cancel all tasks and the body of the block, which then ends quietly.

        Args:
            reason: why, for the text of the tasks' errors.

        Raises:
            TypeError: `reason` is neither a str nor None.
        """
        if reason is not None:
            check_type("reason", reason, str, "a str or None")
        self._block.cancel(reason)


def _terms(
    base: Terms, retry: RetryConfig | None, attempt_timeout: float | None, task_timeout: float | None
) -> Terms:
    """The options given, checked, over those of `base`."""
    if retry is None:
        retry = base.retry
    else:
        check_type("retry", retry, RetryConfig, "a RetryConfig or None")
    if attempt_timeout is None:
        attempt_timeout = base.attempt_timeout
    else:
        check_number("attempt_timeout", attempt_timeout)
    if task_timeout is None:
        task_timeout = base.task_timeout
    else:
        check_number("task_timeout", task_timeout)
    return Terms(retry, attempt_timeout, task_timeout)
