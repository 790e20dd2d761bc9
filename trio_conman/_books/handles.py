"""An object that may be handed in as a task, and the handle that its submitter gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from math import inf
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, Literal, Never, Protocol, TypeAlias, TypeVar, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_int, check_text, wrong_thread
from trio_conman._base.hidden import made_by
from trio_conman._base.outcomes import Failure, Outcome, RetriedError, look_at, remember
from trio_conman._base.stack import need_more_stack
from trio_conman._policy.retry import RetryConfig

from .records import Records

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

State: TypeAlias = Literal["queued", "running", "backing_off", "done"]


class Task(Protocol[T_co]):
    """An object that can be handed in as a task: one with a method ``async def execute(self)``."""

    async def execute(self) -> T_co:
        """Do the work of one attempt, and return its result."""
        ...


@attrs.frozen(eq=False, repr=False)
class Terms:
    """The options of a task, with the manager's in place of those not given."""

    retry: RetryConfig | None
    attempt_timeout: float
    task_timeout: float
    # That of the manager's trio run, by `threading.get_ident`.
    thread: int
    # Where the outcome goes. Takes a handle that has it; True when it has arrived, else Runner.settle() is
    # called when it has.
    deliver: Callable[[TaskHandle[Any]], bool]
    # How to cancel a task: with why, for its error, and the reason that was given.
    cancel: Callable[[TaskHandle[Any], str, str | None], None]
    # How to give it another priority, wherever it waits.
    reorder: Callable[[TaskHandle[Any], int], None]
    # How to wait for its end, which the ending tells of; raises where that could never be.
    attend: Callable[[TaskHandle[Any], Ending], Awaitable[object]]
    # The section of a journal that may know its value, and keeps it.
    records: Records[Any] | None = None
    # What it was drawn from, in the eyes of the workers (see `pool.Source`), if it was.
    source: Any = None
    # Whether it is an item for which the consumer of its map may wait in a ring.
    is_watched: bool = False
    # Whether there is a timeout, and whether an attempt can begin without more ado.
    is_timed: bool = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: min(self.attempt_timeout, self.task_timeout) < inf, takes_self=True
        ),
    )
    is_plain: bool = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: not self.is_timed and self.records is None, takes_self=True),
    )


# The terms of a task that is done.
DONE = Terms(None, inf, inf, 0, lambda _: True, lambda *_: None, lambda *_: None, lambda *_: sleep_among({}))


async def sleep_among(sleepers: dict[trio.lowlevel.Task, None]) -> None:
    """Sleep until somebody wakes the current trio task, and takes it out of these."""
    task = trio.lowlevel.current_task()

    def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        del sleepers[task]
        return trio.lowlevel.Abort.SUCCEEDED

    sleepers[task] = None
    await trio.lowlevel.wait_task_rescheduled(abort)


