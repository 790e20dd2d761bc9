"""An error that has ended a task asks for no more, wherever it is raised again."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn, final

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig, StopReason
from trio_conman._policy.retry import _spent, is_spent, renew, spend
from trio_conman.testing import FlakyTask

AT_ONCE = RetryConfig.none(max_attempts=5)


@asynccontextmanager
async def manager(limit: int | float = 10, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


def failure(handle: Any) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome


class NoSuperError(RetriableError):
    """Its constructor does not call that of `RetriableError`."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host


@attrs.frozen(auto_exc=True)
class FrozenError(RetriableError):
    """Nothing can be assigned to it, not even by Python itself."""

    host: str


@attrs.define(auto_exc=True, eq=True)
class UnhashableError(RetriableError):
    """Equal to others, and in no set."""

    host: str


class NetworkError(RetriableError, ConnectionError):
    """Of a type whose objects have fields in C."""


class FalseError(RetriableError):
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


MESSAGES: dict[str, Callable[[], RetriableError]] = {
    "message": lambda: RetriableError("busy"),
    "no super": lambda: NoSuperError("here", 1),
    "frozen": lambda: FrozenError("here"),
    "unhashable": lambda: UnhashableError("here"),
    "network": lambda: NetworkError("busy"),
    "false": lambda: FalseError("busy"),
}
FORMS: dict[str, Callable[[], Exception]] = {
    **MESSAGES,
    "error inside": lambda: RetriableError(OSError("busy")),
    "twice inside": lambda: RetriableError(RetriableError("busy")),
    "group": lambda: ExceptionGroup("several", [RetriableError("busy"), RetriableError(OSError("busy"))]),
    "deep": lambda: ExceptionGroup("one", [ExceptionGroup("two", [RetriableError("busy")])]),
}
each_message = pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES)
each_form = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@final
class Child:
    """A task that always fails, and counts."""

    def __init__(self, make: Callable[[], Exception]) -> None:
        self.make = make
        self.calls = 0

    async def __call__(self) -> NoReturn:
        self.calls += 1
        raise self.make()


async def by_result(cm: ConMan[Any], child: Callable[[], Awaitable[Any]]) -> None:
    await cm.start_soon(child).result()


async def by_raise(cm: ConMan[Any], child: Child) -> None:
    outcome = await cm.start_soon(child).wait()
    assert isinstance(outcome, Failure)
    raise outcome.error


async def by_raise_errors(cm: ConMan[Any], child: Child) -> None:
    async with manager(retry=AT_ONCE) as inner:
        await inner.run(child)
    inner.raise_errors()


async def by_max_errors(cm: ConMan[Any], child: Child) -> None:
    async with manager(retry=AT_ONCE, max_errors=0) as inner:
        await inner.run(child)


async def by_map(cm: ConMan[Any], child: Child) -> None:
    async with cm.map(lambda _: child(), [1]) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Failure)
            raise outcome.error


@each_form
@pytest.mark.parametrize("parent", [by_result, by_raise, by_raise_errors, by_max_errors, by_map])
async def test_retries_do_not_multiply(
    autojump_clock: MockClock, parent: Callable[..., Any], make: Callable[[], Exception]
) -> None:
    child = Child(make)
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(parent, cm, child)
    assert child.calls == 6
    assert (failure(handle).reason, failure(handle).retries) == (StopReason.ERROR, 0)


@pytest.mark.parametrize(
    "retry_on", [RetriableError, (OSError, RetriableError), lambda error: type(error) is RetriableError]
)
async def test_retry_on_may_still_name_it(autojump_clock: MockClock, retry_on: Any) -> None:
    child = Child(lambda: RetriableError("busy", retry_config=RetryConfig.none(max_attempts=1)))
    async with manager(retry=RetryConfig.none(max_attempts=2, retry_on=retry_on)) as cm:
        handle = await cm.run(by_result, cm, child)
    # By the config of the parent: that of the error is as spent as its wish.
    assert (failure(handle).reason, failure(handle).retries) == (StopReason.RETRIES_EXHAUSTED, 2)
    assert child.calls == 2 * 3


async def test_a_group_that_retry_on_names_takes_nothing_from_spent_leaves(autojump_clock: MockClock) -> None:
    spent = RetriableError("busy", retry_after=1000)
    spend(spent)

    async def task() -> None:
        raise ExceptionGroup("several", [spent, RetriableError("later", retry_after=7)])

    config = RetryConfig.none(max_attempts=1, retry_on=ExceptionGroup)
    async with manager() as cm:
        handle = await cm.run(task, retry=config)
        mixed = await cm.run(task)
    assert [each.delay for each in failure(handle).history] == [7]
    assert failure(mixed).reason is StopReason.ERROR


