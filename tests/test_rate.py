"""RateLimiter: when attempts start, and who gets the next permit."""

import math
import re
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import (
    ConMan,
    Failure,
    RateLimiter,
    RateLimiterStatistics,
    StopReason,
    TaskCancelledError,
    TaskHandle,
)
from trio_conman._base.texts import short
from trio_conman._limits.meter import Meter

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=150)


@pytest.mark.parametrize(
    "rate, per, burst, expected",
    [
        (1, 1.0, 1, [0, 1, 2, 3, 4, 5]),
        (4, 1.0, 1, [0, 0.25, 0.5, 0.75, 1, 1.25]),
        (2, 1.0, 3, [0, 0, 0, 0.5, 1, 1.5]),
        (1, 60, 2, [0, 0, 60, 120, 180, 240]),
        (3, 6.0, 5, [0, 0, 0, 0, 0, 2]),
        (0.5, 1.0, 1, [0, 2, 4, 6, 8, 10]),
        (Fraction(1, 2), 1.0, 1, [0, 2, 4, 6, 8, 10]),
        (1, 1.0, 100, [0, 0, 0, 0, 0, 0]),
    ],
)
async def test_attempts_start_in_order_and_exactly_when_their_permits_are_due(
    rate: float, per: float, burst: int, expected: list[float], autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(rate, per=per, burst=burst)) as cm:
        for index in range(6):
            await cm.run(note, record, index)
    assert record == [(when, index) for index, when in enumerate(expected)]


