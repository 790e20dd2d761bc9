"""A permit that cannot be due in time is not waited for."""

import math
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import (
    Failure,
    Instrument,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    TaskHandle,
)
from trio_conman._limits.forecast import Forecast
from trio_conman.testing import RecordingInstrument

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=150)

DEADLINE, MAX_ELAPSED = StopReason.DEADLINE, StopReason.MAX_ELAPSED


def ending(outcome: Outcome[Any] | None) -> tuple[StopReason, str, float]:
    """Why a task failed, with what, and after how many seconds."""
    assert isinstance(outcome, Failure)
    return outcome.reason, repr(outcome.error), outcome.elapsed


def late(handle: TaskHandle[Any], seconds: float) -> tuple[StopReason, str, float]:
    """The ending of a task that did not start as its permit would have been due after so many seconds."""
    text = (
        f"task {handle.name!r} (index {handle.index}) did not start: "
        f"its permit would have been due in {seconds:g} s, too late for its deadline"
    )
    return DEADLINE, repr(trio.TooSlowError(text)), 0


async def fail(record: list[Any], config: RetryConfig, seconds: float = 0) -> None:
    """Fail after so many seconds."""
    await note(record, "fails", seconds)
    raise RetriableError(ValueError("real"), retry_config=config)


def after(seconds: float, **options: Any) -> RetryConfig:
    """One retry, so many seconds later."""
    return RetryConfig.linear(
        max_attempts=1, initial_delay=seconds, backoff_factor=0, max_delay=seconds, **options
    )


@pytest.mark.parametrize("where", ["task", "manager", "scope"])
@pytest.mark.parametrize("deadline", [3, 10])
async def test_a_first_attempt_fails_at_once_whose_permit_is_due_on_a_deadline_or_after_it(
    where: str, deadline: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as other:
        await other.run(note, record, "first")
        await wait_all_tasks_blocked()
        timeout = {"timeout": deadline} if where == "manager" else {}
        with trio.move_on_after(deadline if where == "scope" else math.inf):
            async with manager(rate, 2, **timeout) as cm:
                if where == "manager":
                    await trio.sleep(0.5)
                handle = cm.start_soon(
                    note, record, "late", task_timeout=deadline if where == "task" else math.inf
                )
                with trio.CancelScope(shield=True):
                    outcome = await handle.wait()
                    # It holds nothing any more.
                    assert (cm.statistics().running, waiting(rate)) == (0, 0)
        assert ending(outcome) == late(handle, 9.5 if where == "manager" else 10)
        await other.run(note, record, "next")
    assert record == [(0, "first"), (10, "next")]


@pytest.mark.parametrize("where", ["task", "manager", "scope"])
async def test_a_permit_that_is_due_just_before_a_deadline_is_waited_for(
    where: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    with trio.move_on_after(10.5 if where == "scope" else math.inf):
        timeout = 10.5 if where == "manager" else math.inf
        async with manager(RateLimiter(1, per=10), timeout=timeout) as cm:
            await cm.run(note, record, "a")
            await cm.run(note, record, "b", task_timeout=10.5 if where == "task" else math.inf)
    assert record == [(0, "a"), (10, "b")]
    assert cm.errors() == []


async def test_who_leaves_as_too_late_makes_room_whatever_order_trio_runs_them_in(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    # Due at 10, 20, … for who stays; those that are too late do not count for the ones behind them.
    timeouts = [25, 5, 15, 15, 40, 30, 35, 50]
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1, per=10)) as cm:
            cm.run_nowait(note, record, "first")
            handles = [cm.run_nowait(note, record, each, task_timeout=each) for each in timeouts]
            await wait_all_tasks_blocked()
            gone = [each.args[1] for each in handles if each.outcome is not None]
        assert gone == [5, 15, 15, 30]
        assert [(when - start, name) for when, name in record] == [
            (0, "first"),
            (10, 25),
            (20, 40),
            (30, 35),
            (40, 50),
        ]


async def test_a_head_that_is_too_late_leaves_its_place_to_the_next_one(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1, per=10)) as cm:
            await cm.run(note, record, "a")
            await trio.sleep(1)
            for name, timeout in (("b", 5), ("c", 9), ("d", math.inf), ("e", math.inf)):
                cm.run_nowait(note, record, name, task_timeout=timeout)
        assert [(when - start, name) for when, name in record] == [(0, "a"), (10, "d"), (20, "e")]


