"""What the tests of tasks share: a manager that is open, both kinds of limits, and the failure of a task."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio

from trio_conman import ConMan, Failure, TaskHandle

MakeLimit: TypeAlias = Callable[[int], int | trio.CapacityLimiter]


def own(tokens: int) -> int:
    return tokens


each_kind = pytest.mark.parametrize("limit_of", [own, trio.CapacityLimiter])


@asynccontextmanager
async def manager(limit: int | float = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


def failure(handle: TaskHandle[Any]) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome
