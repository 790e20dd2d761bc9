"""Managers whose limit is an AdaptiveLimit, in virtual time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.journaled import Memory
from trio_conman import (
    AdaptiveLimit,
    AdaptiveLimitStatistics,
    ConMan,
    Failure,
    Instrument,
    LoggingInstrument,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)
from trio_conman._limits.permits import Permits

NEVER = RetryConfig.none(max_attempts=0)


def busy() -> RetriableError:
    """One that is not tried again; a new one, since such an error counts in one task only."""
    return RetriableError("busy", retry_after=1, retry_config=NEVER)


@asynccontextmanager
async def manager(limit: AdaptiveLimit, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, limit, **options) as cm:
            yield cm


async def failing(error: Exception) -> None:
    await trio.sleep(1)
    raise error


async def drain(cm: ConMan[Any], fn: Callable[[Any], Any], items: Iterable[Any]) -> list[Outcome[Any]]:
    async with cm.map(fn, items) as outcomes:
        return [outcome async for outcome in outcomes]


# Its way


async def test_a_map_has_more_slots_as_its_attempts_succeed(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=4)
    most: list[int] = []

    async def item(_: int) -> None:
        most.append(cm.statistics().running)
        await trio.sleep(1)

    async with manager(limit) as cm:
        assert cm.limit == 4
        await drain(cm, item, range(100))
        assert cm.limit == cm.statistics().limit == int(limit.statistics().limit)
    # 24 for the time of an attempt, then a tenth each up to a step further, where it is held for 25; then a
    # tenth each, but for the last ones, when not all slots are used.
    assert max(most) == cm.limit == 7
    found = limit.statistics()
    assert (round(found.limit, 6), round(found.growth, 6)) == (7.7, 3.7)
    assert (found.cuts, found.overloads, found.steps_back) == (0, 0, 0)
    assert (found.attempt_seconds, round(found.throughput or 0, 6)) == (1, 5.6)


async def test_who_waits_in_the_queue_starts_when_it_grows(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=4)
    started: list[float] = []

    async def task() -> None:
        started.append(trio.current_time())
        await trio.sleep(1)

    async with manager(limit) as cm:
        for _ in range(47):
            cm.start_soon(task)
    # After 24 attempts it grows by a tenth each: the 35th makes room for five, in the ninth second.
    assert [started.count(second) for second in range(12)] == [4] * 9 + [5, 5, 1]


async def test_nothing_is_known_before_the_first_window() -> None:
    assert AdaptiveLimit(initial=50).statistics() == AdaptiveLimitStatistics(
        limit=50,
        cuts=0,
        overloads=0,
        growth=0,
        steps_back=0,
        attempt_seconds=None,
        throughput=None,
    )


async def test_attempts_that_take_no_time_have_no_throughput(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=2)
    async with manager(limit) as cm:
        await drain(cm, trio.sleep, [0] * 200)
    assert (limit.statistics().attempt_seconds, limit.statistics().throughput) == (0, None)


# What tells that the service is overloaded


@pytest.mark.parametrize(
    "error, cuts",
    [
        (busy(), 1),
        (RetriableError("busy", retry_config=NEVER), 0),
        (trio.TooSlowError(), 1),
        (RetriableError(trio.TooSlowError(), retry_config=NEVER), 1),
        (ExceptionGroup("all", [OSError(), ExceptionGroup("", [busy()])]), 1),
        (ExceptionGroup("all", [OSError()]), 0),
        (OSError("no such page"), 0),
    ],
)
async def test_by_itself_it_heeds_retry_after_and_timeouts(
    error: Exception, cuts: int, autojump_clock: MockClock
) -> None:
    limit = AdaptiveLimit()
    async with manager(limit) as cm:
        await cm.run(failing, error)
    statistics = limit.statistics()
    assert (statistics.cuts, statistics.overloads, statistics.limit) == (cuts, cuts, 5 if cuts else 10)
    assert cm.limit == statistics.limit


async def test_an_error_that_has_ended_another_task_is_no_answer_of_the_service(
    autojump_clock: MockClock,
) -> None:
    limit = AdaptiveLimit()

    async def again() -> None:
        await (await first.run(failing, RetriableError("busy", retry_after=1, retry_config=NEVER))).result()

    async with manager(AdaptiveLimit()) as first, manager(limit) as cm:
        await cm.run(again)
    assert limit.statistics().overloads == 0


async def test_every_attempt_that_times_out_is_an_overload(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit()
    retry = RetryConfig.none(max_attempts=2)
    async with manager(limit, retry=retry, attempt_timeout=1) as cm:
        handle = await cm.run(trio.sleep, 5)
    assert isinstance(handle.outcome, Failure)
    assert (handle.outcome.reason, handle.outcome.elapsed) == (StopReason.ATTEMPT_TIMEOUT, 3)
    assert (limit.statistics().overloads, limit.statistics().cuts) == (3, 3)


async def test_in_each_wave_of_overloads_is_one_cut(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=16)
    limits = []

    async def refused(seconds: float) -> None:
        await trio.sleep(seconds)
        limits.append(cm.limit)
        raise RetriableError("busy", retry_after=0, retry_config=NEVER)

    async with manager(limit) as cm:
        for _ in range(30):
            cm.start_soon(refused, 1)
    assert len(cm.errors()) == 30
    # Those of the next wave begin in the instant in which the limit is cut.
    assert limits == [16] + [8] * 15 + [8] + [4] * 7 + [4] + [2] * 5
    async with manager(AdaptiveLimit(initial=16)) as cm:
        for _ in range(100):
            cm.start_soon(refused, 0)
    assert (cm.limit, len(cm.errors())) == (8, 100)


async def test_a_task_timeout_is_none(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit()
    async with manager(limit, task_timeout=1) as cm:
        await cm.run(trio.sleep, 5)
    assert limit.statistics().overloads == 0


async def test_cancellations_tell_nothing(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise busy()

    async with manager(limit) as cm:
        handles = [await cm.run(trio.sleep_forever), await cm.run(stubborn)]
        await trio.sleep(1)
        for handle in handles:
            handle.cancel()
    ends = [handle.outcome for handle in handles]
    assert [end.reason for end in ends if isinstance(end, Failure)] == [
        StopReason.CANCELLED,
        StopReason.ERROR,
    ]
    assert limit.statistics().overloads == 0


async def test_one_of_a_users_own(autojump_clock: MockClock) -> None:
    asked: list[Exception] = []

    def overloaded(error: Exception) -> bool:
        asked.append(error)
        return isinstance(error, ConnectionError)

    limit = AdaptiveLimit(overloaded=overloaded)
    errors = [OSError("disk"), ConnectionError("full"), busy()]
    async with manager(limit) as cm:
        for error in errors:
            await cm.run(failing, error)
            await cm.wait()
    assert asked == errors
    assert limit.statistics().cuts == 1


@pytest.mark.parametrize("answer", [None, 1, ZeroDivisionError()])
async def test_one_that_is_broken_is_logged_and_means_no(
    answer: object, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def overloaded(error: Exception) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    limit = AdaptiveLimit(overloaded=overloaded)
    async with manager(limit) as cm:
        await cm.run(failing, OSError("disk"))
    assert limit.statistics().overloads == 0
    assert [record.getMessage() for record in caplog.records] == [
        "overloaded raised, or gave no bool, for an error of type OSError; it counts as no overload"
    ]
    assert [str(error) for error in cm.errors()] == ["disk"]


# What is timed


async def test_only_the_attempt_is_timed(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=2)

    async def item(number: int) -> None:
        await trio.sleep(1)
        if number not in retried:
            retried.add(number)
            raise RetriableError("once more")

    retried: set[int] = set()
    retry = RetryConfig.linear(initial_delay=0.25, jitter=False, hold_slot=True)
    async with manager(limit, retry=retry, rate=RateLimiter(2, per=1.5)) as cm:
        outcomes = await drain(cm, item, range(40))
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert max(outcome.elapsed for outcome in outcomes) > 2.5
    assert limit.statistics().attempt_seconds in {None, 1.0}


async def test_slots_that_wait_for_the_rate_are_not_used(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=4)
    async with manager(limit, rate=RateLimiter(1)) as cm:
        await drain(cm, trio.sleep, [1.5] * 100)
    assert limit.statistics().limit == 4
    assert limit.statistics().attempt_seconds is None


# Its bounds, and who has it


async def test_a_limit_that_is_assigned_is_where_it_goes_on(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(3, 30)
    async with manager(limit) as cm:
        cm.limit = 20
        assert (cm.limit, limit.statistics().limit) == (20, 20)
        await cm.run(failing, busy())
        await cm.wait()
        assert cm.limit == 10
        with pytest.raises(
            ValueError, match=r"^limit must be from 3 to 30, the range of its AdaptiveLimit, not 31$"
        ):
            cm.limit = 31
        with pytest.raises(ValueError, match=r"^limit must be from 3 to 30, .*, not 2$"):
            cm.limit = 2
        assert cm.limit == 10
        for bound in (3, 30):
            cm.limit = bound
            assert cm.limit == bound
            assert repr(limit.statistics().limit) == f"{bound}.0"


@pytest.mark.parametrize("initial, begins", [(10, 10), (3, 5), (50, 20)])
async def test_it_begins_within_its_bounds(initial: int, begins: int) -> None:
    async with manager(AdaptiveLimit(5, 20, initial=initial)) as cm:
        assert cm.limit == begins


async def test_it_may_go_down_to_one(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(1, initial=2)
    async with manager(limit) as cm:
        await cm.run(failing, busy())
        await cm.wait()
        assert cm.limit == 1
        await drain(cm, trio.sleep, [1] * 3)
        assert trio.current_time() == 4


async def test_the_next_manager_goes_on_from_what_was_found(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=40)
    async with manager(limit) as cm:
        await cm.run(failing, busy())
    async with manager(limit) as cm:
        assert cm.limit == 20


async def test_a_manager_that_has_ended_changes_nothing_for_the_next_one() -> None:
    limit = AdaptiveLimit()
    async with manager(limit) as ended:
        pass
    async with manager(limit) as cm:
        ended.limit = 5
        assert (ended.limit, cm.limit, limit.statistics().limit) == (5, 10, 10)
        with pytest.raises(ValueError, match="limit must be from 2 to 200"):
            ended.limit = 300


def test_a_manager_of_another_run_goes_on_whatever_its_clock_shows() -> None:
    limit = AdaptiveLimit(initial=40)

    async def main(start: float) -> None:
        await trio.sleep(start)
        async with manager(limit) as cm:
            await cm.run(failing, busy())

    for start in (1000, 0):
        trio.run(main, start, clock=MockClock(autojump_threshold=0))
    assert (limit.statistics().cuts, limit.statistics().overloads) == (2, 2)


async def test_a_manager_that_was_opened_meanwhile_has_the_present_limit() -> None:
    limit = AdaptiveLimit(initial=40)
    async with trio.open_nursery() as nursery:
        later = ConMan[Any].open(nursery, limit)
        async with manager(limit) as cm:
            cm.limit = 20
        async with later as cm:
            assert cm.limit == 20


async def test_two_managers_cannot_have_it_at_once() -> None:
    limit = AdaptiveLimit()
    async with trio.open_nursery() as nursery:
        async with manager(limit, name="first") as cm:
            for _ in range(2):  # who is refused takes nothing from the first
                with pytest.raises(
                    RuntimeError,
                    match=r"^limit is an AdaptiveLimit that manager 'first' uses just now: "
                    r"each ConMan\.open\(\) needs one of its own$",
                ):
                    await ConMan[Any].open(nursery, limit, name="second").__aenter__()
            assert cm.limit == 10
            cm.limit = 12
        async with ConMan[Any].open(nursery, limit, name="second") as cm:
            assert cm.limit == 12


# In a process of its own, for what is left of the run complains when it is collected.
CRASH = """
import gc
import trio
from trio_conman import AdaptiveLimit, ConMan