async def test_who_is_cancelled_before_its_first_step_makes_room(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1, per=10)) as cm:
            handles = [cm.run_nowait(note, record, name, task_timeout=15) for name in "abcd"]
            handles[1].cancel()
        assert [(when - start, name) for when, name in record] == [(0, "a"), (10, "c")]
        assert ending(handles[3].outcome) == late(handles[3], 20)


async def test_of_a_burst_those_that_can_be_in_time_are_and_pauses_count(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10, burst=3)
    async with manager(rate, timeout=40) as cm:
        rate.pause_for(15)
        handles = [cm.run_nowait(note, record, index) for index in range(7)]
    assert record == [(15, 0), (15, 1), (15, 2), (25, 3), (35, 4)]
    assert [ending(each.outcome) for each in handles[5:]] == [late(handles[5], 45), late(handles[6], 45)]


def starts(arrivals: list[tuple[float, float]], interval: float, burst: int) -> list[float | None]:
    """When each starts that arrives then, with that timeout: a bucket of tokens, said without a queue."""
    free = [-math.inf] * burst  # when the token that is taken next came back
    found: list[float | None] = []
    last = -math.inf
    for arrival, timeout in arrivals:
        start = max(arrival, last, free[0])
        if start >= arrival + timeout:
            found.append(None)
            continue
        found.append(start)
        last = start
        # A token drips in each interval, from when the bucket was full.
        free = [*free[1:], max(free[-1], start) + interval]
    return found


@pytest.mark.unmeasured
@pytest.mark.one_python
@given(
    tasks=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 60)), min_size=1, max_size=25),
    interval=st.sampled_from([0.5, 1.0, 3.0]),
    burst=st.integers(1, 4),
    seed=st.integers(0, 3),
)
@reproducible
def test_those_that_start_are_the_ones_that_can_be_in_time_first_come_first_served(
    tasks: list[tuple[int, int]], interval: float, burst: int, seed: int
) -> None:
    arrivals: list[tuple[float, float]] = []
    now = 0.0
    for gap, timeout in tasks:
        now += max(0, gap - 3) / 2  # half of them come together with the one before
        arrivals.append((now, timeout / 2 + 0.25))
    record: dict[int, float] = {}

    async def task(index: int) -> None:
        record[index] = trio.current_time()

    async def main() -> None:
        async with manager(RateLimiter(1, per=interval, burst=burst)) as cm:
            for index, (arrival, timeout) in enumerate(arrivals):
                await trio.sleep_until(arrival)
                cm.run_nowait(task, index, task_timeout=timeout)
        for failure in cm.outcomes():
            if isinstance(failure, Failure):
                assert (failure.reason, failure.elapsed) == (DEADLINE, 0)

    for _ in range(seed + 1):
        record.clear()
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [record.get(index) for index in range(len(tasks))] == starts(arrivals, interval, burst)


