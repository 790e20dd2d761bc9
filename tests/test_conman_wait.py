"""Waiting until a manager is idle."""

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints

from trio_conman import ConMan, Failure, RetriableError, RetryConfig


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def test_wait_returns_when_the_manager_is_idle(autojump_clock: MockClock, record: list[Any]) -> None:
    async def waiter(cm: ConMan[int], patience: float) -> None:
        with trio.move_on_after(patience):
            await cm.wait()
            record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with assert_checkpoints():
            await cm.wait()
        assert trio.current_time() == 0
        for end in (1, 2):
            await cm.run(job, end, 1)
            await cm.wait()
            assert trio.current_time() == end
        await cm.run(job, 3, 1)
        async with trio.open_nursery() as waiters:
            for patience in (math.inf, 0.5, math.inf, math.inf):
                waiters.start_soon(waiter, cm, patience)
        assert record == [3, 3, 3]
    with assert_checkpoints():
        await cm.wait()
    assert trio.current_time() == 3


async def test_wait_includes_tasks_that_back_off(autojump_clock: MockClock) -> None:
    config = RetryConfig(initial_delay=7, max_delay=7, max_attempts=1, jitter=False)

    async def flaky() -> int:
        if trio.current_time() < 7:
            raise RetriableError("not yet", retry_config=config)
        return 1

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(flaky)
        await cm.run(job, 2, 1)
        await cm.wait()
        assert trio.current_time() == 7
        assert cm.outputs() == [2, 1]


async def test_wait_outside_the_block_ends_when_the_manager_is_cancelled(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def waiter(cm: ConMan[int]) -> None:
        await cm.wait()
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 10)
        nursery.start_soon(waiter, cm)
        await trio.sleep(2)
        cm.cancel()
    assert record == [2]


async def test_wait_inside_a_task_or_a_child_of_one_is_refused(autojump_clock: MockClock) -> None:
    async def in_task(cm: ConMan[Any]) -> None:
        await cm.wait()

    async def in_child(cm: ConMan[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cm.wait)

    async def in_task_of_inner_manager(cm: ConMan[Any]) -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, name="inner") as inner:
            await inner.run(in_task, cm)
        inner.raise_errors()

    async def in_body_of_inner_manager(cm: ConMan[Any]) -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, name="inner") as inner:
            await inner.run(job, 1, 1)
            await inner.wait()
            await cm.wait()

    refused = pytest.RaisesExc(RuntimeError, match=r"^wait\(\) .* 'outer'")
    refused_below = pytest.RaisesGroup(refused, flatten_subgroups=True)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, name="outer") as cm:
        for task in (in_task, in_child, in_task_of_inner_manager, in_body_of_inner_manager):
            handle = await cm.run(task, cm)
            await cm.wait()
            assert isinstance(handle.outcome, Failure)
            error = handle.outcome.error
            assert refused.matches(error) or refused_below.matches(error)
        assert trio.current_time() == 1