@pytest.mark.parametrize("rate", [3, 7, 10, 49])
async def test_a_thousand_permits_are_exactly_on_time(
    rate: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    # None of these intervals is an exact float: their sum would be late, or early, by more and more.
    async with manager(RateLimiter(rate)) as cm:
        for index in range(1000):
            await cm.run(note, record, index)
    assert [when for when, _ in record] == [index / rate for index in range(1000)]


async def test_numbers_of_other_kinds_are_taken_as_floats(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    seconds: Any = Fraction(5, 2)
    rate = RateLimiter(seconds, per=seconds)
    async with manager(rate) as cm:
        rate.pause_for(seconds)
        statistics = rate.statistics()
        assert {type(each) for each in (statistics.rate, statistics.per, statistics.paused_for)} == {float}
        await cm.run(note, record, "a")
        await cm.run(note, record, "b")
    assert record == [(2.5, "a"), (3.5, "b")]


async def test_a_rate_alone_means_per_second_and_one_at_a_time(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(2)) as cm:
        for index in range(3):
            await cm.run(note, record, index)
    assert record == [(0, 0), (0.5, 1), (1, 2)]


@pytest.mark.parametrize("rate", [3, 7, 10, 49, 100])
async def test_a_whole_burst_starts_at_once_after_idling(
    rate: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    # Most intervals and most times are no exact floats: rounding shall delay nobody.
    for burst in range(1, 61):
        record.clear()
        async with manager(RateLimiter(rate, burst=burst)) as cm:
            await trio.sleep(1000.1)
            idle = trio.current_time()
            for index in range(burst + 1):
                cm.start_soon(note, record, index)
        assert [when - idle for when, _ in record[:-1]] == [0.0] * burst
        assert record[-1][0] - idle == pytest.approx(1 / rate)


async def test_permits_do_not_pile_up_beyond_the_burst(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(RateLimiter(1, burst=2)) as cm:
        for start in (0, 1.5, 100):
            await trio.sleep_until(start)
            for index in range(3):
                await cm.run(note, record, index)
    # At 1.5 there is one permit, and a half; those of before 1.5 were waited for.
    assert [when for when, _ in record] == [0, 0, 1, 2, 3, 4, 100, 100, 101]


def token_bucket(arrivals: list[Fraction], interval: Fraction, burst: int) -> list[Fraction]:
    """When each starts with a bucket of `burst` tokens, one dripping in each interval: said differently."""
    starts: list[Fraction] = []
    tokens, now = Fraction(burst), Fraction(0)
    for arrival in arrivals:
        start = max(now, arrival)
        tokens = min(Fraction(burst), tokens + (start - now) / interval)
        if tokens < 1:
            start += (1 - tokens) * interval
            tokens = Fraction(1)
        tokens -= 1
        now = start
        starts.append(start)
    return starts


@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=25),
    interval=st.sampled_from([Fraction(1, 8), Fraction(1, 2), Fraction(1), Fraction(3), Fraction(21, 8)]),
    burst=st.integers(1, 6),
)
@reproducible
def test_starts_are_those_of_a_token_bucket_and_no_window_has_too_many(
    gaps: list[int], interval: Fraction, burst: int
) -> None:
    arrivals: list[Fraction] = []
    for gap in gaps:
        arrivals.append((arrivals[-1] if arrivals else Fraction(0)) + Fraction(gap, 8))
    record: list[Any] = []

    async def main() -> None:
        async with manager(RateLimiter(1, per=float(interval), burst=burst)) as cm:
            for index, arrival in enumerate(arrivals):
                await trio.sleep_until(float(arrival))
                await cm.run(note, record, index)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    starts = [Fraction(when) for when, _ in record]
    assert [index for _, index in record] == list(range(len(gaps)))
    assert starts == token_bucket(arrivals, interval, burst)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + (starts[last] - starts[first]) / interval


@pytest.mark.parametrize("gone, expected", [(1, [0, 2, 3]), (2, [0, 1, 3]), (3, [0, 1, 2])])
async def test_a_cancelled_waiter_takes_nothing_and_delays_nobody(
    gone: int, expected: list[int], autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        handles = [await cm.run(note, record, index) for index in range(4)]
        await trio.sleep(0.5)
        assert waiting(rate) == 3
        handles[gone].cancel()
        await wait_all_tasks_blocked()
        assert waiting(rate) == 2
        outcome = handles[gone].outcome
        assert isinstance(outcome, Failure)
        assert (type(outcome.error), outcome.elapsed) == (TaskCancelledError, 0.5)
    assert record == [(float(when), index) for when, index in enumerate(expected)]


async def test_a_waiter_cancelled_on_the_tick_of_its_permit_starts_or_leaves_it_to_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1)) as cm:
            handles = [await cm.run(note, record, name, 0.5) for name in "abc"]
            await trio.sleep(1)
            handles[1].cancel()
        offsets = [(when - start, name) for when, name in record]
        # Which of the two comes first in the tick is chance.
        assert offsets in ([(0, "a"), (1, "b"), (2, "c")], [(0, "a"), (1, "c")])


async def test_a_permit_that_is_due_on_the_deadline_is_left_to_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1)) as cm:
        await cm.run(note, record, "a")
        handle = await cm.run(note, record, "b", task_timeout=1)
        await cm.run(note, record, "c")
    assert record == [(0, "a"), (1, "c")]
    assert isinstance(handle.outcome, Failure)
    assert (handle.outcome.reason, handle.outcome.elapsed) == (StopReason.DEADLINE, 0)


async def test_a_waiter_cancelled_when_its_turn_has_come_takes_nothing(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=3)
    handles: list[TaskHandle[None]] = []

    async def first() -> None:
        # It has its permit, so that the turn of the next one has come.
        record.append((trio.current_time(), "a"))
        handles[1].cancel()

    async with manager(rate) as cm:
        rate.pause_for(5)
        handles.append(await cm.run(first))
        handles.extend([await cm.run(note, record, name) for name in "bcde"])
    assert record == [(5, "a"), (5, "c"), (5, "d"), (6, "e")]
    assert isinstance(handles[1].outcome, Failure)
    assert handles[1].outcome.reason is StopReason.CANCELLED