async def test_an_item_of_a_map_fails_at_once_and_its_worker_goes_on(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(name: int) -> None:
        await note(record, name)

    async with manager(RateLimiter(1, per=10, burst=2), 2, task_timeout=5) as cm:
        async with cm.map(item, range(5)) as outcomes:
            ends = [(each.index, isinstance(each, Failure), trio.current_time()) async for each in outcomes]
    assert [when for when, _ in record] == [0, 0]
    assert sorted(ends) == [(0, False, 0), (1, False, 0), (2, True, 0), (3, True, 0), (4, True, 0)]


@pytest.mark.parametrize("timeout, late", [("task_timeout", 100), ("attempt_timeout", 0)])
async def test_a_map_goes_through_its_items_while_all_are_to_wait_for_longer_than_task_timeout(
    timeout: str, late: int, autojump_clock: MockClock
) -> None:
    async def item(index: int) -> None:
        await trio.sleep(1)
        if trio.current_time() < 60:
            raise RetriableError("too many", retry_after=60)

    options: dict[str, Any] = {timeout: 30}
    async with manager(RateLimiter.unlimited(), 2, retry=RetryConfig.linear(), **options) as cm:
        async with cm.map(item, range(100)) as outcomes:
            reasons = [each.reason async for each in outcomes if isinstance(each, Failure)]
    assert reasons == [DEADLINE] * late
    assert trio.current_time() == (1 if late else 61 + 50)


@pytest.mark.parametrize(
    "options, config, reason",
    [
        ({"task_timeout": 10}, after(0), DEADLINE),
        ({"timeout": 9}, after(1), DEADLINE),
        ({}, after(1, max_elapsed=9), MAX_ELAPSED),
        ({"task_timeout": 5}, after(1, max_elapsed=9), MAX_ELAPSED),
    ],
)
async def test_a_retry_whose_permit_will_be_too_late_fails_at_once_and_costs_no_token(
    options: dict[str, Any],
    config: RetryConfig,
    reason: StopReason,
    autojump_clock: MockClock,
    record: list[Any],
) -> None:
    budget = RetryBudget(1, ratio=0)
    async with manager(RateLimiter(1, per=10), retry_budget=budget, **options) as cm:
        handle = await cm.run(fail, record, config)
        assert ending(await handle.wait()) == (reason, "ValueError('real')", 0)
        assert (handle.retries, handle.outcome) == (0, cm.outcomes()[0])
    assert record == [(0, "fails")]
    assert budget.statistics().remaining == 1


@pytest.mark.parametrize("config", [after(0, max_elapsed=10), after(10, max_elapsed=10)])
async def test_a_permit_that_is_due_just_when_max_elapsed_ends_is_waited_for(
    config: RetryConfig, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10), task_timeout=10.5) as cm:
        handle = await cm.run(fail, record, config)
    assert record == [(0, "fails"), (10, "fails")]
    assert ending(handle.outcome) == (StopReason.RETRIES_EXHAUSTED, "ValueError('real')", 10)


async def test_a_retry_that_is_woken_after_max_elapsed_is_not_made(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def failing() -> None:
        record.append(trio.current_time())
        raise RetriableError("again")

    async with manager(RateLimiter(1, per=5), retry=RetryConfig.none(max_elapsed=5)) as cm:
        handle = await cm.run(failing)
        await trio.sleep(4.5)
        autojump_clock.jump(1)  # the machine is busy
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        outcome = handle.outcome
        assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.elapsed, record) == (StopReason.MAX_ELAPSED, 5.5, [0])


async def test_a_retry_that_has_its_slot_after_max_elapsed_is_not_made_though_a_permit_is_there(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    budget = RetryBudget(1)
    async with manager(RateLimiter(1, burst=3), 2, retry_budget=budget) as cm:
        handle = await cm.run(fail, record, after(1, max_elapsed=3), 0)
        for name in "ab":
            await cm.run(note, record, name, 4)
        assert ending(await handle.wait()) == (MAX_ELAPSED, "ValueError('real')", 4)
    assert record == [(0, "fails"), (0, "a"), (0, "b")]
    assert budget.statistics().remaining == 1


async def test_a_delay_that_ends_just_when_max_elapsed_does_is_not_waited_for_in_vain(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    """What it may last is a difference of times; when it ends is a sum, which is rounded otherwise."""
    await trio.sleep(0.1)
    async with manager(RateLimiter.unlimited()) as cm:
        handle = await cm.run(fail, record, after(0.4, max_elapsed=0.5), 0.1)
    assert record == [(0.1, "fails"), (pytest.approx(0.6), "fails")]
    assert ending(handle.outcome)[0] is StopReason.RETRIES_EXHAUSTED


async def test_those_that_wait_already_are_before_a_retry(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10)) as cm:
        one = await cm.run(fail, record, after(1), 2, task_timeout=25)
        other = await cm.run(note, record, "a", 100)
        assert ending(await one.wait()) == (StopReason.RETRIES_EXHAUSTED, "ValueError('real')", 22)
        two = await cm.run(fail, record, after(1), 2, task_timeout=25)
        await cm.run(note, record, "b")
        # Its first attempt starts at 30; at 40 it is b's turn.
        assert ending(await two.wait()) == (DEADLINE, "ValueError('real')", 10)
        other.cancel()
    assert record == [(0, "fails"), (10, "a"), (20, "fails"), (30, "fails"), (40, "b")]


async def test_those_that_wait_without_a_deadline_are_before_a_retry_too(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10)) as cm:
        handle = await cm.run(fail, record, after(1, max_elapsed=15), 2)
        await cm.run(note, record, "a")
        assert ending(await handle.wait()) == (MAX_ELAPSED, "ValueError('real')", 2)
    assert record == [(0, "fails"), (10, "a")]


