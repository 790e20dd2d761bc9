"""Deadlines together, and with scopes of others: which ends a task, and what a task sees."""

import math
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import clean_up_after, manager
from tests.timed import (
    ATTEMPT_TIMEOUT,
    CANCELLED,
    EVERY_SECOND,
    MANAGER_TIMEOUT,
    TASK_TIMEOUT,
    Flaky,
    ending,
    job,
)
from trio_conman import ConMan, RetriableError, RetryConfig, StopReason

# Two at once


async def check_end_of_sleeper(
    deadlines: dict[str, Any], expected: tuple[type, StopReason], retry: RetryConfig | None
) -> None:
    options = dict(deadlines)
    with trio.move_on_after(options.pop("outer", math.inf)) as outer:
        async with manager(**options) as cm:
            handle = await cm.run(trio.sleep_forever, retry=retry)
    assert trio.current_time() == 2
    assert ending(handle.outcome) == expected
    assert handle.outcome is not None
    assert (handle.retries, handle.outcome.elapsed) == (0, 2)
    assert cm.timed_out == (expected is MANAGER_TIMEOUT)
    assert outer.cancelled_caught == (expected is CANCELLED)


@pytest.mark.parametrize(
    "deadlines, expected",
    [
        ({"attempt_timeout": 2, "task_timeout": 3}, ATTEMPT_TIMEOUT),
        ({"attempt_timeout": 3, "task_timeout": 2}, TASK_TIMEOUT),
        ({"attempt_timeout": 2, "timeout": 3}, ATTEMPT_TIMEOUT),
        ({"attempt_timeout": 3, "timeout": 2}, MANAGER_TIMEOUT),
        ({"task_timeout": 2, "timeout": 3}, TASK_TIMEOUT),
        ({"task_timeout": 3, "timeout": 2}, MANAGER_TIMEOUT),
        ({"attempt_timeout": 2, "task_timeout": 3, "timeout": 4, "outer": 5}, ATTEMPT_TIMEOUT),
        ({"attempt_timeout": 5, "task_timeout": 4, "timeout": 3, "outer": 2}, CANCELLED),
    ],
)
async def test_the_earliest_deadline_ends_the_task(
    autojump_clock: MockClock, deadlines: dict[str, Any], expected: tuple[type, StopReason]
) -> None:
    await check_end_of_sleeper(deadlines, expected, None)


@pytest.mark.parametrize(
    "deadlines, expected",
    [
        ({"attempt_timeout": 2, "task_timeout": 2}, TASK_TIMEOUT),
        ({"attempt_timeout": 2, "timeout": 2}, MANAGER_TIMEOUT),
        ({"task_timeout": 2, "timeout": 2}, MANAGER_TIMEOUT),
        ({"attempt_timeout": 2, "task_timeout": 2, "timeout": 2}, MANAGER_TIMEOUT),
        ({"attempt_timeout": 2, "outer": 2}, CANCELLED),
        ({"task_timeout": 2, "outer": 2}, CANCELLED),
        ({"attempt_timeout": 2, "task_timeout": 2, "outer": 2}, CANCELLED),
    ],
)
@pytest.mark.parametrize("retry", [None, EVERY_SECOND])
async def test_of_two_deadlines_on_one_tick_the_outer_one_wins_as_with_nested_scopes(
    autojump_clock: MockClock,
    deadlines: dict[str, Any],
    expected: tuple[type, StopReason],
    retry: RetryConfig | None,
) -> None:
    await check_end_of_sleeper(deadlines, expected, retry)


@pytest.mark.parametrize("when", [1.75, 2, 2.25])
async def test_an_outer_deadline_wins_over_the_managers(when: float, mock_clock: MockClock) -> None:
    with trio.move_on_at(when) as outer:
        async with manager(5, timeout=2) as cm:
            for seconds in (math.inf, 2, 3):
                await cm.run(trio.sleep_forever, task_timeout=seconds)
            await wait_all_tasks_blocked()
            mock_clock.jump(3)  # as real clocks do, by a little
    # The Cancelled belongs to the outer scope.
    assert outer.cancelled_caught
    assert not cm.timed_out
    assert [ending(outcome) for outcome in cm.outcomes()] == [CANCELLED] * 3


