"""Retries run through a manager: by whose config, and of which errors and groups."""

import logging
import math
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from tests.managed import failure, manager
from tests.retried import Flaky, Scripted, doubling, every, group
from trio_conman import RetriableError, RetryConfig, StopReason

# Whose config


DEFAULT_DELAYS = [0.1, 0.2, 0.4, 0.8, 1.6]


async def delays_of(task: Flaky, *, by_task: RetryConfig | None = None, **options: Any) -> list[float]:
    async with manager(rng=Scripted(1), **options) as cm:
        handle = await cm.run(task, retry=by_task)
    return [each.delay for each in failure(handle).history]


def failing_with(**options: Any) -> Flaky:
    return Flaky(lambda: RetriableError("no", **options), forever=True)


async def test_the_config_is_that_of_the_error_else_of_the_task_else_of_the_manager_else_the_default(
    autojump_clock: MockClock,
) -> None:
    one, two, three = (every(n, max_attempts=n) for n in (1, 2, 3))
    with_own = failing_with(retry_config=one)
    assert await delays_of(with_own, by_task=two, retry=three) == [1]
    assert await delays_of(failing_with(), by_task=two, retry=three) == [2, 2]
    assert await delays_of(failing_with(), retry=three) == [3, 3, 3]
    assert await delays_of(failing_with()) == DEFAULT_DELAYS


@pytest.mark.parametrize(
    "error, delays",
    [
        (lambda: RetriableError("no").with_exponential_backoff(), DEFAULT_DELAYS),
        (lambda: RetriableError("no").with_linear_backoff(), [0.2, 0.4, 0.2 * 3, 0.8, 1]),
        (lambda: RetriableError("no").with_no_backoff(), [0, 0, 0]),
        (lambda: RetriableError("no").with_retry_config(every(9, max_attempts=1)), [9]),
        (lambda: RetriableError("no").with_no_backoff().with_retry_config(every(9, max_attempts=1)), [9]),
    ],
)
async def test_the_methods_of_the_error_choose_its_config(
    autojump_clock: MockClock, error: Callable[[], Exception], delays: list[float]
) -> None:
    assert await delays_of(Flaky(error, forever=True), by_task=every(7)) == pytest.approx(delays)


async def test_the_config_is_looked_up_anew_at_each_failure(autojump_clock: MockClock) -> None:
    task = Flaky(
        RetriableError("by its own", retry_config=every(10)),
        RetriableError("by the task's"),
        RetriableError("by another", retry_config=every(20)),
        ValueError("plain"),
    )
    assert await delays_of(task, by_task=every(1)) == [10, 1, 20]


async def test_what_an_errors_config_retries_holds_for_that_error_only(autojump_clock: MockClock) -> None:
    wide = every(1, retry_on=Exception)
    task = Flaky(RetriableError("no", retry_config=wide), ValueError("plain"), forever=True)
    async with manager() as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1]
    assert failure(handle).reason is StopReason.ERROR


async def test_a_tasks_config_replaces_that_of_the_manager_as_a_whole(autojump_clock: MockClock) -> None:
    task = Flaky(ValueError("plain"), forever=True)
    async with manager(retry=every(1, retry_on=ValueError)) as cm:
        handle = await cm.run(task, retry=every(1))
    assert task.calls == [0]
    assert failure(handle).reason is StopReason.ERROR


async def test_retries_are_counted_over_changing_configs(autojump_clock: MockClock) -> None:
    task = Flaky(
        RetriableError("1", retry_config=every(10)),
        RetriableError("2", retry_config=doubling()),  # its second delay
        RetriableError("3", retry_config=doubling()),  # its third
        RetriableError("4", retry_config=every(10, max_attempts=3)),  # all three are made
    )
    async with manager() as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 10, 12, 16]
    assert failure(handle).reason is StopReason.RETRIES_EXHAUSTED
    assert str(failure(handle).error) == "4"


async def test_retries_after_slow_attempts_count_like_others(autojump_clock: MockClock) -> None:
    calls = 0

    async def task() -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise RetriableError("no")
        await trio.sleep_forever()

    async with manager(retry=every(1, max_attempts=3), attempt_timeout=2) as cm:
        handle = await cm.run(task)
    assert [each.error_type for each in failure(handle).history] == [
        "RetriableError",
        "TooSlowError",
        "RetriableError",
    ]
    assert failure(handle).reason is StopReason.ATTEMPT_TIMEOUT
    assert trio.current_time() == 7


# retry_on