@pytest.mark.parametrize("limiters", [1, 2])
@pytest.mark.parametrize(
    "task_timeout, max_elapsed, reason", [(30, math.inf, DEADLINE), (None, 29, MAX_ELAPSED), (33, 30, None)]
)
async def test_those_that_wait_are_before_a_retry_that_makes_one_of_them_too_late(
    task_timeout: float | None,
    max_elapsed: float,
    reason: StopReason | None,
    limiters: int,
    autojump_clock: MockClock,
    record: list[Any],
) -> None:
    async def ask() -> None:
        await note(record, "asks", 2)
        config = RetryConfig.none(max_attempts=1, max_elapsed=max_elapsed)
        raise RetriableError("wait", retry_config=config, retry_after=18)

    async with manager([RateLimiter(1, per=10) for _ in range(limiters)]) as cm:
        asks = await cm.run(ask, task_timeout=task_timeout)
        late = await cm.run(note, record, "late", task_timeout=15)
        await cm.run(note, record, "a")
        assert (await late.wait()).elapsed == 2
        await wait_all_tasks_blocked()
        assert asks.state == ("backing_off" if reason is None else "done")
    # Its permit would be due at 30.
    assert record == [(0, "asks"), (20, "a"), *([(30, "asks")] if reason is None else [])]
    assert isinstance(asks.outcome, Failure)
    assert asks.outcome.reason is (reason or StopReason.RETRIES_EXHAUSTED)


