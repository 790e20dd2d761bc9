"""Rings of tasks that hold keys and wait for keys are told, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.managed import each_kind
from trio_conman import ConMan, Failure, KeyedLimit, RetriableError, RetryConfig, Success, TaskHandle

NEVER = (
    r"^run\(\) was called inside a task of 'conman' while every slot, or all that a key allows, is held by a "
    r"task that itself waits for one, .*: use start_soon\(\), which does not wait"
    r" \(see .What goes wrong. in the docs\)$"
)
MAP_NEVER = (
    r"^a map was consumed inside a task of 'conman' while every slot, or all that a key allows, .*: "
    r"give the inner work a manager of its own"
    r" \(see .What goes wrong. in the docs\)$"
)

HANDLE_NEVER = r"^a handle was awaited inside a task of 'conman' for which its own task waits in turn, "


def host(name: str, *_: object) -> str:
    return name[0]


async def child(name: str, seconds: float = 1) -> str:
    await trio.sleep(seconds)
    return name


async def parent(name: str, cm: ConMan[Any], wanted: str, delay: float = 1) -> str:
    """Hand in a task after `delay` seconds, and wait until that has started."""
    await trio.sleep(delay)
    await cm.run(child, wanted)
    return name


async def as_async(items: list[str]) -> AsyncIterator[str]:
    for item in items:
        yield item


def errors(*handles: TaskHandle[Any]) -> list[bool]:
    """Which of them were told of a ring."""
    told = []
    for handle in handles:
        told.append(isinstance(handle.outcome, Failure))
        if isinstance(handle.outcome, Failure):
            with pytest.raises(RuntimeError, match=NEVER):
                raise handle.outcome.error
    return told


@each_kind
async def test_who_holds_the_last_of_a_key_and_waits_for_it(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9), per_key=limit) as cm:
        alone = await cm.run(parent, "a", cm, "a2")
        other = await cm.run(parent, "b", cm, "c")
        await alone.wait()
        assert trio.current_time() == 1
    assert errors(alone, other) == [True, False]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_a_key_that_another_task_holds_is_waited_for(autojump_clock: MockClock) -> None:
    limit = KeyedLimit(2, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        await cm.run(child, "a", 3)
        waits = await cm.run(parent, "a1", cm, "a2")
        await waits.wait()
        assert trio.current_time() == 3
        # Also a task that itself waits for a key, of one that does not.
        await cm.run(child, "x", 3)
        await cm.run(child, "x", 3)
        b = [await cm.run(parent, "b", cm, "x") for _ in range(2)]
        c = await cm.run(parent, "c", cm, "b")
    assert errors(waits, *b, c) == [False] * 4


@each_kind
async def test_two_that_wait_for_each_other(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9), per_key=limit) as cm:
        a = await cm.run(parent, "a", cm, "b", 1)
        b = await cm.run(parent, "b", cm, "a", 2)
        await b.wait()
        assert trio.current_time() == 2
        await cm.run(child, "z", 9)
    assert errors(a, b) == [False, True]
    assert trio.current_time() == 11


async def test_slots_and_keys_together(autojump_clock: MockClock) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit) as cm:
        a = await cm.run(parent, "a", cm, "x", 1)
        b = await cm.run(parent, "b", cm, "a", 2)
    assert errors(a, b) == [False, True]
    assert trio.current_time() == 3


async def test_a_limit_that_is_lowered_closes_a_ring_when_the_key_does_not_get_free(
    autojump_clock: MockClock,
) -> None:
    limit = KeyedLimit(3, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        one = await cm.run(parent, "a1", cm, "a2", 2)
        two = await cm.run(parent, "a2", cm, "a2", 2)
        await cm.run(child, "a", 3)
        await trio.sleep(2.5)
        limit.limits["a"] = 1
        await trio.sleep(0.25)
        assert cm.statistics().failed == 0
    # At 3 the key is held by these alone, once too often: when the last one has gone it is still full.
    assert sorted(errors(one, two)) == [True, True]
    assert trio.current_time() == 3


async def test_a_pause_is_no_ring_and_its_end_may_show_one(autojump_clock: MockClock) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        a = await cm.run(parent, "a", cm, "a")
        cm.pause()
        await trio.sleep(5)
        assert a.state == "running"
        cm.resume()
        await a.wait()
        assert trio.current_time() == 5
    assert errors(a) == [True]


@pytest.mark.parametrize("gives_up", [True, False])
@pytest.mark.parametrize("closed_by", ["the end of a pause", "a lower limit"])
async def test_who_is_told_in_one_of_two_waits_of_a_task(
    closed_by: str, gives_up: bool, autojump_clock: MockClock, order: None
) -> None:
    """It may be enough: then nobody else is told; and where it was not, others are."""
    slots, most = (9, 1) if closed_by == "the end of a pause" else (3, 9)
    limit, told = KeyedLimit(most, key=host), []

    async def waits(cm: ConMan[Any], name: str, number: int) -> None:
        await trio.sleep(number)
        try:
            await cm.run(child, name)
        except RuntimeError:
            told.append(number)
            if gives_up:
                raise

    async def twice(name: str, cm: ConMan[Any]) -> None:
        async with trio.open_nursery() as nursery:
            for number in (1, 3):
                nursery.start_soon(waits, cm, "b2", number)

    async def once(name: str, cm: ConMan[Any]) -> None:
        await waits(cm, "a2", 2)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, slots, per_key=limit) as cm:
        await cm.run(child, "c", 5)
        one, other = await cm.run(twice, "a", cm), await cm.run(once, "b", cm)
        if closed_by == "the end of a pause":
            cm.pause()
            await trio.sleep(5)
            cm.resume()
            cm.pause()
            cm.resume()  # it is looked for once more, in the same instant
        else:
            await trio.sleep(4)
            cm.limit = 2
        await other.wait()
        assert trio.current_time() == 5
    assert told == ([3] if gives_up else [3, 2])
    assert [isinstance(handle.outcome, Failure) for handle in (one, other)] == [gives_up, False]


async def test_a_ring_may_need_a_key_too_that_one_holds_who_is_not_in_it(autojump_clock: MockClock) -> None:
    """He waits for what will end, and another one may have that key beside him."""
    limits = [KeyedLimit(at + 1, key=lambda name, *_, at=at: name[at]) for at in (0, 1)]

    async def awaits(name: str, handle: TaskHandle[Any]) -> str:
        await handle.wait()
        return name

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limits) as cm:
        beside = await cm.run(awaits, "cz", await cm.run(child, "dw", 9))
        ring = [await cm.run(parent, name, cm, inner, 2) for name, inner in (("ax", "bz"), ("by", "az"))]
        await trio.sleep(1)
        cm.pause()
        await trio.sleep(2)
        cm.resume()
        await ring[0].wait()
        assert trio.current_time() == 3
    assert sorted(errors(*ring)) == [False, True]
    assert errors(beside) == [False]
    assert trio.current_time() == 9


async def test_who_waits_for_a_ring_and_has_a_key_that_is_free_is_not_told(
    autojump_clock: MockClock,
) -> None:
    limits = [KeyedLimit(1, key=host), KeyedLimit(9, key=lambda *_: "of all")]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limits) as cm:
        a = await cm.run(parent, "a", cm, "a", 1)
        b = await cm.run(parent, "b", cm, "a", 2)
        cm.pause()
        await trio.sleep(5)
        cm.resume()
    assert errors(a, b) == [True, False]


async def test_who_is_cancelled_is_in_no_ring(autojump_clock: MockClock) -> None:
    async def impatient(name: str) -> None:
        await trio.sleep(0.5)
        with trio.move_on_after(1):
            await cm.run(child, "b")
        await trio.sleep(5)

    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        a = await cm.run(impatient, "a")
        b = await cm.run(parent, "b", cm, "a", 2)
    assert errors(a, b) == [False, False]
    assert trio.current_time() == 7.5


@pytest.mark.parametrize("source", [list, as_async])
@pytest.mark.parametrize("names", [["a1"], ["a1", "a2", "a3"], ["b1", "a1"]])
@each_kind
async def test_a_map_all_of_whose_items_need_what_its_consumer_holds(
    names: list[str],
    source: Callable[[list[str]], Any],
    limit_of: Callable[[int], Any],
    autojump_clock: MockClock,
) -> None:
    taken: list[str] = []

    async def consumer(name: str) -> None:
        await trio.sleep(1)
        async with cm.map(child, source(names), lookahead=2) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome.args[0])

    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9), per_key=limit) as cm:
        handle = await cm.run(consumer, "a")
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        with pytest.raises(RuntimeError, match=MAP_NEVER):
            raise outcome.error
        assert trio.current_time() == (2 if names[0] == "b1" else 1)
    assert taken == (["b1"] if names[0] == "b1" else [])
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_a_map_that_may_go_on_is_no_ring(autojump_clock: MockClock) -> None:
    async def consumer(name: str) -> list[str]:
        async with cm.map(child, ["b1", "c1", "b2"]) as outcomes:
            return [outcome.args[0] async for outcome in outcomes]

    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        await cm.run(child, "b", 3)
        handle = await cm.run(consumer, "a")
        assert await handle.result() == ["c1", "b1", "b2"]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("source", [list, as_async])
@each_kind
async def test_an_item_that_waits_for_what_its_consumer_holds(
    ordered: bool,
    source: Callable[[list[str]], Any],
    limit_of: Callable[[int], Any],
    autojump_clock: MockClock,
) -> None:
    async def item(name: str) -> str:
        return await (parent(name, cm, "a2") if name == "b" else child(name, 5))

    async def consumer(_: str) -> None:
        async with cm.map(item, source(["b", "c", "d"]), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                taken[outcome.args[0]] = isinstance(outcome, Failure), trio.current_time()

    taken: dict[str, tuple[bool, float]] = {}
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9), per_key=limit) as cm:
        handle = await cm.run(consumer, "a")
        with trio.fail_after(99):
            outcome = await handle.wait()
    # As long as other items run, they may free the item: its consumer may have enough.
    if ordered:
        assert taken == {"b": (True, 5), "c": (False, 5), "d": (False, 5)}
    else:  # it is the consumer that closes the ring, when it has taken the others
        assert taken == {"c": (False, 5), "d": (False, 5)}
        assert isinstance(outcome, Failure)
        with pytest.raises(RuntimeError, match=MAP_NEVER):
            raise outcome.error
    assert (limit.statistics(), limit._keys) == ({}, {})


@pytest.mark.parametrize("is_lowered", [False, True])
@each_kind
async def test_who_awaits_a_task_that_comes_back_for_the_key_he_holds(
    is_lowered: bool, limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async def flaky(_: str) -> int:
        calls.append(trio.current_time())
        if is_lowered:
            await trio.sleep(3)
        if len(calls) == 1:
            raise RetriableError("again", retry_config=retry)
        return len(calls)

    async def awaits(_: str) -> None:
        await trio.sleep(1)
        await first.wait()

    calls: list[float] = []
    retry = RetryConfig.linear(initial_delay=5, max_delay=5)
    limit = KeyedLimit(1 + is_lowered, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9), per_key=limit) as cm:
        first, second = cm.start_soon(flaky, "a1"), cm.start_soon(awaits, "a2")
        await trio.sleep(2)
        limit.limit = 1
        with trio.fail_after(20):
            told = await second.wait()
        # At once, or when the other one comes back, and the key is not there.
        assert trio.current_time() == (8 if is_lowered else 2)
    assert isinstance(told, Failure)
    with pytest.raises(RuntimeError, match=HANDLE_NEVER):
        raise told.error
    assert isinstance(first.outcome, Success)
    assert (limit.statistics(), limit._keys) == ({}, {})


@each_kind
async def test_a_map_that_has_drawn_more_than_a_lowered_limit_allows_may_be_in_a_ring(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async def item(name: str) -> None:
        await trio.sleep(2)
        if name == "a0":
            await handle.wait()

    async def consumer(_: str) -> list[bool]:
        async with cm.map(item, [f"a{number}" for number in range(12)]) as outcomes:
            return [isinstance(outcome, Success) async for outcome in outcomes]

    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(4), per_key=limit) as cm:
        handle = cm.start_soon(consumer, "b")
        cm.start_soon(child, "c", 50)
        await trio.sleep(1)
        cm.limit = 3
        with trio.fail_after(30):
            assert await handle.result() == [False] + [True] * 11
        assert trio.current_time() == 24
    assert (limit.statistics(), limit._keys) == ({}, {})
