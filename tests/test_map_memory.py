"""What a `map` keeps alive. The collector is off: what goes, goes by its last reference."""

import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, RetriableError, RetryConfig


class Thing:
    def __init__(self, alive: weakref.WeakSet["Thing"]) -> None:
        alive.add(self)


@pytest.fixture
def alive(no_collector: None) -> weakref.WeakSet[Thing]:
    return weakref.WeakSet()


async def keep(thing: Thing) -> Thing:
    await trio.lowlevel.checkpoint()
    return thing


async def fail(thing: Thing) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise ValueError(thing)


async def fail_twice(thing: Thing) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise RetriableError(ValueError(thing), retry_config=RetryConfig.none(max_attempts=1))


async def time_out(thing: Thing) -> NoReturn:
    await trio.sleep_forever()
    raise AssertionError(thing)


def things(alive: weakref.WeakSet[Thing]) -> Iterator[Thing]:
    for _ in range(20):
        yield Thing(alive)


async def async_things(alive: weakref.WeakSet[Thing]) -> AsyncIterator[Thing]:
    for _ in range(20):
        await trio.lowlevel.checkpoint()
        yield Thing(alive)


@pytest.mark.parametrize("item", [keep, fail, fail_twice, time_out])
@pytest.mark.parametrize("source", [things, async_things])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("timeout", [{}, {"task_timeout": 1}, {"attempt_timeout": 1}], ids=str)
async def test_a_consumed_and_dropped_outcome_frees_its_item(
    item: Any,
    source: Any,
    ordered: bool,
    timeout: dict[str, Any],
    alive: weakref.WeakSet[Thing],
    autojump_clock: MockClock,
) -> None:
    if item is time_out and not timeout:
        timeout = {"task_timeout": 1}
    count = 0
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(item, source(alive), ordered=ordered, **timeout) as outcomes:
            async for outcome in outcomes:
                count += 1
                del outcome
                assert len(alive) <= 4
            assert count == 20
            assert len(alive) == 0


async def test_the_last_item_is_freed_while_the_input_blocks(
    alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async def one_thing() -> AsyncIterator[Thing]:
        yield Thing(alive)
        await trio.sleep(10)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(keep, one_thing()) as outcomes:
            await anext(outcomes)
            await wait_all_tasks_blocked()
            assert len(alive) == 0


@pytest.mark.parametrize("source", [things, async_things])
async def test_the_items_of_a_map_that_was_left_are_freed(
    source: Any, alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(time_out, source(alive)):
            await trio.sleep(1)
            assert len(alive) in (2, 3)
        # The iterator holds outcomes that were not taken.
        assert len(alive) <= 3
    await wait_all_tasks_blocked()
    assert len(alive) == 0


async def test_an_error_of_the_input_is_freed(
    alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    def raising() -> Iterator[Thing]:
        yield Thing(alive)
        raise ValueError(Thing(alive))

    async def raising_async() -> AsyncIterator[Thing]:
        yield Thing(alive)
        raise ValueError(Thing(alive))

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for source in (raising, raising_async):
            async with cm.map(keep, source()) as outcomes:
                await anext(outcomes)
                with suppress(ValueError):
                    await anext(outcomes)
                await wait_all_tasks_blocked()
                assert len(alive) == 0
