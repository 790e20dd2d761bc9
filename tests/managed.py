"""What the tests of tasks share: a manager that is open, and the failure of a task."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_conman import ConMan, Failure, TaskHandle


@asynccontextmanager
async def manager(limit: int | float = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


def failure(handle: TaskHandle[Any]) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome
