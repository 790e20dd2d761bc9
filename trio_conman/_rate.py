"""How many attempts may start in a time.

**Theory of operation.** GCRA, the generic cell rate algorithm, of ITU-T Recommendation I.371: with a permit
every ``T = per / rate`` seconds, the limiter keeps the time at which the next permit would be due if all had
come evenly, the *theoretical arrival time*. A permit may be taken up to ``(burst - 1) * T`` before that, and
each one moves it by ``T``, from the present if it lies in the past. So ``burst`` permits can be had at once
after idling, and in no window of time more than ``burst + rate * window``.

That time is kept as a start and a number of permits, ``start + taken * T``: a sum of floats would drift.

Tasks stand in a queue from when they have their slot, for in which order trio runs those that were started
together is a matter of chance. The head sleeps until its permit is due; all others sleep until they are the
head. A permit is taken when its time has come and not before: who gives up has taken nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._checks import check_count, check_number
from ._handles import TaskHandle
from ._texts import short


@final
@attrs.frozen(kw_only=True)
class RateLimiterStatistics:
    """Where a rate limiter stands, at one moment."""

    rate: float
    """Permits in each `per` seconds."""
    per: float
    """Seconds."""
    burst: int
    """Permits that can be had at once after idling."""
    tasks_waiting: int
    """Attempts that wait for a permit."""
    paused_for: float
    """Seconds until permits are given again; 0 when it is not paused."""


@final
class RateLimiter:
    """Lets `rate` attempts start in `per` seconds, first come first served; may be shared between managers.

    An attempt that starts late, since the machine was busy, makes the following ones later, as no window of
    time may have more of them than ``burst + rate * window``. A `burst` of a few makes up for that.

    Args:
        rate: permits in each `per` seconds; above 0.
        per: seconds; above 0. Default: 1.
        burst: how many permits can be had at once after idling; an int of at least 1. Default: 1.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
    """

    def __init__(self, rate: float, *, per: float = 1.0, burst: int = 1) -> None:
        for name, value in (("rate", rate), ("per", per)):
            check_number(name, value, finite=True)
            if float(value) == 0:  # a Fraction may be too small for a float
                raise ValueError(f"{name} must be above 0, not {short(value)}")
        check_count("burst", burst, minimum=1)
        if burst == math.inf:
            raise ValueError("burst must be an int of at least 1, not inf: without a limit there is no rate")
        # As floats: a NumPy number would wrap around, or round, and so would all times that come from it.
        self._rate, self._per, self._burst = float(rate), float(per), burst
        self._spare = min(burst - 1, 2**53)  # more would be beyond a float
        self._reset()
        self._clock: trio.abc.Clock | None = None
        # Ordered: to find the first of a dict takes a step for each that was deleted before it.
        self._queue: OrderedDict[TaskHandle[Any], None] = OrderedDict()
        # The trio tasks of those that sleep until they are the head.
        self._sleepers: dict[TaskHandle[Any], trio.lowlevel.Task] = {}

    def _reset(self) -> None:
        self._start = -math.inf  # the last time that no permit was owed
        self._taken = 0  # permits since then
        self._even = -math.inf  # when the next one would be due if all had come evenly
        self._earliest = -math.inf  # when it may be taken
        self._resume = -math.inf  # the end of a pause

    def __repr__(self) -> str:
        return f"<RateLimiter of {self._rate:g} per {self._per:g} s, burst {self._burst}>"

    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds from now; a longer pause stays. For everyone who shares it.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds` is negative, infinite or NaN.
            RuntimeError: called outside of a trio run.
        """
        check_number("seconds", seconds, finite=True)
        self._enter_run()
        self._resume = max(self._resume, trio.current_time() + float(seconds))

    def statistics(self) -> RateLimiterStatistics:
        """Where it stands now.

        Raises:
            RuntimeError: called outside of a trio run.
        """
        self._enter_run()
        return RateLimiterStatistics(
            rate=self._rate,
            per=self._per,
            burst=self._burst,
            tasks_waiting=len(self._queue),
            paused_for=max(0.0, self._resume - trio.current_time()),
        )

    @enable_ki_protection
    def _enter_run(self) -> None:
        """Forget the times of an earlier trio run, which had a clock of its own."""
        clock = trio.lowlevel.current_clock()
        if clock is not self._clock:
            self._clock = clock
            self._reset()
            self._queue.clear()
            self._sleepers.clear()

    def _count(self, now: float) -> None:
        """A permit is taken."""
        if now > self._even:
            self._start, self._taken = now, 0
        self._taken = taken = self._taken + 1
        self._even = self._start + taken * self._per / self._rate
        self._earliest = self._start + (taken - self._spare) * self._per / self._rate

    def _join(self, handle: TaskHandle[Any]) -> None:
        """Stand in the queue, from which a task must `_take`, `_acquire`, or `_leave`."""
        self._queue[handle] = None

    def _leave(self, handle: TaskHandle[Any]) -> None:
        """Leave the queue, if there."""
        if handle in self._queue:
            del self._queue[handle]
            self._wake_head()

    def _wake_head(self) -> None:
        if self._sleepers:
            sleeper = self._sleepers.pop(next(iter(self._queue)), None)
            if sleeper is not None:
                trio.lowlevel.reschedule(sleeper)

    @enable_ki_protection
    def _take(self, handle: TaskHandle[Any], now: float) -> bool:
        """Take a permit if it is the task's turn and one is due; no checkpoint."""
        queue = self._queue
        if next(iter(queue), handle) is not handle or now < self._earliest or now < self._resume:
            return False
        self._count(now)
        if queue:
            del queue[handle]
            self._wake_head()
        return True

    @enable_ki_protection
    async def _acquire(self, handle: TaskHandle[Any]) -> None:
        """Wait for a permit, and take it."""

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._sleepers[handle]
            return trio.lowlevel.Abort.SUCCEEDED

        self._queue.setdefault(handle, None)
        try:
            if next(iter(self._queue)) is not handle:
                self._sleepers[handle] = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(abort)
            # Again and again, because a pause may come meanwhile.
            while (wake := max(self._earliest, self._resume)) > trio.current_time():  # noqa: ASYNC110  # for a time
                await trio.sleep_until(wake)
            # Cancelled in the very tick: then the permit is for the next one.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._count(trio.current_time())
        finally:
            self._leave(handle)