limit = AdaptiveLimit()

async def main(crash):
    async with trio.open_nursery() as nursery, ConMan.open(nursery, limit) as cm:
        if crash:
            cm.limit = 20
            with trio.move_on_after(0):
                await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)
        print(cm.limit)

gc.disable()
try:
    trio.run(main, True)
except trio.TrioInternalError:
    print("crashed")
trio.run(main, False)
"""


def test_a_run_that_has_crashed_lets_it_go() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["crashed", "20"]


async def test_what_is_left_of_that_run_lets_go_of_nothing_of_the_next_one() -> None:
    limit = AdaptiveLimit()
    async with manager(limit), manager(AdaptiveLimit()) as left:
        limit._close(left._line)  # as the garbage collector may have it do
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match="uses just now"):
                await ConMan[Any].open(nursery, limit).__aenter__()


async def test_a_manager_that_cannot_open_lets_it_go() -> None:
    limit = AdaptiveLimit()
    async with trio.open_nursery() as nursery:
        opening = ConMan[Any].open(nursery, limit)
    with pytest.raises(RuntimeError, match="Nursery is closed"):
        await opening.__aenter__()
    async with manager(limit) as cm:
        assert cm.limit == 10


async def test_a_manager_that_fails_as_it_opens_lets_it_go(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = AdaptiveLimit()

    def fail(self: Permits, *_: object) -> None:
        raise RuntimeError("no permits")

    monkeypatch.setattr(Permits, "open", fail)
    async with trio.open_nursery() as nursery:
        with pytest.raises(RuntimeError, match="no permits"):
            await ConMan[Any].open(nursery, limit, rate=RateLimiter(1)).__aenter__()
    async with manager(limit) as cm:
        assert cm.limit == 10


async def test_what_is_no_limit() -> None:
    with pytest.raises(TypeError, match=r"^minimum must be an int of at least 1, not 2\.0$"):
        AdaptiveLimit(2.0)  # type: ignore[arg-type]  # the mistake to be told
    with pytest.raises(TypeError, match=r"^initial must be an int of at least 1, not True$"):
        AdaptiveLimit(initial=True)
    with pytest.raises(TypeError, match=r"^maximum must be an int of at least 2, not inf$"):
        AdaptiveLimit(maximum=inf)  # type: ignore[arg-type]  # the mistake to be told
    with pytest.raises(ValueError, match=r"^maximum must be an int of at least 5, not 4$"):
        AdaptiveLimit(5, 4)
    with pytest.raises(ValueError, match=r"^maximum must be a finite number, not 1000.*0$"):
        AdaptiveLimit(maximum=10**400)
    with pytest.raises(ValueError, match=r"^initial must be an int of at least 1, not 0$"):
        AdaptiveLimit(initial=0)
    with pytest.raises(TypeError, match=r"^overloaded must be a sync function of an error, or None, not 3$"):
        AdaptiveLimit(overloaded=3)  # type: ignore[arg-type]  # the mistake to be told
    with pytest.raises(
        TypeError, match=r"^overloaded must be a sync function of an error, or None, not <function failing"
    ):
        AdaptiveLimit(overloaded=failing)  # type: ignore[arg-type]  # the mistake to be told


async def test_its_repr() -> None:
    assert repr(AdaptiveLimit(3, 30)) == "<AdaptiveLimit, 10 of 3 to 30>"


async def test_what_is_recalled_tells_nothing_of_the_service(autojump_clock: MockClock) -> None:
    limit = AdaptiveLimit(initial=4)
    before = limit.statistics()
    async with manager(limit, journal=Memory({str(number): number for number in range(3, 200)})) as cm:
        # Three attempts run meanwhile, so that the slots are used.
        assert len(await drain(cm, lambda _: trio.sleep(1), range(200))) == 200
        assert cm.statistics().recalled == 197
    assert limit.statistics() == before


# Who is told


class Limits(Instrument):
    """Notes what it is told of limits."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, int | float]] = []

    def limit_changed(self, manager: str, limit: int | float) -> None:
        self.told.append((trio.current_time(), manager, limit))


