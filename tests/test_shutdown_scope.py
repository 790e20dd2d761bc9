"""Shutting down, and what else goes on: the manager's scope, open maps, failing tasks, the books."""

# ruff: noqa: PT012
# What raises in these tests is a whole block, at its end.

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Failure, StopReason


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def fail(error: Exception, seconds: float) -> int:
    await trio.sleep(seconds)
    raise error


async def shut_down_at(cm: ConMan[int], when: float, record: list[Any], grace: float = math.inf) -> None:
    await trio.sleep_until(when)
    await cm.shutdown(grace)
    record.append(trio.current_time())


def reasons(cm: ConMan[int]) -> list[StopReason | None]:
    return [o.reason if isinstance(o, Failure) else None for o in cm.outcomes()]


# The manager's scope

# A grace that suffices, and one that does not.
each_grace = pytest.mark.parametrize("grace", [math.inf, 1])


@each_grace
async def test_a_body_that_goes_on_is_still_cancelled_with_its_manager(
    grace: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(50) as guard:
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(job, 1, 3)
                await cm.shutdown(grace)
                record.append(trio.current_time())
                nursery.start_soon(cancel_at, cm, 5)
                await trio.sleep_forever()
        assert not guard.cancelled_caught
    assert record == [min(3, grace)]
    assert trio.current_time() == 5


async def cancel_at(cm: ConMan[int], when: float) -> None:
    await trio.sleep_until(when)
    cm.cancel()


@each_grace
async def test_a_body_that_goes_on_still_has_the_deadline_of_its_manager(
    grace: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(50) as guard:
            async with ConMan[int].open(nursery, 2, timeout=5) as cm:
                await cm.run(job, 1, 3)
                await cm.shutdown(grace)
                record.append(trio.current_time())
                await trio.sleep_forever()
        assert not guard.cancelled_caught
    assert record == [min(3, grace)]
    assert trio.current_time() == 5
    assert cm.timed_out


async def cancel_scope_at(cm: ConMan[int], when: float) -> None:
    await trio.sleep_until(when)
    cm.cancel_scope.cancel()


async def set_deadline(cm: ConMan[int], when: float) -> None:
    cm.cancel_scope.deadline = when


@pytest.mark.parametrize("end", [cancel_at, cancel_scope_at, set_deadline])
async def test_a_manager_that_ends_while_a_shutdown_waits_for_a_clean_up_ends_the_body_at_once(
    end: Callable[[ConMan[int], float], Awaitable[None]], autojump_clock: MockClock, record: list[Any]
) -> None:
    async def cleaning_up() -> int:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)
        raise AssertionError

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(50) as guard:
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(cleaning_up)
                nursery.start_soon(shut_down_at, cm, 0, record, 1)
                nursery.start_soon(end, cm, 3)
                try:
                    await trio.sleep_forever()
                finally:
                    record.append(trio.current_time())
        assert not guard.cancelled_caught
    # The body at once; the task when it has cleaned up.
    assert record == [3, 5]


async def test_a_manager_cancelled_during_the_drain_ends_quietly(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 100)
            nursery.start_soon(cancel_at, cm, 3)
            await cm.shutdown()
            record.append("never")
        assert trio.current_time() == 3
    assert reasons(cm) == [None, StopReason.CANCELLED]
    assert record == []


async def test_the_deadline_of_the_manager_holds_during_the_drain(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, timeout=3) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 100)
            nursery.start_soon(shut_down_at, cm, 1, record, 9)
            await trio.sleep_forever()
        assert trio.current_time() == 3
    assert record == [3]
    assert reasons(cm) == [None, StopReason.MANAGER_TIMEOUT]
    assert cm.timed_out


async def test_too_many_errors_during_the_drain_end_it(autojump_clock: MockClock, record: list[Any]) -> None:
    error = KeyError("the one too many")
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(pytest.RaisesExc(KeyError, check=lambda e: e is error), match=r"^1 of 2 "):
            async with ConMan[int].open(nursery, 2, max_errors=0) as cm:
                await cm.run(fail, error, 2)
                await cm.run(job, 1, 100)
                nursery.start_soon(shut_down_at, cm, 1, record)
                await trio.sleep_forever()
        assert trio.current_time() == 2
    assert record == [2]


async def test_a_cancelled_nursery_ends_the_drain(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 2
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 100)
            try:
                await cm.shutdown()
            finally:
                record.append(trio.current_time())
    assert record == [2]
    assert reasons(cm) == [StopReason.CANCELLED]


