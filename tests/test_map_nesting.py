"""Sources of a `map` that yield inside of a cancel scope or a nursery: no scope stack is harmed."""

import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import Any, NoReturn, Self

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, KeyedLimit, Outcome, Success


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def take(outcomes: AsyncIterator[Outcome[Any]], record: list[Any]) -> None:
    async for outcome in outcomes:
        record.append((trio.current_time(), outcome.index, isinstance(outcome, Success)))


# Async sources: what they have open is nested in what the feeder has open.


async def in_a_scope(record: list[Any]) -> AsyncIterator[int]:
    try:
        with trio.fail_after(60):
            for number in range(100):
                yield number
    finally:
        await end(record)


async def in_scopes_that_block(record: list[Any]) -> AsyncIterator[int]:
    try:
        with trio.CancelScope(), trio.CancelScope(shield=True) as inner:
            inner.shield = False
            for number in range(100):
                yield number
                await trio.sleep(0.125)
                if number == 2:
                    await trio.sleep_forever()
    finally:
        await end(record)


async def in_a_nursery(record: list[Any]) -> AsyncIterator[int]:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            for number in range(100):
                yield number
    finally:
        await end(record)


async def in_nurseries(record: list[Any]) -> AsyncIterator[int]:
    async with trio.open_nursery() as outer:
        outer.start_soon(trio.sleep_forever)
        async with aclosing(in_a_nursery(record)) as inner:  # type: ignore[type-var]  # it is a generator
            async for number in inner:
                yield number


class Wrapped:
    """An async iterator that is no generator, around one."""

    def __init__(self, record: list[Any]) -> None:
        self._inner: Any = in_a_nursery(record)

    def __aiter__(self) -> "Wrapped":
        return self

    async def __anext__(self) -> int:
        item: int = await anext(self._inner)
        return item

    async def aclose(self) -> None:
        await self._inner.aclose()


async def end(record: list[Any]) -> None:
    """Write down whether the clean-up of a source is cancelled, and where it runs."""
    try:
        await trio.lowlevel.checkpoint()
    except trio.Cancelled:
        record.append("cancelled")
        raise
    else:
        record.append("closed")


each_source = pytest.mark.parametrize(
    "source", [in_a_scope, in_scopes_that_block, in_a_nursery, in_nurseries, Wrapped]
)
# Where they are stopped: with the first item, at rest with room used up, and inside of the source.
each_moment = pytest.mark.parametrize("moment", [0, 0.5, 1, 3.25, 10])


@each_source
@each_moment
@pytest.mark.parametrize("how", ["break", "scope", "shutdown"])
async def test_a_map_is_stopped_without_harm(
    source: Any, moment: float, how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    closed: list[str] = []
    bystander = trio.Event()

    async def stand_by() -> str:
        await bystander.wait()
        return "unharmed"

    async def consume() -> None:
        with trio.move_on_after(moment if how == "scope" else 50):
            async with cm.map(second, source(closed)) as outcomes:
                if how != "shutdown":
                    await trio.sleep(moment)
                    return
                with pytest.raises(ConManClosedError, match=r"^'conman' is closed"):
                    await take(outcomes, record)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
        other = await cm.run(stand_by)
        async with trio.open_nursery() as consumers:
            consumers.start_soon(consume)
            await trio.sleep(moment)
            if how == "shutdown":
                consumers.start_soon(cm.shutdown)
            await wait_all_tasks_blocked()
            bystander.set()
        assert await other.result() == "unharmed"
    assert all(outcome for *_, outcome in record)
    # Inside of the source it was interrupted, else it ends in peace; not begun, it has nothing to close.
    if closed:
        stuck = source is in_scopes_that_block and (moment == 10 or how == "shutdown")
        assert closed == ["cancelled" if stuck else "closed"] or source is in_scopes_that_block
    assert cm.statistics().failed == cm.statistics().cancelled


@each_source
@pytest.mark.parametrize("how", ["cancel", "outer"])
async def test_a_cancelled_manager_closes_them_in_the_cancelled_state(
    source: Any, how: str, autojump_clock: MockClock
) -> None:
    closed: list[str] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            async with cm.map(second, source(closed)):
                await trio.sleep(5)
                if how == "cancel":
                    cm.cancel()
                else:
                    scope.cancel()
                await trio.sleep_forever()
    # As in plain trio.
    assert closed == ["cancelled"]


async def test_the_deadline_of_a_source_that_rests_is_the_sources_affair(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        with trio.fail_after(5):
            for number in range(10):
                yield number
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        other = await cm.run(trio.sleep, 20)
        async with cm.map(second, items()) as outcomes:
            await trio.sleep(10)  # there is no room for another item, and the deadline passes
            with pytest.raises(trio.TooSlowError):
                await take(outcomes, record)
        assert isinstance(await other.wait(), Success)
    assert len(record) == 4
    assert all(ok for *_, ok in record)


async def test_the_end_of_a_nursery_of_a_source_that_rests_is_the_sources_affair(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def fail() -> NoReturn:
        await trio.sleep(5)
        raise ValueError

    async def items() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            for number in range(10):
                yield number
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        other = await cm.run(trio.sleep, 20)
        async with cm.map(second, items()) as outcomes:
            await trio.sleep(10)
            with pytest.RaisesGroup(ValueError):
                await take(outcomes, record)
        # When it is left instead, the closing has the error.
        with pytest.RaisesGroup(ValueError):
            async with cm.map(second, items()):
                await trio.sleep(10)
        assert isinstance(await other.wait(), Success)
    assert len(record) == 4


async def fail_to_clean_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError


async def fails_at_rest() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_to_clean_up)
        for number in range(100):
            yield number


async def fails_at_rest_among_others() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_to_clean_up)
        nursery.start_soon(trio.sleep_forever)
        for number in range(100):
            yield number


async def fails_inside() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_to_clean_up)
        yield 0


