"""What is a task and what is not: the object that the callable returned decides."""

import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from types import coroutine
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, RetriableError, RetryConfig, StopReason

HINT = r"pass fn, \*args, not fn\(\*args\)"


async def job(value: int, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    return value


async def numbers(*args: object) -> AsyncIterator[int]:
    yield 1


def sync(*args: object) -> int:
    return 1


class Awaitables:
    """Many kinds of callables in one place."""

    def __init__(self, value: int = 1) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, int]:
        return job(self.value).__await__()

    async def __call__(self, value: int = 1) -> int:
        return await job(value)

    async def method(self, value: int = 1) -> int:
        return await job(value)

    async def numbers(self) -> AsyncIterator[int]:
        yield 1

    def sync(self) -> int:
        return 1


class OnlyAwaitable:
    def __await__(self) -> Generator[Any, None, int]:
        return job(1).__await__()


class Both:
    """A task that is callable as well."""

    async def __call__(self) -> int:
        return 1

    async def execute(self) -> int:
        raise AssertionError


class Execute:
    async def execute(self) -> int:
        return await job(1)


class LateExecute:
    """Has its method since it was made."""

    def __init__(self) -> None:
        self.execute = partial(job, 1)


class NotAsync:
    def execute(self) -> int:
        return 1


class NotEvenCallable:
    execute = 1


class Numbers:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


def of_generator() -> Any:
    """Make a coroutine in the way of old."""

    @coroutine
    def old() -> Generator[Any, None, int]:
        return (yield from job(1).__await__())

    return old()


def never_awaited() -> None:
    """Let Python warn of every coroutine that was made and not awaited; warnings are errors here."""
    gc.collect(1)  # what is as young as a test; all of it would take long


GOOD: dict[str, tuple[Any, ...]] = {
    "function": (job, 1),
    "partial": (partial(job, 1),),
    "partial of a partial": (partial(partial(job), 1), 0),
    "object": (Awaitables(),),
    "partial of an object": (partial(Awaitables(), 1),),
    "method": (Awaitables().method, 1),
    "partial of a method": (partial(Awaitables().method, value=1),),
    "lambda": (lambda: job(1),),
    "lambda with an argument": (lambda value: job(value, 0), 1),
    "function that returns an awaitable object": (lambda: Awaitables(1),),
    "class of awaitable objects": (Awaitables, 1),
    "function that makes a coroutine of a generator": (of_generator,),
    "task": (Execute(),),
    "method of a task": (Execute().execute,),
    "task with an attribute for a method": (LateExecute(),),
    "task that is callable": (Both(),),
}

# Refused by `run`.
NO_TASK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "number": lambda: 3,
    "text": lambda: "job",
    "coroutine object": lambda: job(1),
    "awaitable object": OnlyAwaitable,
    "async generator object": lambda: numbers(1),
    "object with something else in the place of execute": NotEvenCallable,
    "async generator function": lambda: numbers,
    "partial of an async generator function": lambda: partial(partial(numbers), 1),
    "async generator method": lambda: Awaitables().numbers,
    "list of tasks": lambda: [job],
}

# Accepted, since nobody can tell before the call; then the task fails.
NOT_AWAITABLE: dict[str, tuple[Any, ...]] = {
    "sync function": (sync,),
    "sync function with arguments": (sync, 1, 2),
    "sync method": (Awaitables().sync,),
    "partial of a sync function": (partial(sync, 1),),
    "builtin": (len, "abc"),
    "class": (Execute,),
    "lambda that returns a function": (lambda: job,),
    "lambda that returns an async generator": (lambda: numbers(1),),
    "lambda that returns a task": (lambda: Execute().__class__(),),
    "object whose call is an async generator": (Numbers(),),
    "task that is not async": (NotAsync(),),
    "lambda that returns None": (lambda: None,),
}


def each(table: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", list(table))


each_timeout = pytest.mark.parametrize("attempt_timeout", [math.inf, 5.0])


@each_timeout
@each(GOOD)
async def test_whatever_gives_an_awaitable_is_a_task(
    case: str, attempt_timeout: float, autojump_clock: MockClock
) -> None:
    task, *args = GOOD[case]
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, attempt_timeout=attempt_timeout) as cm:
            await cm.run(task, *args)
            cm.run_nowait(task, *args)
    assert (cm.outputs(), cm.errors()) == ([1, 1], [])


