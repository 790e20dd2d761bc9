"""Clean-up after a deadline: what waits for it, and what it may still change."""

import math
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from tests.managed import clean_up_after, manager
from tests.timed import ATTEMPT_TIMEOUT, CANCELLED, EVERY_SECOND, MANAGER_TIMEOUT, TASK_TIMEOUT, ending, job
from trio_conman import RetriableError, StopReason, Success


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
