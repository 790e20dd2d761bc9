"""Bodies that are left by groups: those nested deeper than the stack, and those that cannot be split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pytest
import trio

from trio_conman import ConMan, ConManClosedError, TaskHandle


def nested(error: Exception) -> Exception:
    """As many nurseries around each other would make it."""
    for _ in range(3000):
        error = ExceptionGroup("from a nursery", [error])
    return error


@pytest.mark.parametrize("is_closed", [False, True])
async def test_a_nested_group_leaves_the_block_as_it_is(is_closed: bool, nursery: trio.Nursery) -> None:
    error, is_same = nested(KeyError("mine")), False
    handles: list[TaskHandle[None]] = []
    try:
        async with ConMan[None].open(nursery, 2) as cm:
            handles.append(cm.start_soon(trio.sleep_forever))
            if is_closed:
                await cm.shutdown(grace=0)
            raise error
    except Exception as raised:
        is_same = raised is error  # as a name of its own: pytest must not print such a thing
    assert is_same
    assert [handle.state for handle in handles] == ["done"]
    assert not nursery.child_tasks


async def test_a_nested_group_leaves_a_map_as_it_is(nursery: trio.Nursery) -> None:
    error, is_same = nested(KeyError("mine")), False
    async with ConMan[None].open(nursery, 2) as cm:
        try:
            async with cm.map(trio.sleep, [1, 1]):
                raise error
        except Exception as raised:
            is_same = raised is error
        assert is_same
        assert cm.statistics().running == 0


async def test_a_nested_group_of_its_own_end_ends_the_block_quietly(nursery: trio.Nursery) -> None:
    async with ConMan[None].open(nursery, 2) as cm:
        await cm.shutdown()
        try:
            cm.start_soon(trio.sleep, 1)
        except ConManClosedError as closed:
            raise nested(closed) from None


async def test_a_group_that_cannot_be_split_ends_the_manager_all_the_same(nursery: trio.Nursery) -> None:
    class Odd(BaseExceptionGroup[BaseException]):
        def derive(self, _: Sequence[Any], /) -> NoReturn:
            raise KeyError("mine")

    async def leave() -> None:
        async with ConMan[None].open(nursery, 2) as cm:
            await cm.shutdown()
            with pytest.raises(ConManClosedError) as closed:
                cm.start_soon(trio.sleep, 1)
            scope = trio.CancelScope()
            scope.cancel()
            with scope, pytest.raises(trio.Cancelled) as cancelled:
                await trio.sleep_forever()
            raise Odd("cannot be split", [closed.value, cancelled.value])

    with pytest.raises(KeyError, match="mine"):
        await leave()
    assert not nursery.child_tasks
