"""A rate limiter by hand: permits without a manager, and numbers that are changed while others wait."""

import math
import re
import threading
from enum import IntEnum
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import RateLimiter
from trio_conman._base.texts import short


async def by_hand(rate: RateLimiter, record: list[Any], name: str, permits: float = 1) -> None:
    await rate.acquire(permits)
    record.append((trio.current_time(), name))


async def test_acquire_stands_in_the_same_queue(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, burst=2)
    async with manager(rate) as cm, trio.open_nursery() as nursery:
        await cm.run(note, record, "a")
        await wait_all_tasks_blocked()
        for name in "bcd":
            nursery.start_soon(by_hand, rate, record, name, 2)
            await wait_all_tasks_blocked()
            await cm.run(note, record, name.upper())
        assert waiting(rate) == 6
    times = [0, 1, 2, 4, 5, 7, 8]
    assert record == list(zip(times, ["a", "b", "B", "c", "C", "d", "D"], strict=True))


async def test_acquire_nowait_takes_or_refuses(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, burst=3)
    rate.acquire_nowait()
    rate.acquire_nowait(2)
    with pytest.raises(trio.WouldBlock):
        rate.acquire_nowait(0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(by_hand, rate, record, "a", 3)
        await trio.sleep(2)
        with pytest.raises(trio.WouldBlock):  # not before who waits
            rate.acquire_nowait()
    assert record == [(3, "a")]


async def test_acquire_is_a_checkpoint_in_any_case(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1)
    with assert_checkpoints():
        await rate.acquire()
    with assert_checkpoints():
        await rate.acquire()
    with trio.move_on_after(0.5) as scope:
        await rate.acquire()
    assert scope.cancelled_caught
    scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await rate.acquire()
    assert scope.cancelled_caught
    # Who gave up has taken nothing.
    assert (waiting(rate), trio.current_time()) == (0, 1.5)
    await rate.acquire()
    assert trio.current_time() == 2


async def test_a_deadline_ends_the_wait_of_acquire_when_it_has_come(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        await wait_all_tasks_blocked()
        with trio.move_on_after(5):
            await rate.acquire()
        assert trio.current_time() == 5
        await cm.run(note, record, "b", task_timeout=6)
    assert record == [(0, "a"), (10, "b")]


async def test_a_task_may_acquire_more(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1)

    async def pages(name: str) -> None:
        for page in range(3):
            if page:
                await rate.acquire()
            await note(record, f"{name}{page}")

    async with manager(rate) as cm:
        await cm.run(pages, "a")
        await cm.run(pages, "b")
    assert record == [(0, "a0"), (1, "b0"), (2, "a1"), (3, "b1"), (4, "a2"), (5, "b2")]


async def test_who_waits_by_hand_keeps_other_runs_out(mock_clock: MockClock) -> None:
    rate = RateLimiter(1)
    rate.acquire_nowait()

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another trio run"):
            rate.acquire_nowait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rate.acquire)
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(trio.run, elsewhere)
        mock_clock.autojump_threshold = 0.01
    await trio.to_thread.run_sync(lambda: trio.run(rate.acquire))


WRONG: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    ("1", TypeError),
    (True, TypeError),
    *((each, ValueError) for each in (0, -1, math.nan, math.inf, 10**400)),
]


@pytest.mark.parametrize("permits, kind", WRONG)
async def test_wrong_permits_are_refused(permits: Any, kind: type[Exception]) -> None:
    rate = RateLimiter(1)
    with pytest.raises(kind, match=rf"^permits must be .*, not {re.escape(short(permits))}$"):
        rate.acquire_nowait(permits)
    with pytest.raises(kind, match=rf"^permits must be .*, not {re.escape(short(permits))}$"):
        await rate.acquire(permits)
    assert rate.statistics().available == 1