@pytest.mark.parametrize(
    "retry_on, error, retried",
    [
        (ConnectionError, ConnectionResetError(), True),
        (ConnectionError, ValueError(), False),
        ((KeyError, ConnectionError), ConnectionError(), True),
        ((KeyError, ConnectionError), ValueError(), False),
        ((), ValueError(), False),
        (lambda _: True, ValueError(), True),
        (lambda _: False, ValueError(), False),
        (lambda error: isinstance(error, KeyError), KeyError(), True),
        (ConnectionError, RetriableError("always"), True),
        (lambda _: False, RetriableError("always"), True),
        (trio.TooSlowError, trio.TooSlowError(), True),
    ],
)
async def test_retry_on_makes_plain_errors_retriable(
    autojump_clock: MockClock, retry_on: Any, error: Exception, retried: bool
) -> None:
    task = Flaky(error)
    async with manager(retry=every(3, retry_on=retry_on)) as cm:
        await cm.run(task)
    assert task.calls == ([0, 3] if retried else [0])
    assert (cm.outputs(), cm.errors()) == ((["done"], []) if retried else ([], [error]))


async def test_a_predicate_is_given_each_plain_error_itself(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def predicate(error: Exception) -> bool:
        record.append(error)
        return True

    errors = [ValueError("one"), RetriableError("not asked about"), KeyError("two")]
    async with manager(retry=every(1, retry_on=predicate)) as cm:
        await cm.run(Flaky(*errors))
    assert record == [errors[0], errors[2]]
    assert cm.outputs() == ["done"]


async def test_a_delay_from_a_predicate_is_taken_as_it_is(autojump_clock: MockClock) -> None:
    answers: list[bool | float] = [30, 0.5, 1, True]
    config = doubling(jitter=True, max_delay=10, retry_on=lambda _: answers.pop(0))
    task = Flaky(*[ValueError("no")] * 4)
    rng = Scripted(0.5)
    async with manager(retry=config, rng=rng) as cm:
        await cm.run(task)
    # Neither capped nor drawn; the last is the strategy's fourth.
    assert task.calls == [0, 30, 30.5, 31.5, 31.5 + 4]
    assert rng.asked == [(0, 8)]


def raising(_: Exception) -> NoReturn:
    raise LookupError("broken")


@pytest.mark.parametrize(
    "predicate", [raising, lambda _: math.nan, lambda _: -1, lambda _: -math.inf, lambda _: "soon"]
)
async def test_a_broken_predicate_costs_only_the_retry_and_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, predicate: Any
) -> None:
    error = ValueError("the task's own")
    task = Flaky(error, forever=True)
    async with manager(retry=every(1, retry_on=predicate)) as cm:
        handle = await cm.run(task)
        await cm.run(Flaky())
    assert task.calls == [0]
    assert failure(handle).error is error
    assert failure(handle).reason is StopReason.ERROR
    assert error.__context__ is None
    assert cm.outputs() == ["done"]
    assert [(each.name, each.levelno) for each in caplog.records] == [("trio_conman", logging.ERROR)]


# Groups


@pytest.mark.parametrize(
    "retry_on, error, retried",
    [
        (ValueError, group(ValueError(), ValueError()), True),
        (ValueError, group(ValueError(), KeyError()), False),
        (ValueError, group(ValueError(), group(RetriableError("nested"))), True),
        (ValueError, group(RetriableError("deep"), group(group(KeyError()))), False),
        (ExceptionGroup, group(KeyError()), True),
        ((ValueError, ExceptionGroup), group(KeyError()), True),
        (lambda error: isinstance(error, ValueError), group(ValueError(), ValueError()), True),
        (lambda error: isinstance(error, ValueError), group(ValueError(), KeyError()), False),
        (None, group(ValueError()), False),
    ],
)
async def test_a_group_is_retried_when_all_its_leaves_are_or_its_type_is_named(
    autojump_clock: MockClock, retry_on: Any, error: Exception, retried: bool
) -> None:
    task = Flaky(error)
    async with manager(retry=every(3, retry_on=retry_on)) as cm:
        await cm.run(task)
    assert task.calls == ([0, 3] if retried else [0])
    assert cm.errors() == ([] if retried else [error])


async def test_of_the_delays_in_a_group_the_longest_counts(autojump_clock: MockClock) -> None:
    one, five, three = (RetriableError("no", retry_config=every(n)) for n in (1, 5, 3))
    ten = RetriableError("no", retry_config=every(1), retry_after=10)
    task = Flaky(group(one, five, three), group(one, group(ten, five)))
    async with manager() as cm:
        await cm.run(task)
    assert task.calls == [0, 5, 15]


async def test_the_delays_of_a_predicate_for_the_leaves_of_a_group_count_alike(
    autojump_clock: MockClock,
) -> None:
    config = every(1, retry_on=lambda error: float(str(error)))
    task = Flaky(group(ValueError("2"), ValueError("7"), ValueError("0")))
    async with manager(retry=config) as cm:
        await cm.run(task)
    assert task.calls == [0, 7]


async def test_a_group_that_is_retried_no_more_is_the_error_as_it_is(autojump_clock: MockClock) -> None:
    error = group(RetriableError(ValueError("inside")), RetriableError("message"))
    async with manager(retry=every(1, max_attempts=1)) as cm:
        handle = await cm.run(Flaky(error, forever=True))
    assert failure(handle).error is error
    assert failure(handle).reason is StopReason.RETRIES_EXHAUSTED
    assert [each.error_type for each in failure(handle).history] == ["ExceptionGroup"]