async def test_waiters_cancelled_together_leave_their_turn_to_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    # Which of them runs first in the tick is chance.
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1)) as cm:
            handles = [await cm.run(note, record, name) for name in "abcd"]
            await trio.sleep(0.5)
            handles[1].cancel()
            handles[2].cancel()
        assert [(when - start, name) for when, name in record] == [(0, "a"), (1, "d")]
        assert [type(error) for error in cm.errors()] == [TaskCancelledError] * 2


async def test_a_waiter_that_leaves_while_the_next_one_wakes_disturbs_nobody(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    handles: list[TaskHandle[None]] = []

    async def first() -> None:
        # The second has been told that its turn has come, and has not run yet.
        record.append((trio.current_time(), "a"))
        handles[2].cancel()

    # Which of the two runs first in the tick is chance.
    for _ in range(20):
        record.clear()
        handles.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1, burst=2)) as cm:
            for _ in range(2):
                await cm.run(trio.sleep, 0)
            handles.append(await cm.run(first))
            handles.extend([await cm.run(note, record, name) for name in "bcd"])
        assert [(when - start, name) for when, name in record] == [(1, "a"), (2, "b"), (3, "d")]
        assert [type(error) for error in cm.errors()] == [TaskCancelledError]


async def test_a_task_cancelled_before_its_first_step_takes_nothing(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        handle = cm.run_nowait(note, record, "a")
        handle.cancel()
        await wait_all_tasks_blocked()
        assert waiting(rate) == 0
        await cm.run(note, record, "b")
    assert record == [(0, "b")]
    assert isinstance(handle.outcome, Failure)
    assert handle.outcome.reason is StopReason.CANCELLED


async def test_a_permit_is_taken_under_protection_from_keyboard_interrupts(
    autojump_clock: MockClock, record: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter_take = Meter.take

    def watched(self: Meter, cost: float, now: float) -> bool:
        record.append(trio.lowlevel.currently_ki_protected())
        return meter_take(self, cost, now)

    rate = RateLimiter(1)
    async with manager(rate) as cm:
        await cm.run(trio.sleep, 0)
        await wait_all_tasks_blocked()
        monkeypatch.setattr(Meter, "take", watched)
        # An interrupt between the end of the wait and the next one's turn would leave all others asleep.
        await cm.run(trio.sleep, 0)
        await cm.run(trio.sleep, 0)
    assert record
    assert all(record)


async def test_cancelling_a_manager_leaves_its_place_to_the_waiters_of_another(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as stays:
        async with manager(rate) as goes:
            await goes.run(note, record, "a")
            for name in "bcd":
                await goes.run(note, record, name)
                await stays.run(note, record, name.upper())
            await trio.sleep(0.5)
            goes.cancel()
        assert waiting(rate) == 3
    assert record == [(0, "a"), (1, "B"), (2, "C"), (3, "D")]


async def test_managers_that_share_a_limiter_have_one_rate_and_one_queue(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(2, burst=2)
    async with manager(rate) as one, manager(rate) as other:
        for index in range(3):
            await one.run(note, record, f"one {index}")
            await other.run(note, record, f"other {index}")
    names = ["one 0", "other 0", "one 1", "other 1", "one 2", "other 2"]
    assert record == list(zip([0, 0, 0.5, 1, 1.5, 2], names, strict=True))


async def test_statistics_tell_where_a_limiter_stands(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(2, per=10, burst=1)
    idle = RateLimiterStatistics(rate=2, per=10, burst=1, tasks_waiting=0, paused_for=0.0, available=1.0)
    async with manager(rate) as cm:
        assert rate.statistics() == idle
        for index in range(4):
            await cm.run(note, record, index)
        rate.pause_for(7)
        await trio.sleep(1)
        assert rate.statistics() == attrs.evolve(idle, tasks_waiting=3, paused_for=6.0, available=0.0)
        await trio.sleep(10)
        assert rate.statistics() == attrs.evolve(idle, tasks_waiting=2, available=0.8)
    assert rate.statistics() == attrs.evolve(idle, available=0.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        idle.rate = 3  # type: ignore[misc]  # frozen, as the checker knows too


def test_a_limiter_shows_its_rate() -> None:
    assert repr(RateLimiter(2.5, per=10, burst=3)) == "<RateLimiter of 2.5 per 10 s, burst 3>"


NO_NUMBERS: list[Any] = [None, "1", True, [], 1j]
NO_RATES = [0, -1, -0.5, math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize(
    "name, value, kind",
    [
        *((name, value, TypeError) for name in ("rate", "per") for value in NO_NUMBERS),
        *((name, value, ValueError) for name in ("rate", "per") for value in NO_RATES),
        *(("burst", value, TypeError) for value in (*NO_NUMBERS, 1.5, 2.0, math.nan)),
        *(("burst", value, ValueError) for value in (0, -1, math.inf)),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{name} must be .*not {re.escape(short(value))}"):
        RateLimiter(**{"rate": 1, name: value})


@pytest.mark.parametrize("name", ["rate", "per"])
def test_what_is_too_small_for_a_float_is_refused(name: str) -> None:
    tiny: Any = Fraction(1, 10**400)
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number above 0, not Fraction"):
        RateLimiter(**({"rate": 1} | {name: tiny}))


def test_per_and_burst_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        RateLimiter(1, 2)  # type: ignore[call-arg]  # as the checker knows too


@pytest.mark.parametrize("rate", [1, 2.5, "1", RateLimiter])
async def test_a_manager_takes_no_other_kind_of_rate(rate: Any) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=rf"^rate must be .*, not {re.escape(repr(rate))}$"):
            ConMan.open(nursery, rate=rate)


async def test_a_burst_beyond_any_float_is_a_burst(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(RateLimiter(1, burst=10**400)) as cm:
        for index in range(3):
            await cm.run(note, record, index)
    assert record == [(0, 0), (0, 1), (0, 2)]


async def test_the_rarest_permits_come_never_rather_than_all_at_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    # The interval is beyond any float.
    async with manager(RateLimiter(5e-324), timeout=1e6) as cm:
        for index in range(3):
            await cm.run(note, record, index)
    assert record == [(0, 0)]


@pytest.mark.parametrize("first", ["statistics", "pause_for", "open"])
def test_a_second_trio_run_with_a_clock_of_its_own_starts_afresh(first: str, record: list[Any]) -> None:
    rate = RateLimiter(1, per=1000, burst=2)

    async def main() -> None:
        if first == "statistics":
            assert rate.statistics().paused_for == 0
        if first == "pause_for":
            rate.pause_for(0.25)
        start = trio.current_time()
        async with manager(rate) as cm:
            for index in range(4):
                await cm.run(note, record, index)
            await trio.sleep(1)
            rate.pause_for(10**6)
            await trio.sleep(1)
            cm.cancel()
        record.append(trio.current_time() - start)

    late = MockClock(autojump_threshold=0)
    late.jump(10**7)
    start = late.current_time()
    trio.run(main, clock=late)
    offset = 0.25 if first == "pause_for" else 0
    assert record == [(start + offset, 0), (start + offset, 1), 2]
    record.clear()
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert record == [(offset, 0), (offset, 1), 2]


async def test_tasks_that_are_started_together_start_in_the_order_of_submission(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1), 9) as cm:
        for index in range(9):
            cm.start_soon(note, record, index)
    assert record == [(index, index) for index in range(9)]


async def test_who_is_cancelled_before_its_first_step_leaves_its_place_to_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1), 9) as cm:
        handles = [cm.start_soon(note, record, index) for index in range(9)]
        for index in (0, 3, 4, 8):
            handles[index].cancel()
    assert record == [(0, 1), (1, 2), (2, 5), (3, 6), (4, 7)]
