"""What helps to test code that uses a manager: on a virtual clock, without chance, and in whole records."""

from __future__ import annotations

import random
from typing import Any, Generic, TypeVar, cast, final

import attrs
import trio

from trio_conman import Failure, Instrument, Outcome, StopReason, TaskHandle

from ._base.checks import check_number
from ._base.texts import short, whole
from ._policy.retry import renew

T = TypeVar("T")

__all__ = ["Event", "FixedJitter", "FlakyTask", "RecordingInstrument"]


@final
class FixedJitter(random.Random):
    """A source of jitter that always draws the same share of a delay; for whatever takes an ``rng``.

    Args:
        share: which part of the full delay is waited, from 0 to 1. Default: all of it.

    Raises:
        TypeError: `share` is no number.
        ValueError: `share` is not from 0 to 1.
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise TypeError(f"share must be a number from 0 to 1, not {short(share)}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, not {short(share)}")
        self._share = float(share)

    def __reduce__(self) -> tuple[Any, ...]:
        return FixedJitter, (self._share,)

    def random(self) -> float:
        """The share."""
        return self._share


@final
class FlakyTask(Generic[T]):
    """An async callable that answers from a script: the first answer to its first call, and so on.

    An answer that is an exception, or a type of one, is raised; any other is returned. The last one is given
    to all further calls. ``FlakyTask[str](…)`` says what it returns.

    Args:
        answers: the script, at least one answer.
        seconds: how long each call takes, on trio's clock; with `math.inf` none ends by itself. Default: 0,
            which is a checkpoint.

    Raises:
        TypeError: `seconds` is no number.
        ValueError: there is no answer, or `seconds` is negative or NaN.
    """

    calls: list[tuple[float, tuple[Any, ...]]]
    """When it was called, on trio's clock, and with what."""

    def __init__(self, *answers: T | Exception | type[Exception], seconds: float = 0.0) -> None:
        if not answers:
            raise ValueError("answers must hold at least one answer")
        check_number("seconds", seconds)
        self._answers = answers
        self._seconds = seconds
        self.calls = []

    def __repr__(self) -> str:
        return f"<FlakyTask, called {len(self.calls)} times>"

    async def __call__(self, *args: Any) -> T:
        """Take the time, and give the next answer."""
        answer = self._answers[min(len(self.calls), len(self._answers) - 1)]
        self.calls.append((trio.current_time(), args))
        await trio.sleep(self._seconds)
        if isinstance(answer, Exception):
            renew(answer)  # it may have ended another task
            raise answer.with_traceback(None)  # which leads to the calls before
        if isinstance(answer, type) and issubclass(answer, Exception):
            raise answer
        return cast("T", answer)


@final
@attrs.frozen
class Event:
    """One call of an instrument's method; compared by its fields, and holds no task alive."""

    time: float
    """When, on trio's clock."""
    hook: str
    """The method: "task_submitted", "attempt_started", "retry_scheduled" or "task_finished"."""
    name: str
    """The task's name."""
    index: int
    """The task's index."""
    attempt: int | None = None
    """The number of the attempt that started; 1 is the first."""
    error: str | None = None
    """``repr()`` of the error that is retried, or that the task failed with;
    ``<NameOfItsType object>`` if that raises."""
    delay: float | None = None
    """Seconds until the retry."""
    reason: StopReason | None = None
    """Why the task failed."""


@final
class RecordingInstrument(Instrument):
    """Records what happens to the tasks of a manager, to be compared as a whole."""

    events: list[Event]
    """What has happened, oldest first."""

    def __init__(self) -> None:
        self.events = []

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """Record it."""
        self._record("task_submitted", handle)

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        """Record it."""
        self._record("attempt_started", handle, attempt=attempt)

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        """Record it."""
        self._record("retry_scheduled", handle, error=whole(error), delay=delay)

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        """Record it."""
        if isinstance(outcome, Failure):
            self._record("task_finished", handle, error=whole(outcome.error), reason=outcome.reason)
        else:
            self._record("task_finished", handle)

    def _record(self, hook: str, handle: TaskHandle[Any], **fields: Any) -> None:
        self.events.append(Event(trio.current_time(), hook, handle.name, handle.index, **fields))
