"""What a `map` keeps alive. The collector is off: what goes, goes by its last reference."""

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, KeyedLimit, RetriableError, RetryConfig


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


async def fail_when_cancelled(thing: Thing) -> NoReturn:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        raise ValueError(thing)  # noqa: B904  # the context is what is tested


def things(alive: weakref.WeakSet[Thing]) -> Iterator[Thing]:
    for _ in range(20):
        yield Thing(alive)


async def async_things(alive: weakref.WeakSet[Thing]) -> AsyncIterator[Thing]:
    for _ in range(20):
        await trio.lowlevel.checkpoint()
        yield Thing(alive)


each_timeout = pytest.mark.parametrize(
    "timeout",
    [
        {**({"task_timeout": 50} if task else {}), **({"attempt_timeout": 50} if attempt else {})}
        for task in (False, True)
        for attempt in (False, True)
    ],
    ids=str,
)


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


@pytest.mark.parametrize("within", [nullcontext, trio.open_nursery])
async def test_consumers_that_have_ended_are_freed(
    within: Callable[[], Any], no_collector: None, autojump_clock: MockClock
) -> None:
    consumers = weakref.WeakSet[Any]()

    async def take(outcomes: AsyncIterator[Any]) -> None:
        consumers.add(trio.lowlevel.current_task())
        async with within():
            await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(trio.sleep, range(1, 11)) as outcomes:
            for _ in range(10):
                async with trio.open_nursery() as consuming:
                    consuming.start_soon(take, outcomes)
            assert not consumers


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


@each_timeout
@pytest.mark.parametrize("per_key", [None, KeyedLimit(1, key=id)])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_errors_that_items_raise_when_their_map_is_left_are_freed(
    timeout: dict[str, Any],
    per_key: KeyedLimit | None,
    is_kept: bool,
    alive: weakref.WeakSet[Thing],
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=per_key) as cm:
        with trio.move_on_after(1) as scope:
            async with cm.map(fail_when_cancelled, things(alive), **timeout):
                await trio.sleep(2 if is_kept else 0.5)
        assert scope.cancelled_caught is is_kept
        assert len(cm.pop_outcomes()) == (2 if is_kept else 0)
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


# A map that was left holds nothing


class Iterable:
    """A source that is no generator."""

    def __init__(self, alive: weakref.WeakSet[Thing]) -> None:
        self.things = [Thing(alive) for _ in range(20)]

    def __iter__(self) -> Iterator[Thing]:
        return iter(self.things)


class AsyncIterable(Iterable):
    async def __aiter__(self) -> AsyncIterator[Thing]:
        for thing in self.things:
            yield thing

    async def aclose(self) -> None:
        pass


def listed(alive: weakref.WeakSet[Thing]) -> list[Thing]:
    return [Thing(alive)]


async def in_a_nursery(alive: weakref.WeakSet[Thing]) -> AsyncIterator[Thing]:
    async with trio.open_nursery():
        for _ in range(20):
            yield Thing(alive)


each_way_to_leave = pytest.mark.parametrize("how", ["end", "break", "error", "scope", "unread"])