async def test_it_slows_nobody_down_any_more(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1000)
    spent = RetriableError("busy", retry_after=30)
    spend(spent)

    async def task() -> None:
        raise spent

    async with manager(rate=rate) as cm:
        await cm.run(task)
        await cm.wait()
        assert rate.statistics().paused_for == 0


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"retry": RetryConfig(max_attempts=0)}, StopReason.RETRIES_EXHAUSTED),
        ({"retry": RetryConfig(max_elapsed=0, jitter=False)}, StopReason.MAX_ELAPSED),
        ({"task_timeout": 5}, StopReason.DEADLINE),
        ({"retry": RetryConfig(max_retry_after=1)}, StopReason.RETRY_AFTER),
    ],
)
async def test_whatever_stopped_its_retries(
    autojump_clock: MockClock, options: dict[str, Any], reason: StopReason
) -> None:
    child = Child(lambda: RetriableError("busy", retry_after=10))
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(child, **options)
        again = await cm.run(handle.result)
    assert (failure(handle).reason, failure(again).reason) == (reason, StopReason.ERROR)
    assert failure(again).error is failure(handle).error


async def test_one_that_was_cancelled_while_it_backed_off_is_spent_too(autojump_clock: MockClock) -> None:
    async with manager(retry=RetryConfig.linear(initial_delay=9, max_delay=9)) as cm:
        handle = await cm.run(Child(lambda: RetriableError("busy")))
        await trio.sleep(1)
        handle.cancel()
        again = await cm.run(handle.result)
    assert (failure(handle).reason, failure(again).reason) == (StopReason.CANCELLED, StopReason.ERROR)


async def test_a_new_error_made_of_a_spent_one_asks_anew(autojump_clock: MockClock) -> None:
    async def parent() -> None:
        try:
            await by_result(cm, child)
        except RetriableError as exc:
            raise RetriableError(exc, retry_config=RetryConfig.none(max_attempts=1)) from exc

    child = Child(lambda: RetriableError("busy"))
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(parent)
    assert (failure(handle).reason, failure(handle).retries) == (StopReason.RETRIES_EXHAUSTED, 1)
    assert child.calls == 2 * 6


async def test_an_error_that_was_retried_and_ended_no_task_is_as_good_as_new(
    autojump_clock: MockClock,
) -> None:
    error = RetriableError("busy")
    tasks = [FlakyTask(error, error, "done") for _ in range(3)]
    async with manager(retry=AT_ONCE) as cm:
        for task in tasks:
            await cm.run(task)
    assert cm.outputs() == ["done"] * 3
    assert not is_spent(error)


# The mark


@each_message
def test_the_mark_is_of_the_object_and_not_on_it(make: Callable[[], RetriableError]) -> None:
    error, other = make(), make()
    before = dict(vars(error))
    spend(error)
    assert (is_spent(error), is_spent(other)) == (True, False)
    assert vars(error) == before
    renew(error)
    assert not is_spent(error)


@pytest.mark.parametrize(
    "way",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deep", "pickle"],
)
def test_no_copy_has_it(way: Callable[[Any], Any]) -> None:
    error = RetriableError(OSError("busy"), retry_after=3)
    spend(error)
    copied = way(error)
    assert (is_spent(error), is_spent(copied)) == (True, False)
    assert (str(copied), copied.retry_after) == ("busy", 3)


def test_nothing_is_kept_of_an_error_that_is_gone() -> None:
    gc.collect()
    before = len(_spent)
    for _ in range(1000):
        spend(ExceptionGroup("several", [RetriableError("busy"), RetriableError(OSError())]))
    assert len(_spent) == before


def test_an_error_made_of_itself_is_looked_through_once() -> None:
    error = RetriableError("busy")
    error.err = ExceptionGroup("several", [error, ValueError("x")])
    spend(error)
    assert is_spent(error)
    renew(error)
    assert not is_spent(error)


# One object for several tasks


@each_message
async def test_a_flaky_task_raises_its_error_as_a_new_one_in_each_task(
    autojump_clock: MockClock, make: Callable[[], RetriableError]
) -> None:
    flaky: FlakyTask[str] = FlakyTask(make())
    async with manager(retry=AT_ONCE) as cm:
        for _ in range(3):
            await (await cm.run(flaky)).wait()
    assert len(flaky.calls) == 3 * 6
    assert {each.reason for each in cm.outcomes() if isinstance(each, Failure)} == {
        StopReason.RETRIES_EXHAUSTED
    }


async def test_a_flaky_task_does_not_multiply_retries(autojump_clock: MockClock) -> None:
    flaky: FlakyTask[str] = FlakyTask(RetriableError("busy"))
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(by_result, cm, flaky)
    assert len(flaky.calls) == 6
    assert failure(handle).reason is StopReason.ERROR