@pytest.mark.parametrize(
    "change, times",
    [
        ({"rate": 2}, [0, 2.5, 3, 3.5]),
        ({"rate": 0.5}, [0, 7, 9, 11]),
        ({"per": 2}, [0, 7, 9, 11]),
        ({"per": 0.25}, [0, 1.75, 2, 2.25]),
        ({"burst": 4}, [0, 1, 2, 3]),
        ({"rate": 10, "per": 10}, [0, 4, 5, 6]),
    ],
)
async def test_numbers_are_changed_while_others_wait(
    change: dict[str, Any], times: list[float], autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        await cm.run(note, record, 0)
        await wait_all_tasks_blocked()
        rate.charge(3)
        for index in range(1, 4):
            await cm.run(note, record, index)
        await trio.sleep(1)
        for name, value in change.items():
            setattr(rate, name, value)
    # At 1 there are 3 permits owed; those of the first one before.
    assert record == [(when, index) for index, when in enumerate(times)]


async def test_a_change_ends_the_wait_of_those_that_it_makes_too_late_and_of_nobody_else(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        handles = [await cm.run(note, record, index, task_timeout=8.5) for index in range(9)]
        await trio.sleep(0.5)
        rate.per = 2
        await wait_all_tasks_blocked()
        assert [handle.state for handle in handles] == ["done", *["running"] * 4, *["done"] * 4]
        rate.per = 1
    assert [when for when, _ in record] == [0, 1, 2, 3, 4]


async def test_a_lower_burst_makes_all_wait(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, burst=3)
    rate.acquire_nowait(2)
    rate.burst = 1
    assert (rate.burst, rate.statistics().available) == (1, -1)
    await by_hand(rate, record, "a")
    assert record == [(2, "a")]


def test_numbers_are_changed_before_there_is_a_run_and_after_it(record: list[Any]) -> None:
    rate = RateLimiter(1)
    rate.rate, rate.per, rate.burst = 2, 10, 3

    async def main() -> None:
        for name in "abcd":
            await by_hand(rate, record, name)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert record == [(0, "a"), (0, "b"), (0, "c"), (5, "d")]
    rate.per = 1
    assert (rate.rate, rate.per, rate.burst) == (2, 1, 3)


async def test_numbers_are_not_changed_in_another_thread_while_a_manager_is_open(
    autojump_clock: MockClock,
) -> None:
    rate, errors = RateLimiter(1), list[str]()

    def change() -> None:
        for call in (lambda: setattr(rate, "rate", 2), rate.snapshot):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))

    async with manager(rate):
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
    assert rate.rate == 1
    assert len(errors) == 2
    assert all("trio.from_thread.run_sync" in error for error in errors)
    change()
    assert (rate.rate, len(errors)) == (2, 2)


@pytest.mark.parametrize("name", ["rate", "per"])
@pytest.mark.parametrize("value, kind", WRONG)
async def test_a_wrong_number_is_refused_and_changes_nothing(
    name: str, value: Any, kind: type[Exception]
) -> None:
    rate = RateLimiter(1)
    with pytest.raises(kind, match=rf"^{name} must be .*, not {re.escape(short(value))}$"):
        setattr(rate, name, value)
    assert getattr(rate, name) == 1


@pytest.mark.parametrize(
    "value, kind, more",
    [
        (0, ValueError, ""),
        (1.5, TypeError, ""),
        (math.inf, ValueError, ": without a limit there is no rate"),
        (float("inf"), ValueError, ": without a limit there is no rate"),  # another object
        (True, TypeError, ""),
    ],
)
async def test_a_wrong_burst_is_refused(value: Any, kind: type[Exception], more: str) -> None:
    rate = RateLimiter(1)
    with pytest.raises(
        kind, match=rf"^burst must be an int of at least 1, not {re.escape(short(value))}{more}$"
    ):
        rate.burst = value
    assert rate.burst == 1


async def test_a_burst_of_another_type_is_taken_as_a_plain_int() -> None:
    class Number(IntEnum):
        FIVE = 5

    rate = RateLimiter(1)
    rate.burst = Number.FIVE
    for each in (rate, RateLimiter(1, burst=Number.FIVE), RateLimiter.restore(rate.snapshot())):
        assert (each.burst, type(each.burst)) == (5, int)


# What the service answers first


async def test_permits_taken_by_hand_before_the_first_answer_are_in_it() -> None:
    rate = RateLimiter(1, burst=10)
    rate.acquire_nowait(3)
    rate.observe(remaining=2, reset=30)
    assert rate.statistics().available == 2
    rate.acquire_nowait()
    assert rate.statistics().available == 1


async def test_what_an_attempt_has_cost_is_in_the_first_answer_to_it() -> None:
    rate = RateLimiter(1, burst=10, cost=lambda permits: permits)
    available: list[float] = []

    async def task(_: int) -> None:
        rate.observe(remaining=5, reset=30)
        available.append(rate.statistics().available)

    async with manager(rate) as cm:
        await cm.run(task, 3)
    assert available == [5]
