"""Retries run through a manager: what stops them."""

import math
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from tests.managed import failure, manager
from tests.retried import Flaky, Scripted, always, doubling, every
from trio_conman import RateLimiter, RetriableError, RetryConfig, StopReason

# What stops the retries


@pytest.mark.parametrize(
    "max_elapsed, calls, reason",
    [
        (1.5, [0, 1], StopReason.MAX_ELAPSED),
        (6.5, [0, 1, 3], StopReason.MAX_ELAPSED),
        (7, [0, 1, 3, 7], StopReason.MAX_ELAPSED),
        (math.inf, [0, 1, 3, 7, 15, 31], StopReason.RETRIES_EXHAUSTED),
        (0, [0], StopReason.MAX_ELAPSED),
    ],
)
async def test_no_delay_is_begun_that_ends_later_than_max_elapsed(
    autojump_clock: MockClock, max_elapsed: float, calls: list[float], reason: StopReason
) -> None:
    task = always()
    async with manager(retry=doubling(max_elapsed=max_elapsed)) as cm:
        handle = await cm.run(task)
    assert task.calls == calls
    assert trio.current_time() == calls[-1]
    assert failure(handle).reason is reason


async def test_max_elapsed_counts_from_the_start_of_the_first_attempt(autojump_clock: MockClock) -> None:
    task = always(seconds=2)
    async with manager(retry=every(1, max_elapsed=7)) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 10)
        handle = await cm.run(task)  # waits 10 seconds for its slot
    assert task.calls == [10, 13, 16]
    assert failure(handle).reason is StopReason.MAX_ELAPSED
    assert (failure(handle).waited, failure(handle).elapsed) == (10, 8)


@pytest.mark.parametrize("whose", ["task", "manager", "outer"])
@pytest.mark.parametrize(
    "deadline, calls",
    [(0.5, [0]), (1, [0]), (1.5, [0, 1]), (3, [0, 1]), (3.5, [0, 1, 3])],
)
async def test_no_delay_is_begun_that_does_not_end_before_the_deadline(
    autojump_clock: MockClock, whose: str, deadline: float, calls: list[float]
) -> None:
    real = ValueError("real")
    task = Flaky(RetriableError(real), forever=True)
    with trio.move_on_after(deadline if whose == "outer" else math.inf) as outer:
        async with manager(timeout=deadline if whose == "manager" else math.inf) as cm:
            handle = await cm.run(task, retry=doubling(), task_timeout=deadline if whose == "task" else None)
    assert task.calls == calls
    assert failure(handle).error is real
    assert failure(handle).reason is StopReason.DEADLINE
    assert failure(handle).elapsed == trio.current_time() == calls[-1]
    assert not outer.cancelled_caught and not cm.timed_out


async def test_the_delay_that_was_drawn_is_the_one_that_must_end_in_time(autojump_clock: MockClock) -> None:
    task = always()
    async with manager(retry=every(4, jitter=True), task_timeout=5, rng=Scripted(0.25, 0.75, 1)) as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1, 4]
    assert failure(handle).reason is StopReason.DEADLINE


async def test_retry_after_and_delays_of_predicates_must_end_in_time_too(autojump_clock: MockClock) -> None:
    config = every(1, retry_on=lambda _: 30)
    async with manager(timeout=20) as cm:
        asked = await cm.run(Flaky(RetriableError("no", retry_after=30)))
        chosen = await cm.run(Flaky(ValueError("no")), retry=config)
    assert failure(asked).reason is failure(chosen).reason is StopReason.DEADLINE
    assert trio.current_time() == 0


async def test_the_callers_deadline_is_none_of_the_tasks(autojump_clock: MockClock) -> None:
    task = Flaky(RetriableError("no"))
    async with manager(retry=every(5)) as cm:
        with trio.move_on_after(1):
            await cm.run(task)
    assert task.calls == [0, 5]