async def fails_inside_among_others() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_to_clean_up)
        yield 0
        await trio.sleep_forever()


async def fails_inside_and_is_interrupted() -> AsyncIterator[int]:
    yield 0
    try:
        await trio.sleep_forever()
    except trio.Cancelled as cancelled:
        raise BaseExceptionGroup("both", [cancelled, KeyError()]) from None


class FailsToClose:
    """Not a generator: it is closed when it has been interrupted."""

    def __init__(self) -> None:
        self._numbers = iter([0])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        for number in self._numbers:
            return number
        await trio.sleep_forever()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_to_clean_up)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


each_that_fails = pytest.mark.parametrize(
    "source",
    [
        fails_at_rest,
        fails_at_rest_among_others,
        fails_inside,
        fails_inside_among_others,
        fails_inside_and_is_interrupted,
        FailsToClose,
    ],
)


@each_that_fails
@pytest.mark.parametrize("how", ["break", "shutdown"])
async def test_what_stopping_a_source_makes_it_raise_is_raised_by_leaving(
    source: Any, how: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        other = await cm.run(trio.sleep, 20)
        with pytest.RaisesGroup(KeyError):
            async with cm.map(second, source()) as outcomes:
                await anext(outcomes)
                if how == "shutdown":
                    nursery.start_soon(cm.shutdown)
                    with pytest.raises(ConManClosedError):
                        await take(outcomes, [])
        assert isinstance(await other.wait(), Success)


@each_that_fails
@pytest.mark.parametrize("how", ["deadline", "surroundings"])
async def test_so_is_what_it_raises_beside_the_end_of_its_manager(
    source: Any, how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    with trio.move_on_after(5 if how == "surroundings" else 99) as around:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2, timeout=5 if how == "deadline" else 99) as cm:
                with pytest.RaisesGroup(KeyError):
                    async with cm.map(second, source()) as outcomes:
                        await take(outcomes, record)
                        await trio.sleep_forever()
    assert (trio.current_time(), cm.timed_out) == (5, not around.cancelled_caught)
    assert record


async def test_it_replaces_no_interrupt_of_a_key(autojump_clock: MockClock) -> None:
    def key(number: int) -> int:
        managers[0].cancel()
        raise KeyboardInterrupt

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2, per_key=KeyedLimit(1, key=key)) as cm:
                managers.append(cm)
                with pytest.RaisesGroup(KeyError):
                    async with cm.map(second, fails_at_rest_among_others()):
                        await trio.sleep_forever()

    managers: list[ConMan[Any]] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(KeyboardInterrupt)[1] is None


async def test_a_map_is_not_complete_after_the_interrupt_of_a_key_while_its_source_is_closed(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Numbers:
        def __init__(self) -> None:
            self._numbers = iter(range(9))

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> int:
            return next(self._numbers)

        async def aclose(self) -> None:
            await trio.sleep(5)
            record.append((trio.current_time(), "closed"))

    def key(number: int) -> int:
        if number == 1:
            raise KeyboardInterrupt
        return number

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2, per_key=KeyedLimit(1, key=key)) as cm:
                async with cm.map(second, Numbers()) as outcomes:
                    with pytest.raises(ConManClosedError):
                        await take(outcomes, record)
                    record.append((trio.current_time(), "cut off"))

    with pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(KeyboardInterrupt)[1] is None
    assert record == [(0, 1, False), (1, 0, True), (1, "cut off"), (5, "closed")]


