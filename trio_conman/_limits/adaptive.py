"""A limit that finds how many at once a service bears."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_finite, check_int, check_sync, check_type
from trio_conman._base.explained import explained
from trio_conman._base.hidden import refuse_twins
from trio_conman._base.log import log_fault
from trio_conman._base.outlast import is_over
from trio_conman._base.texts import short
from trio_conman._policy.adaptive import Controller
from trio_conman._policy.retry import RetriableError, is_spent, made_of

from .line import Line


@final
@attrs.frozen(kw_only=True)
class AdaptiveLimitStatistics:
    """What an adaptive limit has found, at one moment."""

    limit: float
    """How many attempts may run at once; the manager's limit is the whole number below."""
    cuts: int
    """How often it was cut because the service was overloaded."""
    overloads: int
    """Attempts that ended so; those of one window make one cut."""
    growth: float
    """Slots added so far, all together."""
    steps_back: int
    """How often it was lowered because more at once had brought no more throughput."""
    attempt_seconds: float | None
    """The mean time of an attempt in the latest window in which that was measured; None before the first."""
    throughput: float | None
    """Attempts a second in that window; None before the first."""


@final
class AdaptiveLimit:
    """Finds how many attempts at once a service bears, and follows when that changes.

    Given as ``limit`` to `ConMan.open`, to one manager after another, but to one at a time; the next one
    goes on from what was found. The limit grows while the slots are used and attempts succeed, and is cut
    when one is overloaded: at most once in the time that an attempt takes. Only attempts are timed, without
    their waits for a slot, a permit or a retry. It grows no further where more at once have brought no more
    throughput, so that a service that queues instead of refusing is not flooded. Cancelled attempts, and
    failures that are no overload, tell nothing.

    Args:
        minimum: it is never lower; an int of at least 1. Default: 2.
        maximum: it is never higher; an int of at least `minimum`. Default: 200.
        initial: where it begins; an int of at least 1. Below `minimum` that, above `maximum` that.
            Default: 10.
        overloaded: whether an error means that the service was overloaded: a sync function of what the
            attempt raised, which returns a bool. Default: a `RetriableError` with ``retry_after``, and a
            `trio.TooSlowError`, as ``attempt_timeout`` has it; also inside of either, or of a group.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
    """

    __slots__ = ("__weakref__", "_controller", "_line", "_lock", "_overloaded", "_run")

    @explained()
    def __init__(
        self,
        minimum: int = 2,
        maximum: int = 200,
        *,
        initial: int = 10,
        overloaded: Callable[[Exception], bool] | None = None,
    ) -> None:
        check_int("minimum", minimum, minimum=1)
        check_int("maximum", maximum, minimum=minimum)
        check_finite("maximum", maximum)  # as the limits between are
        check_int("initial", initial, minimum=1)
        if overloaded is not None:
            check_sync("overloaded", overloaded, "a sync function of an error, or None")
        self._overloaded = _is_overload if overloaded is None else overloaded
        self._controller = Controller(minimum, maximum, float(min(max(initial, minimum), maximum)))
        # That of the manager which uses it, and its trio run.
        self._line: Line | None = None
        self._run: trio.lowlevel.TrioToken | None = None
        self._lock = threading.Lock()  # or two threads would open it at once

    def __reduce__(self) -> NoReturn:
        refuse_twins(self)

    def __repr__(self) -> str:
        rule = self._controller
        return f"<AdaptiveLimit, {self._slots()} of {rule.minimum} to {rule.maximum}>"

    def statistics(self) -> AdaptiveLimitStatistics:
        """What it has found so far."""
        rule = self._controller
        window = rule.window
        return AdaptiveLimitStatistics(
            limit=float(rule.limit),  # which a bound, or who has assigned one, gives as an int
            cuts=rule.cuts,
            overloads=rule.overloads,
            growth=rule.growth,
            steps_back=rule.steps_back,
            attempt_seconds=None if window is None else window.seconds,
            throughput=None if window is None or not window.seconds else window.limit / window.seconds,
        )

    def _slots(self) -> int:
        """The limit of the manager."""
        return int(self._controller.limit)

    def _open(self, line: Line) -> None:
        """A line has this limit from here on, until `_close`.

        Raises:
            RuntimeError: one has it, in a run that has not crashed; nothing has changed.
        """
        with self._lock:
            if self._line is not None and self._run is not None and not is_over(self._run):
                raise RuntimeError(
                    f"limit is an AdaptiveLimit that manager {self._line.name!r} uses just now: "
                    "each ConMan.open() needs one of its own"
                )
            self._line, self._run = line, trio.lowlevel.current_trio_token()
        self._controller.restart()

    def _close(self, line: Line) -> None:
        """A line has it no more, if it had."""
        if self._line is line:
            self._line = None

    @enable_ki_protection
    def _assign(self, line: Line, limit: int | float) -> None:
        """Go on from a limit that a user has set, if that line has this one yet; else that is its own alone.

        Raises:
            ValueError: it is out of the range; nothing has changed.
        """
        rule = self._controller
        if not rule.minimum <= limit <= rule.maximum:
            raise ValueError(
                f"limit must be from {rule.minimum} to {rule.maximum}, the range of its AdaptiveLimit, "
                f"not {short(limit)}"
            )
        if self._line is line:
            rule.assign(limit)
            self._tell_line()
        else:
            line.limit = limit

    @enable_ki_protection
    def _ended(self, began: float, now: float, in_use: int, *, overloaded: bool = False) -> None:
        """An attempt has succeeded while so many ran, this one included, or has found it overloaded."""
        self._controller.ended(began, now, in_use, overloaded=overloaded)
        self._tell_line()

    def _failed(self, error: Exception, began: float, now: float, in_use: int) -> None:
        """An attempt has failed; most errors tell nothing."""
        if self._is_overload(error):
            self._ended(began, now, in_use, overloaded=True)

    def _tell_line(self) -> None:
        line, slots = self._line, self._slots()
        if line is not None and slots != line.limit:
            line.limit = slots

    def _is_overload(self, error: Exception) -> bool:
        """What `overloaded` says; what it may not say is logged and means no."""
        try:
            answer = self._overloaded(error)
            check_type("what it returns", answer, bool, "True or False")
            return answer
        except Exception as fault:
            log_fault(
                "overloaded raised, or gave no bool, for an error of type %s; it counts as no overload",
                type(error).__qualname__,
                error=fault,
            )
            return False


def _is_overload(error: Exception) -> bool:
    """Whether the service has asked for a pause, or the time of the attempt was over."""
    return any(
        isinstance(each, trio.TooSlowError)
        or (isinstance(each, RetriableError) and each.retry_after is not None and not is_spent(each))
        for each in made_of(error)
    )
