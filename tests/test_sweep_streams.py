"""Programs with maps, channels, queues, pauses and shutdowns, disturbed at each of their checkpoints in turn.

Wherever that happens: all ends, each accepted task has its one outcome, no slot is borrowed, nobody waits.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio

from tests.sweep import MANY, BodyError, Program, Stage, TaskError, every, in_orders, perform, scheduler
from trio_conman import ConMan, ConManClosedError, Outcome, RetriableError

__all__ = ["scheduler"]

pytestmark = [pytest.mark.usefixtures("scheduler"), pytest.mark.unmeasured]

# How many orders of the tasks of each tick to try, for each kind of disturbance.
SEEDS = {"scope": 2, "manager": 1, "nursery": 1, "handles": 1, "interrupt": 2}


async def consume(outcomes: AsyncIterator[Outcome[Any]], pause: float = 0) -> None:
    seen: set[int] = set()
    async for outcome in outcomes:
        assert outcome.index not in seen
        seen.add(outcome.index)
        if pause:
            await trio.sleep(pause)


def queue(stage: Stage, cm: ConMan[Any], task: Any, *args: Any) -> None:
    stage.handles.append(cm.start_soon(task, *args))


# Maps


async def a_map(stage: Stage) -> None:
    async with stage.open() as cm, cm.map(stage.job, stage.items(5)) as outcomes:
        await consume(outcomes)


async def an_ordered_map_with_a_slow_consumer(stage: Stage) -> None:
    async def uneven(number: int) -> None:
        await stage.sleep(3 - number)

    async with stage.open() as cm, cm.map(uneven, stage.items(4), ordered=True) as outcomes:
        await consume(outcomes, 1.5)


async def a_map_that_retries(stage: Stage) -> None:
    async def flaky(number: int) -> None:
        await stage.sleep(0.5)
        if number % 2 and trio.current_time() < 2:
            raise RetriableError(TaskError("once more"))

    async with stage.open(retry=every(1)) as cm, cm.map(flaky, stage.items(4), task_timeout=2.5) as outcomes:
        await consume(outcomes)


async def a_map_of_an_async_source(stage: Stage) -> None:
    async with stage.open() as cm, cm.map(stage.job, stage.items_with_pauses(4, 0.5)) as outcomes:
        await consume(outcomes)


async def a_map_left_early(stage: Stage) -> None:
    async with stage.open() as cm:
        async with cm.map(stage.job, stage.items(6)) as outcomes:
            async for _ in outcomes:
                break
        await stage.submit(cm, stage.job, 1)


async def a_map_of_an_async_source_left_early(stage: Stage) -> None:
    async with stage.open() as cm:
        async with cm.map(stage.job, stage.items_with_pauses(6), ordered=True) as outcomes:
            async for _ in outcomes:
                break
        await stage.submit(cm, stage.job, 1)


async def a_map_left_by_an_error(stage: Stage) -> None:
    async def cleaning_up(_: int) -> None:
        await stage.cleaning_up()

    async with stage.open(3) as cm, cm.map(cleaning_up, stage.items(6)):
        await trio.sleep(0.5)
        raise BodyError


async def maps_beside_a_feeding_loop(stage: Stage) -> None:
    async def use(items: Any) -> None:
        async with cm.map(stage.job, items) as outcomes:
            await consume(outcomes)

    async with stage.open(stage.limiter) as cm, trio.open_nursery() as consumers:
        consumers.start_soon(use, stage.items(2))
        consumers.start_soon(use, stage.items_with_pauses(2))
        for number in range(2):
            await stage.submit(cm, stage.job, number)


async def maps_inside_tasks(stage: Stage) -> None:
    async def outer() -> None:
        async with cm.map(stage.job, stage.items(2)) as outcomes:
            await consume(outcomes)

    async with stage.open() as cm:
        # The second one finds that nothing would ever be free.
        await stage.submit(cm, outer)
        await stage.submit(cm, outer)


# Channels


async def a_channel_with_a_slow_consumer(stage: Stage) -> None:
    send, receive = trio.open_memory_channel[Outcome[Any]](1)
    taken: list[Outcome[Any]] = []

    async def read() -> None:
        async for outcome in receive:
            taken.append(outcome)
            await trio.sleep(1.5)

    def check() -> None:
        with suppress(trio.EndOfChannel, trio.WouldBlock):
            while True:
                taken.append(receive.receive_nowait())
        kept = [] if stage.manager is None else stage.manager.outcomes()
        assert {id(each) for each in taken + kept} == {id(handle.outcome) for handle in stage.handles}
        assert len(taken + kept) == len(stage.handles)

    stage.checks.append(check)
    async with trio.open_nursery() as nursery, stage.open(nursery=nursery, send_to=send) as cm:
        nursery.start_soon(read)
        for number in range(4):
            await stage.submit(cm, stage.job, number, number / 2)
        queue(stage, cm, stage.failing)


async def a_channel_whose_consumer_goes_away(stage: Stage) -> None:
    send, receive = trio.open_memory_channel[Outcome[Any]](0)
    taken: list[Outcome[Any]] = []

    async def read() -> None:
        with receive, suppress(trio.EndOfChannel):
            taken.append(await receive.receive())
            await trio.sleep(1.5)

    def check() -> None:
        kept = [] if stage.manager is None else stage.manager.outcomes()
        assert {id(each) for each in taken + kept} == {id(handle.outcome) for handle in stage.handles}
        assert len(taken + kept) == len(stage.handles)

    stage.checks.append(check)
    async with trio.open_nursery() as nursery, stage.open(nursery=nursery, send_to=send) as cm:
        nursery.start_soon(read)
        for number in range(5):
            queue(stage, cm, stage.job, number, number / 2)
        await cm.wait()


# Queues


async def a_crawler(stage: Stage) -> None:
    async def visit(depth: int) -> None:
        await stage.sleep(0.5)
        if depth:
            queue(stage, cm, visit, depth - 1)
            queue(stage, cm, visit, depth - 1)

    async with stage.open() as cm:
        queue(stage, cm, visit, 2)


async def queued_handles_cancelled(stage: Stage) -> None:
    async with stage.open(stage.limiter) as cm:
        for number in range(5):
            queue(stage, cm, stage.job, number)
        await trio.sleep(0.5)
        stage.handles[2].cancel()
        stage.handles[4].cancel()
        await stage.handles[3].wait()


async def a_pause(stage: Stage) -> None:
    async with stage.open(retry=every(1)) as cm:
        await stage.submit(cm, stage.flaky())
        cm.pause()
        queue(stage, cm, stage.job, 1)
        async with cm.map(stage.job, stage.items(2)) as outcomes:
            await trio.sleep(2)
            cm.limit = 3
            cm.resume()
            await consume(outcomes)
        cm.pause()
        queue(stage, cm, stage.job, 2)


async def a_pause_of_one_who_shares(stage: Stage) -> None:
    async def feed() -> None:
        async with stage.open(stage.limiter) as other:
            for number in range(2):
                await stage.submit(other, stage.job, number)

    async with trio.open_nursery() as nursery, stage.open(stage.limiter) as cm:
        nursery.start_soon(feed)
        queue(stage, cm, stage.job, 1)
        queue(stage, cm, stage.job, 2)
        cm.pause()
        await trio.sleep(1.5)
        cm.resume()
        cm.pause()
        await trio.sleep(1)


# Shutdowns


async def a_shutdown_with_grace(stage: Stage) -> None:
    async with stage.open(retry=every(5)) as cm:
        await stage.submit(cm, stage.cleaning_up)
        await stage.submit(cm, stage.flaky())
        queue(stage, cm, stage.job, 1)
        queue(stage, cm, stage.job, 2, 9)
        await cm.shutdown(2.5)
        await trio.sleep(0.5)


async def a_shutdown_beside_a_feeding_body(stage: Stage) -> None:
    async def feed() -> None:
        while True:
            await stage.submit(cm, stage.job, 0)

    async with trio.open_nursery() as nursery, stage.open() as cm:
        nursery.start_soon(shut_down_after, cm, 1.5)
        async with trio.open_nursery() as feeders:
            feeders.start_soon(feed)
            feeders.start_soon(feed)


async def shut_down_after(cm: ConMan[Any], seconds: float, grace: float = 5) -> None:
    await trio.sleep(seconds)
    await cm.shutdown(grace)


async def a_shutdown_beside_maps(stage: Stage) -> None:
    async def use(items: Any) -> None:
        async with cm.map(stage.job, items) as outcomes:
            await consume(outcomes)

    async with trio.open_nursery() as nursery, stage.open() as cm:
        nursery.start_soon(shut_down_after, cm, 0.5)
        async with trio.open_nursery() as consumers:
            consumers.start_soon(use, stage.items(5))
            consumers.start_soon(use, stage.items_with_pauses(5, 0.5))


async def a_shutdown_that_is_cancelled(stage: Stage) -> None:
    async with stage.open(stage.limiter) as cm:
        await stage.submit(cm, stage.cleaning_up)
        queue(stage, cm, stage.job, 1)
        queue(stage, cm, stage.job, 2)
        with trio.move_on_after(1.5):
            await cm.shutdown()


async def two_shutdowns_and_a_channel(stage: Stage) -> None:
    # Nobody reads.
    send, _ = trio.open_memory_channel[Outcome[Any]](0)
    async with trio.open_nursery() as nursery, stage.open(send_to=send) as cm:
        cm.pause()
        for number in range(3):
            queue(stage, cm, stage.job, number)
        nursery.start_soon(shut_down_after, cm, 1, 2)
        nursery.start_soon(shut_down_after, cm, 1.5)
        with suppress(ConManClosedError):
            await stage.submit(cm, stage.job, 9)


# Too many errors


async def too_many_errors(stage: Stage) -> None:
    try:
        async with stage.open(max_errors=1) as cm:
            for _ in range(4):
                await stage.submit(cm, stage.failing)
            await stage.submit(cm, stage.cleaning_up)
    except* TaskError:
        pass


async def one_error_in_a_map(stage: Stage) -> None:
    async def third_fails(number: int) -> None:
        await stage.sleep(1)
        if number == 2:
            raise TaskError

    try:
        async with stage.open(max_errors=0) as cm:
            queue(stage, cm, stage.cleaning_up)
            async with cm.map(third_fails, stage.items_with_pauses(6)) as outcomes:
                await consume(outcomes)
    except* TaskError:
        pass


PROGRAMS = [
    a_map,
    an_ordered_map_with_a_slow_consumer,
    a_map_that_retries,
    a_map_of_an_async_source,
    a_map_left_early,
    a_map_of_an_async_source_left_early,
    a_map_left_by_an_error,
    maps_beside_a_feeding_loop,
    maps_inside_tasks,
    a_channel_with_a_slow_consumer,
    a_channel_whose_consumer_goes_away,
    a_crawler,
    queued_handles_cancelled,
    a_pause,
    a_pause_of_one_who_shares,
    a_shutdown_with_grace,
    a_shutdown_beside_a_feeding_body,
    a_shutdown_beside_maps,
    a_shutdown_that_is_cancelled,
    two_shutdowns_and_a_channel,
    too_many_errors,
    one_error_in_a_map,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_undisturbed_programs_end(program: Program, standing_check: dict[int, Any]) -> None:
    for seed in range(max(SEEDS.values())):
        stage = perform(program, seed, standing_check)
        assert 0 < stage.steps < MANY / 10
        assert stage.points > 0
        assert stage.handles or stage.given


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