async def by_run(cm: ConMan[int], task: Any) -> None:
    await cm.run(task)


async def by_run_nowait(cm: ConMan[int], task: Any) -> None:
    cm.run_nowait(task)


@pytest.mark.parametrize("enter", [by_run, by_run_nowait])
@each(NO_TASK)
async def test_what_is_no_task_is_refused_with_a_hint(
    case: str, enter: Callable[[ConMan[int], Any], Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(TypeError, match=rf"^task must be an async callable.*{HINT}$"):
            await enter(cm, NO_TASK[case]())
        assert cm.statistics().submitted == 0
        # Both slots are free.
        cm.run_nowait(job, 1)
        cm.run_nowait(job, 2)
    never_awaited()
    assert sorted(cm.outputs()) == [1, 2]


async def test_a_coroutine_object_is_refused_when_no_slot_is_free_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 1)
        await cm.run(job, 2, 1)
        with pytest.raises(TypeError, match=rf"{HINT}$"):
            await cm.run(job(3))  # type: ignore[call-overload]  # the mistake to be told
        assert trio.current_time() == 0
    never_awaited()


async def test_a_coroutine_that_runs_is_refused_and_not_touched(autojump_clock: MockClock) -> None:
    async def submits_itself(cm: ConMan[int]) -> int:
        coro = trio.lowlevel.current_task().coro
        with pytest.raises(TypeError, match=rf"{HINT}$"):
            await cm.run(coro)  # type: ignore[call-overload]  # the mistake to be told
        return await job(1, 1)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(submits_itself, cm)
    assert (cm.outputs(), cm.errors()) == ([1], [])


@each_timeout
@each(NOT_AWAITABLE)
async def test_a_task_that_gives_no_awaitable_fails_and_is_never_retried(
    case: str, attempt_timeout: float, autojump_clock: MockClock
) -> None:
    task, *args = NOT_AWAITABLE[case]
    async with trio.open_nursery() as nursery:
        retry = RetryConfig.none(retry_on=Exception)
        async with ConMan[Any].open(nursery, 2, retry=retry, attempt_timeout=attempt_timeout) as cm:
            handle = await cm.run(task, *args)
            await cm.run(job, 1)
            await cm.run(job, 1)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert type(outcome.error) is TypeError
    assert "cannot be awaited" in str(outcome.error)
    assert (outcome.reason, outcome.retries, outcome.history) == (StopReason.ERROR, 0, ())
    assert cm.outputs() == [1, 1]
    never_awaited()


async def test_also_a_later_attempt_fails_for_good_when_it_gives_no_awaitable(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def first_asks_for_a_retry() -> Any:
        record.append(trio.current_time())
        if len(record) == 1:
            raise RetriableError("once", retry_config=RetryConfig.none(retry_on=Exception))
        return 1

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        await cm.run(first_asks_for_a_retry)
    assert record == [0, 0]
    (outcome,) = cm.outcomes()
    assert isinstance(outcome, Failure)
    assert (type(outcome.error), outcome.reason, outcome.retries) == (TypeError, StopReason.ERROR, 1)


async def test_wrong_arguments_are_the_error_of_the_task(autojump_clock: MockClock) -> None:
    misused: Any = job
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(misused)
        await cm.run(misused, 1, 0, 0, 0)
    assert [type(error) for error in cm.errors()] == [TypeError, TypeError]


async def test_nothing_is_called_for_a_task_that_never_starts(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def call() -> Awaitable[int]:
        record.append("called")
        return job(1)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 2)
        await cm.run(job, 2, 2)
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(call)
        with trio.move_on_after(1):
            await cm.run(call)
        cm.cancel()
        with trio.CancelScope(shield=True), pytest.raises(trio.ClosedResourceError):
            await cm.run(call)
    assert record == []
    never_awaited()


@pytest.mark.parametrize("when", ["before the first step", "in the first step", "later"])
async def test_a_cancelled_task_leaves_no_coroutine_behind(when: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery) as cm:
            for attempt_timeout in (None, 5):
                cm.run_nowait(lambda: job(1, 9), attempt_timeout=attempt_timeout)
            if when != "before the first step":
                await trio.sleep(when == "later")
            cm.cancel()
    assert cm.statistics().cancelled == 2
    never_awaited()