@pytest.mark.parametrize(
    "allowed, reason",
    [
        ({}, StopReason.RETRIES_EXHAUSTED),
        ({"max_attempts": 9}, StopReason.RETRY_AFTER),
        ({"max_attempts": 9, "max_retry_after": 99}, StopReason.MAX_ELAPSED),
        ({"max_attempts": 9, "max_retry_after": 99, "max_elapsed": 99}, StopReason.DEADLINE),
    ],
)
async def test_of_several_reasons_the_first_in_order_is_given(
    autojump_clock: MockClock, allowed: dict[str, Any], reason: StopReason
) -> None:
    strict: dict[str, Any] = {"max_attempts": 1, "max_retry_after": 5, "max_elapsed": 9}
    task = Flaky(RetriableError("no"), RetriableError("asks for too much", retry_after=20))
    async with manager(retry=every(1, **(strict | allowed)), task_timeout=15) as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1]
    assert failure(handle).reason is reason


# Cancelling


@pytest.mark.parametrize("hold_slot", [False, True])
async def test_cancelling_ends_a_backoff_at_once(autojump_clock: MockClock, hold_slot: bool) -> None:
    task = always()
    async with manager(retry=every(30, hold_slot=hold_slot)) as cm:
        handle = await cm.run(task)
        await trio.sleep(2)
        handle.cancel()
        await handle.wait()
        assert trio.current_time() == 2
    assert task.calls == [0]
    assert trio.current_time() == 2
    assert (type(failure(handle).error), failure(handle).reason) == (RetriableError, StopReason.CANCELLED)


async def test_cancelling_ends_the_wait_for_a_slot_after_a_backoff(autojump_clock: MockClock) -> None:
    task = always()
    async with manager() as cm:
        first = await cm.run(trio.sleep, 9)
        handle = await cm.run(task, retry=every(1))
        await cm.run(trio.sleep, 9)
        await trio.sleep(3)
        handle.cancel()
        assert (await handle.wait()).elapsed == 3
        assert first.state == "running"
    assert task.calls == [0]
    assert trio.current_time() == 9
    assert failure(handle).reason is StopReason.CANCELLED


@pytest.mark.parametrize("rate", [None, RateLimiter(1, per=1e12, burst=1000)])
async def test_a_task_that_is_cancelled_as_it_gets_its_slot_again_does_not_run(
    autojump_clock: MockClock, rate: RateLimiter | None
) -> None:
    async def hold() -> None:
        await trio.sleep(3)
        is_over.set()

    async def cancel() -> None:
        await is_over.wait()
        ran.append(len(task.calls) == 2)
        handle.cancel()

    ran: list[bool] = []
    for _ in range(20):  # trio has an order of its own for those that wake together
        is_over, task = trio.Event(), Flaky(RetriableError("no"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            async with manager(retry=every(1), rate=rate) as cm:
                await cm.run(trio.sleep, 9)
                handle = await cm.run(task)
                cm.start_soon(hold)
        if not ran[-1]:
            assert isinstance(failure(handle).error, RetriableError)
            assert failure(handle).reason is StopReason.CANCELLED
        assert len(task.calls) == 1 + ran[-1]
    assert set(ran) == {False, True}
    if rate is not None:  # who does not run takes no permit
        assert round(1000 - rate.statistics().available) == 3 * len(ran) + sum(ran)


async def test_a_task_can_be_cancelled_between_retries_without_delay(autojump_clock: MockClock) -> None:
    calls = 0

    async def task() -> NoReturn:
        nonlocal calls
        calls += 1
        if calls == 5:
            handle.cancel()
        raise RetriableError("no")

    async with manager(retry=RetryConfig.none(max_attempts=math.inf)) as cm:
        handle = cm.run_nowait(task)
    assert calls == 5
    assert isinstance(failure(handle).error, RetriableError)


async def test_retries_without_delay_let_others_run(autojump_clock: MockClock, record: list[Any]) -> None:
    async def at_once() -> NoReturn:
        raise RetriableError("no")

    async def other() -> None:
        record.append(flaky.retries)

    async with manager(retry=RetryConfig.none(max_attempts=1000)) as cm:
        flaky = cm.run_nowait(at_once)
        await cm.run(other)
    assert record[0] < 1000
