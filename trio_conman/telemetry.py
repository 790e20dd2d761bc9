"""`OpenTelemetryInstrument`: a span for each task, and metrics of a manager (extra ``otel``)."""

from __future__ import annotations

from traceback import format_exception
from typing import Any, final
from weakref import WeakKeyDictionary

import attrs

from trio_conman import Failure, Instrument, Outcome, StopReason, TaskHandle

from ._base.texts import short
from ._books.callables import name_of

try:
    from opentelemetry import context, metrics, trace
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "OpenTelemetryInstrument needs opentelemetry-api: pip install 'trio-conman[otel]'",
        name="opentelemetry",
    ) from None

__all__ = ["OpenTelemetryInstrument"]

# The boundaries that the conventions advise for seconds; the defaults of the SDK are for milliseconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


@attrs.define
class _Followed:
    """What is known of a task that has not ended."""

    span: trace.Span
    state: str = "waiting"
    error_type: str = ""  # of the last attempt that is retried


def _type_name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _sendable(text: str) -> str:
    """A text without lone surrogates: an exporter would lose what has one, or all that it sends with it."""
    return text.encode(errors="backslashreplace").decode()


def _texts_of(error: Exception) -> dict[str, str]:
    """Those that a span records of an error; which it would take as they are."""
    return {
        "exception.message": _sendable(str(error)),
        "exception.stacktrace": _sendable("".join(format_exception(error))),
    }


@final
class OpenTelemetryInstrument(Instrument):
    """Makes a span for each task, and metrics; may be given to many managers.

    A span has the ``__qualname__`` of the task's callable: its name should stand for many, while each task
    may have a name of its own, a URL perhaps. It begins when the task is accepted, is a child of the
    submitter's current span, and linked to it as well, since it may end later. Its events are ``attempt
    started`` and ``retry scheduled``. Within an attempt it is the current span. The status of a failure is
    ERROR, with the exception recorded, except where the task was cancelled.

    ===================================  ======================================================
    attribute of a span                  value
    ===================================  ======================================================
    ``trio_conman.task.name``            the task's name
    ``trio_conman.task.index``           the task's index
    ``trio_conman.task.retries``         how many attempts followed the first one
    ``trio_conman.task.outcome``         "success", "recalled" (by a journal), "failure", or "cancelled"
    ``trio_conman.task.stop_reason``     of those that did not succeed, the reason in lower case
    ``error.type``                       of failures, the type of the error
    ===================================  ======================================================

    ===================================  ======================================================
    metric                               what it is
    ===================================  ======================================================
    ``trio_conman.task.count``           tasks by ``trio_conman.task.state``: "waiting" for a slot or for the
                                         rate, "running", or "backing_off"
    ``trio_conman.task.retries``         attempts that followed a first one, by the ``error.type`` of the
                                         one before
    ``trio_conman.task.duration``        a histogram of the seconds from the slot to the end, by the last
                                         three of the attributes; its count is that of the tasks
    ``trio_conman.task.wait_duration``   a histogram of the seconds from the submission to the slot, or to the
                                         end of a task that never had one
    ===================================  ======================================================

    Arguments and values of tasks are not recorded, since they may hold secrets; names and the texts of errors
    are.

    Args:
        tracer_provider: what makes the spans. Default: the global one.
        meter_provider: what makes the metrics. Default: the global one.

    Raises:
        TypeError: a provider is none.
        ModuleNotFoundError: on import of this module, where OpenTelemetry's API is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        for name, provider, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if provider is not None and not callable(getattr(provider, method, None)):
                raise TypeError(f"{name} must have a method {method}(), or be None, not {short(provider)}")
        # Weak, because who has dropped this instrument does not tell it how the tasks in hand end.
        self._followed: WeakKeyDictionary[TaskHandle[Any], _Followed] = WeakKeyDictionary()
        self._tracer = trace.get_tracer("trio_conman", tracer_provider=tracer_provider)
        meter = metrics.get_meter("trio_conman", meter_provider=meter_provider)
        self._count = meter.create_up_down_counter(
            "trio_conman.task.count", "{task}", "Tasks that have not ended, by what they do."
        )
        self._retries = meter.create_counter(
            "trio_conman.task.retries", "{retry}", "Attempts that followed a first one."
        )
        self._duration = meter.create_histogram(
            "trio_conman.task.duration",
            "s",
            "Time from the slot of a task to its end.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._wait_duration = meter.create_histogram(
            "trio_conman.task.wait_duration",
            "s",
            "Time from the submission of a task to its slot.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """Begin its span."""
        submitter, name = trace.get_current_span().get_span_context(), _sendable(handle.name)
        span = self._tracer.start_span(
            # It has no callable any more when this is told after its end, as may be of a guest's tasks.
            name if handle._call is None else name_of(handle._call),
            attributes={"trio_conman.task.name": name, "trio_conman.task.index": handle.index},
            links=[trace.Link(submitter)] if submitter.is_valid else [],
        )
        self._followed[handle] = _Followed(span)
        self._add(1, "waiting")

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        """Add an event, make the span the current one of the attempt, and count a retry."""
        followed = self._followed[handle]
        if attempt > 1:
            self._retries.add(1, {"error.type": followed.error_type})
        followed.span.add_event("attempt started", {"trio_conman.attempt": attempt})
        # Never detached: each attempt has a context of its own.
        context.attach(trace.set_span_in_context(followed.span))
        self._move(followed, "running")

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        """Add an event."""
        followed = self._followed[handle]
        followed.error_type = _type_name(error)
        followed.span.add_event(
            "retry scheduled",
            {
                "trio_conman.attempt": handle.retries + 1,
                "trio_conman.delay": delay,
                "error.type": followed.error_type,
            },
        )
        self._move(followed, "backing_off")

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        """End its span, and count it."""
        followed = self._followed.pop(handle)
        span = followed.span
        told: dict[str, str] = {"trio_conman.task.outcome": "success"}
        if not isinstance(outcome, Failure):
            if outcome.recalled:
                told["trio_conman.task.outcome"] = "recalled"
        else:
            told["trio_conman.task.stop_reason"] = outcome.reason.name.lower()
            if outcome.reason is StopReason.CANCELLED:
                told["trio_conman.task.outcome"] = "cancelled"
            else:
                told["trio_conman.task.outcome"] = "failure"
                told["error.type"] = _type_name(outcome.error)
                try:
                    if span.is_recording():
                        span.record_exception(outcome.error, _texts_of(outcome.error))
                except Exception:  # from the error's own methods
                    span.add_event("exception", {"exception.type": told["error.type"]})
                span.set_status(trace.Status(trace.StatusCode.ERROR, _sendable(str(outcome))))
        span.set_attributes({**told, "trio_conman.task.retries": outcome.retries})
        span.end()
        self._add(-1, followed.state)
        self._duration.record(outcome.elapsed, told)
        self._wait_duration.record(outcome.waited)

    def _move(self, followed: _Followed, state: str) -> None:
        self._add(-1, followed.state)
        self._add(1, state)
        followed.state = state

    def _add(self, number: int, state: str) -> None:
        self._count.add(number, {"trio_conman.task.state": state})
