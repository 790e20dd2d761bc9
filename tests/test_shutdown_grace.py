"""Shutting down: what happens to those that have not ended when the grace has."""

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.raised import OwnErrors
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
)


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def shut_down_at(cm: ConMan[int], when: float, record: list[Any], grace: float) -> None:
    """Shut down, and record when that was over."""
    await trio.sleep_until(when)
    await cm.shutdown(grace)
    record.append(trio.current_time())


def reasons(cm: ConMan[int]) -> list[StopReason | None]:
    return [o.reason if isinstance(o, Failure) else None for o in cm.outcomes()]


async def test_after_the_grace_the_tasks_are_cancelled_and_not_the_body(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 2)
            await cm.run(job, 2, 100)
            cm.start_soon(job, 3, 100)
            cm.start_soon(job, 4, 100)
            await shut_down_at(cm, 1, record, grace=4)
            await trio.sleep(1)
            record.append(trio.current_time())
        assert trio.current_time() == 6
    assert record == [5, 6]
    assert (cm.outputs(), len(cm.errors())) == ([1], 3)
    for outcome in cm.outcomes()[1:]:
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.CANCELLED
        assert type(outcome.error) is TaskCancelledError
        assert str(outcome.error).endswith("'conman' was shut down")
    # The last one had not started.
    assert {o.index: (o.waited, o.elapsed) for o in cm.outcomes()} == {
        0: (0, 2),
        1: (0, 5),
        2: (2, 3),
        3: (5, 0),
    }
    assert not cm.timed_out


async def test_it_returns_when_those_cancelled_have_cleaned_up(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def cleaning_up() -> int:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
        raise AssertionError

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(cleaning_up)
        await shut_down_at(cm, 1, record, grace=1)
    assert record == [5]
    assert reasons(cm) == [StopReason.CANCELLED]


async def test_without_grace_the_tasks_are_cancelled_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for value in range(5):
            cm.start_soon(job, value, 1)
        await trio.sleep(0.5)
        await cm.shutdown(0)
        assert trio.current_time() == 0.5
    assert reasons(cm) == [StopReason.CANCELLED] * 5


async def test_a_task_backing_off_when_the_grace_ends_keeps_its_real_error(autojump_clock: MockClock) -> None:
    error = OSError("the real one")

    async def fail() -> int:
        raise RetriableError(error).with_retry_config(RetryConfig.linear(initial_delay=9, max_delay=9))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(fail)
        await cm.shutdown(1)
    assert trio.current_time() == 1
    assert cm.errors() == [error]
    assert reasons(cm) == [StopReason.CANCELLED]


@pytest.mark.parametrize("grace", [math.inf, 7])
async def test_cancelling_it_ends_the_grace_at_once(
    grace: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 100)
            with trio.move_on_after(3) as scope:
                await cm.shutdown(grace)
            record.append(trio.current_time())
            await cm.wait()
            assert reasons(cm) == [StopReason.CANCELLED]
            await trio.sleep(1)
    assert scope.cancelled_caught
    assert record == [3]
    assert trio.current_time() == 4


async def test_called_in_a_cancelled_scope_it_cancels_the_tasks(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 100)
        with trio.CancelScope() as scope:
            scope.cancel()
            await cm.shutdown()
        assert scope.cancelled_caught
        await cm.wait()
        assert reasons(cm) == [StopReason.CANCELLED]
        with pytest.raises(ConManClosedError):
            cm.start_soon(job, 2, 1)
    assert trio.current_time() == 0


async def test_a_consumer_that_takes_nothing_does_not_outlast_the_grace(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    send, receive = trio.open_memory_channel[Outcome[int]](1)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        for value in range(4):
            cm.start_soon(job, value, value + 1)
        await shut_down_at(cm, 1, record, grace=20)
        # One lies in the channel; two that were done kept their slots; so the last one never started.
        assert [(o.index, isinstance(o, Success)) for o in cm.outcomes()] == [
            (1, True),
            (2, True),
            (3, False),
        ]
        assert cm.statistics().running == 0
    assert record == [21]
    assert [outcome.index async for outcome in receive] == [0]


@pytest.mark.parametrize("first, second", [(math.inf, 2), (4, math.inf), (3, 3)])
async def test_of_two_the_shorter_grace_counts_and_both_return(
    first: float, second: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 1)
        await cm.run(job, 2, 100)
        nursery.start_soon(shut_down_at, cm, 1, record, first)
        await shut_down_at(cm, 2, record, second)
    assert record == [min(1 + first, 2 + second)] * 2
    assert reasons(cm) == [None, StopReason.CANCELLED]


@pytest.mark.parametrize("options", [{"grace": 1}, {"queued": "drop"}], ids=str)
async def test_errors_that_tasks_raise_as_the_grace_ends_are_freed_with_the_manager(
    options: dict[str, Any], no_collector: None, autojump_clock: MockClock
) -> None:
    own = OwnErrors()

    async def use() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            cm.start_soon(own.fail_late)
            with trio.move_on_after(2):
                await cm.shutdown(**options)
        assert len(cm.errors()) == len(own.alive) == 1
        del cm  # a Cancelled leads to this frame too

    await use()
    await wait_all_tasks_blocked()
    assert len(own.alive) == 0
