"""Shutting down: nothing new comes in, and what was accepted finishes, for as long as it may."""

# ruff: noqa: PT012
# What raises in these tests is a whole block, at its end.

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    RetriableError,
    RetryConfig,
    StopReason,
)


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def feed(cm: ConMan[int]) -> None:
    """Hand in work without end."""
    while True:
        await cm.run(job, 0, 1)


async def refused(cm: ConMan[int], record: list[Any]) -> None:
    """Wait for a slot until the manager refuses; record when it does."""
    with pytest.raises(
        ConManClosedError, match=r"^'conman' is closed and accepts no more tasks: it was shut down \(see"
    ):
        await cm.run(job, 9, 1)
    record.append(trio.current_time())


async def shut_down_at(cm: ConMan[int], when: float, record: list[Any], grace: float = math.inf) -> None:
    """Do so in a trio task beside the body; record when it was over."""
    await trio.sleep_until(when)
    await cm.shutdown(grace)
    record.append(trio.current_time())


def reasons(cm: ConMan[int]) -> list[StopReason | None]:
    return [o.reason if isinstance(o, Failure) else None for o in cm.outcomes()]


async def test_what_was_accepted_finishes(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 3)
        await cm.run(job, 2, 1)
        cm.start_soon(job, 3, 4)
        cm.start_soon(job, 4, 4)
        await cm.shutdown()
        record.append(trio.current_time())
        assert cm.outputs() == [2, 1, 3, 4]
        # The body goes on, as long as it likes.
        await trio.sleep(1)
        record.append(trio.current_time())
    assert record == [7, 8]
    assert trio.current_time() == 8


@each_kind
async def test_nothing_new_is_accepted_from_its_first_moment(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def try_all() -> None:
        closed = pytest.raises(
            ConManClosedError, match=r"^'conman' is closed and accepts no more tasks: it was shut down \(see"
        )
        with closed:
            await cm.run(job, 1, 1)
        with closed:
            cm.run_nowait(job, 1, 1)
        with closed:
            cm.start_soon(job, 1, 1)
        with closed:
            async with cm.map(lambda item: job(item, 1), [1]):
                record.append("entered")
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(3)) as cm:
        await cm.run(job, 1, 3)
        nursery.start_soon(shut_down_at, cm, 0, record)
        await wait_all_tasks_blocked()
        await try_all()
        # Nor while there are free slots, nor when all has ended.
        await trio.sleep(2)
        await try_all()
        await trio.sleep(2)
        await try_all()
    assert record == [0, 2, 3, 4]
    assert cm.statistics().submitted == 1


