"""How a block ends: cleanly, by an exception, by a cancellation, by a deadline; and what that leaves."""

# ruff: noqa: PT012
# What raises in these tests is a whole block, at its end.

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    ConManClosedError,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
)

CANCELLED = StopReason.CANCELLED


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


def ends(cm: ConMan[Any]) -> list[Any]:
    """What became of the tasks, in the order of acceptance: the value, or the reason."""
    outcomes: list[Outcome[Any]] = sorted(cm.outcomes(), key=lambda outcome: outcome.index)
    return [o.value if isinstance(o, Success) else o.reason for o in outcomes]


async def test_leaving_the_block_waits_for_every_task(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            for number in (3, 1, 2):
                await cm.run(job, number, number)
            assert trio.current_time() == 1
        assert trio.current_time() == 3
        assert sorted(cm.outputs()) == [1, 2, 3]
        assert not cm.timed_out


async def test_leaving_by_an_exception_cancels_the_tasks_and_waits_for_them(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def slow_to_end() -> int:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            record.append(trio.current_time())
        raise AssertionError

    error = KeyError("mine")
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError) as caught:
            async with ConMan[int].open(nursery, 4, name="pages") as cm:
                await cm.run(slow_to_end)
                await cm.run(job, 1, 1)
                await cm.run(job, 2, 10)
                await trio.sleep(2)
                raise error
        assert caught.value is error
        assert trio.current_time() == 5
        assert record == [5]
        assert ends(cm) == [CANCELLED, 1, CANCELLED]
        for left in cm.errors():
            with pytest.raises(TaskCancelledError, match=r"'pages' was left by KeyError$"):
                raise left
        assert not nursery.cancel_scope.cancel_called


@pytest.mark.parametrize("body_ends_at", [1, math.inf])
async def test_a_scope_around_the_block_alone_ends_it_with_its_tasks(
    body_ends_at: float, autojump_clock: MockClock
) -> None:
    # The nursery is not cancelled; either the body is still running, or the block waits for its tasks.
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(3) as scope:
            async with ConMan[int].open(nursery, 4) as cm:
                await cm.run(job, 1, 2)
                await cm.run(job, 2, 10)
                await trio.sleep(body_ends_at)
        assert scope.cancelled_caught
        assert trio.current_time() == 3
        assert ends(cm) == [1, CANCELLED]
        assert not cm.timed_out


async def test_a_cancellation_from_outside_goes_on_to_whom_it_belongs(autojump_clock: MockClock) -> None:
    with trio.move_on_after(3) as scope:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 10, name="pages") as cm:
            for number in range(90):
                await cm.run(job, number, math.inf)
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert ends(cm) == [CANCELLED] * 10
    assert not cm.timed_out
    assert not cm.cancel_scope.cancelled_caught
    with pytest.raises(TaskCancelledError, match=r"scope around 'pages' was cancelled$"):
        raise cm.errors()[0]


def cancel(cm: ConMan[Any]) -> None:
    cm.cancel("enough")


def cancel_the_scope(cm: ConMan[Any]) -> None:
    cm.cancel_scope.cancel()


@pytest.mark.parametrize("end", [cancel, cancel_the_scope])
@pytest.mark.parametrize("who", ["body", "task", "another trio task"])
async def test_a_cancelled_manager_ends_quietly_and_keeps_what_it_has(
    end: Callable[[ConMan[Any]], None], who: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def end_at_2(cm: ConMan[Any]) -> int:
        await trio.sleep_until(2)
        end(cm)
        await trio.sleep(1)
        return 0

    async def bystander() -> None:
        await trio.sleep(5)
        record.append("the nursery goes on")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        async with ConMan[int].open(nursery, 4) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 10)
            if who == "task":
                await cm.run(end_at_2, cm)
            elif who == "body":
                await end_at_2(cm)
            else:
                nursery.start_soon(end_at_2, cm)
            await trio.sleep_forever()
        assert trio.current_time() == 2
        assert ends(cm)[:2] == [1, CANCELLED]
        assert all(isinstance(error, TaskCancelledError) for error in cm.errors())
        assert all(str(error).endswith("enough") for error in cm.errors()) == (end is cancel)
        assert not cm.timed_out
    assert record == ["the nursery goes on"]


