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

*Too late.* Who stands before somebody says when his permit is due at the earliest. So each who waits says by
when it must have one, and is judged in the order of the queue, as soon as all before it have been: it is
*expected*, or it is told at once that it would be too late, and leaves. Who is expected stays so, as nobody
can get in before it, unless permits come later than was thought. Then those who may be too late are woken,
to say anew by when they must start, for deadlines can be moved; who stands behind them is judged after them.

*One run at a time.* The times are those of one trio run's clock, and who waits can be woken in that run's
thread only. So the limiter belongs to the run that has managers open with it, until they are closed, or that
run is over, however it ended.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._checks import check_count, check_number
from ._outlast import is_over
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
    """Attempts that wait for a permit, those of paused managers aside."""
    paused_for: float
    """Seconds until permits are given again; 0 when it is not paused."""


@final
@attrs.define(eq=False, repr=False)
class Sleeper:
    """Who waits for a permit, by when it must have one, and how to wake it."""

    task: trio.lowlevel.Task
    # The permit must be due before the one, and not after the other.
    deadline: float = math.inf
    latest: float = math.inf
    # When its permit would have been due, once that is known to be too late.
    too_late: float | None = None
    # Until when it sleeps; None while it is awake.
    until: float | None = None

    @property
    def soonest(self) -> float:
        """No permit that is due before is too late."""
        return min(self.deadline, self.latest)

    def misses(self, due: float) -> bool:
        """Whether a permit that is due then is too late."""
        return due >= self.deadline or due > self.latest

    def wake(self) -> None:
        """Let it look again, if it sleeps."""
        if self.until is not None:
            trio.lowlevel.reschedule(self.task)
            self.until = None

    async def sleep(self, until: float) -> None:
        """Sleep until then, or until it is woken."""

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self.until = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.until = until
        if until == math.inf:
            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            with trio.CancelScope(deadline=until):
                await trio.lowlevel.wait_task_rescheduled(abort)