@each_kind
async def test_a_run_that_waits_is_refused_at_once(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        await cm.run(job, 1, 3)
        await cm.run(job, 2, 3)
        for _ in range(3):
            nursery.start_soon(refused, cm, record)
        await wait_all_tasks_blocked()
        assert cm.statistics().waiting == 3
        await shut_down_at(cm, 1, record)
    assert record == [1, 1, 1, 3]
    assert cm.statistics().submitted == 2


@each_kind
async def test_a_run_that_waits_inside_a_task_is_refused_too(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def parent() -> int:
        await refused(cm, record)
        return 7

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        await cm.run(job, 1, 5)
        await cm.run(parent)
        await shut_down_at(cm, 2, record)
    assert record == [2, 5]
    assert cm.outputs() == [7, 1]


@each_kind
async def test_queued_tasks_and_those_backing_off_finish(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def flaky() -> int:
        record.append(trio.current_time())
        if trio.current_time() < 10:
            raise RetriableError("once more").with_retry_config(
                RetryConfig.linear(initial_delay=10, max_delay=10)
            )
        return 5

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        await cm.run(flaky)
        await cm.run(job, 1, 2)
        cm.start_soon(job, 2, 3)
        cm.start_soon(job, 3, 3)
        await shut_down_at(cm, 1, record)
    assert record == [0, 10, 10]
    assert cm.outputs() == [1, 2, 3, 5]


@each_kind
async def test_a_paused_manager_is_resumed(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        cm.pause()
        for value in range(3):
            cm.start_soon(job, value, value + 1)
        nursery.start_soon(refused, cm, record)
        await trio.sleep(5)
        assert cm.statistics().running == 0
        await shut_down_at(cm, 5, record)
    assert record == [5, 9]
    assert cm.outputs() == [0, 1, 2]


# The body


async def test_a_feeding_body_ends_as_if_it_had_returned(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 10)
            nursery.start_soon(shut_down_at, cm, 2.5, record)
            try:
                await feed(cm)
            finally:
                record.append(trio.current_time())
        # The drain went on.
        assert trio.current_time() == 10
    assert record == [2.5, 10]
    assert cm.outputs() == [0, 0, 0, 1]


async def test_a_body_whose_children_feed_ends_as_if_it_had_returned(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def feed_in_a_group() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(feed, cm)

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 10)
            nursery.start_soon(shut_down_at, cm, 2.5, record)
            async with trio.open_nursery() as feeders:
                feeders.start_soon(feed, cm)
                feeders.start_soon(feed_in_a_group)
        assert trio.current_time() == 10
    assert record == [10]
    assert cm.statistics().failed == 0


@pytest.mark.parametrize("grouped", [False, True])
async def test_the_end_of_another_manager_is_an_error_of_the_body(
    grouped: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, name="other") as other:
            pass
        with pytest.raises(ConManClosedError, match=r"^'other' is closed") as info:
            other.run_nowait(job, 1, 1)
        foreign = info.value
        with pytest.raises((ConManClosedError, ExceptionGroup)) as caught:
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(job, 1, 10)
                await cm.run(job, 2, 10)
                nursery.start_soon(shut_down_at, cm, 1, record)
                try:
                    await cm.run(job, 3, 1)
                except ConManClosedError as mine:
                    raise ExceptionGroup("both", [mine, foreign]) if grouped else foreign from None
        # As for any error, the tasks were cancelled.
        assert trio.current_time() == 1
    assert reasons(cm) == [StopReason.CANCELLED] * 2
    assert record == [1]
    if grouped:
        assert isinstance(caught.value, ExceptionGroup)
        assert foreign in caught.value.exceptions
    else:
        assert caught.value is foreign


async def test_an_error_that_only_looks_like_the_end_of_the_manager_is_the_bodys_own(
    autojump_clock: MockClock,
) -> None:
    error = ConManClosedError("'conman' is closed and accepts no more tasks")
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConManClosedError) as caught:
            async with ConMan[int].open(nursery) as cm:
                await cm.shutdown()
                raise error
    assert caught.value is error


@pytest.mark.parametrize("by", ["raise_errors", "result"])
async def test_the_refusal_that_has_ended_a_task_is_that_tasks_error_in_the_body_too(
    by: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ConManClosedError, allow_unwrapped=True, flatten_subgroups=True):
            async with ConMan[Any].open(nursery) as cm:
                handle = await cm.run(feed, cm)
                await cm.shutdown()
                if by == "result":
                    await handle.result()
                cm.raise_errors()
    assert reasons(cm).count(StopReason.ERROR) == 1


async def test_an_error_of_the_body_during_the_drain_ends_it(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with ConMan[int].open(nursery) as cm:
                await cm.run(job, 1, 10)
                nursery.start_soon(shut_down_at, cm, 1, record)
                await trio.sleep(2)
                raise KeyError
    assert record == [2]
    assert reasons(cm) == [StopReason.CANCELLED]


async def test_leaving_the_block_waits_for_the_drain(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 5)
            cm.start_soon(job, 2, 6)
            nursery.start_soon(shut_down_at, cm, 1, record)
            await trio.sleep(2)
        record.append("left")
    assert sorted(record, key=str) == [6, "left"]
    assert trio.current_time() == 6
    assert cm.outputs() == [1, 2]


# Where it may be called, and when


async def test_inside_of_a_task_it_is_an_error(autojump_clock: MockClock, record: list[Any]) -> None:
    async def try_it(value: int) -> int:
        with pytest.raises(RuntimeError, match=r"^shutdown\(\) was called from inside a task of 'pages', "):
            await cm.shutdown()
        record.append(value)
        return value

    async def child() -> int:
        async with trio.open_nursery() as inner:
            inner.start_soon(try_it, 2)
        return 2

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, name="pages") as cm:
        await cm.run(try_it, 1)
        await cm.wait()
        await cm.run(child)
        await cm.wait()
        async with cm.map(try_it, [3]) as outcomes:
            assert [outcome.args async for outcome in outcomes] == [(3,)]
        # Nothing was shut down.
        await cm.run(job, 4, 1)
    assert record == [1, 2, 3]
    assert cm.outputs() == [1, 2, 4]


async def test_a_task_starts_it_in_the_nursery_around_the_manager(autojump_clock: MockClock) -> None:
    async def last(value: int) -> int:
        nursery.start_soon(cm.shutdown)
        return await job(value, 1)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        cm.start_soon(last, 1)
        await feed(cm)
    assert (sorted(cm.outputs()), trio.current_time()) == ([0, 1], 1)


async def test_a_task_of_one_manager_may_shut_down_another(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as outer:
        async with ConMan[int].open(nursery) as inner:
            await inner.run(job, 1, 2)
            handle = await outer.run(inner.shutdown)
            await handle.result()
            assert trio.current_time() == 2
            with pytest.raises(ConManClosedError):
                inner.start_soon(job, 1, 1)
        await outer.run(job, 1, 1)


@pytest.mark.parametrize("grace", [0, math.inf])
async def test_an_idle_manager_shuts_down_at_once(grace: float, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        for _ in range(2):
            with assert_checkpoints():
                await cm.shutdown(grace)
        assert trio.current_time() == 0
        assert not cm.cancel_scope.cancel_called
        await trio.sleep(1)
    assert trio.current_time() == 1


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_ended_manager_has_nothing_to_shut_down(cancelled: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 1)
            await cm.wait()
            if cancelled:
                await cm.run(job, 2, 1)
                cm.cancel()
        for grace in (0, math.inf):
            with assert_checkpoints():
                await cm.shutdown(grace)
        assert trio.current_time() == 1
    assert (cm.outputs(), len(cm.errors())) == ([1], cancelled)


BAD_GRACE = [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (None, TypeError), (True, TypeError)]


@pytest.mark.parametrize("grace, error", BAD_GRACE)
async def test_a_wrong_grace_is_refused_and_changes_nothing(grace: Any, error: type[Exception]) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        with pytest.raises(error, match=rf"^grace must be a number of at least 0 .*, not {grace!r}$"):
            await cm.shutdown(grace)
        await cm.run(job, 1, 0)
    assert cm.outputs() == [1]


@pytest.mark.parametrize("shared", [False, True], ids=["own limiter", "shared limiter"])
async def test_a_call_of_run_that_waits_during_a_pause_is_refused_by_the_shutdown(shared: bool) -> None:
    record: list[str] = []
    limit = trio.CapacityLimiter(2) if shared else 2

    async def task() -> None:
        record.append("started")

    async def caller(cm: ConMan[None]) -> None:
        try:
            await cm.run(task)
        except ConManClosedError:
            record.append("refused")

    async with trio.open_nursery() as nursery:
        for _ in range(20):  # in which order they wake is chance
            record.clear()
            async with ConMan[None].open(nursery, limit) as cm:
                cm.pause()
                nursery.start_soon(caller, cm)
                nursery.start_soon(caller, cm)
                await wait_all_tasks_blocked()
                await cm.shutdown()
                assert record == ["refused", "refused"]
