"""attempt_timeout, task_timeout and timeout: which of them ends a task, when, and what its outcome says."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Outcome, RetriableError, RetryConfig, StopReason, Success, TaskCancelledError

ATTEMPT_TIMEOUT = (trio.TooSlowError, StopReason.ATTEMPT_TIMEOUT)
TASK_TIMEOUT = (trio.TooSlowError, StopReason.TASK_TIMEOUT)
MANAGER_TIMEOUT = (trio.TooSlowError, StopReason.MANAGER_TIMEOUT)
CANCELLED = (TaskCancelledError, StopReason.CANCELLED)

EVERY_SECOND = RetryConfig.linear(max_attempts=2, initial_delay=1, backoff_factor=0)


@asynccontextmanager
async def manager(limit: int = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


def ending(outcome: Outcome[Any] | None) -> Any:
    """A success's value, or the type of a failure's error and its reason."""
    assert outcome is not None
    return outcome.value if isinstance(outcome, Success) else (type(outcome.error), outcome.reason)


async def job(value: Any, seconds: float) -> Any:
    await trio.sleep(seconds)
    return value


async def clean_up_after(seconds: float, clean_up: float) -> None:
    try:
        await trio.sleep(seconds)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(clean_up)


class Flaky:
    """Fails in each call, after so many seconds; notes when it was called."""

    def __init__(
        self, seconds: float = 0, error: Callable[[], Exception] = lambda: RetriableError("no")
    ) -> None:
        self.seconds = seconds
        self.error = error
        self.calls: list[float] = []

    async def __call__(self) -> None:
        self.calls.append(trio.current_time())
        await trio.sleep(self.seconds)
        raise self.error()


# attempt_timeout


@pytest.mark.parametrize("by_manager", [True, False])
async def test_an_attempt_too_slow_fails_the_task_when_no_config_is_set(
    autojump_clock: MockClock, by_manager: bool
) -> None:
    calls = Flaky(seconds=9)
    async with manager(**({"attempt_timeout": 2} if by_manager else {})) as cm:
        handle = await cm.run(calls, attempt_timeout=None if by_manager else 2)
        outcome = await handle.wait()
        assert trio.current_time() == 2
    assert ending(outcome) == ATTEMPT_TIMEOUT
    assert (outcome.retries, outcome.waited, outcome.elapsed) == (0, 0, 2)
    assert calls.calls == [0]


@pytest.mark.parametrize("by_manager", [True, False])
async def test_an_attempt_too_slow_is_retried_when_a_config_is_set(
    autojump_clock: MockClock, by_manager: bool
) -> None:
    calls = Flaky(seconds=9)
    options: dict[str, Any] = {"attempt_timeout": 2, "retry": EVERY_SECOND}
    async with manager(**(options if by_manager else {})) as cm:
        handle = await cm.run(calls, **({} if by_manager else options))
    assert calls.calls == [0, 3, 6]
    assert ending(handle.outcome) == ATTEMPT_TIMEOUT
    assert handle.outcome is not None and not isinstance(handle.outcome, Success)
    assert (handle.outcome.retries, handle.outcome.elapsed) == (2, 8)
    assert [(each.error_type, each.delay) for each in handle.outcome.history] == [("TooSlowError", 1)] * 2


async def test_a_retry_after_a_slow_attempt_may_succeed(autojump_clock: MockClock, record: list[Any]) -> None:
    async def slow_once() -> Any:
        record.append(trio.current_time())
        return await job("done", 5 if len(record) == 1 else 1)

    async with manager(attempt_timeout=2, retry=EVERY_SECOND) as cm:
        handle = await cm.run(slow_once)
    assert record == [0, 3]
    assert ending(handle.outcome) == "done"
    assert handle.outcome is not None
    assert (handle.outcome.retries, handle.outcome.elapsed) == (1, 4)


async def test_a_config_that_only_an_earlier_error_carried_does_not_retry_a_slow_attempt(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def fails_then_hangs() -> None:
        record.append(trio.current_time())
        if len(record) == 1:
            raise RetriableError("no", retry_config=EVERY_SECOND)
        await trio.sleep_forever()

    async with manager(attempt_timeout=2) as cm:
        handle = await cm.run(fails_then_hangs)
    assert record == [0, 1]
    assert ending(handle.outcome) == ATTEMPT_TIMEOUT
    assert handle.retries == 1


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"task_timeout": 5, "retry": RetryConfig.linear(initial_delay=3, max_delay=3)}, StopReason.DEADLINE),
        ({"timeout": 5, "retry": RetryConfig.linear(initial_delay=3, max_delay=3)}, StopReason.DEADLINE),
        (
            {"retry": RetryConfig.linear(initial_delay=2, max_delay=2, max_elapsed=3.5)},
            StopReason.MAX_ELAPSED,
        ),
    ],
)
async def test_what_stops_the_retry_of_a_slow_attempt_is_the_reason(
    autojump_clock: MockClock, options: dict[str, Any], reason: StopReason
) -> None:
    async with manager(attempt_timeout=2, **options) as cm:
        handle = await cm.run(trio.sleep_forever)
        await handle.wait()
        assert trio.current_time() == 2
    assert ending(handle.outcome) == (trio.TooSlowError, reason)


async def test_each_attempt_has_its_own_time(autojump_clock: MockClock) -> None:
    calls = Flaky(seconds=2)
    async with manager(attempt_timeout=3, retry=EVERY_SECOND) as cm:
        handle = await cm.run(calls)
    assert calls.calls == [0, 3, 6]
    assert ending(handle.outcome) == (RetriableError, StopReason.RETRIES_EXHAUSTED)


async def test_a_slow_attempt_gives_its_slot_back_while_it_backs_off(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def note_and_hang() -> None:
        record.append(("slow", trio.current_time()))
        await trio.sleep_forever()

    async def note() -> None:
        record.append(("other", trio.current_time()))

    async with manager() as cm:
        parked = await cm.run(trio.sleep_forever)
        slow = await cm.run(note_and_hang, attempt_timeout=2, retry=EVERY_SECOND)
        await cm.run(note)
        await slow.wait()
        parked.cancel()
    assert record == [("slow", 0), ("other", 2), ("slow", 3), ("slow", 6)]


# task_timeout


async def test_task_timeout_covers_attempts_and_backoffs_together(autojump_clock: MockClock) -> None:
    calls = Flaky(seconds=1)
    async with manager(task_timeout=4.5, retry=EVERY_SECOND) as cm:
        handle = await cm.run(calls)
        outcome = await handle.wait()
        assert trio.current_time() == 4.5
    assert calls.calls == [0, 2, 4]
    assert ending(outcome) == TASK_TIMEOUT
    assert not isinstance(outcome, Success)
    assert (outcome.retries, outcome.elapsed) == (2, 4.5)
    assert [each.error_type for each in outcome.history] == ["RetriableError"] * 2


async def test_task_timeout_starts_with_the_slot(autojump_clock: MockClock) -> None:
    async with manager() as cm:
        await cm.run(job, 1, 3)
        await cm.run(job, 2, 9)
        handle = await cm.run(job, 3, 9, task_timeout=2)
        assert trio.current_time() == 3
        outcome = await handle.wait()
        assert trio.current_time() == 5
    assert ending(outcome) == TASK_TIMEOUT
    assert (outcome.waited, outcome.elapsed) == (3, 2)
    assert cm.outputs() == [1, 2]


@pytest.mark.parametrize(
    "option, reason",
    [("task_timeout", StopReason.TASK_TIMEOUT), ("timeout", StopReason.MANAGER_TIMEOUT)],
)
async def test_a_task_that_waits_for_its_slot_after_a_backoff_fails_with_its_last_error(
    autojump_clock: MockClock, option: str, reason: StopReason
) -> None:
    calls = Flaky(error=lambda: RetriableError(ValueError("real")))
    async with manager(**({option: 3} if option == "timeout" else {})) as cm:
        first = await cm.run(trio.sleep_forever)
        flaky = await cm.run(calls, retry=EVERY_SECOND, task_timeout=3 if option == "task_timeout" else None)
        second = await cm.run(trio.sleep_forever)  # has the slot that the backoff set free
        await trio.sleep(2)
        assert flaky.state == "backing_off"
        await flaky.wait()
        first.cancel()
        second.cancel()
    assert calls.calls == [0]
    assert ending(flaky.outcome) == (ValueError, reason)
    assert flaky.outcome is not None and flaky.outcome.elapsed == 3


async def test_task_timeout_of_one_task_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    async with manager(5) as cm:
        handles = [await cm.run(job, n, n, task_timeout=2.5) for n in range(5)]
    assert [ending(handle.outcome) for handle in handles] == [0, 1, 2, TASK_TIMEOUT, TASK_TIMEOUT]
    assert trio.current_time() == 2.5
    assert not cm.timed_out


# timeout


async def test_timeout_ends_tasks_and_body_quietly_and_keeps_the_results(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 3, timeout=4) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 9, 9)
            try:
                await trio.sleep_forever()
            finally:
                record.append(("body", trio.current_time()))
        record.append(("after", trio.current_time()))
        await trio.sleep(1)  # the nursery goes on
    assert record == [("body", 4), ("after", 4)]
    assert cm.timed_out
    assert [ending(outcome) for outcome in cm.outcomes()] == [1, MANAGER_TIMEOUT]


async def test_a_body_blocked_in_run_when_the_time_is_over_ends_quietly(autojump_clock: MockClock) -> None:
    async with manager(timeout=3) as cm:
        while True:
            await cm.run(job, 0, 2)
    assert trio.current_time() == 3
    assert [ending(outcome) for outcome in cm.outcomes()] == [0, 0, MANAGER_TIMEOUT, MANAGER_TIMEOUT]


async def test_timeout_ends_the_wait_for_the_tasks_at_the_end_of_the_block(autojump_clock: MockClock) -> None:
    async with manager(timeout=3) as cm:
        await cm.run(trio.sleep_forever)
    assert trio.current_time() == 3
    assert cm.timed_out


async def test_timeout_of_a_manager_in_time_changes_nothing(autojump_clock: MockClock) -> None:
    async with manager(timeout=3) as cm:
        await cm.run(job, 1, 2)
    await trio.sleep(5)
    assert not cm.timed_out
    assert cm.outputs() == [1]


async def test_timed_out_can_be_seen_in_the_clean_up_of_a_task(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record.append(cm.timed_out)

    async with manager(timeout=1) as cm:
        await cm.run(task)
        record.append(cm.timed_out)
    assert record == [False, True]


@pytest.mark.parametrize("how", ["manager", "scope", "outer"])
async def test_a_cancellation_before_the_deadline_is_no_timeout(autojump_clock: MockClock, how: str) -> None:
    with trio.CancelScope() as outer:
        async with manager(timeout=5) as cm:
            handle = await cm.run(trio.sleep_forever)
            await trio.sleep(1)
            {"manager": cm.cancel, "scope": cm.cancel_scope.cancel, "outer": outer.cancel}[how]()
    assert outer.cancelled_caught == (how == "outer")
    assert trio.current_time() == 1
    await trio.sleep(9)  # past the deadline
    assert not cm.timed_out
    assert ending(handle.outcome) == CANCELLED


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


async def test_the_deadlines_of_manager_and_outer_scope_on_one_tick_tell_all_tasks_the_same(
    autojump_clock: MockClock,
) -> None:
    with trio.move_on_at(2) as outer:
        async with manager(5, timeout=2) as cm:
            for seconds in (math.inf, 2, 3):
                await cm.run(trio.sleep_forever, task_timeout=seconds)
    # Both have passed: the Cancelled belongs to the outer scope, whatever the tasks are told.
    assert outer.cancelled_caught
    told = MANAGER_TIMEOUT if cm.timed_out else CANCELLED
    assert [ending(outcome) for outcome in cm.outcomes()] == [told] * 3


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


# Clean-up after the end


async def test_clean_up_after_a_slow_attempt_is_waited_for_before_the_retry(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def task() -> None:
        record.append(trio.current_time())
        await clean_up_after(9, 2)

    async with manager(attempt_timeout=1, retry=EVERY_SECOND) as cm:
        handle = await cm.run(task)
    assert record == [0, 4, 8]
    assert ending(handle.outcome) == ATTEMPT_TIMEOUT
    assert handle.outcome is not None and handle.outcome.elapsed == 11


@pytest.mark.parametrize(
    "option, expected",
    [("attempt_timeout", ATTEMPT_TIMEOUT), ("task_timeout", TASK_TIMEOUT), ("timeout", MANAGER_TIMEOUT)],
)
async def test_the_slot_is_held_and_the_time_counted_until_the_clean_up_has_ended(
    autojump_clock: MockClock, option: str, expected: tuple[type, StopReason]
) -> None:
    own: dict[str, Any] = {} if option == "timeout" else {option: 1}
    async with manager(timeout=1 if option == "timeout" else math.inf) as cm:
        slow = await cm.run(clean_up_after, 9, 2, **own)
        parked = await cm.run(trio.sleep_forever)
        await cm.run(job, "next", 0)
        assert trio.current_time() == 3
        parked.cancel()
    assert trio.current_time() == 3
    assert ending(slow.outcome) == expected
    assert slow.outcome is not None and slow.outcome.elapsed == 3
    assert cm.outputs() == ([] if option == "timeout" else ["next"])


@pytest.mark.parametrize(
    "deadlines, expected",
    [
        ({"attempt_timeout": 1, "task_timeout": 2}, TASK_TIMEOUT),
        ({"attempt_timeout": 1, "timeout": 2}, MANAGER_TIMEOUT),
        ({"task_timeout": 1, "timeout": 2}, MANAGER_TIMEOUT),
        ({"attempt_timeout": 1, "outer": 2}, CANCELLED),
        ({"task_timeout": 1, "outer": 2}, CANCELLED),
    ],
)
async def test_an_outer_deadline_that_passes_during_the_clean_up_names_the_reason_and_forbids_a_retry(
    autojump_clock: MockClock, deadlines: dict[str, Any], expected: tuple[type, StopReason]
) -> None:
    options = dict(deadlines)
    with trio.move_on_after(options.pop("outer", math.inf)) as outer:
        async with manager(retry=EVERY_SECOND, **options) as cm:
            handle = await cm.run(clean_up_after, 9, 3)
    assert ending(handle.outcome) == expected
    assert handle.outcome is not None
    assert (handle.retries, handle.outcome.elapsed) == (0, 4)
    assert outer.cancelled_caught == (expected is CANCELLED)


async def test_a_cancelled_handle_forbids_the_retry_of_an_attempt_that_is_cleaning_up(
    autojump_clock: MockClock,
) -> None:
    async with manager(attempt_timeout=1, retry=EVERY_SECOND) as cm:
        handle = await cm.run(clean_up_after, 9, 3)
        await trio.sleep(2)
        handle.cancel()
    assert ending(handle.outcome) == CANCELLED
    assert (handle.retries, trio.current_time()) == (0, 4)


@pytest.mark.parametrize("seconds", [1.5, 2.5])
@pytest.mark.parametrize("of", ["handle", "manager"])
async def test_what_is_cancelled_after_an_attempt_has_timed_out(
    autojump_clock: MockClock, of: str, seconds: float
) -> None:
    """While the task backs off, or while the next attempt runs."""
    async with manager(attempt_timeout=1, task_timeout=50, retry=EVERY_SECOND) as cm:
        handle = await cm.run(trio.sleep, 9)
        await trio.sleep(seconds)
        (handle if of == "handle" else cm).cancel()
        with trio.CancelScope(shield=True):
            outcome = await handle.wait()
    assert outcome.elapsed == seconds
    assert ending(outcome) == ((trio.TooSlowError, StopReason.CANCELLED) if seconds == 1.5 else CANCELLED)


async def test_the_deadline_of_a_task_does_not_hit_the_next_one(autojump_clock: MockClock) -> None:
    """Nor does that of an attempt, of tasks that run in one and the same trio task."""
    async with manager(limit=2) as cm:
        for options in cast("list[dict[str, Any]]", [{"attempt_timeout": 2}, {"task_timeout": 2}, {}]):
            handles = [cm.start_soon(trio.sleep, 1.5, **options) for _ in range(4)]
            handles += [cm.start_soon(trio.sleep, 5) for _ in range(2)]
            await cm.wait()
            assert all(isinstance(handle.outcome, Success) for handle in handles)


async def test_a_handle_cancelled_after_its_task_timeout_changes_nothing(autojump_clock: MockClock) -> None:
    async with manager(task_timeout=1) as cm:
        handle = await cm.run(clean_up_after, 9, 3)
        await trio.sleep(2)
        handle.cancel()
    assert ending(handle.outcome) == TASK_TIMEOUT


@pytest.mark.parametrize("option", ["attempt_timeout", "task_timeout", "timeout"])
async def test_an_error_raised_in_the_clean_up_is_the_tasks_error(
    autojump_clock: MockClock, option: str
) -> None:
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("could not clean up")

    async with manager(retry=EVERY_SECOND, **{option: 1}) as cm:
        handle = await cm.run(task)
    assert ending(handle.outcome) == (ValueError, StopReason.ERROR)
    assert cm.timed_out == (option == "timeout")


@pytest.mark.parametrize("option", ["task_timeout", "timeout"])
async def test_a_retriable_error_raised_in_the_clean_up_is_not_retried(
    autojump_clock: MockClock, option: str, record: list[Any]
) -> None:
    async def task() -> None:
        record.append(trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            raise RetriableError(ValueError("real"))

    async with manager(retry=EVERY_SECOND, **{option: 1}) as cm:
        handle = await cm.run(task)
    assert record == [0]
    assert ending(handle.outcome) == (ValueError, StopReason.ERROR)
    assert trio.current_time() == 1


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


# Times in the outcome


async def test_waited_and_elapsed_are_exact(autojump_clock: MockClock) -> None:
    async with manager() as cm:
        handles = [await cm.run(job, n, seconds) for n, seconds in enumerate([2.5, 4, 1.25, 3])]
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, 4, 1)
        await trio.sleep(1)
        handles.append(cm.run_nowait(job, 4, 1))
    # One frees its slot at 2.5, then at 3.75, when the fourth starts and the body goes on.
    assert [(h.outcome.waited, h.outcome.elapsed) for h in handles if h.outcome is not None] == [
        (0, 2.5),
        (0, 4),
        (2.5, 1.25),
        (1.25, 3),
        (0, 1),
    ]


async def test_elapsed_counts_backoffs_and_the_wait_for_a_slot_after_them(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def fails_once() -> None:
        record.append(trio.current_time())
        await trio.sleep(1)
        if len(record) == 1:
            raise RetriableError("no", retry_config=EVERY_SECOND)

    async with manager() as cm:
        await cm.run(job, None, 7)
        flaky = await cm.run(fails_once)
        await cm.run(job, None, 4)  # from 1 to 5 in the slot of the flaky one
    assert record == [0, 5]
    assert flaky.outcome is not None
    assert (flaky.outcome.waited, flaky.outcome.elapsed) == (0, 6)


# Options


async def test_a_tasks_own_deadlines_replace_those_of_the_manager(autojump_clock: MockClock) -> None:
    async with manager(9, attempt_timeout=2, task_timeout=4) as cm:
        handles = [
            await cm.run(job, "as the manager says", 3),
            await cm.run(job, "longer", 3, attempt_timeout=3.5),
            await cm.run(job, "without", 3, attempt_timeout=math.inf),
            await cm.run(job, "too long", 5, attempt_timeout=math.inf),
            await cm.run(job, "free", 5, attempt_timeout=math.inf, task_timeout=math.inf),
            await cm.run(job, "shorter", 1, task_timeout=0.5),
        ]
    assert [ending(handle.outcome) for handle in handles] == [
        ATTEMPT_TIMEOUT,
        "longer",
        "without",
        TASK_TIMEOUT,
        "free",
        TASK_TIMEOUT,
    ]


@pytest.mark.parametrize(
    "option, expected", [("attempt_timeout", ATTEMPT_TIMEOUT), ("task_timeout", TASK_TIMEOUT)]
)
async def test_no_time_at_all_ends_a_task_at_its_first_checkpoint(
    autojump_clock: MockClock, option: str, expected: tuple[type, StopReason]
) -> None:
    async def without_checkpoint() -> str:
        return "done"

    async with manager(**{option: 0}) as cm:
        quick = await cm.run(without_checkpoint)
        slow = await cm.run(trio.lowlevel.checkpoint)
    assert ending(quick.outcome) == "done"
    assert ending(slow.outcome) == expected
    assert trio.current_time() == 0


async def test_no_time_at_all_for_the_manager_ends_the_body_at_its_first_checkpoint(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(timeout=0) as cm:
        record.append("entered")
        await trio.lowlevel.checkpoint()
        record.append("not reached")
    assert record == ["entered"]
    assert cm.timed_out
    assert cm.outcomes() == []