async def test_a_rate_that_is_raised_as_the_service_asks_to_wait_counts_for_the_retry(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Raises(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            rate.rate = 10

    async def ask() -> None:
        await note(record, "asks", 2)
        raise RetriableError("wait", retry_config=RetryConfig.none(max_attempts=1), retry_after=18)

    rate = RateLimiter(1, per=10)
    async with manager(rate, instruments=[Raises()]) as cm:
        await cm.run(ask, task_timeout=25)
        await cm.run(note, record, "late", task_timeout=15)
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (20, "a"), (21, "asks")]


@pytest.mark.parametrize("how", ["held", "cancelled"])
async def test_who_is_held_by_a_pause_of_its_manager_or_has_left_is_before_no_retry_of_another_one(
    how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    class Reacts(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            if how == "cancelled":
                for handle in others:
                    handle.cancel()
            elif not asked.paused:
                asked.pause()

    async def ask() -> None:
        await note(record, "asks", 2)
        raise RetriableError("wait", retry_after=18)

    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm, manager(rate, instruments=[Reacts()]) as asked:
        retries = await cm.run(fail, record, RetryConfig.none(max_attempts=1), 15, task_timeout=35)
        await asked.run(ask, task_timeout=13)
        others = [
            await asked.run(note, record, name, task_timeout=seconds)
            for name, seconds in (("late", 25), ("a", None), ("b", None))
        ]
        await trio.sleep(14)
        assert waiting(rate) == 0
        await trio.sleep(17)
        assert retries.state == "running"
        cm.cancel()
        asked.cancel()
    assert record == [(0, "fails"), (10, "asks"), (30, "fails")]


@pytest.mark.parametrize(
    "options, config, reason",
    [
        ({"task_timeout": 15}, after(3), DEADLINE),
        ({}, after(3, max_elapsed=15), MAX_ELAPSED),
        ({"task_timeout": 20}, after(3, max_elapsed=20), DEADLINE),  # which allows what is due on it
    ],
)
async def test_a_retry_that_others_came_before_fails_after_its_delay_and_has_its_token_back(
    options: dict[str, Any],
    config: RetryConfig,
    reason: StopReason,
    autojump_clock: MockClock,
    record: list[Any],
) -> None:
    budget = RetryBudget(1, ratio=0.25)
    rate = RateLimiter(1, per=10)
    async with manager(rate, 2, retry_budget=budget, **options) as cm, manager(rate) as others:
        handle = await cm.run(fail, record, config)
        await trio.sleep(1)
        assert (handle.state, budget.statistics().remaining) == ("backing_off", 0)
        await others.run(note, record, "a")
        assert ending(await handle.wait()) == (reason, "ValueError('real')", 3)
        assert (handle.retries, waiting(rate), budget.statistics().remaining) == (0, 1, 1)
    assert record == [(0, "fails"), (10, "a")]


async def test_a_pause_ends_at_once_the_wait_of_those_that_it_makes_too_late(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(rate) as cm:
            rate.pause_for(0)
            timeouts = [math.inf, 15, math.inf, 41, 50, 55, 70]
            handles = [await cm.run(note, record, each, task_timeout=each) for each in timeouts]
            await trio.sleep(1)
            rate.pause_for(29)
            await wait_all_tasks_blocked()
            gone = [(each.args[1], ending(each.outcome)[::2]) for each in handles[1:] if each.outcome]
            # 15 makes room for 41, which is in time by that, and 50 for 55.
            assert gone == [(15, (DEADLINE, 1)), (50, (DEADLINE, 1))]
        times = [(when - start, name) for when, name in record]
        assert times == [(0, math.inf), (30, math.inf), (40, 41), (50, 55), (60, 70)]
        await trio.sleep(1000)


async def test_a_pause_ends_the_wait_of_who_it_makes_too_late_also_when_one_before_has_started(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        for name in range(2):
            cm.start_soon(note, record, name, task_timeout=100)
        handle = cm.start_soon(note, record, "late", task_timeout=25)
        await trio.sleep(11)
        rate.pause_for(20)
        reason, text, _ = late(handle, 20)
        assert ending(await handle.wait()) == (reason, text, 11)
    assert record == [(0, 0), (10, 1)]


async def test_who_is_behind_one_that_a_pause_makes_too_late_takes_its_place(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        for name in range(2):
            cm.start_soon(note, record, name, task_timeout=100)
        handle = cm.start_soon(note, record, "late", task_timeout=25)
        cm.start_soon(note, record, "in time", task_timeout=38)
        await trio.sleep(1)
        rate.pause_for(20)
        reason, text, _ = late(handle, 30)
        assert ending(await handle.wait()) == (reason, text, 1)
    assert record == [(0, 0), (21, 1), (31, "in time")]


async def test_those_who_wait_elsewhere_have_their_turns_when_a_pause_makes_one_too_late(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate, other = RateLimiter(1, per=10), RateLimiter(1, per=10)
    async with manager([rate, other]), manager(rate) as cm, manager(other) as elsewhere:
        for each in (cm, elsewhere):
            each.start_soon(note, record, "first")
        handle = cm.start_soon(note, record, "late", task_timeout=15)
        await wait_all_tasks_blocked()
        for name in range(3):
            elsewhere.start_soon(note, record, name)
        await wait_all_tasks_blocked()
        rate.pause_for(20)
        assert ending(await handle.wait()) == late(handle, 20)
    assert record == [(0, "first"), (0, "first"), (10, 0), (20, 1), (30, 2)]


async def test_a_request_to_wait_ends_the_wait_of_those_that_it_makes_too_late(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def busy() -> None:
        await note(record, "busy", 1)
        raise RetriableError("busy", retry_after=30)

    async with manager(RateLimiter(1, per=10)) as cm:
        await cm.run(busy, retry=RetryConfig.none(max_attempts=1))
        handle = await cm.run(note, record, "a", task_timeout=30)
        await cm.run(note, record, "b", task_timeout=50)
        assert ending(await handle.wait())[::2] == (DEADLINE, 1)
        assert isinstance(handle.outcome, Failure)
        assert "would have been due in 30 s, too late" in str(handle.outcome.error)
    assert record == [(0, "busy"), (31, "b"), (41, "busy")]


async def test_answers_that_say_nothing_do_not_hide_a_pause(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        await cm.run(note, record, "first")
        handle = cm.start_soon(note, record, "late", task_timeout=15)
        await wait_all_tasks_blocked()
        for _ in range(100):
            rate.observe(remaining=math.inf, reset=60)
        rate.pause_for(16)
        assert ending(await handle.wait()) == late(handle, 16)
    assert record == [(0, "first")]


async def test_who_comes_too_late_after_a_pause_is_told_of_it_and_of_those_before(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        await cm.run(note, record, "b", task_timeout=100)
        await wait_all_tasks_blocked()
        rate.pause_for(30)
        handle = await cm.run(note, record, "c", task_timeout=5)
        assert ending(await handle.wait()) == late(handle, 40)
    assert record == [(0, "a"), (30, "b")]


async def test_a_pause_counts_the_deadline_as_it_is_now(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate, timeout=15) as cm, manager(rate) as other:
        await cm.run(note, record, "a")
        await cm.run(note, record, "b")
        await other.run(note, record, "c")
        await trio.sleep(1)
        cm.cancel_scope.deadline = 100
        rate.pause_for(29)
    # b was woken, and keeps its place.
    assert record == [(0, "a"), (30, "b"), (40, "c")]


async def test_of_several_that_a_pause_wakes_none_is_judged_by_a_deadline_of_before(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(rate, timeout=35) as cm:
            for name in "abcd":
                await cm.run(note, record, name)
            await trio.sleep(1)
            cm.cancel_scope.deadline = start + 100
            rate.pause_for(39)
        assert [(when - start, name) for when, name in record] == [(0, "a"), (40, "b"), (50, "c"), (60, "d")]
        await trio.sleep(100)


async def test_a_burst_does_not_make_a_pause_shorter(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, per=10, burst=3)
    async with manager(rate) as cm:
        rate.pause_for(15)
        handle = await cm.run(note, record, "a", task_timeout=14)
        assert ending(await handle.wait()) == late(handle, 15)
    assert record == []


async def test_a_deadline_that_is_moved_while_nothing_else_happens_cuts_the_wait_off(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10), timeout=15) as cm:
        await cm.run(note, record, "a")
        handle = await cm.run(note, record, "b")
        await trio.sleep(1)
        cm.cancel_scope.deadline = 5
        await trio.sleep_forever()
    assert ending(handle.outcome)[::2] == (StopReason.MANAGER_TIMEOUT, 5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An entry for each time that a limiter computes when somebody is due."""
    asked: list[object] = []
    foreseen = Forecast._foreseen

    def counted(self: Forecast, *args: Any) -> float:
        asked.append(args)
        return foreseen(self, *args)

    monkeypatch.setattr(Forecast, "_foreseen", counted)
    return asked


async def test_what_many_ask_is_linear(
    autojump_clock: MockClock, record: list[Any], asked: list[object]
) -> None:
    async with manager(RateLimiter(1), timeout=500.5) as cm:
        for index in range(1000):
            cm.start_soon(note, record, index)
        await wait_all_tasks_blocked()
        assert (len(asked), cm.statistics().failed) == (1000, 499)
    assert record == [(index, index) for index in range(501)]


async def test_when_it_would_have_been_due_is_told_with_a_charge_that_made_nobody_too_late(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        for index in range(3):
            await cm.run(note, record, index, task_timeout=100)
        await wait_all_tasks_blocked()
        rate.charge(10)
        handle = await cm.run(note, record, "late", task_timeout=2)
        assert ending(await handle.wait()) == late(handle, 13)
    assert record == [(0, 0), (11, 1), (12, 2)]


@pytest.mark.parametrize("left, more, due", [(math.inf, 1, 10), (1, 0.5, 60)])
async def test_who_is_too_late_since_a_charge_is_told_at_once(
    left: float, more: float, due: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(0.4, per=2)
    async with manager(rate) as cm:
        await cm.run(note, record, "first")
        await wait_all_tasks_blocked()
        rate.observe(remaining=left, reset=60)
        handle = await cm.run(note, record, "late", task_timeout=8)
        await wait_all_tasks_blocked()
        rate.charge(more)
        assert ending(await handle.wait()) == late(handle, due)
    assert record == [(0, "first")]


async def test_who_is_too_late_since_one_before_was_woken_late_is_told_at_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def jump() -> None:
        await trio.sleep(9)
        autojump_clock.jump(6)

    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm, trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        for name in ("first", "woken late", "next"):
            cm.start_soon(note, record, name, task_timeout=100)
        await trio.sleep(16)
        handle = cm.start_soon(note, record, "late", task_timeout=16)  # from now: it will be due in 19
        assert ending(await handle.wait()) == late(handle, 19)
        assert trio.current_time() == 16
    assert record == [(0, "first"), (15, "woken late"), (25, "next")]


async def test_who_is_too_late_as_one_before_was_woken_late_is_told_with_the_next_delay_whoever_asked_since(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def jump() -> None:
        await trio.sleep(9)
        autojump_clock.jump(6)

    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm, trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        for name in ("first", "woken late"):
            cm.start_soon(note, record, name, task_timeout=100)
        handle = cm.start_soon(note, record, "late", task_timeout=24)
        await trio.sleep(16)
        await cm.start_soon(note, record, "asks", task_timeout=16).wait()
        rate.pause_for(1)
        reason, text, _ = late(handle, 9)
        assert ending(await handle.wait()) == (reason, text, 16)
    assert record == [(0, "first"), (15, "woken late")]


async def test_who_stands_behind_one_that_waits_for_another_limiter_too_is_not_before_it(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    plenty, scarce = RateLimiter(1, burst=10), RateLimiter(1, per=50)
    async with manager([plenty, scarce]) as both, manager(plenty) as cm:
        await both.run(note, record, "first")
        both.start_soon(note, record, "second", task_timeout=100)
        await wait_all_tasks_blocked()
        handle = cm.start_soon(note, record, "late", task_timeout=45)
        assert ending(await handle.wait()) == late(handle, 50)
        assert trio.current_time() == 0
    assert record == [(0, "first"), (50, "second")]


async def test_a_pause_is_heeded_by_who_has_waited_since_before_limiters_were_linked(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate, *others = [RateLimiter(1, per=10) for _ in range(3)]
    async with manager(others), manager(rate) as cm:
        await cm.run(note, record, "first")
        handle = cm.start_soon(note, record, "late", task_timeout=15)
        await wait_all_tasks_blocked()
        async with manager([rate, others[0]]):
            rate.pause_for(20)
            assert ending(await handle.wait()) == late(handle, 20)
        assert trio.current_time() == 0
    assert record == [(0, "first")]


async def test_who_is_too_late_for_those_who_waited_before_limiters_were_linked_is_told_at_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rates = [RateLimiter(1, per=10) for _ in range(2)]
    async with manager(rates[0]) as one, manager(rates[1]) as two:
        for cm in (one, two):
            for name in range(2):
                cm.start_soon(note, record, name, task_timeout=100)
        await wait_all_tasks_blocked()
        async with manager(rates):
            handles = [cm.start_soon(note, record, "late", task_timeout=15) for cm in (one, two)]
            assert [ending(await each.wait()) for each in handles] == [late(each, 20) for each in handles]
        assert trio.current_time() == 0
    assert sorted(record) == [(0, 0), (0, 0), (10, 1), (10, 1)]


async def test_who_is_in_time_since_one_before_has_left_is_not_told_otherwise(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10)) as cm:
        handles = [cm.start_soon(note, record, name, task_timeout=100) for name in range(4)]
        await trio.sleep(1)
        handles[2].cancel()
        await trio.sleep(1)
        cm.start_soon(note, record, "in time", task_timeout=29)
    assert record == [(0, 0), (10, 1), (20, 3), (30, "in time")]


async def test_who_is_in_time_since_permits_were_given_back_is_not_told_otherwise(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10, burst=2)

    async def gives_back() -> None:
        await trio.sleep(1)
        rate.charge(-1)

    async with manager(rate) as cm:
        cm.start_soon(gives_back)
        for name in range(4):
            cm.start_soon(note, record, name, task_timeout=100)
        await trio.sleep(2)
        cm.start_soon(note, record, "in time", task_timeout=29)
    assert record == [(0, 0), (1, 1), (10, 2), (20, 3), (30, "in time")]


@pytest.mark.parametrize("retries", [False, True])
async def test_who_is_too_late_since_somebody_took_permits_without_a_wait_is_told_at_once(
    retries: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    slow, idle = RateLimiter(1, per=1000), RateLimiter(1, per=30)
    # What is taken together, by one of the managers, is foreseen together.
    async with manager([slow, idle]), manager(slow) as other, manager(idle) as cm:
        for name in ("one", "another"):
            other.start_soon(note, record, name, task_timeout=2000)
        await cm.run(note, record, "first")
        await wait_all_tasks_blocked()
        leaves = cm.start_soon(note, record, "leaves", task_timeout=100)
        await trio.sleep(1)
        leaves.cancel()
        await trio.sleep(30)
        # Nobody waits there.
        if retries:
            handle = cm.start_soon(fail, record, after(1), task_timeout=29.5)
            assert ending(await handle.wait()) == (DEADLINE, "ValueError('real')", 0)
        else:
            idle.acquire_nowait()
            handle = cm.start_soon(note, record, "late", task_timeout=29.5)
            assert ending(await handle.wait()) == late(handle, 30)
        assert trio.current_time() == 31
    tried = [(31, "fails")] if retries else []
    assert sorted(record) == [(0, "first"), (0, "one"), *tried, (1000, "another")]


@pytest.mark.parametrize("left", [0, 1])
async def test_who_is_too_late_since_an_answer_that_holds_for_longer_is_told_at_once(
    left: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter.unlimited()
    async with manager(rate) as cm:
        rate.observe(remaining=0, reset=8)
        handles = [await cm.run(note, record, index, task_timeout=15) for index in range(left + 1)]
        await trio.sleep(1)
        rate.observe(remaining=left, reset=20)
        assert ending(await handles[-1].wait()) == (*late(handles[-1], 20)[:2], 1)
    assert record == [(8, 0)][:left]


async def test_a_retry_that_is_too_late_for_both_has_the_first_reason_also_after_a_charge(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)

    async def refused() -> None:
        await trio.sleep(0.5)
        rate.charge(10)
        raise RetriableError("later", retry_config=RetryConfig(max_elapsed=5))

    async with manager(rate, task_timeout=100) as cm:
        handle = await cm.run(refused, task_timeout=2)
        for index in range(2):
            await cm.run(note, record, index)
        assert ending(await handle.wait())[::2] == (MAX_ELAPSED, 0.5)
    assert record == [(11, 0), (12, 1)]


@pytest.mark.unmeasured
@pytest.mark.parametrize("in_time", [{}, {"task_timeout": 1e6}, {"retry": RetryConfig(max_elapsed=1e6)}])
async def test_to_give_permits_back_and_try_again_is_linear(
    autojump_clock: MockClock, asked: list[object], in_time: dict[str, Any]
) -> None:
    async def refused() -> None:
        rate.charge(-1)
        raise RetriableError("later")

    rate = RateLimiter(1, cost=2)
    async with manager(rate, **in_time) as cm:
        for _ in range(300):
            cm.start_soon(refused)
    assert (len(cm.errors()), cm.statistics().retries) == (300, 1500)
    assert len(asked) <= 4000


async def test_to_heed_the_answers_of_a_window_that_slides_is_linear(
    autojump_clock: MockClock, asked: list[object]
) -> None:
    started = 0

    async def answered() -> None:
        nonlocal started
        started += 1
        await trio.sleep(1)
        rate.observe(remaining=1000 - started, reset=60)

    rate = RateLimiter(10)
    async with manager(rate, task_timeout=100) as cm:
        for _ in range(300):
            cm.start_soon(answered)
    assert cm.statistics().succeeded == 300
    assert len(asked) <= 1500


async def test_without_a_deadline_nobody_asks(
    autojump_clock: MockClock, record: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        for index in range(2):
            cm.start_soon(note, record, index, task_timeout=9)
        await cm.wait()
        monkeypatch.delattr(Forecast, "_foreseen")
        for index in range(2, 10):
            cm.start_soon(note, record, index)
        cm.start_soon(fail, record, after(1))
        await wait_all_tasks_blocked()
        rate.pause_for(1)
    assert record == [*[(index, index) for index in range(10)], (10, "fails"), (11, "fails")]
    assert [repr(error) for error in cm.errors()] == ["ValueError('real')"]


async def test_a_task_that_never_starts_is_told_to_instruments_and_counted(
    autojump_clock: MockClock,
) -> None:
    recording = RecordingInstrument()
    async with manager(RateLimiter(1, per=10), instruments=[recording], task_timeout=5) as cm:
        await cm.run(trio.sleep, 0)
        await cm.run(trio.sleep, 0)
    assert sorted((event.hook, event.index) for event in recording.events) == [
        ("attempt_started", 0),
        ("task_finished", 0),
        ("task_finished", 1),
        ("task_submitted", 0),
        ("task_submitted", 1),
    ]
    now = cm.statistics()
    assert (now.submitted, now.succeeded, now.failed, now.cancelled) == (2, 1, 1, 0)