async def test_a_body_that_is_done_is_not_needed_for_a_cancellation(autojump_clock: MockClock) -> None:
    async def end(cm: ConMan[int]) -> None:
        await trio.sleep(2)
        cm.cancel()

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery) as cm:
            nursery.start_soon(end, cm)
            await cm.run(job, 1, 10)
        assert trio.current_time() == 2
        assert ends(cm) == [CANCELLED]


async def test_the_first_cancellation_says_why(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, timeout=1) as cm:
        await cm.run(job, 1, 10)
        cm.cancel("first")
        cm.cancel("second")
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
    with pytest.raises(TaskCancelledError, match=r"first$"):
        raise cm.errors()[0]
    assert not cm.timed_out


@pytest.mark.parametrize("reason", [3, b"x", ValueError("x")])
async def test_the_reason_of_a_cancellation_is_a_text(reason: Any) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        with pytest.raises(TypeError, match=r"^reason must be a str or None, not "):
            cm.cancel(reason)
        assert not cm.cancel_scope.cancel_called


async def test_the_deadline_ends_tasks_and_body_quietly(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, timeout=3, name="pages") as cm:
            await cm.run(job, 1, 2)
            await cm.run(job, 2, 10)
            await cm.run(job, 3, 10)
            assert not cm.timed_out
            await cm.run(job, 4, 10)
            raise AssertionError
        assert trio.current_time() == 3
        assert cm.timed_out
        assert ends(cm) == [1, StopReason.MANAGER_TIMEOUT, StopReason.MANAGER_TIMEOUT]
        for error in cm.errors():
            assert type(error) is trio.TooSlowError
        assert not nursery.cancel_scope.cancel_called


async def test_a_timeout_of_zero_leaves_no_time(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, timeout=0) as cm:
            record.append("entered")
            await trio.sleep(1)
            record.append("slept")
        assert cm.timed_out
    assert record == ["entered"]
    assert trio.current_time() == 0


@pytest.mark.parametrize("moved_to", [2, 9])
async def test_the_deadline_may_be_moved_and_tasks_know_of_it(
    moved_to: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def tell() -> None:
        while True:
            record.append(trio.current_effective_deadline())
            await trio.sleep(1.5)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, timeout=5) as cm:
            await cm.run(tell)
            await trio.sleep(1)
            cm.cancel_scope.deadline = moved_to
        assert trio.current_time() == moved_to
        assert cm.timed_out
    assert record[0] == 5
    assert set(record[1:]) == {moved_to}


@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_task_that_backs_off_is_ended_with_its_last_real_error(
    timed_out: bool, autojump_clock: MockClock
) -> None:
    config = RetryConfig(initial_delay=4, max_delay=4, jitter=False)
    error = OSError("real")

    async def fail() -> None:
        raise RetriableError(error, retry_config=config)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery) as cm:
            await cm.run(fail)
            await trio.sleep(1)
            if timed_out:
                # Only now: a task does not back off when it knows that it cannot run again in time.
                cm.cancel_scope.deadline = 2
                await trio.sleep(9)
            cm.cancel()
        assert trio.current_time() == 1 + timed_out
        assert cm.errors() == [error]
        assert ends(cm) == [StopReason.MANAGER_TIMEOUT if timed_out else CANCELLED]


async def test_what_is_shielded_is_waited_for(autojump_clock: MockClock) -> None:
    async def shielded(seconds: float) -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        return 7

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, timeout=1) as cm:
            await cm.run(shielded, 5)
            await cm.run(job, 1, 10)
            await shielded(3)
            assert trio.current_time() == 3
        assert trio.current_time() == 5
        assert ends(cm) == [7, StopReason.MANAGER_TIMEOUT]


async def test_what_a_task_raises_while_it_is_cancelled_is_its_error_and_not_retried(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    error = OSError("while cleaning up")

    async def clumsy(retriable: bool) -> None:
        record.append(trio.current_time())
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise RetriableError(error) if retriable else error  # noqa: B904  # as a careless task does

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, timeout=2, retry=RetryConfig.none(retry_on=Exception)) as cm:
            await cm.run(clumsy, True)
            await cm.run(clumsy, False)
    assert record == [0, 0]
    assert cm.errors() == [error, error]
    assert ends(cm) == [StopReason.ERROR, StopReason.ERROR]


