"""How the input of a `map` is closed."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan


class OddError(Exception):
    """What the closing raises."""


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def take(outcomes: AsyncIterator[Any], record: list[Any]) -> None:
    record.extend([(trio.current_time(), outcome.index) async for outcome in outcomes])


class Closable:
    """An iterable, of either kind, that has what a stream has."""

    def __init__(self, record: list[Any], *, error: Exception | None = None) -> None:
        self.record = record
        self.error = error
        self.drawn = 0

    def close(self) -> None:
        self.record.append("close")

    async def aclose(self) -> None:
        await trio.sleep(1)
        self.record.append("aclose")
        if self.error is not None:
            raise self.error


class PlainClosable(Closable):
    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


class AsyncClosable(Closable):
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        self.drawn += 1
        if self.drawn > 5:
            raise StopAsyncIteration
        return self.drawn - 1


class AsyncClosableApart(Closable):
    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(5):
                yield number
        finally:
            self.record.append("generator")


each_closable = pytest.mark.parametrize(
    "kind, closed",
    [
        (PlainClosable, ["aclose"]),
        (AsyncClosable, ["aclose"]),
        (AsyncClosableApart, ["generator", "aclose"]),
    ],
)


@each_closable
@pytest.mark.parametrize("early", [False, True])
async def test_items_that_have_aclose_are_closed(
    kind: type[Closable], closed: list[str], early: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    items: Any = kind(record)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, items) as outcomes:
            if early:
                await anext(outcomes)
            else:
                await take(outcomes, [])
        assert record == closed


async def test_items_that_have_ended_are_closed_in_peace_though_the_map_is_left_meanwhile(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    items = AsyncClosable(record)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 10) as cm:
        async with cm.map(second, items):
            await trio.sleep(0.5)
            assert (items.drawn, record) == (6, [])
        assert record == ["aclose"]
    assert trio.current_time() == 1


@each_closable
async def test_an_error_in_closing_is_raised_by_leaving(
    kind: type[Closable], closed: list[str], autojump_clock: MockClock, record: list[Any]
) -> None:
    error = OddError()
    items: Any = kind(record, error=error)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(OddError) as caught:
            async with cm.map(second, items) as outcomes:
                await anext(outcomes)
        assert record == closed
    assert caught.value is error


def close_fails(error: Exception) -> Iterator[int]:
    try:
        yield from range(5)
    finally:
        raise error


async def close_fails_async(error: Exception) -> AsyncIterator[int]:
    try:
        for number in range(5):
            yield number
    finally:
        await trio.lowlevel.checkpoint()
        raise error


class PlainFails(Closable):
    def __iter__(self) -> Iterator[int]:
        return close_fails(OddError())


class AsyncFails(Closable):
    def __aiter__(self) -> AsyncIterator[int]:
        return close_fails_async(OddError())


@pytest.mark.parametrize("kind", [PlainFails, AsyncFails])
async def test_items_are_closed_also_where_their_generator_raises(
    kind: type[Closable], autojump_clock: MockClock, record: list[Any]
) -> None:
    items: Any = kind(record)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(OddError):
            async with cm.map(second, items) as outcomes:
                await anext(outcomes)
        assert record == ["aclose"]


@pytest.mark.parametrize("source", [close_fails, close_fails_async])
async def test_a_generator_that_raises_in_its_finally(source: Any, autojump_clock: MockClock) -> None:
    error = OddError()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(OddError) as caught:
            async with cm.map(second, source(error)) as outcomes:
                await anext(outcomes)
    assert caught.value is error
    assert trio.current_time() == 1


async def test_a_file_is_left_alone(tmp_path: Path, record: list[Any]) -> None:
    async def strip(line: str) -> str:
        return line.strip()

    path = tmp_path / "lines"
    path.write_text("a\nb\nc\nd\n", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
            async with cm.map(strip, file, ordered=True) as outcomes:
                async for outcome in outcomes:
                    record.append(outcome.index)
                    if len(record) == 2:
                        break
        assert not file.closed
    assert record == [0, 1]


async def test_an_iterator_with_close_that_is_no_generator_is_left_alone(record: list[Any]) -> None:
    class Reader(PlainClosable):
        aclose = None  # type: ignore[assignment]  # it has none

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, Reader(record)):
            pass
    assert record == []
