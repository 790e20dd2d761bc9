"""Who waits for all tasks waits for the consumers of maps too, unless they wait for him."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Outcome


async def at_once(value: int) -> int:
    return value


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def async_range(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


each_source = pytest.mark.parametrize("source", [range, async_range])
in_any_order = pytest.mark.parametrize("ordered", [False, True])


async def take_slowly(cm: ConMan[Any], items: Any, record: list[Any], *, ordered: bool = False) -> None:
    """One outcome each second."""
    async with cm.map(at_once, items, ordered=ordered) as outcomes:
        async for outcome in outcomes:
            record.append(outcome.index)
            await trio.sleep(1)
        record.append("end")


@each_source
@in_any_order
async def test_leaving_the_block_waits_for_a_slow_consumer(
    source: Any, ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(partial(take_slowly, cm, source(20), record, ordered=ordered))
            await wait_all_tasks_blocked()
        # The last one was taken: what the consumer does with it is its own affair.
        assert trio.current_time() == 19
    assert sorted(record[:-1]) == list(range(20))
    assert record[-1] == "end"


@each_source
async def test_wait_waits_for_a_slow_consumer(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(take_slowly, cm, source(5), record)
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await cm.wait()
        assert trio.current_time() == 4


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_map_that_was_left_is_waited_for_no_more(
    leaves: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def consume() -> None:
        async with cm.map(at_once, range(20)) as outcomes:
            await anext(outcomes)
            await trio.sleep(3)
            if not leaves:
                async for _ in outcomes:
                    pass
                await trio.sleep(10)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(consume)
        await wait_all_tasks_blocked()
        await cm.wait()
        assert trio.current_time() == 3


async def test_an_empty_source_is_not_waited_for(autojump_clock: MockClock, record: list[Any]) -> None:
    async def consume() -> None:
        async with cm.map(at_once, async_range(0)):
            await trio.sleep(10)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(consume)
        await trio.sleep(1)
        await cm.wait()
        assert trio.current_time() == 1


async def test_an_async_source_that_has_nothing_yet_is_waited_for(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        await trio.sleep(5)
        yield 0

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(take_slowly, cm, items(), record)
            await wait_all_tasks_blocked()
        assert trio.current_time() == 5
    assert record == [0, "end"]


async def test_an_async_source_that_ends_without_an_item_ends_the_wait(autojump_clock: MockClock) -> None:
    async def items() -> AsyncIterator[int]:
        await trio.sleep(5)
        return
        yield

    async def consume() -> None:
        async with cm.map(at_once, items()):
            await trio.sleep(10)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(consume)
        await wait_all_tasks_blocked()
        await cm.wait()
        assert trio.current_time() == 5


async def test_one_beside_the_consumer_waits_for_it(autojump_clock: MockClock, record: list[Any]) -> None:
    """Though it is a child of the same trio task: this does not wait for it while the map is open."""

    async def wait() -> None:
        await wait_all_tasks_blocked()
        await cm.wait()
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(wait)
        await take_slowly(cm, range(5), [])
    assert record == [4]


# Not by those whom the consumer waits for


@pytest.mark.parametrize("method", ["wait", "shutdown"])
@pytest.mark.parametrize("who", ["opener", "its child", "iterates elsewhere", "waits elsewhere"])
async def test_a_consumer_does_not_wait_for_itself(
    method: str, who: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    ended = trio.Event()

    async def be_consumer(outcomes: AsyncIterator[Outcome[Any]]) -> None:
        if who == "iterates elsewhere":
            await trio.sleep(2)  # the outcomes are there
            async for outcome in outcomes:
                record.append(outcome.index)
                break
        else:
            record.append((await anext(outcomes)).index)
        await wait()
        ended.set()

    async def wait() -> None:
        with trio.fail_after(5):
            await getattr(cm, method)()

    async def open_it(task_status: trio.TaskStatus[AsyncIterator[Outcome[Any]]]) -> None:
        async with cm.map(second, range(20)) as outcomes:
            task_status.started(outcomes)
            await ended.wait()

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        if who.endswith("elsewhere"):
            await be_consumer(await nursery.start(open_it))
        else:
            async with cm.map(second, range(20)) as outcomes:
                if who == "opener":
                    record.append((await anext(outcomes)).index)
                    await wait()
                else:
                    async with trio.open_nursery() as children:
                        children.start_soon(wait)
        assert trio.current_time() <= 4


async def test_one_that_waits_for_other_maps_does_not_wait_for_its_own(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4) as cm:
        nursery.start_soon(take_slowly, cm, range(5), record)
        async with cm.map(at_once, range(100)) as outcomes:
            await anext(outcomes)
            await cm.wait()
            assert trio.current_time() == 4


async def test_a_map_that_outlasts_the_block_in_the_same_task_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            block = cm.map(at_once, range(100))
            outcomes = await block.__aenter__()
        # What had started is there, and then the end.
        with pytest.raises(ConManClosedError):
            async for _ in outcomes:
                pass
        await block.__aexit__(None, None, None)


# After a shutdown, or a cancellation


@pytest.mark.parametrize("how", ["shutdown", "cancel", "timeout", "error"])
async def test_a_closed_manager_waits_for_no_consumer(
    how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def consume() -> None:
        with pytest.raises(ConManClosedError):
            await take_slowly(cm, range(20), record)

    async with trio.open_nursery() as nursery:
        try:
            async with ConMan[int].open(nursery, 2, timeout=2.5 if how == "timeout" else 60) as cm:
                nursery.start_soon(consume)
                await trio.sleep(2.5)
                if how == "shutdown":
                    await cm.shutdown()
                elif how == "cancel":
                    cm.cancel()
                elif how == "error":
                    raise KeyError
                await trio.sleep(0)
        except KeyError:
            assert how == "error"
        assert trio.current_time() == 2.5
    # It gets what had started, all the same.
    assert sorted(record) == list(range(7))


@pytest.mark.parametrize("how", ["shutdown", "cancel"])
@pytest.mark.parametrize(
    "count, end",
    [(20, pytest.raises(ConManClosedError)), (4, nullcontext())],
    ids=["more to draw", "all drawn"],
)
async def test_who_waits_for_a_consumer_is_told_of_the_end(
    how: str, count: int, end: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def consume() -> None:
        with end:
            await take_slowly(cm, range(count), [])

    async def wait() -> None:
        await wait_all_tasks_blocked()
        await cm.wait()
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(consume)
            nursery.start_soon(wait)
            await trio.sleep(2.5)
            if how == "shutdown":
                await cm.shutdown()
            else:
                cm.cancel()
    assert record == [2.5]


async def test_wait_waits_for_what_the_callers_own_map_may_still_start(autojump_clock: MockClock) -> None:
    """Up to the room that there is: its consumer, who takes nothing meanwhile, is the one that waits."""
    limiter = trio.CapacityLimiter(2)

    async def hold() -> None:
        async with limiter:
            await trio.sleep(5)

    async with trio.open_nursery() as others:
        others.start_soon(hold)
        others.start_soon(hold)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limiter) as cm:
            async with cm.map(trio.sleep, [1] * 10) as outcomes:
                await cm.wait()
                assert (trio.current_time(), cm.statistics().succeeded) == (7, 4)
                assert len([outcome async for outcome in outcomes]) == 10