@pytest.mark.parametrize(
    "option, expected",
    [("attempt_timeout", ATTEMPT_TIMEOUT), ("task_timeout", TASK_TIMEOUT), ("timeout", MANAGER_TIMEOUT)],
)
async def test_a_sleep_that_would_end_on_the_deadline_does_not_return(
    autojump_clock: MockClock, option: str, expected: tuple[type, StopReason]
) -> None:
    async with manager(**{option: 2}) as cm:
        handle = await cm.run(job, "late", 2)
    assert ending(handle.outcome) == expected


@pytest.mark.parametrize(
    "options, when, expected",
    [
        ({"task_timeout": 2}, 1, CANCELLED),
        ({"task_timeout": 2}, 2, TASK_TIMEOUT),
        ({"task_timeout": 2}, 3, TASK_TIMEOUT),
        ({"attempt_timeout": 2, "retry": EVERY_SECOND}, 3, CANCELLED),  # another attempt may follow
    ],
)
async def test_to_cancel_a_task_from_its_deadline_on_is_too_late(
    options: Any, when: float, expected: tuple[type, StopReason], autojump_clock: MockClock, order: None
) -> None:
    async with manager() as cm:
        handle = await cm.run(clean_up_after, math.inf, 4, **options)
        await trio.sleep(when)
        handle.cancel()
    assert ending(handle.outcome) == expected
    assert trio.current_time() == min(when, 2) + 4


async def test_a_task_that_catches_its_timeout_and_returns_has_succeeded(autojump_clock: MockClock) -> None:
    async def stubborn() -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "what there was"

    for option in ("attempt_timeout", "task_timeout", "timeout"):
        async with manager(**{option: 2}) as cm:
            handle = await cm.run(stubborn)
        assert ending(handle.outcome) == "what there was"


# Moved deadlines


async def test_a_deadline_moved_ahead_ends_the_block_then(autojump_clock: MockClock) -> None:
    async with manager(timeout=9) as cm:
        handle = await cm.run(trio.sleep_forever)
        await trio.sleep(1)
        cm.cancel_scope.deadline = 3
        await trio.sleep_forever()
    assert trio.current_time() == 3
    assert cm.timed_out
    assert ending(handle.outcome) == MANAGER_TIMEOUT


@pytest.mark.parametrize("deadline", [6, math.inf])
async def test_a_deadline_moved_back_no_longer_ends_the_block_at_the_old_time(
    autojump_clock: MockClock, deadline: float
) -> None:
    async with manager(timeout=2) as cm:
        handle = await cm.run(job, "done", 5)
        await trio.sleep(1)
        cm.cancel_scope.deadline = deadline
    assert trio.current_time() == 5
    assert not cm.timed_out
    assert ending(handle.outcome) == "done"


@pytest.mark.parametrize("deadline", [0.5, 1, -math.inf])
async def test_a_deadline_moved_into_the_past_ends_the_block_at_once(
    autojump_clock: MockClock, deadline: float, record: list[Any]
) -> None:
    async def task() -> None:
        await trio.sleep(1)
        cm.cancel_scope.deadline = deadline  # a task may move it too
        record.append("moved")
        await trio.lowlevel.checkpoint()
        record.append("not reached")

    async with manager() as cm:
        handle = await cm.run(task)
        await trio.sleep_forever()
    assert record == ["moved"]
    assert trio.current_time() == 1
    assert cm.timed_out
    assert ending(handle.outcome) == MANAGER_TIMEOUT


async def test_a_deadline_moved_ahead_during_a_backoff_leaves_the_last_error(
    autojump_clock: MockClock,
) -> None:
    calls = Flaky(error=lambda: RetriableError(ValueError("real")))
    async with manager() as cm:
        handle = await cm.run(calls, retry=RetryConfig.linear(initial_delay=5, max_delay=5))
        await trio.sleep(1)
        cm.cancel_scope.deadline = 2
    assert trio.current_time() == 2
    assert calls.calls == [0]
    assert ending(handle.outcome) == (ValueError, StopReason.MANAGER_TIMEOUT)


async def test_a_backoff_that_was_refused_before_a_deadline_is_begun_after_it_was_moved(
    autojump_clock: MockClock,
) -> None:
    calls = Flaky()
    retry = RetryConfig.linear(max_attempts=1, initial_delay=3, max_delay=3)
    async with manager(timeout=3) as cm:
        early = await cm.run(calls, retry=retry)
        outcome = await early.wait()
        assert trio.current_time() == 0
        cm.cancel_scope.deadline = 4
        late = await cm.run(calls, retry=retry)
    assert ending(outcome) == (RetriableError, StopReason.DEADLINE)
    assert ending(late.outcome) == (RetriableError, StopReason.RETRIES_EXHAUSTED)
    assert calls.calls == [0, 0, 3]