@pytest.mark.parametrize("where", ["drawing", "drawing, among others", "closing"])
async def test_nor_does_the_cancellation_of_its_closing_replace_an_interrupt(where: str) -> None:
    class Interrupted:
        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> int:
            managers[0].cancel()
            if where == "drawing":
                raise KeyboardInterrupt
            async with trio.open_nursery():
                try:
                    await trio.sleep_forever()
                finally:
                    if where != "closing":
                        raise KeyboardInterrupt
            raise StopAsyncIteration

        async def aclose(self) -> None:
            if where == "closing":
                raise KeyboardInterrupt
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2) as cm:
                managers.append(cm)
                async with cm.map(second, Interrupted()):
                    await trio.sleep_forever()

    managers: list[ConMan[Any]] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(KeyboardInterrupt)[1] is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", [Exception, BaseException])
async def test_a_group_that_closing_a_source_raises_leads_to_no_cycle(kind: type[BaseException]) -> None:
    class Lost(kind):  # type: ignore[misc, valid-type]  # a base by parameter is none to mypy
        pass

    async def loses() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            lost = Lost()
            seen.append(weakref.ref(lost))
            try:
                raise BaseExceptionGroup("", [lost]) from None
            finally:
                del lost

    async def close() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            async with cm.map(second, loses()):
                await wait_all_tasks_blocked()

    seen: list[weakref.ref[Any]] = []
    with suppress(BaseExceptionGroup):
        await close()
    assert [ref() for ref in seen] == [None]


async def test_a_source_that_has_not_begun_when_the_map_is_left(record: list[Any]) -> None:
    async def items() -> AsyncIterator[int]:
        record.append("begun")
        yield 0

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items()):
            pass
    assert record == []


async def test_an_item_that_comes_in_the_tick_of_the_leaving_is_dropped(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        with trio.CancelScope():
            yield 0
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            yield 1
            record.append("never")

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items()):
            await trio.sleep(1.5)
        assert trio.current_time() == 2
        assert cm.statistics().submitted == 1
    assert record == []


# Plain sources: several trio tasks draw from them.


def plain_in_a_scope(record: list[Any]) -> Iterator[int]:
    try:
        yield 0
        yield 1
        yield 2
        with trio.fail_after(60):
            yield 3
            record.append("never")
    finally:
        record.append("closed")


class PlainInAScope:
    """An iterator that cannot be closed."""

    def __init__(self, record: list[Any], end: type[Exception] | None = None) -> None:
        self.drawn = 0
        self.record = record
        self.end = end

    def __iter__(self) -> "PlainInAScope":
        return self

    def __next__(self) -> int:
        self.drawn += 1
        if self.drawn > 3:
            trio.CancelScope(deadline=trio.current_time() + 60).__enter__()
            self.record.append("closed")
            if self.end is not None:
                raise self.end
        return self.drawn - 1


@pytest.mark.parametrize("source", [plain_in_a_scope, PlainInAScope])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("limit", [2, 5])
async def test_a_plain_source_is_blamed_for_its_open_scope(
    source: Any, ordered: bool, limit: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    closed: list[str] = []
    text = r"^items left a cancel scope open: .*; make it an async generator, "
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        other = cm.start_soon(trio.sleep, 20)
        async with cm.map(second, source(closed), ordered=ordered) as outcomes:
            with pytest.raises(RuntimeError, match=text):
                await take(outcomes, record)
        assert closed == ["closed"]
        # Others were not touched, and the manager is as it was.
        async with cm.map(second, range(10)) as outcomes:
            assert [type(outcome) async for outcome in outcomes] == [Success] * 10
        assert isinstance(await other.wait(), Success)
    assert sorted((index, ok) for _, index, ok in record) == [(0, True), (1, True), (2, True)]
    assert cm.errors() == []


@pytest.mark.parametrize("kind", [KeyError, StopIteration])
async def test_a_plain_source_that_ends_with_an_open_scope(
    kind: type[Exception], autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        other = await cm.run(trio.sleep, 20)
        async with cm.map(second, PlainInAScope([], kind)) as outcomes:
            try:
                await take(outcomes, record)
            except KeyError:
                assert kind is KeyError
        assert isinstance(await other.wait(), Success)
    assert len(record) == 3


async def test_what_the_closing_of_a_blamed_source_raises_is_the_cause(autojump_clock: MockClock) -> None:
    def items() -> Iterator[int]:
        try:
            with trio.CancelScope():
                yield 0
        finally:
            raise KeyError

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(second, items()) as outcomes:
            with pytest.raises(RuntimeError, match=r"^items left a cancel scope open: ") as caught:
                await anext(outcomes)
        assert isinstance(caught.value.__cause__, KeyError)


async def test_a_scope_that_is_left_before_the_yield_is_none_of_a_maps_business(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def items() -> Iterator[int]:
        for number in range(5):
            with trio.CancelScope():
                record.append(number)
            yield number

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(second, items()) as outcomes:
            await anext(outcomes)
    assert record