async def test_what_the_body_raises_while_it_is_cancelled_goes_out(autojump_clock: MockClock) -> None:
    error = KeyError("while cleaning up")
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError) as caught:
            async with ConMan[int].open(nursery, timeout=2) as cm:
                await cm.run(job, 1, 10)
                try:
                    await trio.sleep_forever()
                finally:
                    raise error
        assert caught.value is error
        assert ends(cm) == [StopReason.MANAGER_TIMEOUT]


async def test_of_a_group_from_the_body_only_the_errors_go_out(autojump_clock: MockClock) -> None:
    error = KeyError("while cleaning up")

    async def clumsy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(pytest.RaisesExc(KeyError, check=lambda caught: caught is error)):
            async with ConMan[int].open(nursery, timeout=2), trio.open_nursery() as inner:
                inner.start_soon(clumsy)
                await trio.sleep_forever()


@pytest.mark.parametrize("end", ["handle", "manager", "outer scope", "body raises"])
async def test_a_task_that_ends_in_the_tick_of_a_cancellation_keeps_its_result(
    end: str, autojump_clock: MockClock
) -> None:
    ready = trio.Event()

    async def about_to_end() -> int:
        await ready.wait()
        return 7

    with trio.CancelScope() as outer:
        async with trio.open_nursery() as nursery:
            with suppress(KeyError):
                async with ConMan[int].open(nursery) as cm:
                    handle = await cm.run(about_to_end)
                    await wait_all_tasks_blocked()
                    ready.set()
                    if end == "handle":
                        handle.cancel()
                    elif end == "manager":
                        cm.cancel()
                    elif end == "outer scope":
                        outer.cancel()
                    else:
                        raise KeyError
    assert ends(cm) == [7]
    assert cm.statistics().cancelled == 0


async def test_two_managers_in_one_nursery_end_apart(autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        ConMan[int].open(nursery, name="stays") as stays,
        ConMan[int].open(nursery, name="goes", timeout=1) as goes,
    ):
        await stays.run(job, 1, 5)
        await goes.run(job, 2, 5)
    assert trio.current_time() == 5
    assert [ends(stays), ends(goes)] == [[1], [StopReason.MANAGER_TIMEOUT]]


async def test_a_manager_inside_a_task_ends_with_the_task(autojump_clock: MockClock) -> None:
    inners: list[ConMan[int]] = []

    async def parent(seconds: float) -> int:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as inner:
            inners.append(inner)
            await inner.run(job, 1, 1)
            await inner.run(job, 2, seconds)
        return len(inner.outputs())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, timeout=5) as cm:
        await cm.run(parent, 3)
        await trio.sleep(1)
        await cm.run(parent, 9)
    assert trio.current_time() == 5
    assert ends(cm) == [2, StopReason.MANAGER_TIMEOUT]
    assert [ends(inner) for inner in inners] == [[1, 2], [1, CANCELLED]]


async def test_a_slot_freed_by_a_cancellation_starts_nothing(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def producer(cm: ConMan[int], number: int) -> None:
        with pytest.raises(ConManClosedError):
            await cm.run(job, number, 1)
        record.append(number)

    # The host and the tasks wake in random order.
    for given in [False, True] * 20:
        limit = trio.CapacityLimiter(2) if given else 2
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit) as cm:
            await cm.run(job, 1, math.inf)
            await cm.run(job, 2, math.inf)
            for number in range(3):
                nursery.start_soon(producer, cm, number)
            await wait_all_tasks_blocked()
            cm.cancel()
        assert sorted(record) == [0, 1, 2]
        assert ends(cm) == [CANCELLED, CANCELLED]
        record.clear()


async def test_an_end_that_has_not_come_is_no_reason_to_leave_the_block_quietly() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConManClosedError):
            async with ConMan[int].open(nursery) as cm:
                raise cm._block.closed_error()  # which is not closed