# Scopes that are not ours


@pytest.mark.parametrize("bound_outside", [True, False])
async def test_an_outer_scope_is_never_turned_into_one_of_ours(
    autojump_clock: MockClock, bound_outside: bool
) -> None:
    async with trio.open_nursery() as far:
        with trio.move_on_after(2) as outer:
            async with trio.open_nursery() as near:
                options: dict[str, Any] = {"attempt_timeout": 3, "task_timeout": 4, "timeout": 5}
                nursery = far if bound_outside else near
                async with ConMan[Any].open(nursery, retry=EVERY_SECOND, **options) as cm:
                    handle = await cm.run(trio.sleep_forever)
    assert outer.cancelled_caught
    assert trio.current_time() == 2
    assert not cm.timed_out
    assert ending(handle.outcome) == CANCELLED


async def test_cancelling_the_nursery_is_no_timeout(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, attempt_timeout=3, task_timeout=4, timeout=5) as cm:
            handle = await cm.run(trio.sleep_forever)
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() == 2
    assert not cm.timed_out
    assert ending(handle.outcome) == CANCELLED


async def test_a_too_slow_error_of_the_task_itself_is_an_error_like_any_other(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def impatient() -> None:
        record.append(trio.current_time())
        with trio.fail_after(1):
            await trio.sleep_forever()

    async with manager(attempt_timeout=3, task_timeout=4, timeout=5, retry=EVERY_SECOND) as cm:
        handle = await cm.run(impatient)
    assert record == [0]
    assert ending(handle.outcome) == (trio.TooSlowError, StopReason.ERROR)


async def test_a_scope_that_a_task_moves_on_from_does_not_end_it(autojump_clock: MockClock) -> None:
    async def patient() -> Any:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return await job("done", 1)

    async with manager(attempt_timeout=3) as cm:
        handle = await cm.run(patient)
    assert ending(handle.outcome) == "done"


async def test_the_scopes_of_the_caller_do_not_reach_into_the_task(autojump_clock: MockClock) -> None:
    async with manager() as cm:
        with trio.move_on_after(1) as scope:
            handle = await cm.run(job, "done", 3)
            await trio.sleep_forever()
        assert scope.cancelled_caught
    assert ending(handle.outcome) == "done"


# What a task can see


@pytest.mark.parametrize(
    "deadlines, expected",
    [
        ({}, math.inf),
        ({"outer": 8}, 8),
        ({"timeout": 7, "outer": 8}, 7),
        ({"timeout": 9, "outer": 8}, 8),
        ({"task_timeout": 5, "timeout": 7}, 6),
        ({"attempt_timeout": 4, "task_timeout": 5, "timeout": 7}, 5),
        ({"attempt_timeout": 4, "timeout": 3}, 3),
    ],
)
async def test_a_task_sees_the_effective_deadline(
    autojump_clock: MockClock, deadlines: dict[str, Any], expected: float
) -> None:
    async def deadline() -> float:
        return trio.current_effective_deadline()

    options = dict(deadlines)
    with trio.move_on_at(options.pop("outer", math.inf)):
        async with manager(**options) as cm:
            await trio.sleep(1)
            await cm.run(deadline)
    assert cm.outputs() == [expected]


async def test_each_attempt_sees_a_deadline_of_its_own(autojump_clock: MockClock, record: list[Any]) -> None:
    async def task() -> None:
        record.append(trio.current_effective_deadline())
        await trio.sleep(2)
        raise RetriableError("no")

    async with manager(attempt_timeout=3, task_timeout=8, retry=EVERY_SECOND) as cm:
        await cm.run(task)
    assert record == [3, 6, 8]


async def test_a_running_task_sees_the_deadline_move(autojump_clock: MockClock, record: list[Any]) -> None:
    async def task() -> None:
        for _ in range(3):
            record.append(trio.current_effective_deadline())
            await trio.sleep(2)

    async with manager(timeout=9) as cm:
        await cm.run(task)
        await trio.sleep(1)
        cm.cancel_scope.deadline = 7
        await trio.sleep(2)
        cm.cancel_scope.deadline = math.inf
    assert record == [9, 7, math.inf]
