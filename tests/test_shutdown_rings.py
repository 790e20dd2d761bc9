"""Managers whose tasks shut each other down: nothing waits for what waits for it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.managed import clean_up_after
from trio_conman import ConMan, Failure, StopReason

Manager = ConMan[Any]


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Manager, Manager]]:
    async with trio.open_nursery() as nursery:
        async with Manager.open(nursery, 2, name="A") as a, Manager.open(nursery, 2, name="B") as b:
            yield a, b


def reasons(cm: Manager) -> list[StopReason | None]:
    return [outcome.reason if isinstance(outcome, Failure) else None for outcome in cm.outcomes()]


async def shut_down(cm: Manager, grace: float, when: float = 1) -> None:
    await trio.sleep_until(when)
    await cm.shutdown(grace)


@pytest.mark.parametrize("grace", [0, 2])
@pytest.mark.parametrize("apart", [0, 0.5])
async def test_tasks_that_shut_each_others_managers_down(
    grace: float, apart: float, autojump_clock: MockClock
) -> None:
    with trio.fail_after(100):
        async with two() as (a, b):
            await a.run(shut_down, b, grace)
            await b.run(shut_down, a, grace, 1 + apart)
    assert trio.current_time() == 1 + grace
    # The first one to end its grace cancels the other's task, and then has nothing to wait for.
    assert sorted(map(str, reasons(a) + reasons(b))) in (
        [str(StopReason.CANCELLED)] * 2,
        ["None", str(StopReason.CANCELLED)],
        [str(StopReason.CANCELLED), "None"],
    )


async def test_without_an_end_of_the_grace_a_scope_around_ends_it(autojump_clock: MockClock) -> None:
    with trio.move_on_after(10):
        async with two() as (a, b):
            await a.run(shut_down, b, float("inf"))
            await b.run(shut_down, a, float("inf"))
    assert trio.current_time() == 10
    # One whose shutdown is done in that very tick keeps its result.
    assert {*reasons(a), *reasons(b)} <= {None, StopReason.CANCELLED}
    assert len(a.outcomes()) == len(b.outcomes()) == 1


async def test_an_item_that_shuts_down_the_manager_of_its_consumer(autojump_clock: MockClock) -> None:
    async def consume(a: Manager, b: Manager) -> None:
        async with b.map(lambda _: shut_down(a, 0), range(2)) as outcomes:
            async for _ in outcomes:
                pass

    with trio.fail_after(100):
        async with two() as (a, b):
            await a.run(consume, a, b)
            await a.wait()
    assert trio.current_time() == 1
    assert reasons(a) == [StopReason.CANCELLED]


async def test_a_task_of_a_manager_that_a_task_opened_shuts_down_the_manager_of_that_task(
    autojump_clock: MockClock,
) -> None:
    async def open_inner(outer: Manager, nursery: trio.Nursery) -> None:
        async with Manager.open(nursery, 2, name="inner") as inner:
            await inner.run(shut_down, outer, 0)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with Manager.open(nursery, 2, name="outer") as outer:
                await outer.run(open_inner, outer, nursery)
    assert trio.current_time() == 1
    assert reasons(outer) == [StopReason.CANCELLED]


async def test_three_in_a_ring(autojump_clock: MockClock) -> None:
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with (
                Manager.open(nursery, 2) as a,
                Manager.open(nursery, 2) as b,
                Manager.open(nursery, 2) as c,
            ):
                await a.run(shut_down, b, 0)
                await b.run(shut_down, c, 0)
                await c.run(shut_down, a, 0)
    assert trio.current_time() == 1


async def test_a_caller_that_is_cancelled_does_not_wait_for_a_clean_up(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with Manager.open(nursery, 2) as cm:
            await cm.run(clean_up_after, math.inf, 5)
            with trio.move_on_after(1):
                await cm.shutdown(10)
            record.append(trio.current_time())
            with trio.move_on_after(1):
                await cm.shutdown(0)
            record.append(trio.current_time())
            await cm.wait()
            record.append(trio.current_time())
    assert record == [1, 2, 6]
