"""attempt_timeout, task_timeout and timeout: when each ends a task, and what its outcome says."""

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.managed import clean_up_after, failure, manager
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
from trio_conman import ConMan, RetriableError, RetryConfig, StopReason, Success

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
    assert str(failure(handle).error) == "an attempt of task 'Flaky' took longer than attempt_timeout=2 s"
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


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt])
async def test_a_deadline_that_passes_in_the_clean_up_of_what_ended_before_is_no_timeout(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    async def fails() -> None:
        await trio.sleep(1)
        raise kind

    with pytest.RaisesGroup(kind, flatten_subgroups=True):
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, timeout=5, max_errors=0) as cm:
            handle = await cm.run(clean_up_after, math.inf, 9)
            await cm.run(fails)
    assert trio.current_time() == 10
    assert not cm.timed_out
    assert ending(handle.outcome) == CANCELLED


@pytest.mark.parametrize("when", ["before", "after"])
async def test_nor_is_one_that_passes_after_a_shutdown_and_the_body(
    autojump_clock: MockClock, when: str
) -> None:
    async def shut_down(after: float) -> None:
        await trio.sleep(after)
        await cm.shutdown(0)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, timeout=5) as cm:
        handle = await cm.run(clean_up_after, math.inf, 9)
        nursery.start_soon(shut_down, 1)
        await trio.sleep(2 if when == "before" else 0)
    assert trio.current_time() == 10
    assert not cm.timed_out
    assert ending(handle.outcome) == CANCELLED


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
