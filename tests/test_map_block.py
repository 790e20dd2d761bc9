"""What `map` returns: a context manager of its own kind, to be entered once."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure

USE = r"use 'async with cm.map\(\.\.\.\) as outcomes:', and in it 'async for outcome in outcomes:'"


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


@pytest.mark.parametrize("times", [0, 1])
async def test_it_is_entered_once(times: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        block = cm.map(second, range(3))
        async with block as outcomes:
            if times:
                assert len([outcome async for outcome in outcomes]) == 3
            else:
                with pytest.raises(RuntimeError, match=rf"^ConMan\.map\(\) was entered twice: {USE}, once"):
                    await block.__aenter__()
                # The first one goes on.
                assert len([outcome async for outcome in outcomes]) == 3
        with pytest.raises(RuntimeError, match=rf"^ConMan\.map\(\) was entered twice: {USE}, once"):
            async with block:
                pytest.fail("never")


async def iterate(block: Any) -> None:
    async for _ in block:
        pytest.fail("never")


async def comprehend(block: Any) -> None:
    assert [outcome async for outcome in block]


async def take_one(block: Any) -> None:
    await anext(block)


async def wait(block: Any) -> None:
    await block


async def iterate_plainly(block: Any) -> None:
    for _ in block:
        pytest.fail("never")


async def take_one_plainly(block: Any) -> None:
    next(block)


async def enter_plainly(block: Any) -> None:
    with block:
        pytest.fail("never")


@pytest.mark.parametrize(
    "use", [iterate, comprehend, take_one, wait, iterate_plainly, take_one_plainly, enter_plainly]
)
async def test_other_uses_are_told_the_right_one(use: Any, record: list[Any]) -> None:
    def items() -> Iterator[int]:
        record.append("drawn")
        yield 0

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(TypeError, match=rf"^ConMan\.map\(\) was used without 'async with': {USE}$"):
            await use(cm.map(second, items()))
    assert record == []


async def test_a_map_that_was_not_entered_is_no_source_of_another(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        inner: Any = cm.map(second, range(3))
        with pytest.raises(TypeError, match=r"^ConMan\.map\(\) was used without 'async with'"):
            async with cm.map(second, inner):
                pytest.fail("never")


async def test_it_may_be_entered_by_a_stack(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with AsyncExitStack() as stack:
            outcomes = await stack.enter_async_context(cm.map(second, range(3)))
            assert len([outcome async for outcome in outcomes]) == 3


# Exceptions that cannot be changed


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


async def test_a_frozen_exception_of_the_body_arrives_as_it_is(autojump_clock: MockClock) -> None:
    error = FrozenError(3)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(FrozenError) as caught:  # noqa: PT012  # leaving the block raises
            async with cm.map(second, range(5)) as outcomes:
                await anext(outcomes)
                raise error
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)


@pytest.mark.parametrize("kind", ["plain", "async", "closing"])
async def test_a_frozen_exception_of_the_source_arrives_as_it_is(
    kind: str, autojump_clock: MockClock
) -> None:
    error = FrozenError(4)

    def plain() -> Iterator[int]:
        yield 0
        raise error

    async def asynchronous() -> Any:
        yield 0
        raise error

    async def closing() -> Any:
        try:
            yield 0
            yield 1
            await trio.sleep_forever()
        finally:
            raise error

    sources: dict[str, Any] = {"plain": plain, "async": asynchronous, "closing": closing}
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(FrozenError) as caught:  # noqa: PT012  # leaving the block raises
            async with cm.map(second, sources[kind]()) as outcomes:
                for _ in range(2 if kind == "closing" else 3):
                    await anext(outcomes)
    assert caught.value is error


async def test_a_frozen_exception_of_an_item_is_its_outcome(autojump_clock: MockClock) -> None:
    async def fail(value: int) -> None:
        raise FrozenError(value)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(fail, [1, 2], ordered=True) as outcomes:
            errors = [outcome.error async for outcome in outcomes if isinstance(outcome, Failure)]
    assert errors == [FrozenError(1), FrozenError(2)]