@final
class RateLimiter:
    """Lets `rate` attempts start in `per` seconds, first come first served; may be shared between managers.

    An attempt that starts late, since the machine was busy, makes the following ones later, as no window of
    time may have more of them than ``burst + rate * window``. A `burst` of a few makes up for that.

    Its methods are called in the trio run, and the thread, that its managers live in. Another run may use it
    when they are closed, and then starts afresh.

    Args:
        rate: permits in each `per` seconds; above 0.
        per: seconds; above 0. Default: 1.
        burst: how many permits can be had at once after idling; an int of at least 1. Default: 1.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
    """

    __slots__ = (
        "__weakref__",
        "_burst",
        "_clock",
        "_earliest",
        "_even",
        "_expected",
        "_lock",
        "_now",
        "_per",
        "_queue",
        "_rate",
        "_resume",
        "_run",
        "_sleepers",
        "_soonest",
        "_spare",
        "_start",
        "_taken",
        "_users",
    )

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
        self._run: trio.lowlevel.TrioToken | None = None
        self._clock: trio.abc.Clock | None = None
        self._now: Callable[[], float] = trio.current_time
        self._lock = threading.Lock()  # for the change from one run to another
        self._empty()
        self._reset()

    def _empty(self) -> None:
        self._users = 0  # managers of the run that have not closed
        # Who waits, and for whom: those who will have their permits in time, and behind them those who have
        # not been judged. Ordered: to find the first of a dict takes a step for each that was deleted before.
        self._expected: OrderedDict[object, object] = OrderedDict()
        self._queue: OrderedDict[object, object] = OrderedDict()
        # Those who have said by when they must have a permit.
        self._sleepers: dict[object, Sleeper] = {}
        self._soonest = math.inf  # no permit that is due before is too late for any of them

    def _reset(self) -> None:
        self._start = -math.inf  # the last time that no permit was owed
        self._taken = 0  # permits since then
        self._even = -math.inf  # when the next one would be due if all had come evenly
        self._earliest = -math.inf  # when it may be taken
        self._resume = -math.inf  # the end of a pause

    def __repr__(self) -> str:
        return f"<RateLimiter of {self._rate:g} per {self._per:g} s, burst {self._burst}>"

    @property
    def rate(self) -> float:
        """Permits in each `per` seconds."""
        return self._rate

    @property
    def per(self) -> float:
        """Seconds."""
        return self._per

    @property
    def burst(self) -> int:
        """How many permits can be had at once after idling."""
        return self._burst

    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds from now; a longer pause stays. For everyone who shares it.

        Attempts that wait, and cannot start before their deadlines any more, fail at once.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds` is negative, infinite or NaN.
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
        """
        check_number("seconds", seconds, finite=True)
        self._enter_run()
        self._pause_until(self._now() + float(seconds))

    def statistics(self) -> RateLimiterStatistics:
        """Where it stands now.

        Raises:
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
        """
        self._enter_run()
        return RateLimiterStatistics(
            rate=self._rate,
            per=self._per,
            burst=self._burst,
            tasks_waiting=len(self._expected) + len(self._queue),
            paused_for=max(0.0, self._resume - self._now()),
        )

    @enable_ki_protection
    def _enter_run(self) -> None:
        """Belong to the caller's trio run; another one's times are forgotten, as it had a clock of its own.

        Raises:
            RuntimeError: there is no run, or another one uses the limiter.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(
                f"{self!r} can be used inside of a trio run only: "
                "in another thread, call its methods with trio.from_thread.run_sync"
            )
        run = trio.lowlevel.current_trio_token()
        if run is self._run:
            return
        clock = trio.lowlevel.current_clock()
        with self._lock:
            if self._users and self._run is not None and not is_over(self._run):
                raise RuntimeError(
                    f"{self!r} is used by a manager of another trio run: give each run a limiter of its own, "
                    "or call the methods of this one with trio.from_thread.run_sync"
                )
            self._empty()
            if clock is not self._clock:
                self._reset()
            self._run, self._clock, self._now = run, clock, clock.current_time

    # When permits are due

    def _count(self, now: float) -> None:
        """A permit is taken."""
        if now > self._even:
            self._start, self._taken = now, 0
        self._taken = taken = self._taken + 1
        self._even = self._start + taken * self._per / self._rate
        self._earliest = self._start + (taken - self._spare) * self._per / self._rate

    def _due(self, before: int) -> float:
        """When a permit is due, at the earliest, after so many others: as if all were taken in time."""
        first = max(self._now(), self._earliest, self._resume)
        start, taken = (first, 0) if first > self._even else (self._start, self._taken)
        return max(first, start + (taken + before - self._spare) * self._per / self._rate)

    @enable_ki_protection
    def _pause_until(self, time: float) -> None:
        if time > self._resume:
            self._resume = time
            self._doubt()

    # The queue

    def _take(self, key: object, now: float) -> bool:
        """Take a permit if it is somebody's turn and one is due; no checkpoint."""
        queue = self._expected or self._queue
        if next(iter(queue), key) is not key or now < self._earliest or now < self._resume:
            return False
        self._count(now)
        if queue:
            del queue[key]
            if self._sleepers:
                self._move_up()
        return True

    def _wait(self, key: object, owner: object, sleeper: Sleeper) -> float:
        """Join the queue, if not there, and be judged; returns until when to sleep."""
        if key not in self._expected:
            self._queue.setdefault(key, owner)
            self._sleepers[key] = sleeper
            self._soonest = min(self._soonest, sleeper.soonest)
            self._move_up()
        if next(iter(self._expected), None) is key:
            return max(self._earliest, self._resume)
        return math.inf

    def _leave(self, key: object) -> None:
        """Leave the queue, if there."""
        self._sleepers.pop(key, None)
        if self._expected.pop(key, None) is not None or self._queue.pop(key, None) is not None:
            self._move_up()

    def _move_up(self) -> None:
        """Judge who can be judged now, and wake the head, if it is another one."""
        if self._queue:
            self._judge()
        self._wake(next(iter(self._expected), None))

    def _wake(self, head: object) -> None:
        """Wake who is the head from now on."""
        sleeper = self._sleepers.get(head)
        if sleeper is not None and sleeper.until == math.inf:
            sleeper.wake()

    def _judge(self) -> None:
        """Judge those who can be: up to the first who has not said yet by when it must have a permit."""
        while self._queue:
            key = next(iter(self._queue))
            sleeper = self._sleepers.get(key)
            if sleeper is None:
                break
            if sleeper.soonest < math.inf and sleeper.misses(due := self._due(len(self._expected))):
                sleeper.too_late = due
                sleeper.wake()
                del self._queue[key]
            else:
                self._expected[key] = self._queue.pop(key)

    def _doubt(self) -> None:
        """Permits come later than was thought: who may be too late is to say anew by when it must have one.

        What may fail, deep in a caller's stack, comes before what it must keep in step with.
        """
        if self._due(len(self._expected)) < self._soonest:
            return
        doubtful: list[object] = []
        for before, key in enumerate(self._expected):
            if self._sleepers[key].misses(self._due(before - len(doubtful))):
                doubtful.append(key)
        if not doubtful:
            return
        expected = list(self._expected)
        behind = expected[expected.index(doubtful[0]) :]
        for key in doubtful:
            self._sleepers[key].wake()
        for key in doubtful:
            del self._sleepers[key]
        # All keep their places: those behind are judged when those before them are.
        for key in reversed(behind):
            self._queue[key] = self._expected.pop(key)
            self._queue.move_to_end(key, last=False)
        self._soonest = min((each.soonest for each in self._sleepers.values()), default=math.inf)
