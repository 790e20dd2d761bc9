"""What may be handed in as a task, and the handle that its submitter gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context
from functools import partial
from math import inf
from types import CoroutineType
from typing import Any, Generic, Literal, Protocol, TypeVar, final

import attrs
import trio

from ._checks import check_text
from ._outcomes import Failure, Outcome, RetriedError
from ._retry import RetryConfig
from ._texts import short

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_HINT = "pass fn, *args, not fn(*args)"


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
    # Where the outcome goes. Takes a handle that has it; True when it has arrived, else Runner.settle() is
    # called when it has.
    deliver: Callable[[TaskHandle[Any]], bool]


# The terms of a task that is done.
DONE = Terms(None, inf, inf, lambda _: True)


class Slot:
    """The borrower of one token: a CapacityLimiter lends to an object, and several at once to one caller."""

    __slots__ = ("_manager",)

    def __init__(self, manager: str) -> None:
        self._manager = manager

    def __repr__(self) -> str:
        return f"<a slot of {self._manager}>"


@final
@attrs.define(eq=False, repr=False)
class TaskHandle(Generic[T]):
    """One task that was handed in: where it stands, how it ended, and ways to wait for it or cancel it."""

    name: str
    """The name given, or else the callable's ``__qualname__``."""
    args: tuple[Any, ...]
    """The arguments it is called with."""
    _call: Callable[..., Any] | None = attrs.field(alias="call")
    _terms: Terms = attrs.field(alias="terms")
    _submitted: float = attrs.field(alias="submitted")
    index: int = -1
    """Its place in the order of acceptance, from 0."""
    state: Literal["queued", "running", "backing_off", "done"] = "queued"
    """Where it stands."""
    retries: int = 0
    """How many attempts followed the first one so far."""
    outcome: Outcome[T] | None = None
    """How it ended; None until then."""

    _started: float | None = None
    # When its first attempt began, where that was not at once.
    _attempted: float | None = None
    _slot: Slot | None = None
    # Whether it has given its slot back, to back off, and not got another one since.
    _lent: bool = False
    _scope: trio.CancelScope | None = None
    # The submitter's context, kept as it was: each attempt gets a copy.
    _context: Context | None = None
    _cancelled: str | None = None
    # What the last attempt failed with, while no attempt is running.
    _error: Exception | None = None
    _history: list[RetriedError] | None = None
    _done: trio.Event | None = None
    # How to take it out of the queue, while it is in there.
    _withdraw: Callable[[TaskHandle[Any]], None] | None = None

    def __repr__(self) -> str:
        return f"<TaskHandle {self.name!r} index={self.index} {self.state}>"

    async def wait(self) -> Outcome[T]:
        """Wait until the task has ended; always a checkpoint. Giving up the wait does not touch the task.

        Returns:
            how it ended.
        """
        if self.outcome is None:
            if self._done is None:
                self._done = trio.Event()
            await self._done.wait()
            assert self.outcome is not None
        else:
            await trio.lowlevel.checkpoint()
        return self.outcome

    async def result(self) -> T:
        """Wait until the task has ended; always a checkpoint.

        Returns:
            what it returned.

        Raises:
            Exception: the task's error, when it failed.
        """
        outcome = await self.wait()
        if isinstance(outcome, Failure):
            # The error's traceback will hold this frame: the frame must not hold the error.
            try:
                raise outcome.error
            finally:
                del outcome, self
        return outcome.value

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the task, unless it ends in another way first.

        It fails with `TaskCancelledError`, or, when it was backing off, with its last real error.

        Args:
            reason: why, for the error's text.

        Raises:
            TypeError: `reason` is neither a str nor None.
        """
        if reason is not None:
            reason = check_text("reason", reason)
        if self._withdraw is None and (self._scope is None or self._scope.cancel_called):
            return
        self._cancelled = "its handle was cancelled" + (f": {reason}" if reason else "")
        try:
            if self._withdraw is not None:
                self._withdraw(self)
            else:
                assert self._scope is not None
                self._scope.cancel(reason=reason)
        finally:
            # A Cancelled that becomes the context of the task's error leads to this frame.
            del self


def callable_of(task: object, name: str = "task") -> Callable[..., Any]:
    """What to call to make an attempt; `name` is that of the parameter.

    Raises:
        TypeError: `task` is neither an async callable nor a `Task`.
    """
    if callable(task):
        code = getattr(_unwrapped(task), "__code__", None)
        # The flag itself: inspect.isasyncgenfunction() costs as much as the rest of the submission.
        if code is not None and getattr(code, "co_flags", 0) & inspect.CO_ASYNC_GENERATOR:
            raise TypeError(
                f"{name} must be an async callable, but {short(task)} is an async generator function: "
                f"iterate over it inside an async function, and {_HINT}"
            )
        return task
    execute: object = getattr(task, "execute", None)
    if callable(execute):
        return execute
    if inspect.iscoroutine(task) and inspect.getcoroutinestate(task) == inspect.CORO_CREATED:
        task.close()  # else Python warns that it was never awaited
    raise TypeError(
        f"{name} must be an async callable or an object with an execute() method, not {short(task)}: {_HINT}"
    )


def _unwrapped(task: object) -> object:
    while isinstance(task, partial):
        task = task.func
    return task


def name_of(task: object) -> str:
    """A task's default name: the ``__qualname__`` of a function, else that of the type."""
    task = _unwrapped(task)
    name = getattr(task, "__qualname__", None)
    return name if type(name) is str else type(task).__qualname__


def is_awaitable(result: object) -> bool:
    """Whether what a task's callable returned can be awaited."""
    return type(result) is CoroutineType or inspect.isawaitable(result)


def not_awaitable(call: object, result: object) -> TypeError:
    """The error of a task whose callable returned something else than an awaitable."""
    return TypeError(
        f"{name_of(call)}() returned an object of type {type(result).__qualname__}, which cannot be awaited: "
        "a task must be an async callable (for a blocking function use trio.to_thread.run_sync)"
    )
