"""How a task ended: `Success` or `Failure`, one for each task that was accepted."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import attrs

from .texts import cut, one_line, short, summary_of, text_of

if TYPE_CHECKING:
    from attrs import frozen as define  # what users have is frozen
else:
    from attrs import define

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StopReason(Enum):
    """Why a task failed, or why it was not tried again."""

    ERROR = "error"
    """It raised what is not retried."""

    RETRIES_EXHAUSTED = "retries exhausted"
    """It failed once more after its last allowed retry."""

    MAX_ELAPSED = "max elapsed"
    """The next delay, or wait for a permit, would have ended later than ``max_elapsed`` allows."""

    DEADLINE = "deadline"
    """The next attempt could not start before a deadline of the task, the manager, or a scope around."""

    ATTEMPT_TIMEOUT = "attempt timeout"
    """An attempt took longer than ``attempt_timeout``, and no retry was configured or left."""

    TASK_TIMEOUT = "task timeout"
    """All attempts and delays together took longer than ``task_timeout``."""

    MANAGER_TIMEOUT = "manager timeout"
    """The manager's deadline passed."""

    RETRY_AFTER = "retry after"
    """The service asked for a longer wait than ``max_retry_after``."""

    RETRY_BUDGET = "retry budget"
    """The retry budget had no whole token left."""

    CANCELLED = "cancelled"
    """The task's handle, the manager, or a scope around them was cancelled."""


@final
@attrs.frozen
class RetriedError:
    """What a retried attempt failed with: texts and a number, so that no frame is kept alive."""

    error_type: str
    """The name of the error's type, 200 characters of it at most."""
    message: str
    """The error's text, 200 characters of it at most."""
    delay: float
    """Seconds waited before the next attempt."""


_KEPT = 10  # at either end of a history


def remember(history: list[RetriedError] | None, error: Exception, delay: float) -> list[RetriedError]:
    """A history with one more attempt, retried after `delay` seconds; it stays short, however many come."""
    history = history or []
    history.append(RetriedError(cut(type(error).__qualname__), cut(text_of(error)), delay))
    if len(history) > 2 * _KEPT:
        del history[_KEPT]
    return history


# Compared by identity: values may be arrays, whose equality is no bool, and outcomes stay hashable.
@define(eq=False, repr=False, init=False)
class SuccessFields(Generic[T_co]):
    """What a `Success` is made of.

    An object of this class, which is not frozen and needs no arguments, is made in less than half the time,
    and becomes a Success when its ``__class__`` is set: both classes have the same slots.
    """

    value: T_co  # type: ignore[misc]  # attrs has a constructor of another name yet, which nobody calls
    """What it returned."""
    index: int
    """Its place in the order of acceptance, from 0; for a map, its item's position."""
    name: str
    """The task's name."""
    args: tuple[Any, ...]
    """The arguments it was called with."""
    retries: int
    """How many attempts followed the first one."""
    waited: float
    """Seconds to its slot, or to its end without one: from the call that handed it in, or its drawing."""
    elapsed: float
    """Seconds from its slot to its end, backoff included."""
    recalled: bool = False
    """Whether the value comes from a journal, so that it did not run."""


@final
@attrs.frozen(eq=False, repr=False)
class Success(SuccessFields[T_co]):
    """A task that returned.

    Its ``str`` is one line: the task, the value, shortened, the number of retries, and the seconds; of one
    that was recalled, that it was.
    """

    def __str__(self) -> str:
        cost = "recalled" if self.recalled else _cost(self)
        return f"{_task(self)}: {short(self.value)}; {cost}"

    def __repr__(self) -> str:
        return f"<Success {self}>"


_WHY = {
    StopReason.ERROR: "not retried",
    StopReason.RETRIES_EXHAUSTED: "no retry left of max_attempts",
    StopReason.MAX_ELAPSED: "no retry within max_elapsed",
    StopReason.DEADLINE: "no time for an attempt before the deadline",
    StopReason.ATTEMPT_TIMEOUT: "longer than attempt_timeout, no retry left",
    StopReason.TASK_TIMEOUT: "longer than task_timeout",
    StopReason.MANAGER_TIMEOUT: "longer than the manager's timeout",
    StopReason.RETRY_AFTER: "asked to wait longer than max_retry_after",
    StopReason.RETRY_BUDGET: "no retry left in the budget",
    StopReason.CANCELLED: "cancelled",
}


def _task(outcome: Outcome[object]) -> str:
    return f"{one_line(outcome.name)} (index {outcome.index})"


def _cost(outcome: Outcome[object]) -> str:
    retries = "1 retry" if outcome.retries == 1 else f"{outcome.retries} retries"
    return f"{retries}, {outcome.elapsed:.3f} s"


class _Seen:
    """Whether somebody has looked is no field, and costs no task that succeeds anything."""

    __slots__ = ("_seen",)


@final
@attrs.frozen(eq=False, repr=False)
class Failure(_Seen):
    """A task that did not return.

    Its ``str`` is one line: the task, the error, what stopped the retries, their number, and the seconds.
    """

    error: Exception
    """The exception itself, never wrapped; for a `RetriableError` made from an exception, that exception."""
    reason: StopReason
    """What ended the task."""
    history: tuple[RetriedError, ...]
    """One entry for each attempt that was followed by another, oldest first; the first and the last ten when
    there are more than 20."""
    index: int
    """Its place in the order of acceptance, from 0; for a map, its item's position."""
    name: str
    """The task's name."""
    args: tuple[Any, ...]
    """The arguments it was called with."""
    retries: int
    """How many attempts followed the first one."""
    waited: float
    """Seconds to its slot, or to its end without one: from the call that handed it in, or its drawing."""
    elapsed: float
    """Seconds from its slot to its end, backoff included; 0 when it never had one."""

    def __str__(self) -> str:
        text = summary_of(self.error)
        error = type(self.error).__qualname__ + (f": {text}" if text else "")
        return f"{_task(self)}: {error}; {_WHY[self.reason]}; {_cost(self)}"

    def __repr__(self) -> str:
        return f"<Failure {self}>"


def look_at(failure: Failure) -> None:
    """Somebody has looked at a failure."""
    object.__setattr__(failure, "_seen", True)


def was_seen(failure: Failure) -> bool:
    """Whether somebody has."""
    return hasattr(failure, "_seen")


Outcome: TypeAlias = Success[T] | Failure
"""How a task ended, for ``match``: ``case Success(value=v)`` or ``case Failure(error=e)``."""
