"""Hooks by which a user follows the tasks of a manager, and one that logs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from math import inf
from threading import local
from typing import Any, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_bool, check_type, deferral
from trio_conman._base.log import log, log_fault, logger
from trio_conman._base.outcomes import Outcome, StopReason, Success
from trio_conman._base.texts import one_line, short, text_of

from .handles import TaskHandle


class Instrument:
    """Follows the tasks of a manager; override what you want to know of. Given to `ConMan.open`.

    The methods are called at once, by whichever trio task it happens in, so they must be sync and quick; what
    happens outside of trio tasks is told soon, inside one, in a copy of the context there.
    ``handle.cancel()`` works in each of them. One that raises is logged, and that manager does not call the
    instrument again; its tasks notice nothing. All are told of things in the order in which they happen: of
    what a method causes, be it in another manager, after what that method was told of. An item of a map is a
    task too. An instrument may be given to many managers. The methods may also be set on the object, before
    it is given; a mock made from this class will do.
    """

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """A task was accepted; called in the context of the code that handed it in.

        Where it is cancelled here, it ends before its first step.
        """

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        """An attempt starts now; 1 is the first. Called in the context of the attempt."""

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        """An attempt failed with `error`, and the next one follows after `delay` seconds."""

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        """A task has its outcome; one that was recalled has had no attempt."""

    def limit_changed(self, manager: str, limit: int | float) -> None:
        """The limit of the manager of that name was set, by whoever shares it, or by an `AdaptiveLimit`.

        Of the latter it is told at the opening too.
        """

    def pause_changed(self, manager: str, seconds: float) -> None:
        """For so many seconds the manager of that name starts nothing, or no attempt gets a permit.

        `math.inf` until it is resumed, 0 when it was; else, and when it is resumed meanwhile, for as long as
        one of its rate limiters pauses, which is told when that begins or gets longer, not when it ends.
        """


HOOKS = [name for name in vars(Instrument) if not name.startswith("_")]


class LoggingInstrument(Instrument):
    """Logs to the logger "trio_conman".

    Retries at level WARNING; failures at ERROR, with the traceback, but cancelled tasks at INFO; all else at
    DEBUG. Each record has the fields ``task_name`` and ``task_index``, and those of its method.

    Args:
        arguments: whether to log what the tasks are called with too, shortened, also as the field
            ``task_args``. Default: False, since arguments may hold secrets. Values are never logged.

    Raises:
        TypeError: `arguments` is no bool.
    """

    def __init__(self, *, arguments: bool = False) -> None:
        check_bool("arguments", arguments)
        self._arguments = arguments

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """Log it at DEBUG."""
        self._log(logging.DEBUG, handle, f"{_task(handle)}: submitted")

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        """Log it at DEBUG, with the field ``attempt``."""
        self._log(logging.DEBUG, handle, f"{_task(handle)}: attempt {attempt} started", attempt=attempt)

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        """Log it at WARNING, with ``attempt`` (the failed one), ``error_type``, ``error``, and ``delay``."""
        attempt, fields = handle.retries + 1, _error_fields(error)
        reads = f"{fields['error_type']}: {one_line(fields['error'])}"
        text = f"{_task(handle)}: attempt {attempt} failed, retry in {delay:.3f} s: {reads}"
        self._log(logging.WARNING, handle, text, attempt=attempt, delay=delay, **fields)

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        """Log it, with ``retries``, ``waited`` and ``elapsed``.

        A success has ``recalled`` too, a failure ``reason`` and the fields of its error.
        """
        fields: dict[str, Any] = {
            "retries": outcome.retries,
            "waited": outcome.waited,
            "elapsed": outcome.elapsed,
        }
        if isinstance(outcome, Success):
            how = "recalled" if outcome.recalled else f"succeeded in {outcome.elapsed:.3f} s"
            self._log(logging.DEBUG, handle, f"{_task(handle)}: {how}", **fields, recalled=outcome.recalled)
            return
        fields |= {"reason": outcome.reason.name, **_error_fields(outcome.error)}
        if outcome.reason is StopReason.CANCELLED:
            self._log(logging.INFO, handle, str(outcome), **fields)
        else:
            self._log(logging.ERROR, handle, str(outcome), outcome.error, **fields)

    def limit_changed(self, manager: str, limit: int | float) -> None:
        """Log it at DEBUG, with the fields ``manager`` and ``limit`` only."""
        fields = {"manager": manager, "limit": limit}
        log(logging.DEBUG, "%s: limit %s", one_line(manager), limit, error=None, extra=fields)

    def pause_changed(self, manager: str, seconds: float) -> None:
        """Log it at DEBUG, with the fields ``manager`` and ``seconds`` only."""
        fields = {"manager": manager, "seconds": seconds}
        text = "resumed" if seconds == 0 else "paused" if seconds == inf else f"paused for {seconds:.3f} s"
        log(logging.DEBUG, "%s: %s", one_line(manager), text, error=None, extra=fields)

    def _log(
        self,
        level: int,
        handle: TaskHandle[Any],
        text: str,
        error: Exception | None = None,
        /,
        **fields: object,
    ) -> None:
        if not logger.isEnabledFor(level):
            return
        fields = {"task_name": handle.name, "task_index": handle.index, **fields}
        if self._arguments:
            fields["task_args"] = short(handle.args)
            text += f"; arguments: {fields['task_args']}"
        log(level, "%s", text, error=error, extra=fields)


def _task(handle: TaskHandle[Any]) -> str:
    return f"{one_line(handle.name)} (index {handle.index})"


def _error_fields(error: Exception) -> dict[str, str]:
    return {"error_type": type(error).__qualname__, "error": text_of(error)}


@final
class Instruments:
    """The instruments of one manager.

    Raises:
        TypeError: what is given is no iterable of instruments, or a hook of one is async or a
            generator function.
        ValueError: an instrument is given twice.
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        check_type("instruments", instruments, Iterable, "an iterable of Instrument objects")
        given = tuple(instruments)
        for each in given:
            if not isinstance(each, Instrument):
                raise TypeError(
                    f"instruments must be an iterable of Instrument objects, with no {short(each)}"
                )
            for hook in HOOKS:
                if (kind := deferral(getattr(each, hook))) is not None:
                    raise TypeError(
                        f"instruments must have sync methods, but {hook} of {short(each)} is {kind}"
                    )
        if len({id(each) for each in given}) < len(given):
            raise ValueError(f"instruments must be different ones, not {short(given)}")
        self._by_hook = {hook: [each for each in given if _hears(each, hook)] for hook in HOOKS}
        # What could not be told when it happened: see `tell`.
        self._late: deque[Callable[[], object]] = deque()
        # What a handler of the log raised that is no Exception.
        self._interrupt: BaseException | None = None
        # Has `catch_up` called soon, by a trio task of the manager.
        self.wake: Callable[[], None]

    def __bool__(self) -> bool:
        return any(self._by_hook.values())

    @property
    def hear_ends(self) -> bool:
        """Whether one of them is told how tasks end."""
        return bool(self._by_hook["task_finished"])

    @enable_ki_protection
    def tell(self, hook: str, *args: Any, context: Context | None = None) -> None:
        """Call a hook of all instruments; in a copy of a `context`, where one is given.

        Outside of trio tasks (a deadline that passes ends what is queued amid trio's own loop, and in guest
        mode the host's callbacks submit tasks) that is done soon, in the order of the calls.
        """
        if trio.lowlevel.in_trio_task():
            self._tell_late()
            self._tell(hook, args, context)
        else:
            where = copy_context() if context is None else context
            self._late.append(lambda: self._tell(hook, args, where))
            self.wake()

    def catch_up(self) -> None:
        """Tell what could not be told when it happened; raise what a handler of the log raised."""
        self._tell_late()
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            try:
                raise interrupt
            finally:
                del interrupt

    def _tell_late(self) -> None:
        while self._late:
            self._late.popleft()()

    def _tell(self, hook: str, args: tuple[Any, ...], context: Context | None) -> None:
        begun = _telling.begun
        begun.append((self, deque(self._by_hook[hook]), hook, args, context))
        try:
            # What a hook causes comes after all that happened before, which others may not have heard yet.
            for by, waiting, what, given, where in begun.copy():
                while waiting:
                    instrument = waiting.popleft()
                    if not any(each is instrument for each in by._by_hook[what]):
                        continue  # it was dropped meanwhile
                    try:  # here, as each call makes the stack deeper
                        if where is None:
                            getattr(instrument, what)(*given)
                        else:  # a copy: a hook that has caused this may run in the context itself
                            where.copy().run(getattr(instrument, what), *given)
                    except RecursionError as error:
                        # Here it would be too deep to say so.
                        by._late.append(partial(by._drop, instrument, what, error))
                    except BaseException as error:
                        by._drop(instrument, what, error)
        finally:
            begun.pop()

    def _drop(self, instrument: Instrument, hook: str, error: BaseException) -> None:
        for each, watching in self._by_hook.items():
            self._by_hook[each] = [other for other in watching if other is not instrument]
        text = "%s of an instrument of type %s raised; it is not called any more"
        try:
            log_fault(text, hook, type(instrument).__qualname__, error=error)
        except BaseException as interrupt:
            # Whoever is told of a task has its books to keep: it leaves through the manager's nursery.
            self._interrupt = interrupt
            self.wake()


class _Telling(local):
    """What a thread tells just now, in the order in which it happened."""

    def __init__(self) -> None:
        # By whom, with those who have not heard yet, and its context where that is another one. Each was
        # caused by a hook of one before, be it of the same manager or of another.
        self.begun: list[tuple[Instruments, deque[Instrument], str, tuple[Any, ...], Context | None]] = []


_telling = _Telling()


def _hears(instrument: Instrument, hook: str) -> bool:
    """Whether an instrument has a hook of its own, be it of its class or of the object alone."""
    method = getattr(instrument, hook)
    return getattr(method, "__func__", None) is not getattr(Instrument, hook)