async def test_instruments_hear_of_each_change(autojump_clock: MockClock) -> None:
    hears = Limits()
    async with manager(AdaptiveLimit(), name="pages", instruments=[hears]) as cm:
        await cm.run(failing, busy())
        await cm.wait()
        await cm.run(failing, OSError())
        await cm.wait()
        cm.limit = 7
    assert hears.told == [(0, "pages", 10), (1, "pages", 5), (2, "pages", 7)]


async def test_they_hear_nothing_of_parts_of_a_slot(autojump_clock: MockClock) -> None:
    hears, limit = Limits(), AdaptiveLimit(1, initial=1)
    async with manager(limit, name="pages", instruments=[hears]) as cm:
        for _ in range(24):
            await cm.run(trio.sleep, 1)
    assert 0 < limit.statistics().growth < 1
    assert hears.told == [(0, "pages", 1)]


async def test_instruments_hear_of_a_limit_that_was_assigned_or_is_shared() -> None:
    hears, limiter = Limits(), trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, instruments=[hears], name="own") as cm:
            cm.limit = 4
        async with (
            ConMan[Any].open(nursery, limiter, instruments=[hears], name="shared"),
            ConMan[Any].open(nursery, limiter) as other,
        ):
            other.limit = 5
    assert [told[1:] for told in hears.told] == [("own", 4), ("shared", 5)]