@each_timeout
@each_way_to_leave
@pytest.mark.parametrize("item", [keep, fail, fail_twice])
@pytest.mark.parametrize("source", [listed, things, async_things, Iterable, AsyncIterable, in_a_nursery])
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_that_was_left_holds_nothing(
    timeout: dict[str, Any],
    how: str,
    item: Any,
    source: Any,
    ordered: bool,
    alive: weakref.WeakSet[Thing],
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        with suppress(LookupError), trio.move_on_after(5):
            async with cm.map(item, source(alive), ordered=ordered, **timeout) as outcomes:
                if how != "unread":
                    await anext(outcomes)
                if how == "end":
                    async for outcome in outcomes:
                        del outcome
                elif how == "error":
                    raise LookupError
                elif how == "scope":
                    await trio.sleep_forever()
        if how == "scope":
            cm.pop_outcomes()
        # Its iterator is still there.
        assert len(alive) == 0
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def raise_error_async(alive: weakref.WeakSet[Thing]) -> AsyncIterator[Thing]:
    yield Thing(alive)
    yield Thing(alive)
    raise ValueError


class RaisesError(Iterable):
    def __iter__(self) -> Iterator[Thing]:
        yield from self.things[:2]
        raise ValueError


class RaisesErrorAsync(Iterable):
    async def __aiter__(self) -> AsyncIterator[Thing]:
        yield self.things[0]
        yield self.things[1]
        raise ValueError


class RaisesErrorApart(Iterable):
    """Its iterator is a stranger to it, and no generator."""

    def __iter__(self) -> Iterator[Thing]:
        return Draws(self.things)


class Draws:
    def __init__(self, things: list[Thing]) -> None:
        self.left = things[:2]

    def __iter__(self) -> "Draws":
        return self

    def __next__(self) -> Thing:
        if self.left:
            return self.left.pop()
        raise ValueError


class RaisesErrorApartAsync(Iterable):
    def __aiter__(self) -> "DrawsAsync":
        return DrawsAsync(self.things)


class DrawsAsync(Draws):
    async def __anext__(self) -> Thing:
        return next(self)


def leave_a_scope_open(alive: weakref.WeakSet[Thing]) -> Iterator[Thing]:
    yield Thing(alive)
    yield Thing(alive)
    with trio.CancelScope():
        yield Thing(alive)


@pytest.mark.parametrize(
    "source",
    [
        raise_error_async,
        RaisesError,
        RaisesErrorAsync,
        RaisesErrorApart,
        RaisesErrorApartAsync,
        leave_a_scope_open,
    ],
)
@pytest.mark.parametrize("limit", [2, 5])
async def test_an_error_of_the_source_that_is_kept_holds_no_item(
    source: Any, limit: int, alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    kept: list[Exception] = []
    outcomes: Any = None
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        handle = await cm.run(keep, Thing(alive))
        await handle.wait()
        try:
            async with cm.map(keep, source(alive)) as outcomes:
                async for outcome in outcomes:
                    del outcome
        except (ValueError, RuntimeError) as error:
            # What the user's own frames hold is the user's affair.
            traceback = error.__traceback__
            assert traceback is not None
            kept.append(error.with_traceback(traceback.tb_next))
            del traceback
        cm.pop_outcomes()
        del handle
        assert len(kept) == 1
        if source not in (RaisesError, RaisesErrorAsync):  # the frame of its method has `self`
            assert len(alive) == 0
    del kept, outcomes
    assert len(alive) == 0


async def test_an_item_that_never_had_a_slot_goes_with_a_shutdown(
    alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 9)
        async with cm.map(keep, async_things(alive)):
            await wait_all_tasks_blocked()
            assert len(alive) == 1  # drawn, and not started
            nursery.start_soon(cm.shutdown)
            await wait_all_tasks_blocked()
            assert len(alive) == 0


async def test_a_map_that_a_task_has_opened_keeps_nothing_of_that(
    alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async def use(thing: Thing) -> None:
        async with cm.map(keep, async_things(alive)) as outcomes:
            async for _ in outcomes:
                pass

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
        await cm.run(use, Thing(alive))
        await cm.wait()
        assert len(cm.pop_outcomes()) == 1
        assert len(alive) == 0


@each_way_to_leave
@each_timeout
@pytest.mark.parametrize("source", [things, async_things, listed])
async def test_a_manager_whose_maps_were_left_is_freed_when_it_is_dropped(
    how: str,
    timeout: dict[str, Any],
    source: Any,
    alive: weakref.WeakSet[Thing],
    autojump_clock: MockClock,
    standing_check: dict[int, Any],
) -> None:
    objects: list[Any] = []

    async def use() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            for _ in range(10):
                await cm.run(fail, Thing(alive))
            await cm.wait()
            cm.errors()  # else a warning would keep the first of them in the log that pytest keeps
            with suppress(LookupError), trio.move_on_after(5):
                block = cm.map(keep, source(alive), **timeout)
                async with block as outcomes:
                    objects.extend([block, outcomes])
                    if how != "unread":
                        await anext(outcomes)
                    if how == "end":
                        async for _ in outcomes:
                            pass
                    elif how == "error":
                        raise LookupError
                    elif how == "scope":
                        await trio.sleep_forever()
        assert len(alive) >= len(cm.errors()) == 10
        standing_check.popitem()[1].check()

    await use()
    await wait_all_tasks_blocked()
    # What the user has kept keeps nothing.
    assert len(alive) == 0


async def test_a_map_that_was_never_entered_is_freed_when_it_is_dropped(
    alive: weakref.WeakSet[Thing],
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        mapping = cm.map(keep, [Thing(alive)])
        with pytest.warns(RuntimeWarning, match="never entered"):
            del mapping
        assert len(alive) == 0


async def test_what_map_returns_holds_nothing_when_it_was_left(alive: weakref.WeakSet[Thing]) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        block = cm.map(keep, [Thing(alive)])
        async with block as outcomes:
            await anext(outcomes)
        assert len(alive) == 0
        closed = cm.map(keep, [Thing(alive)])
    with suppress(Exception):
        async with closed:
            pytest.fail("never")
    assert len(alive) == 0


@pytest.mark.parametrize("door", ["run", "map"])
async def test_the_error_of_a_deadlock_frees_what_its_task_held(
    door: str, alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async def outer(thing: Thing) -> None:
        await trio.sleep(1)
        if door == "run":
            await cm.run(keep, thing)
            await trio.sleep(1)
        else:
            async with cm.map(keep, [thing]) as outcomes:
                await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(outer, Thing(alive))
        await cm.wait()
        assert [type(error) for error in cm.errors()] == [RuntimeError]
        cm.pop_outcomes()
        await wait_all_tasks_blocked()
        assert len(alive) == 0


@pytest.mark.parametrize("door", ["run", "map"])
async def test_a_wait_inside_of_a_task_that_is_cancelled_frees_what_the_task_held(
    door: str, alive: weakref.WeakSet[Thing], autojump_clock: MockClock
) -> None:
    async def outer(thing: Thing) -> None:
        try:
            if door == "run":
                await cm.run(keep, thing)
            else:
                async with cm.map(keep, [thing]) as outcomes:
                    await anext(outcomes)
        except trio.Cancelled as cancelled:
            raise ValueError("not now") from cancelled

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        await cm.run(trio.sleep, 9)
        handle = await cm.run(outer, Thing(alive))
        await trio.sleep(1)
        handle.cancel()
        await handle.wait()
        del handle
        assert [type(error) for error in cm.errors()] == [ValueError]
        cm.pop_outcomes()
        await wait_all_tasks_blocked()
        assert len(alive) == 0