class Ending:
    """Is told when a task has ended, and wakes those who wait for that."""

    __slots__ = ("sleepers",)

    def __init__(self) -> None:
        self.sleepers: dict[trio.lowlevel.Task, None] = {}

    def set(self) -> None:
        """It has."""
        for task in list(self.sleepers):
            self.wake(task)

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Let one that sleeps go on."""
        del self.sleepers[task]
        trio.lowlevel.reschedule(task)


class Slot:
    """The borrower of one token: a CapacityLimiter lends to an object, and several at once to one caller."""

    __slots__ = ("_manager", "keys")

    def __init__(self, manager: str) -> None:
        self._manager = manager
        # Those that its task holds with it, if there are any.
        self.keys: Any = None

    def __repr__(self) -> str:
        return f"<a slot of {self._manager}>"


@attrs.define(eq=False, repr=False)
class Past:
    """What the failed attempts of a task have left."""

    retries: int = 0
    # What the last one failed with, while no attempt is running.
    error: Exception | None = None
    history: list[RetriedError] | None = None
    # That of the task's error when it ended, for `result`.
    traceback: TracebackType | None = None

    def retry(self, delay: float) -> None:
        """The next attempt begins: what is left of the last one is a text."""
        assert self.error is not None
        self.history = remember(self.history, self.error, delay)
        self.error = None
        self.retries += 1


@final
@made_by("a manager")
@attrs.define(eq=False, repr=False, match_args=False, getstate_setstate=False)
class TaskHandle(Generic[T]):
    """One task that was handed in: where it stands, how it ended, and ways to wait for it or cancel it.

    - To wait for it: `wait` gives its outcome, `result` its value, or raises its error.
    - To see where it stands: `state`, `outcome`, `retries`; `name`, `index`, `args`.
    - To move it while it is queued: `priority`.
    - To end it: `cancel`.
    """

    _name: str
    _args: tuple[Any, ...]
    _call: Callable[..., Any] | None
    _terms: Terms
    _submitted: float
    _index: int
    _priority: int
    # The submitter's context, kept as it was: each attempt gets a copy.
    _context: Context | None
    _outcome: Outcome[T] | None

    # What it counts for, where there are limits by key; and then its number while it waits in a line.
    _keys: Any
    _number: int
    _started: float | None
    # When its first attempt began, where that was not at once.
    _attempted: float | None
    _slot: Slot | None
    _scope: trio.CancelScope | None
    _backs_off: bool
    _cancelled: str | None
    # Of a task of which an attempt has failed, or that has failed without one.
    _past: Past | None
    # Its key in the journal, from when it is this task's to run until that is recorded or given up.
    _claimed: str | None
    _done: Ending | None

    def __init__(self, *_: Never, **__: Never) -> None:
        raise TypeError("TaskHandle has no public constructor; hand in a task, as with ConMan.start_soon()")

    @property
    def name(self) -> str:
        """The name given, or else the default of `ConMan.run`."""
        return self._name

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments it is called with."""
        return self._args

    @property
    def index(self) -> int:
        """Its place in the order of acceptance, from 0; for a map, its item's position."""
        return self._index

    @property
    def state(self) -> State:
        """Where it stands: "queued" until it has a slot, then "running" or "backing_off", at last "done".

        It is "running" too while it waits for a permit of the rate, and "done" as soon as it has its outcome.
        """
        if self._outcome is not None:
            return "done"
        if self._started is None:
            return "queued"
        return "backing_off" if self._backs_off else "running"

    @property
    def retries(self) -> int:
        """How many attempts followed the first one so far."""
        return 0 if self._past is None else self._past.retries

    @property
    def priority(self) -> int:
        """The higher it is, the earlier it has its turn in the line. May be assigned.

        Who waits in the line moves behind those who wait there with that priority. Later it counts for
        retries, and when the task is done for nothing.

        Raises:
            RuntimeError: assigned in another thread than that of its trio run, while the task has not ended.
            TypeError: assigned what is no int.
        """
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        priority = check_int("priority", priority)
        if priority == self._priority or self._outcome is not None:
            return
        if get_ident() != self._terms.thread:
            raise wrong_thread("TaskHandle.priority", "run_sync(setattr, handle, 'priority', ...)")
        need_more_stack()
        self._terms.reorder(self, priority)

    @property
    def outcome(self) -> Outcome[T] | None:
        """How it ended; None until then."""
        outcome = self._outcome
        if isinstance(outcome, Failure):
            look_at(outcome)
        return outcome

    def __repr__(self) -> str:
        return f"<TaskHandle {self._name!r} index={self._index} {self.state}>"

    def _check_thread(self, method: str) -> None:
        if get_ident() != self._terms.thread:
            raise wrong_thread(f"TaskHandle.{method}", f"run(handle.{method})")

    async def wait(self) -> Outcome[T]:
        """Wait until the task has ended; always a checkpoint. Giving up the wait does not touch the task.

        Returns:
            how it ended.

        Raises:
            RuntimeError: called inside a task of the same manager for which this one waits in turn, by its
                slot, a key, a handle or a map, so that both could never end but by a deadline. Or called in
                another thread than that of its trio run, while the task has not ended.
        """
        if self._outcome is None:
            self._check_thread("wait")
            if self._done is None:
                self._done = Ending()
            await self._terms.attend(self, self._done)
            assert self._outcome is not None
        else:
            await trio.lowlevel.checkpoint()
        if isinstance(self._outcome, Failure):
            look_at(self._outcome)
        return self._outcome

    async def result(self) -> T:
        """Wait until the task has ended; always a checkpoint.

        Returns:
            what it returned.

        Raises:
            Exception: the task's error, when it failed, with the traceback that it had when the task ended.
                In place of a StopIteration, which no coroutine can raise, RuntimeError, with it as the cause.
            RuntimeError: as for `wait`.
        """
        if self._outcome is None:
            self._check_thread("result")
        outcome = await self.wait()
        if isinstance(outcome, Failure):
            # The error's traceback will hold this frame: the frame must not hold the error.
            try:
                # By the method of Exception, since a frozen error has none of its own. Without it each call
                # would add its frames to those of the calls before, and keep all that their callers hold.
                raise Exception.with_traceback(outcome.error, self._failures().traceback)
            finally:
                del outcome, self
        return outcome.value

    @enable_ki_protection
    def cancel(self, reason: str | None = None) -> None:
        """Cancel the task, unless it ends in another way first.

        It fails with `TaskCancelledError`, or, when it was backing off, with its last real error.

        Args:
            reason: why, for the error's text. Default: not said.

        Raises:
            RuntimeError: called in another thread than that of its trio run, while the task has not ended.
            TypeError: `reason` is neither a str nor None.
        """
        if reason is not None:
            reason = check_text("reason", reason)
        if self._outcome is not None:
            return
        if get_ident() != self._terms.thread:
            raise wrong_thread("TaskHandle.cancel", "run_sync(handle.cancel)")
        if self._cancelled is not None or self._is_over():
            return
        need_more_stack()
        try:
            why = "its handle was cancelled" + (f": {reason}" if reason else "")
            self._terms.cancel(self, why, reason)
        finally:
            # A Cancelled that becomes the context of the task's error leads to this frame.
            del self

    def _failures(self) -> Past:
        """What its failed attempts have left, from now on."""
        if self._past is None:
            self._past = Past()
        return self._past

    def _is_over(self) -> bool:
        """Whether its time was over first."""
        if self._started is None or self._scope is None or not self._scope.cancel_called:
            return False
        return trio.current_time() >= self._started + self._terms.task_timeout


_blank = object.__new__  # to look that up costs a tenth of the rest


def new_handle(
    name: str,
    args: tuple[Any, ...],
    call: Callable[..., Any],
    terms: Terms,
    submitted: float,
    index: int = -1,
    priority: int = 0,
    context: Context | None = None,
) -> TaskHandle[Any]:
    """The handle of a task that was not accepted yet; a constructor would cost half as much again."""
    handle: TaskHandle[Any] = _blank(TaskHandle)
    handle._name = name
    handle._args = args
    handle._call = call
    handle._terms = terms
    handle._submitted = submitted
    handle._index = index
    handle._priority = priority
    handle._context = context
    handle._backs_off = False
    handle._outcome = handle._keys = handle._started = handle._attempted = handle._slot = None
    handle._scope = handle._cancelled = handle._past = handle._claimed = handle._done = None
    return handle