async def test_an_instrument_may_cancel_the_task_whose_error_has_cut_the_limit(
    autojump_clock: MockClock,
) -> None:
    class Cancels(Instrument):
        def limit_changed(self, manager: str, limit: int | float) -> None:
            if limit < 10:
                handle.cancel()

    handle: TaskHandle[Any]
    async with manager(AdaptiveLimit(), instruments=[Cancels()]) as cm:
        handle = await cm.run(failing, RetriableError("busy", retry_after=5))
    assert isinstance(handle.outcome, Failure)
    assert (str(handle.outcome.error), handle.outcome.reason) == ("busy", StopReason.ERROR)
    assert trio.current_time() == 1


async def test_the_log_has_a_line_for_each_change(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_conman")
    async with manager(AdaptiveLimit(), name="two\nlines", instruments=[LoggingInstrument()]) as cm:
        cm.limit = 12
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("DEBUG", "two lines: limit 10"), ("DEBUG", "two lines: limit 12")]
    assert [(vars(record)["manager"], vars(record)["limit"]) for record in caplog.records] == [
        ("two\nlines", 10),
        ("two\nlines", 12),
    ]


async def test_of_two_that_open_it_at_once_in_two_threads_one_is_refused() -> None:
    limit = AdaptiveLimit()

    @attrs.define
    class Slower:
        """The lock: while this one waits for it, another manager opens the limit."""

        lock: threading.Lock = attrs.field(factory=threading.Lock)

        def __enter__(self) -> None:
            self.lock.acquire()
            limit._line, limit._run = other._line, trio.lowlevel.current_trio_token()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, name="other") as other:
        limit._lock = Slower()  # type: ignore[assignment]  # it is used as a lock is
        with pytest.raises(
            RuntimeError, match=r"^limit is an AdaptiveLimit that manager 'other' uses just now: "
        ):
            async with ConMan[Any].open(nursery, limit):
                raise AssertionError
