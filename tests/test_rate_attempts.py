"""A manager with a rate: which attempts take permits, when, and what a wait for one counts as."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import (
    ConMan,
    Failure,
    RateLimiter,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)

AT_ONCE = RetryConfig.none(max_attempts=1)


async def fail_first(record: list[Any], name: str, seconds: float = 0) -> None:
    """Fail in the first call that is made for `record`."""
    record.append((trio.current_time(), name))
    if sum(each == name for _, each in record) == 1:
        raise RetriableError(ValueError("first"), retry_config=AT_ONCE)
    await trio.sleep(seconds)


def only_failure(cm: ConMan[Any]) -> Failure:
    """The only outcome, which is a failure."""
    (outcome,) = cm.outcomes()
    assert isinstance(outcome, Failure)
    return outcome


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 1}])
async def test_every_attempt_takes_a_permit_retries_too(
    options: dict[str, Any], autojump_clock: MockClock, record: list[Any]
) -> None:
    async def fails() -> None:
        await note(record, "x")
        raise RetriableError("no", retry_config=RetryConfig.none())

    async with manager(RateLimiter(1, per=3)) as cm:
        await cm.run(fails, **options)
    assert record == [(0, "x"), (3, "x"), (6, "x"), (9, "x")]
    assert (only_failure(cm).retries, only_failure(cm).elapsed) == (3, 9)


async def test_a_waiting_attempt_holds_its_slot_and_its_wait_is_elapsed_time(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate, 2) as cm:
        handles = [await cm.run(note, record, name, 1) for name in "ab"]
        handles.append(cm.start_soon(note, record, "c", 1))
        await trio.sleep(5)
        assert [handle.state for handle in handles] == ["done", "running", "running"]
        assert (cm.statistics().running, waiting(rate)) == (2, 2)
    assert record == [(0, "a"), (10, "b"), (20, "c")]
    # c has its slot when a ends.
    assert [(each.waited, each.elapsed) for each in cm.outcomes()] == [(0, 1), (0, 11), (1, 20)]


async def test_who_waits_for_a_slot_takes_no_permit_yet_nor_does_a_retry(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    gently = RetryConfig.linear(max_attempts=1, initial_delay=2)

    async def flaky() -> None:
        record.append((trio.current_time(), "flaky"))
        if len(record) == 1:
            raise RetriableError("no", retry_config=gently)

    async with manager(rate, 2) as cm, manager(rate) as other:
        await cm.run(flaky)
        await wait_all_tasks_blocked()
        # Both take their slots while flaky is backing off: it has none until 10 + 25.
        await cm.run(note, record, "a", 25)
        await cm.run(note, record, "b", 100)
        await trio.sleep_until(30)
        assert waiting(rate) == 0
        await other.run(note, record, "other")
    assert record == [(0, "flaky"), (10, "a"), (20, "b"), (30, "other"), (40, "flaky")]


async def held_back(cm: ConMan[Any], record: list[Any], flaky: str, others: str) -> list[TaskHandle[Any]]:
    """Pause until some wait to come back from a backoff, whose handles are returned, and others to begin."""

    async def fail_first(name: str) -> None:
        record.append((trio.current_time(), name))
        if trio.current_time() == 0:
            raise RetriableError("first", retry_config=RetryConfig.linear(initial_delay=1))

    handles = [await cm.run(fail_first, name) for name in flaky]
    await trio.sleep(0.5)
    cm.pause()
    for name in others:
        cm.start_soon(note, record, name, 9)
    await trio.sleep(9.5)
    record.clear()
    return handles


async def test_who_returns_stands_in_the_queue_from_when_it_has_its_slot(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, burst=2), 4) as cm:
        await held_back(cm, record, "aa", "xyz")
        cm.resume()
    # They take their slots by turns, and so the permits.
    assert record == [(10, "a"), (10, "x"), (11, "a"), (12, "y"), (13, "z")]


async def test_who_returns_and_is_cancelled_as_it_gets_its_slot_holds_up_nobody(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate, 2) as cm:
        (handle,) = await held_back(cm, record, "a", "x")
        cm.resume()
        assert waiting(rate) == 2
        handle.cancel()
        await wait_all_tasks_blocked()
        assert (record, waiting(rate)) == ([(10, "x")], 0)
    assert [type(each) for each in cm.outcomes()] == [Failure, Success]


async def test_an_attempt_whose_permit_was_there_has_begun(autojump_clock: MockClock) -> None:
    async with manager(RateLimiter(1), task_timeout=12) as cm:
        await cm.run(trio.sleep_forever)
    (error,) = cm.errors()
    assert str(error).endswith("was ended: its attempts took longer than task_timeout=12 s")


async def test_task_timeout_counts_the_wait_for_a_permit(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10), task_timeout=12) as cm:
        await cm.run(note, record, "a")
        handle = await cm.run(note, record, "b", 5)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert record == [(0, "a"), (10, "b")]
    assert (outcome.reason, outcome.elapsed) == (StopReason.TASK_TIMEOUT, 12)
    assert str(outcome.error).endswith("was ended: its attempts took longer than task_timeout=12 s")


async def test_attempt_timeout_does_not_count_it(autojump_clock: MockClock, record: list[Any]) -> None:
    async def flaky() -> None:
        await note(record, "flaky", 1)
        if len(record) == 2:
            raise RetriableError("no", retry_config=AT_ONCE)

    async with manager(RateLimiter(1, per=10), attempt_timeout=2) as cm:
        await cm.run(note, record, "a")
        await cm.run(flaky)
    assert record == [(0, "a"), (10, "flaky"), (20, "flaky")]
    assert [type(each) for each in cm.outcomes()] == [Success, Success]


async def test_a_retry_that_is_cancelled_while_it_waits_ends_with_the_last_real_error(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10)) as cm:
        handle = await cm.run(fail_first, record, "a")
        await trio.sleep(5)
        handle.cancel()
    outcome = only_failure(cm)
    assert record == [(0, "a")]
    assert (repr(outcome.error), outcome.reason) == ("ValueError('first')", StopReason.CANCELLED)
    assert (outcome.retries, outcome.history, outcome.elapsed) == (0, (), 5)


@pytest.mark.parametrize(
    "options, reason",
    [({"task_timeout": 15}, StopReason.TASK_TIMEOUT), ({"timeout": 15}, StopReason.MANAGER_TIMEOUT)],
)
async def test_a_retry_that_a_pause_held_until_its_deadline_ends_with_the_last_real_error(
    options: dict[str, float], reason: StopReason, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10), **options) as cm:
        await cm.run(fail_first, record, "a")
        await trio.sleep(5)
        cm.pause()
        await trio.sleep(20)
    outcome = only_failure(cm)
    assert record == [(0, "a")]
    assert (repr(outcome.error), outcome.reason, outcome.elapsed) == ("ValueError('first')", reason, 15)


async def test_a_first_attempt_that_a_pause_held_until_its_timeout_says_that_it_waited_for_a_permit(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=10), task_timeout=15) as cm:
        await cm.run(note, record, "a")
        handle = await cm.run(note, record, "b")
        await wait_all_tasks_blocked()
        cm.pause()
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.elapsed) == (StopReason.TASK_TIMEOUT, 15)
        assert str(outcome.error) == (
            "task 'note' (index 1) was ended: it waited for a permit longer than task_timeout=15 s"
        )
    assert record == [(0, "a")]


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_items_of_a_map_take_permits(
    ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(name: int) -> None:
        await note(record, name)

    async with manager(RateLimiter(1, burst=2), 3) as cm:
        async with cm.map(item, range(5), ordered=ordered) as outcomes:
            seen = [outcome.index async for outcome in outcomes]
    assert [when for when, _ in record] == [0, 0, 1, 2, 3]
    assert sorted(seen) == sorted(name for _, name in record) == [0, 1, 2, 3, 4]


async def test_leaving_a_map_early_takes_its_waiting_items_out_of_the_queue(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(name: int) -> None:
        await note(record, name)

    rate = RateLimiter(1)
    async with manager(rate, 3) as cm:
        async with cm.map(item, range(5)) as outcomes:
            async for _ in outcomes:
                break
        assert waiting(rate) == 0
        await cm.run(note, record, "next")
    assert [when for when, _ in record] == [0, 1]
    assert record[-1] == (1, "next")
