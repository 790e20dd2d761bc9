"""How a manager is opened, what its type parameter does, and its views."""

import math
import random
from contextlib import AbstractAsyncContextManager
from typing import Any, assert_type

import trio

from trio_conman import (
    ConMan,
    ConManClosedError,
    ConManStatistics,
    Failure,
    Outcome,
    RetriableError,
    RetryConfig,
    Success,
    TaskCancelledError,
    TaskHandle,
)


async def length(url: str) -> int:
    return len(url)


async def with_a_parameter(nursery: trio.Nursery) -> None:
    assert_type(ConMan[int].open(nursery), AbstractAsyncContextManager[ConMan[int]])
    async with ConMan[int].open(nursery, limit=20) as cm:
        assert_type(cm, ConMan[int])
        assert_type(await cm.run(length, "url"), TaskHandle[int])
        await cm.wait()
        await cm.wait_running()
    assert_type(cm.outputs(), list[int])
    assert_type(cm.errors(), list[Exception])
    assert_type(cm.outcomes(), list[Success[int] | Failure])
    assert_type(cm.pop_outcomes(), list[Success[int] | Failure])
    outcomes: list[Outcome[int]] = cm.outcomes()
    print(outcomes)


async def without_a_parameter(nursery: trio.Nursery) -> None:
    async with ConMan.open(nursery) as cm:
        assert_type(cm, ConMan[Any])
        assert_type(await cm.run(length, "url"), TaskHandle[Any])
        await cm.run(trio.sleep, 1)
    assert_type(cm.outputs(), list[Any])
    total: int = sum(cm.outputs())
    print(total)


async def annotated(nursery: trio.Nursery, cm: ConMan) -> None:  # a parameter is not needed
    assert_type(cm, ConMan[Any])
    opened: AbstractAsyncContextManager[ConMan[str]] = ConMan.open(nursery)
    async with opened as texts:
        assert_type(texts.outputs(), list[str])


async def every_option(nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
    async with ConMan[int].open(
        nursery,
        5,
        name="pages",
        retry=RetryConfig(),
        attempt_timeout=1,
        task_timeout=2.5,
        timeout=math.inf,
        rng=random.Random(1),
    ):
        pass
    async with (
        ConMan[int].open(nursery, math.inf),
        ConMan[int].open(nursery, limiter, name=None, retry=None, rng=None),
        ConMan[int].open(nursery=nursery, limit=limiter),
    ):
        pass


def views(cm: ConMan[int]) -> None:
    assert_type(cm.name, str)
    assert_type(cm.cancel_scope, trio.CancelScope)
    assert_type(cm.timed_out, bool)
    assert_type(cm.paused, bool)
    assert_type(cm.limit, int | float)
    assert_type(cm.raise_errors(), None)
    assert_type(cm.cancel(), None)
    cm.cancel("reason")
    cm.cancel(reason=None)
    cm.cancel_scope.deadline += 5
    cm.limit = 3
    cm.limit = math.inf
    cm.limit += 1


def statistics(cm: ConMan[int]) -> None:
    numbers = cm.statistics()
    assert_type(numbers, ConManStatistics)
    assert_type(numbers.limit, int | float)
    assert_type(numbers.running, int)
    assert_type(numbers.waiting, int)
    assert_type(numbers.queued, int)
    assert_type(numbers.backing_off, int)
    assert_type(numbers.submitted, int)
    assert_type(numbers.succeeded, int)
    assert_type(numbers.failed, int)
    assert_type(numbers.cancelled, int)
    assert_type(numbers.retries, int)


def errors() -> None:
    closed: trio.ClosedResourceError = ConManClosedError("text")
    several: list[Exception] = [closed, TaskCancelledError("text"), RetriableError("text")]
    print(several)
