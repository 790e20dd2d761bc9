"""How many attempts may start in a time: the limiter that users hold."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from math import inf
from typing import Any, NoReturn, Self, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_finite, check_number
from trio_conman._base.explained import explained
from trio_conman._base.hidden import refuse_twins
from trio_conman._base.outlast import is_over
from trio_conman._base.stack import need_more_stack
from trio_conman._books.callables import name_of

from .asking import Asked, ask
from .cost import Cost, check_burst, check_cost, check_permits
from .meter import MOST, Meter
from .stored import Stored
from .turns import Gate, delay, look_again, pause
from .waiters import Waiters


@final
@attrs.frozen(kw_only=True)
class RateLimiterStatistics:
    """Where a rate limiter stands, at one moment."""

    rate: float
    """Permits in each `per` seconds; `math.inf` if it only pauses."""
    per: float
    """Seconds."""
    burst: int
    """Permits that can be had at once after idling."""
    tasks_waiting: int
    """Attempts that wait for permits, those of paused managers aside, and calls of `RateLimiter.acquire`."""
    paused_for: float
    """Seconds until permits are given again; 0 when it is not paused."""
    available: float
    """Permits that could be taken now, if nobody waited; negative when some are owed."""


@final
class RateLimiter:
    """Lets `rate` attempts start in `per` seconds, first come first served; may be shared between managers.

    No window of so many seconds has more of them than ``burst + rate * window / per`` (GCRA, ITU-T I.371). So
    an attempt that starts late, since the machine was busy, makes the following ones later. A `burst` of a
    few makes up for that.

    Its methods are called in the trio run, and the thread, that its managers live in. Another run may use it
    when they are closed, and then starts afresh.

    Args:
        rate: permits in each `per` seconds; above 0.
        per: seconds; above 0. Default: 1.
        burst: how many permits can be had at once after idling; an int of at least 1. Default: 1.
        cost: how many permits an attempt takes, above 0: a number, or a sync callable that gets the arguments
            of the task, once for each attempt. One that fails, fails the task. More than `burst` are taken
            when none are owed, and are owed then; so they pass the bound above. Default: 1.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
    """

    __slots__ = (
        "__weakref__",
        "_burst",
        "_clock",
        "_cost",
        "_gate",
        "_lock",
        "_meter",
        "_run",
        "_stored",
        "_users",
    )

    @explained()
    def __init__(self, rate: float, *, per: float = 1.0, burst: int = 1, cost: Cost = 1) -> None:
        if type(rate) is float and rate == inf:
            raise ValueError("rate must be a finite number above 0, not inf: see RateLimiter.unlimited()")
        # As floats: a NumPy number would wrap around, or round, and so would all times that come from it.
        rate, per = check_permits("rate", rate), check_permits("per", per)
        self._make(rate, per, check_burst("burst", burst), check_cost(cost))

    def _make(self, rate: float, per: float, burst: int, cost: Cost) -> None:
        self._burst, self._cost = burst, cost
        self._meter = Meter(rate, per, float(min(burst, MOST)))
        self._gate = Gate(self._meter)
        self._run: trio.lowlevel.TrioToken | None = None
        self._clock: trio.abc.Clock | None = None
        self._lock = threading.Lock()  # for the change from one run to another
        self._users = 0  # of the run: managers that have not closed, and calls that wait
        self._stored: Stored | None = None  # where it stands as soon as there is a clock

    @classmethod
    def unlimited(cls) -> Self:
        """A limiter without a rate: it only pauses, by `pause_for`, a ``retry_after``, or `observe`."""
        self = cls.__new__(cls)
        self._make(inf, 1.0, 1, 1.0)
        return self

    @classmethod
    def restore(cls, snapshot: Mapping[str, float], *, cost: Cost = 1) -> Self:
        """A limiter that goes on where another one stood when `snapshot` was taken of it.

        The time since then counts by the wall clock. If that was set back, nothing has come back since then.
        `rate`, `per` and `burst` are those of then, too: assign what is different now.

        Args:
            snapshot: what `snapshot` returned, also as JSON has kept it.
            cost: as for a new one; it is not in the snapshot. Default: 1.

        Raises:
            TypeError: `snapshot` is no mapping, or lacks a key, or a value in it is no number; or `cost` is
                of the wrong kind.
            ValueError: a value in `snapshot`, or `cost`, is out of its range.
        """
        stored = Stored.of(snapshot)
        self = cls.__new__(cls)
        self._make(stored.rate, stored.per, stored.burst, check_cost(cost))
        self._stored = stored
        return self

    def snapshot(self) -> dict[str, float]:
        """Where it stands, for `restore`, maybe in another process: a small dict that JSON can keep.

        Who was killed cannot save anything. So save it when an attempt has taken its permits, before it does
        what they are for.

        Raises:
            RuntimeError: called outside of the trio run whose managers use the limiter.
        """
        meter, now = self._meter, self._time()
        if self._stored is not None:
            return attrs.evolve(self._stored, rate=meter.rate, per=meter.per, burst=self._burst).as_dict()
        return Stored.now(meter, self._burst, now).as_dict()

    def __reduce__(self) -> NoReturn:
        refuse_twins(self)

    def __repr__(self) -> str:
        meter = self._meter
        if meter.rate == inf:
            return "<RateLimiter without a rate>"
        return f"<RateLimiter of {meter.rate:g} per {meter.per:g} s, burst {self._burst}>"

    @property
    def rate(self) -> float:
        """Permits in each `per` seconds. May be assigned at any time, as `per` and `burst` may.

        What is owed stays so, and those who wait are served by the new numbers from now on.

        Raises:
            RuntimeError: assigned outside of the trio run whose managers use the limiter.
            TypeError: assigned what is no number.
            ValueError: assigned what is out of its range.
        """
        return self._meter.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._change(rate=check_permits("rate", rate))

    @property
    def per(self) -> float:
        """Seconds."""
        return self._meter.per

    @per.setter
    def per(self, per: float) -> None:
        self._change(per=check_permits("per", per))

    @property
    def burst(self) -> int:
        """How many permits can be had at once after idling."""
        return self._burst

    @burst.setter
    @enable_ki_protection
    def burst(self, burst: int) -> None:
        burst = check_burst("burst", burst)
        self._change(burst=float(min(burst, MOST)))
        self._burst = burst

    async def acquire(self, permits: float = 1) -> None:
        """Wait for permits in the queue of all others, and take them; always a checkpoint.

        For code that makes several requests in one task. A deadline ends the wait when it has come.

        Args:
            permits: how many, above 0. Default: 1.

        Raises:
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
            TypeError: `permits` is no number.
            ValueError: `permits` is out of its range.
        """
        permits = check_permits("permits", permits)
        self._enter_run()
        need_more_stack()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._take(permits):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._wait(permits)

    def acquire_nowait(self, permits: float = 1) -> None:
        """Take permits at once.

        Args:
            permits: how many, above 0. Default: 1.

        Raises:
            trio.WouldBlock: they are not due, or others wait.
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
            TypeError: `permits` is no number.
            ValueError: `permits` is out of its range.
        """
        permits = check_permits("permits", permits)
        self._enter_run()
        if not self._take(permits):
            raise trio.WouldBlock

    @enable_ki_protection
    def charge(self, permits: float) -> None:
        """Settle what was not known before: what an attempt took, less what it has cost.

        What is owed by that is paid off before anybody starts. What is given back never makes more than
        `burst`; and of what the service has said only as much is left again as the task took last.

        Args:
            permits: how many more; negative to give some back.

        Raises:
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
            TypeError: `permits` is no number.
            ValueError: `permits` is infinite or NaN.
        """
        permits = check_finite("permits", permits)
        self._enter_run()
        need_more_stack()
        meter, now = self._meter, trio.current_time()
        meter.charge(permits, now, *self._gate.marks.settle(permits))
        if permits > 0:
            last = [bound.until - now for bound in meter.bounds[-1:]]
            delay(self._gate, max([permits * meter.per / meter.rate, *last]))
        else:
            look_again(self._gate)

    @enable_ki_protection
    def observe(self, *, remaining: float, reset: float) -> None:
        """Heed what the service says: so many permits are left for so many seconds. It only slows down.

        Call it in the task whose attempt, or whose `acquire`, the answer is for: permits that others have
        taken since then are counted.

        Args:
            remaining: permits, at least 0; `math.inf` says nothing.
            reset: seconds from now, at least 0.

        Raises:
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
            TypeError: a parameter is no number.
            ValueError: a parameter is out of its range.
        """
        remaining = check_number("remaining", remaining)
        reset = check_number("reset", reset, finite=True)
        self._enter_run()
        need_more_stack()
        meter, now, mine = self._meter, trio.current_time(), self._gate.marks.mine()
        total = meter.total if mine is None else min(mine, meter.total)
        if seconds := meter.observe(remaining + total, now + reset, total, now):
            delay(self._gate, seconds)  # which may be more than it says

    @enable_ki_protection
    def pause_for(self, seconds: float) -> None:
        """Give no permit for so many seconds from now; a longer pause stays. For everyone who shares it.

        Attempts that wait, and cannot start before their deadlines any more, fail at once.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds` is negative, infinite or NaN.
            RuntimeError: called outside of a trio run, or of the one whose managers use the limiter.
        """
        seconds = check_number("seconds", seconds, finite=True)
        self._enter_run()
        need_more_stack()
        pause(self._gate, seconds, trio.current_time())

    def statistics(self) -> RateLimiterStatistics:
        """Where it stands now.

        Raises:
            RuntimeError: called outside of the trio run whose managers use the limiter.
        """
        meter, now = self._meter, self._time()
        if self._stored is not None:  # there was no run yet, and so no clock
            meter, now = meter.copy(), 0.0
            self._stored.go_on(meter, now)
        return RateLimiterStatistics(
            rate=meter.rate,
            per=meter.per,
            burst=self._burst,
            tasks_waiting=self._gate.waiting(),
            paused_for=max(0.0, meter.resume - now),
            available=meter.available(now),
        )

    # The run that it belongs to

    def _time(self) -> float:
        """The time on its clock, outside of trio too where no run uses it.

        Raises:
            RuntimeError: a run uses it, and this is not inside of that.
        """
        if trio.lowlevel.in_trio_run():
            self._enter_run()
        elif self._is_used():
            raise self._outside()
        return -inf if self._clock is None else self._clock.current_time()

    def _is_used(self) -> bool:
        return self._users > 0 and self._run is not None and not is_over(self._run)

    def _outside(self) -> RuntimeError:
        return RuntimeError(
            f"{self!r} can be used inside of trio.run() only, not of asyncio.run(): "
            "in another thread, call its methods with trio.from_thread.run_sync"
        )

    @enable_ki_protection
    def _enter_run(self, users: int = 0) -> None:
        """Belong to the caller's trio run; another one's times are forgotten, as it had a clock of its own.

        With so many more who use it, until `_leave_run`: no other run gets in between.

        Raises:
            RuntimeError: there is no run, or another one uses the limiter.
        """
        if not trio.lowlevel.in_trio_run():
            raise self._outside()
        run = trio.lowlevel.current_trio_token()
        if run is self._run and not users:
            return
        clock = trio.lowlevel.current_clock()
        with self._lock:
            if run is not self._run:
                if self._is_used():
                    raise RuntimeError(
                        f"{self!r} is used by a manager of another trio run: give each run a limiter of "
                        "its own, or call the methods of this one with trio.from_thread.run_sync"
                    )
                self._gate.empty()
                self._users = 0
                if clock is not self._clock:
                    self._meter.reset()
                self._run, self._clock = run, clock
                if self._stored is not None:
                    self._stored.go_on(self._meter, clock.current_time())
                    self._stored = None
            self._users += users

    def _leave_run(self, run: trio.lowlevel.TrioToken | None) -> None:
        """One that has used it in that run does so no more."""
        # It may be another run's by now, if this one crashed, and this is the garbage collector's doing.
        if self._run is run:
            self._users -= 1

    # What must not be interrupted

    @enable_ki_protection
    def _take(self, permits: float) -> bool:
        return self._waiters(permits).take(object(), trio.current_time())

    def _waiters(self, permits: float) -> Waiters:
        return Waiters((self._gate,), ((self._gate, permits),))

    @enable_ki_protection
    async def _wait(self, permits: float) -> None:
        self._enter_run(users=1)
        run = self._run
        try:
            await self._waiters(permits).acquire(object(), patient=True)
        finally:
            self._leave_run(run)

    @enable_ki_protection
    def _change(self, **changes: float) -> None:
        now = self._time()
        need_more_stack()
        meter = self._meter
        if self._stored is not None:
            self._stored = self._stored.present(meter)  # paid off by the old numbers until now
        meter.change(now, **{"rate": meter.rate, "per": meter.per, "burst": meter.burst} | changes)
        if trio.lowlevel.in_trio_run():
            delay(self._gate, inf)
            look_again(self._gate)

    def _price(self, args: tuple[Any, ...]) -> float:
        """What an attempt costs; raises where what tells it has raised, or told nothing that it can be."""
        cost = self._cost
        try:
            return check_permits(Asked(self), ask(self, cost, args)) if callable(cost) else cost
        finally:
            del args

    def _describe(self) -> str:
        return f"cost of {self!r}, by {name_of(self._cost)}(),"