async def test_a_cancelled_body_whose_children_were_refused_ends_as_quietly_as_any_other(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def feed() -> None:
        try:
            await cm.run(job, 2, 1)
        except ConManClosedError:
            # Now both reach the body in one tick: the news that the manager is closed, and a cancellation.
            scope.cancel()
            raise

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with ConMan[int].open(nursery, 2) as cm, trio.open_nursery() as feeders:
                await cm.run(job, 0, 100)
                await cm.run(job, 1, 100)
                feeders.start_soon(feed)
                nursery.start_soon(shut_down_at, cm, 1, record)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 1
    assert record == [1]
    assert reasons(cm) == [StopReason.CANCELLED] * 2


async def test_a_cancelled_body_whose_children_come_late_ends_as_quietly_as_any_other(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def feed_without_waiting() -> None:
        try:
            cm.start_soon(job, 2, 1)
        except ConManClosedError:
            record.append("refused")
            raise

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2) as cm, trio.open_nursery() as feeders:
                await cm.run(job, 0, 100)
                feeders.start_soon(feed_without_waiting)
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert record == ["refused"]
    assert reasons(cm) == [StopReason.CANCELLED]


# Open maps


async def test_an_open_map_yields_what_it_started_and_then_raises(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    closed: list[float] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(trio.current_time())

    async def feed() -> None:
        with pytest.raises(ConManClosedError, match=r"^'conman' is closed"):
            async with cm.map(second, items()) as outcomes:
                async for outcome in outcomes:
                    now = trio.current_time()
                    record.append((now, outcome.index))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(feed)
        await trio.sleep(1.5)
        await cm.shutdown()
        assert trio.current_time() == 2
    assert [when for when, _ in record] == [1, 1, 2, 2]
    assert sorted(index for _, index in record) == [0, 1, 2, 3]
    assert closed == [2]


async def test_a_body_that_consumes_a_map_ends_as_if_it_had_returned(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    shut: list[float] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(shut_down_at, cm, 1.5, shut)
            async with cm.map(second, items(), ordered=True) as outcomes:
                async for outcome in outcomes:
                    now = trio.current_time()
                    record.append((now, outcome.index))
        assert trio.current_time() == 2
    assert record == [(1, 0), (1, 1), (2, 2), (2, 3)]
    assert shut == [2]


async def test_an_open_map_whose_items_are_cancelled_yields_them_all(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def slow(value: int) -> int:
        return await job(value, 1 + 100 * value)

    shut: list[float] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(shut_down_at, cm, 2, shut, 3)
            async with cm.map(slow, range(9)) as outcomes:
                async for outcome in outcomes:
                    kind = outcome.reason if isinstance(outcome, Failure) else None
                    record.append((trio.current_time(), outcome.index, kind))
    assert record[0] == (1, 0, None)
    assert sorted(record[1:]) == [(5, 1, StopReason.CANCELLED), (5, 2, StopReason.CANCELLED)]
    assert shut == [5]


# Tasks that add tasks


async def test_a_task_that_adds_tasks_is_refused_like_anybody(autojump_clock: MockClock) -> None:
    async def spread(depth: int) -> int:
        await trio.sleep(1)
        cm.start_soon(spread, depth + 1)
        return depth

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(spread, 0)
        await trio.sleep(2.5)
        await cm.shutdown()
        assert trio.current_time() == 3
    assert cm.outputs() == [0, 1]
    assert [type(error) for error in cm.errors()] == [ConManClosedError]


# The books


async def test_the_books_are_right_during_and_after(autojump_clock: MockClock, record: list[Any]) -> None:
    error = KeyError("kept")

    def counts() -> tuple[int, ...]:
        now = cm.statistics()
        return (now.running, now.waiting, now.queued, now.submitted, now.succeeded, now.failed, now.cancelled)

    async def wait_for_a_slot() -> None:
        with pytest.raises(ConManClosedError):
            await cm.run(job, 9, 1)

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 2)
            await cm.run(fail, error, 3)
            cm.start_soon(job, 3, 100)
            cm.start_soon(job, 4, 100)
            cm.start_soon(job, 5, 100)
            nursery.start_soon(wait_for_a_slot)
            await wait_all_tasks_blocked()
            assert counts() == (2, 1, 3, 5, 0, 0, 0)
            nursery.start_soon(shut_down_at, cm, 1, record, 5)
            await trio.sleep(1.5)
            assert counts() == (2, 0, 3, 5, 0, 0, 0)
            await trio.sleep(2)
            assert counts() == (2, 0, 1, 5, 1, 1, 0)
            await trio.sleep(3)
            assert counts() == (0, 0, 0, 5, 1, 4, 3)
            assert (cm.outputs(), cm.errors()[0]) == ([1], error)
            await cm.wait()
    assert record == [6]
    assert counts() == (0, 0, 0, 5, 1, 4, 3)
    assert reasons(cm) == [None, StopReason.ERROR, *[StopReason.CANCELLED] * 3]
    assert [outcome.index for outcome in cm.pop_outcomes()][:2] == [0, 1]
    assert cm.outcomes() == []
