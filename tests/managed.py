"""What the tests of tasks share: an open manager, both kinds of limits, a clean-up, and a failure."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio

from trio_conman import ConMan, Failure, TaskHandle

MakeLimit: TypeAlias = Callable[[int], int | trio.CapacityLimiter]
each_kind = pytest.mark.parametrize("limit_of", [int, trio.CapacityLimiter])


@asynccontextmanager
async def manager(limit: int | float = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


async def clean_up_after(seconds: float, clean_up: float) -> None:
    try:
        await trio.sleep(seconds)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(clean_up)


def failure(handle: TaskHandle[Any]) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome
