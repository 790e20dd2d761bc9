"""Programs that are cancelled, or interrupted, at each of their checkpoints in turn.

Wherever that happens: all ends, each accepted task has its one outcome, no slot is borrowed, nobody waits.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.sweep import MANY, BodyError, Program, Stage, TaskError, every, in_orders, perform, scheduler
from trio_conman import (
    ConMan,
    ConManClosedError,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    TaskHandle,
)

__all__ = ["scheduler"]

pytestmark = [pytest.mark.usefixtures("scheduler"), pytest.mark.unmeasured]

# How many orders of the tasks of each tick to try, for each kind of disturbance.
SEEDS = {"scope": 3, "manager": 1, "nursery": 1, "handles": 1, "interrupt": 2}


async def plain_runs(stage: Stage) -> None:
    async with stage.open() as cm:
        for number in range(4):
            await stage.submit(cm, stage.job, number)
        await stage.submit(cm, stage.failing)
        await cm.wait()
        await stage.submit(cm, stage.job, 5, 0)


async def runs_without_waiting(stage: Stage) -> None:
    async with stage.open() as cm:
        for number in range(3):
            stage.submit_nowait(cm, stage.job, number)
            stage.submit_nowait(cm, stage.failing, 0)
            await trio.sleep(0.5)


async def retries_in_backoff(stage: Stage) -> None:
    async with stage.open(retry=every(2)) as cm:
        for failures in (1, 2, 1, 0, 1):
            await stage.submit(cm, stage.flaky(failures))


async def retries_without_delay(stage: Stage) -> None:
    async with stage.open(retry=RetryConfig.none()) as cm:
        for failures in (1, 4, 0):
            await stage.submit(cm, stage.flaky(failures))


async def retries_that_hold_their_slot(stage: Stage) -> None:
    async with stage.open(retry=every(2, hold_slot=True)) as cm:
        for failures in (1, 2, 1, 0):
            await stage.submit(cm, stage.flaky(failures))


async def returns_to_a_full_house(stage: Stage) -> None:
    async with stage.open(retry=every(1)) as cm:
        await stage.submit(cm, stage.flaky(1))
        await stage.submit(cm, stage.flaky(1, seconds=0.5))
        await stage.submit(cm, stage.job, 1, 3)
        await stage.submit(cm, stage.job, 2, 3)
        await stage.submit(cm, stage.job, 3, 1)


async def slow_attempts(stage: Stage) -> None:
    async with stage.open(attempt_timeout=1, retry=every(1, max_attempts=1)) as cm:
        await stage.submit(cm, stage.job, 1, 0.5)
        await stage.submit(cm, stage.job, 2, 3)
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.with_children)


async def slow_tasks(stage: Stage) -> None:
    async with stage.open(task_timeout=2.5, retry=every(1)) as cm:
        await stage.submit(cm, stage.job, 1, 9)
        await stage.submit(cm, stage.flaky(9))
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.raising_when_cancelled)


async def a_manager_out_of_time(stage: Stage) -> None:
    async with stage.open(timeout=3, retry=every(1, max_attempts=9)) as cm:
        await stage.submit(cm, stage.flaky(9))
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.job, 1, 9)
        await stage.submit(cm, stage.job, 2, 9)


async def handles_awaited_by_others(stage: Stage) -> None:
    async def watch(handle: TaskHandle[Any]) -> None:
        with suppress(Exception):
            await handle.result()

    async with stage.open(4) as cm, trio.open_nursery() as watchers:
        first = await stage.submit(cm, stage.job, 1)
        second = await stage.submit(cm, stage.failing)
        watchers.start_soon(watch, first)
        watchers.start_soon(watch, second)
        await stage.submit(cm, first.result)
        await stage.submit(cm, second.result)
        await first.wait()
        await stage.submit(cm, stage.sleep, 1)


async def handles_cancelled(stage: Stage) -> None:
    async with stage.open(4, retry=every(5)) as cm:
        handles = [
            await stage.submit(cm, stage.job, 1, 9),
            await stage.submit(cm, stage.flaky()),
            await stage.submit(cm, stage.raising_when_cancelled),
            await stage.submit(cm, stage.cleaning_up),
        ]
        await trio.sleep(1)
        for handle in handles:
            handle.cancel()
        stage.submit_nowait(cm, stage.job, 2, 9)
        stage.handles[-1].cancel()
        await handles[0].wait()


async def a_manager_cancelled_by_its_body(stage: Stage) -> None:
    async with stage.open(retry=every(5)) as cm:
        await stage.submit(cm, stage.flaky())
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.with_children)
        cm.cancel()
        await stage.submit(cm, stage.job, 1)


async def a_manager_cancelled_by_a_task(stage: Stage) -> None:
    async def task() -> None:
        await stage.sleep(1)
        assert stage.manager is not None
        stage.manager.cancel()
        await stage.sleep(1)

    async with stage.open() as cm:
        await stage.submit(cm, task)
        for number in range(6):
            await stage.submit(cm, stage.job, number, 0.75)


async def a_shared_limiter(stage: Stage) -> None:
    async def hold() -> None:
        async with stage.limiter:
            await trio.sleep(1.5)

    async def feed(seconds: float) -> None:
        async with stage.open(stage.limiter, retry=every(1)) as cm:
            for failures in (1, 0, 0):
                await stage.submit(cm, stage.flaky(failures, seconds))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(feed, 1)
        nursery.start_soon(feed, 0.5)


async def an_envoy_recalled(stage: Stage) -> None:
    async def impatient() -> None:
        with trio.move_on_after(0.5):
            await stage.submit(cm, stage.job, 1)

    async with stage.limiter, stage.open(stage.limiter) as cm, trio.open_nursery() as callers:
        await stage.submit(cm, stage.job, 2, 2)
        callers.start_soon(impatient)
        callers.start_soon(impatient)
        await trio.sleep(1)


async def a_limit_that_changes(stage: Stage) -> None:
    async def feed() -> None:
        for number in range(6):
            await stage.submit(cm, stage.job, number)

    async with stage.open(3) as cm, trio.open_nursery() as callers:
        callers.start_soon(feed)
        await trio.sleep(0.5)
        cm.limit = 2
        await trio.sleep(1)
        cm.limit = 4
        await trio.sleep(1)
        cm.limit = 2


async def a_limit_changed_by_tasks_and_shared(stage: Stage) -> None:
    async def task(limit: int) -> None:
        cm.limit = limit
        await stage.sleep(1)

    async with stage.open(stage.limiter) as cm:
        for limit in (4, 2, 3):
            await stage.submit(cm, task, limit)


async def an_error_in_the_body(stage: Stage) -> None:
    async with stage.open(retry=every(5)) as cm:
        await stage.submit(cm, stage.flaky())
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.raising_when_cancelled)
        raise BodyError


async def an_error_beside_the_body(stage: Stage) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise BodyError

    async with trio.open_nursery() as nursery, stage.open(nursery=nursery) as cm:
        nursery.start_soon(fail)
        for number in range(6):
            await stage.submit(cm, stage.job, number, 0.75)


async def waiters_in_other_tasks(stage: Stage) -> None:
    async def feed(number: int) -> None:
        with suppress(ConManClosedError):
            await stage.submit(cm, stage.job, number)
            await cm.wait()

    async with trio.open_nursery() as callers:
        async with stage.open() as cm:
            for number in range(4):
                callers.start_soon(feed, number)
            callers.start_soon(cm.wait)
            await trio.sleep(1.5)


async def bound_to_an_outer_nursery(stage: Stage) -> None:
    async def use() -> None:
        async with stage.open(nursery=outer, retry=every(1)) as cm:
            for failures in (1, 0, 1):
                await stage.submit(cm, stage.flaky(failures, 1))

    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        inner.start_soon(use)


async def bound_to_a_nursery_elsewhere(stage: Stage) -> None:
    async def elsewhere(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await closed.wait()

    stage.may_be_closed = True
    closed = trio.Event()
    async with trio.open_nursery() as nursery:
        other = await nursery.start(elsewhere)
        # Cancelled by now, the nursery may have ended; as for any nursery that is a RuntimeError.
        await trio.lowlevel.checkpoint_if_cancelled()
        async with stage.open(nursery=other, retry=every(1)) as cm:
            for failures in (1, 0, 1):
                await stage.submit(cm, stage.flaky(failures, 1))
        closed.set()


async def tasks_that_add_tasks(stage: Stage) -> None:
    async def spread(depth: int) -> None:
        await stage.sleep(0.5)
        if depth:
            await stage.submit(cm, spread, depth - 1)
            stage.submit_nowait(cm, spread, depth - 1)

    async with stage.open(5) as cm:
        await stage.submit(cm, spread, 2)


def assert_nobody_waits(rate: RateLimiter) -> None:
    assert not rate._gate.queue  # its statistics can be had only in a trio run


async def attempts_at_a_rate(stage: Stage) -> None:
    rate, started = RateLimiter(2), list[float]()

    def timed(failures: int) -> Callable[[], Awaitable[str]]:
        task = stage.flaky(failures)

        async def attempt() -> str:
            started.append(trio.current_time())
            return await task()

        return attempt

    def check() -> None:
        assert all(later - earlier >= 0.5 for earlier, later in pairwise(started))
        assert_nobody_waits(rate)

    stage.checks.append(check)
    async with stage.open(3, rate=rate, retry=every(1)) as cm:
        for failures in (1, 0, 2, 0, 0):
            await stage.submit(cm, timed(failures))


async def a_shared_rate_that_is_told_to_pause(stage: Stage) -> None:
    rate, told = RateLimiter(4, burst=2), list[float]()

    async def asks() -> None:
        if told:
            assert trio.current_time() >= told[0] + 2
            return
        await stage.sleep(0)
        told.append(trio.current_time())
        raise RetriableError(TaskError("later"), retry_after=2)

    async def feed() -> None:
        async with stage.open(rate=rate, task_timeout=5) as cm:
            for number in range(3):
                await stage.submit(cm, stage.job, number)

    stage.checks.append(lambda: assert_nobody_waits(rate))
    async with trio.open_nursery() as nursery, stage.open(rate=rate, retry=every(1)) as cm:
        nursery.start_soon(feed)
        await stage.submit(cm, asks)
        async with cm.map(stage.job, stage.items(4)) as outcomes:
            async for _ in outcomes:
                pass


async def retries_on_a_budget(stage: Stage) -> None:
    budget, managers = RetryBudget(3, ratio=0.5), list[ConMan[Any]]()

    def check() -> None:
        now = budget.statistics()
        counts = [cm.statistics() for cm in managers]
        begun, succeeded = sum(c.retries for c in counts), sum(c.succeeded for c in counts)
        # A retry that was granted, and cancelled before it began, has cost its token too.
        assert 0 <= now.remaining <= 3
        assert begun <= 3 - now.remaining + succeeded * 0.5

    stage.checks.append(check)
    async with stage.open(retry=every(1), retry_budget=budget) as cm:
        managers.append(cm)
        for failures in (1, 0, 9, 0, 0, 1, 1):
            await stage.submit(cm, stage.flaky(failures))


PROGRAMS = [
    plain_runs,
    runs_without_waiting,
    retries_in_backoff,
    retries_without_delay,
    retries_that_hold_their_slot,
    returns_to_a_full_house,
    slow_attempts,
    slow_tasks,
    a_manager_out_of_time,
    handles_awaited_by_others,
    handles_cancelled,
    a_manager_cancelled_by_its_body,
    a_manager_cancelled_by_a_task,
    a_shared_limiter,
    an_envoy_recalled,
    a_limit_that_changes,
    a_limit_changed_by_tasks_and_shared,
    an_error_in_the_body,
    an_error_beside_the_body,
    waiters_in_other_tasks,
    bound_to_an_outer_nursery,
    bound_to_a_nursery_elsewhere,
    tasks_that_add_tasks,
    attempts_at_a_rate,
    a_shared_rate_that_is_told_to_pause,
    retries_on_a_budget,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_undisturbed_programs_end(program: Program, standing_check: dict[int, Any]) -> None:
    for seed in range(max(SEEDS.values())):
        stage = perform(program, seed, standing_check)
        assert 0 < stage.steps < MANY / 10
        assert stage.points > 0
        assert stage.handles


@pytest.mark.parametrize("action, seed", in_orders(SEEDS, "scope", "nursery", "manager", "handles"))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_at_any_checkpoint_all_is_put_in_order(
    program: Program, action: str, seed: int, standing_check: dict[int, Any]
) -> None:
    step, stage = 0, Stage()
    while stage.steps >= step:
        step += 1
        stage = perform(program, seed, standing_check, step=step, action=action)
    assert step > 10


@pytest.mark.parametrize("kind, seed", in_orders(SEEDS, "interrupt"))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_interrupted_at_any_position_of_a_task_all_is_put_in_order(
    program: Program, kind: str, seed: int, standing_check: dict[int, Any]
) -> None:
    point, stage = 0, Stage()
    while stage.points >= point:
        point += 1
        stage = perform(program, seed, standing_check, interrupt=point)
    assert point > 4
