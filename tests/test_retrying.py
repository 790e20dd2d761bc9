"""Retries run through a manager: when, by whose config, with which slot, and what stops them."""

import contextvars
import logging
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    Failure,
    Outcome,
    RetriableError,
    RetriedError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)


@asynccontextmanager
async def manager(limit: int | float = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


def failure(handle: TaskHandle[Any]) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome


def doubling(**overrides: Any) -> RetryConfig:
    """Delays of 1, 2, 4, … seconds."""
    return RetryConfig.exponential(
        **({"initial_delay": 1, "max_delay": math.inf, "jitter": False} | overrides)
    )


def every(seconds: float, **overrides: Any) -> RetryConfig:
    return RetryConfig.linear(
        **({"initial_delay": seconds, "max_delay": seconds, "backoff_factor": 0} | overrides)
    )


class Flaky:
    """Raises the errors given, one in each call, then returns; notes the times of the calls.

    An error may be given as a function that makes it; the last of them may be repeated for ever.
    """

    def __init__(
        self, *errors: Exception | Callable[[], Exception], forever: bool = False, seconds: float = 0
    ) -> None:
        self.errors = errors
        self.forever = forever
        self.seconds = seconds
        self.calls: list[float] = []

    async def __call__(self) -> str:
        number = len(self.calls)
        self.calls.append(trio.current_time())
        await trio.sleep(self.seconds)
        if number >= len(self.errors):
            if not self.forever:
                return "done"
            number = -1
        error = self.errors[number]
        raise error if isinstance(error, Exception) else error()


def always(**options: Any) -> Flaky:
    return Flaky(lambda: RetriableError("no"), forever=True, **options)


class Scripted(random.Random):
    """Draws the parts given of each interval, the last of them for ever; notes what it was asked for."""

    def __init__(self, *parts: float) -> None:
        super().__init__()
        self.parts = list(parts)
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        part = self.parts.pop(0) if len(self.parts) > 1 else self.parts[0]
        return a + part * (b - a)


# When, and how often


@pytest.mark.parametrize(
    "config, calls",
    [
        (doubling(max_attempts=1), [0, 1]),
        (doubling(max_attempts=2), [0, 1, 3]),
        (doubling(max_attempts=3), [0, 1, 3, 7]),
        (doubling(max_attempts=6, max_delay=5), [0, 1, 3, 7, 12, 17, 22]),
        (doubling(max_attempts=3, initial_delay=8, backoff_factor=0.5), [0, 8, 12, 14]),
        (RetryConfig.linear(max_attempts=3, initial_delay=2, max_delay=5), [0, 2, 6, 11]),
        (RetryConfig.none(), [0, 0, 0, 0]),
        (doubling(max_attempts=4, initial_delay=0), [0, 0, 0, 0, 0]),
    ],
)
async def test_a_task_that_always_fails_runs_once_and_then_max_attempts_times(
    autojump_clock: MockClock, config: RetryConfig, calls: list[float]
) -> None:
    task = always()
    async with manager(retry=config) as cm:
        handle = await cm.run(task)
        outcome = await handle.wait()
        assert trio.current_time() == calls[-1]  # no sleep after the last
    assert task.calls == calls
    assert isinstance(outcome, Failure)
    assert outcome.reason is StopReason.RETRIES_EXHAUSTED
    assert outcome.retries == handle.retries == cm.statistics().retries == len(calls) - 1
    assert [each.delay for each in outcome.history] == [later - now for now, later in pairwise(calls)]
    assert outcome.elapsed == calls[-1]


async def test_retries_without_limit_go_on_until_success(autojump_clock: MockClock) -> None:
    task = Flaky(*[RetriableError("no")] * 3)
    async with manager(retry=doubling(max_attempts=math.inf)) as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1, 3, 7]
    assert cm.outputs() == ["done"]
    assert isinstance(handle.outcome, Success)
    assert (handle.outcome.retries, handle.outcome.elapsed) == (3, 7)


async def test_a_long_outage_does_not_overflow(autojump_clock: MockClock) -> None:
    task = Flaky(*[lambda: RetriableError("no")] * 1999)
    async with manager(retry=doubling(max_attempts=math.inf, max_delay=5)) as cm:
        await cm.run(task)
    assert len(task.calls) == 2000
    assert trio.current_time() == 9987
    assert cm.outputs() == ["done"]


async def test_the_time_of_the_attempts_comes_on_top_of_the_delays(autojump_clock: MockClock) -> None:
    task = always(seconds=3)
    async with manager(retry=doubling(max_attempts=2)) as cm:
        await cm.run(task)
    assert task.calls == [0, 4, 9]
    assert trio.current_time() == 12


async def test_the_arguments_are_given_to_each_attempt(autojump_clock: MockClock, record: list[Any]) -> None:
    async def task(*args: object) -> None:
        record.append(args)
        raise RetriableError("no")

    marker = object()
    async with manager(retry=RetryConfig.none(max_attempts=2)) as cm:
        handle = await cm.run(task, marker, 2)
    assert record == [(marker, 2)] * 3
    assert failure(handle).args == (marker, 2)


async def test_an_object_with_execute_is_executed_again(autojump_clock: MockClock, record: list[Any]) -> None:
    class Job:
        async def execute(self) -> str:
            record.append(self)
            if len(record) < 3:
                raise RetriableError("no", retry_config=every(1))
            return "done"

    job = Job()
    async with manager() as cm:
        await cm.run(job)
    assert record == [job] * 3
    assert cm.outputs() == ["done"]


async def test_a_callable_whose_result_cannot_be_awaited_is_not_retried(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def plain() -> Any:
        record.append("called")

    async with manager(retry=RetryConfig.none(retry_on=Exception)) as cm:
        handle = await cm.run(plain)
        timed = await cm.run(plain, attempt_timeout=9)
    assert record == ["called"] * 2
    for each in (handle, timed):
        assert isinstance(failure(each).error, TypeError)
        assert failure(each).reason is StopReason.ERROR


async def test_waiting_and_leaving_the_block_wait_for_retries(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(retry=every(5)) as cm:
        await cm.run(Flaky(RetriableError("no")))
        await trio.sleep(1)
        statistics = cm.statistics()
        assert (statistics.running, statistics.backing_off, statistics.retries) == (0, 1, 0)
        await cm.wait()
        record.append(trio.current_time())
        await cm.run(Flaky(RetriableError("no")))
    record.append(trio.current_time())
    assert record == [5, 10]
    assert cm.outputs() == ["done", "done"]


async def test_a_handle_shows_where_its_retries_stand(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(retry=every(4)) as cm:
        handle = await cm.run(Flaky(RetriableError("no"), seconds=2))
        for moment in (1, 3, 7, 9):
            await trio.sleep_until(moment)
            record.append((handle.state, handle.retries, cm.statistics().retries))
    assert record == [("running", 0, 0), ("backing_off", 0, 0), ("running", 1, 1), ("done", 1, 1)]


# What is left of the errors


async def test_the_error_of_a_failure_is_the_one_inside_or_the_message_itself(
    autojump_clock: MockClock,
) -> None:
    real = ValueError("real")
    message = RetriableError("message", retry_config=RetryConfig.none())
    async with manager() as cm:
        inside = await cm.run(Flaky(RetriableError(real).with_no_backoff(), forever=True))
        itself = await cm.run(Flaky(message, forever=True))
    assert failure(inside).error is real
    assert failure(itself).error is message


async def test_history_tells_each_retried_error_as_texts(autojump_clock: MockClock) -> None:
    class WordlessError(Exception):
        def __str__(self) -> NoReturn:
            raise RuntimeError("no words")

    task = Flaky(
        RetriableError(ValueError("one")),
        RetriableError("two"),
        KeyError("three"),
        WordlessError(),
        ZeroDivisionError("last"),
    )
    config = doubling(retry_on=(KeyError, WordlessError))
    async with manager(retry=config) as cm:
        handle = await cm.run(task)
    assert type(failure(handle).error) is ZeroDivisionError
    history = failure(handle).history
    assert history[:3] == (
        RetriedError("ValueError", "one", 1),
        RetriedError("RetriableError", "two", 2),
        RetriedError("KeyError", "'three'", 4),
    )
    assert [(each.error_type.rpartition(".")[2], each.delay) for each in history[3:]] == [
        ("WordlessError", 8)
    ]
    assert isinstance(history[3].message, str)


# Jitter


async def seeded_run(seed: int) -> list[float]:
    started = trio.current_time()
    tasks = [always() for _ in range(3)]
    async with manager(9, retry=RetryConfig(initial_delay=1, max_delay=16), rng=random.Random(seed)) as cm:
        for index, task in enumerate(tasks):
            # Staggered: what draws first in one tick is left to chance.
            await trio.sleep_until(started + 1000 * index)
            await cm.run(task)
    return [call - started for task in tasks for call in task.calls]


async def test_the_same_seed_gives_the_same_run_and_the_global_random_state_is_left_alone(
    autojump_clock: MockClock,
) -> None:
    state = random.getstate()
    first = await seeded_run(7)
    await trio.sleep_until(100_000)
    second = await seeded_run(7)
    await trio.sleep_until(200_000)
    third = await seeded_run(8)
    assert first == pytest.approx(second)
    assert first != pytest.approx(third)
    async with manager() as cm:
        await cm.run(always())
    # The generator of trio's scheduler is one of its own.
    assert random.getstate() == state


async def test_jitter_draws_from_zero_to_the_capped_delay(autojump_clock: MockClock) -> None:
    rng = Scripted(0.5, 1, 0, 0.25)
    task = always()
    async with manager(retry=doubling(jitter=True, max_attempts=4, max_delay=4), rng=rng) as cm:
        handle = await cm.run(task)
    assert rng.asked == [(0, 1), (0, 2), (0, 4), (0, 4)]
    assert task.calls == [0, 0.5, 2.5, 2.5, 3.5]
    assert [each.delay for each in failure(handle).history] == [0.5, 2, 0, 1]


class BrokenRandom(random.Random):
    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.draw = draw

    def uniform(self, a: float, b: float) -> float:
        return self.draw()


@pytest.mark.parametrize("draw", [lambda: 1 / 0, lambda: math.nan, lambda: -1.0, lambda: 99.0])
async def test_a_broken_source_of_jitter_costs_only_the_jitter(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, draw: Callable[[], float]
) -> None:
    task = Flaky(RetriableError("no"))
    async with manager(retry=doubling(jitter=True), rng=BrokenRandom(draw)) as cm:
        await cm.run(task)
    assert task.calls == [0, 1]
    assert cm.outputs() == ["done"]
    assert [(each.name, each.levelno) for each in caplog.records] == [("trio_conman", logging.ERROR)]


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


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


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


# retry_after


async def test_retry_after_is_a_floor_that_no_cap_lowers(autojump_clock: MockClock) -> None:
    task = Flaky(
        RetriableError("longer", retry_after=7),
        RetriableError("shorter", retry_after=1),
        RetriableError("as much as allowed", retry_after=60),
    )
    async with manager(retry=every(2)) as cm:
        await cm.run(task)
    assert task.calls == [0, 7, 9, 69]
    assert cm.outputs() == ["done"]


async def test_jitter_does_not_shorten_retry_after(autojump_clock: MockClock) -> None:
    task = Flaky(RetriableError("no", retry_after=3))
    async with manager(retry=doubling(jitter=True), rng=Scripted(0)) as cm:
        await cm.run(task)
    assert task.calls == [0, 3]


async def test_a_longer_retry_after_than_allowed_fails_the_task(autojump_clock: MockClock) -> None:
    real = ValueError("real")
    task = Flaky(RetriableError(real, retry_after=5.5), forever=True)
    async with manager(retry=every(2, max_retry_after=5)) as cm:
        handle = await cm.run(task)
    assert task.calls == [0]
    assert failure(handle).error is real
    assert failure(handle).reason is StopReason.RETRY_AFTER


# What stops the retries


@pytest.mark.parametrize(
    "max_elapsed, calls, reason",
    [
        (1.5, [0, 1], StopReason.MAX_ELAPSED),
        (6.5, [0, 1, 3], StopReason.MAX_ELAPSED),
        (7, [0, 1, 3, 7], StopReason.MAX_ELAPSED),
        (math.inf, [0, 1, 3, 7, 15, 31], StopReason.RETRIES_EXHAUSTED),
        (0, [0], StopReason.MAX_ELAPSED),
    ],
)
async def test_no_delay_is_begun_that_ends_later_than_max_elapsed(
    autojump_clock: MockClock, max_elapsed: float, calls: list[float], reason: StopReason
) -> None:
    task = always()
    async with manager(retry=doubling(max_elapsed=max_elapsed)) as cm:
        handle = await cm.run(task)
    assert task.calls == calls
    assert trio.current_time() == calls[-1]
    assert failure(handle).reason is reason


async def test_max_elapsed_counts_from_the_start_of_the_first_attempt(autojump_clock: MockClock) -> None:
    task = always(seconds=2)
    async with manager(retry=every(1, max_elapsed=7)) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 10)
        handle = await cm.run(task)  # waits 10 seconds for its slot
    assert task.calls == [10, 13, 16]
    assert failure(handle).reason is StopReason.MAX_ELAPSED
    assert (failure(handle).waited, failure(handle).elapsed) == (10, 8)


@pytest.mark.parametrize("whose", ["task", "manager", "outer"])
@pytest.mark.parametrize(
    "deadline, calls",
    [(0.5, [0]), (1, [0]), (1.5, [0, 1]), (3, [0, 1]), (3.5, [0, 1, 3])],
)
async def test_no_delay_is_begun_that_does_not_end_before_the_deadline(
    autojump_clock: MockClock, whose: str, deadline: float, calls: list[float]
) -> None:
    real = ValueError("real")
    task = Flaky(RetriableError(real), forever=True)
    with trio.move_on_after(deadline if whose == "outer" else math.inf) as outer:
        async with manager(timeout=deadline if whose == "manager" else math.inf) as cm:
            handle = await cm.run(task, retry=doubling(), task_timeout=deadline if whose == "task" else None)
    assert task.calls == calls
    assert failure(handle).error is real
    assert failure(handle).reason is StopReason.DEADLINE
    assert failure(handle).elapsed == trio.current_time() == calls[-1]
    assert not outer.cancelled_caught and not cm.timed_out


async def test_the_delay_that_was_drawn_is_the_one_that_must_end_in_time(autojump_clock: MockClock) -> None:
    task = always()
    async with manager(retry=every(4, jitter=True), task_timeout=5, rng=Scripted(0.25, 0.75, 1)) as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1, 4]
    assert failure(handle).reason is StopReason.DEADLINE


async def test_retry_after_and_delays_of_predicates_must_end_in_time_too(autojump_clock: MockClock) -> None:
    config = every(1, retry_on=lambda _: 30)
    async with manager(timeout=20) as cm:
        asked = await cm.run(Flaky(RetriableError("no", retry_after=30)))
        chosen = await cm.run(Flaky(ValueError("no")), retry=config)
    assert failure(asked).reason is failure(chosen).reason is StopReason.DEADLINE
    assert trio.current_time() == 0


async def test_the_callers_deadline_is_none_of_the_tasks(autojump_clock: MockClock) -> None:
    task = Flaky(RetriableError("no"))
    async with manager(retry=every(5)) as cm:
        with trio.move_on_after(1):
            await cm.run(task)
    assert task.calls == [0, 5]


@pytest.mark.parametrize(
    "allowed, reason",
    [
        ({}, StopReason.RETRIES_EXHAUSTED),
        ({"max_attempts": 9}, StopReason.RETRY_AFTER),
        ({"max_attempts": 9, "max_retry_after": 99}, StopReason.MAX_ELAPSED),
        ({"max_attempts": 9, "max_retry_after": 99, "max_elapsed": 99}, StopReason.DEADLINE),
    ],
)
async def test_of_several_reasons_the_first_in_order_is_given(
    autojump_clock: MockClock, allowed: dict[str, Any], reason: StopReason
) -> None:
    strict: dict[str, Any] = {"max_attempts": 1, "max_retry_after": 5, "max_elapsed": 9}
    task = Flaky(RetriableError("no"), RetriableError("asks for too much", retry_after=20))
    async with manager(retry=every(1, **(strict | allowed)), task_timeout=15) as cm:
        handle = await cm.run(task)
    assert task.calls == [0, 1]
    assert failure(handle).reason is reason


# Cancelling


@pytest.mark.parametrize("hold_slot", [False, True])
async def test_cancelling_ends_a_backoff_at_once(autojump_clock: MockClock, hold_slot: bool) -> None:
    task = always()
    async with manager(retry=every(30, hold_slot=hold_slot)) as cm:
        handle = await cm.run(task)
        await trio.sleep(2)
        handle.cancel()
        await handle.wait()
        assert trio.current_time() == 2
    assert task.calls == [0]
    assert trio.current_time() == 2
    assert (type(failure(handle).error), failure(handle).reason) == (RetriableError, StopReason.CANCELLED)


async def test_cancelling_ends_the_wait_for_a_slot_after_a_backoff(autojump_clock: MockClock) -> None:
    task = always()
    async with manager() as cm:
        first = await cm.run(trio.sleep, 9)
        handle = await cm.run(task, retry=every(1))
        await cm.run(trio.sleep, 9)
        await trio.sleep(3)
        handle.cancel()
        assert (await handle.wait()).elapsed == 3
        assert first.state == "running"
    assert task.calls == [0]
    assert trio.current_time() == 9
    assert failure(handle).reason is StopReason.CANCELLED


async def test_a_task_can_be_cancelled_between_retries_without_delay(autojump_clock: MockClock) -> None:
    calls = 0

    async def task() -> NoReturn:
        nonlocal calls
        calls += 1
        if calls == 5:
            handle.cancel()
        raise RetriableError("no")

    async with manager(retry=RetryConfig.none(max_attempts=math.inf)) as cm:
        handle = cm.run_nowait(task)
    assert calls == 5
    assert isinstance(failure(handle).error, RetriableError)


async def test_retries_without_delay_let_others_run(autojump_clock: MockClock, record: list[Any]) -> None:
    async def at_once() -> NoReturn:
        raise RetriableError("no")

    async def other() -> None:
        record.append(flaky.retries)

    async with manager(retry=RetryConfig.none(max_attempts=1000)) as cm:
        flaky = cm.run_nowait(at_once)
        await cm.run(other)
    assert record[0] < 1000


# Slots


async def parked(cm: ConMan[Any]) -> TaskHandle[Any]:
    """Occupies one slot, until it is cancelled."""
    handle: TaskHandle[Any] = await cm.run(trio.sleep_forever)
    return handle


@pytest.mark.parametrize("hold_slot, start_of_other", [(False, 0), (True, 10)])
async def test_a_task_that_backs_off_gives_its_slot_to_others_unless_it_holds_it(
    autojump_clock: MockClock, hold_slot: bool, start_of_other: float
) -> None:
    flaky, other = Flaky(RetriableError("no")), Flaky(seconds=1)
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky, retry=every(10, hold_slot=hold_slot))
        await cm.run(other)
        await trio.sleep_until(20)
        park.cancel()
    assert flaky.calls == [0, 10]
    assert other.calls == [start_of_other]


async def test_one_error_in_a_group_that_holds_the_slot_is_enough(autojump_clock: MockClock) -> None:
    configs = every(10), every(1, hold_slot=True)
    flaky = Flaky(group(*(RetriableError("no", retry_config=config) for config in configs)))
    other = Flaky()
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky)
        await cm.run(other)
        park.cancel()
    assert flaky.calls == [0, 10]
    assert other.calls == [10]


@pytest.mark.parametrize(
    "config",
    [
        RetryConfig.none(max_attempts=2),
        doubling(initial_delay=0, max_attempts=2),
        every(9, max_attempts=2, retry_on=lambda _: 0),
        every(9, max_attempts=2, retry_on=lambda _: 0.0),
    ],
)
async def test_a_delay_of_zero_keeps_the_slot(autojump_clock: MockClock, config: RetryConfig) -> None:
    error = RetriableError if config.retry_on is None else ValueError
    flaky, other = Flaky(lambda: error("no"), forever=True, seconds=1), Flaky()
    async with manager() as cm:
        park = await parked(cm)
        await cm.run(flaky, retry=config)
        await cm.run(other)
        park.cancel()
    assert flaky.calls == [0, 1, 2]
    assert other.calls == [3]


async def test_tasks_back_from_their_backoff_and_those_in_the_line_take_turns(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def job(name: str, seconds: float) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(seconds)

    async def flaky(name: str, delay: float) -> None:
        again = name in [each for each, _ in record]
        record.append((name, trio.current_time()))
        if not again:
            raise RetriableError("no", retry_config=every(delay))

    async with manager() as cm, trio.open_nursery() as callers:
        park = await parked(cm)
        await cm.run(flaky, "late", 3)
        await cm.run(flaky, "early", 2)
        await cm.run(job, "long", 5)
        for name in ("first", "second"):
            callers.start_soon(cm.run, job, name, 1)
            await wait_all_tasks_blocked()
        await trio.sleep_until(10)
        park.cancel()
    assert record == [
        ("late", 0),
        ("early", 0),
        ("long", 0),
        ("early", 5),
        ("first", 5),
        ("late", 6),
        ("second", 6),
    ]


@pytest.mark.parametrize("limit", [3, 300])
async def test_no_more_tasks_than_the_limit_back_off_without_a_slot(
    limit: int, autojump_clock: MockClock
) -> None:
    tasks = [Flaky(RetriableError("no")) for _ in range(2 * limit + 1)]

    async def feed() -> None:
        for task in tasks:
            await cm.run(task, retry=every(10))

    async with manager(limit) as cm, trio.open_nursery() as callers:
        callers.start_soon(feed)
        await trio.sleep(5)
        statistics = cm.statistics()
        # As many as the limit gave their slots back to as many that keep them: the last one waits.
        assert (statistics.backing_off, statistics.running, statistics.waiting) == (2 * limit, 0, 1)
        assert [len(task.calls) for task in tasks] == [1] * 2 * limit + [0]
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(trio.sleep, 0)
    assert [task.calls for task in tasks] == [[0, 10]] * 2 * limit + [[10, 20]]
    assert cm.outputs() == ["done"] * len(tasks)


async def test_a_task_keeps_its_slot_when_more_than_a_lowered_limit_are_without(
    autojump_clock: MockClock,
) -> None:
    early = [Flaky(RetriableError("no")) for _ in range(4)]
    late = Flaky(RetriableError("no"), seconds=2)
    async with manager(4) as cm:
        for task in early:
            await cm.run(task, retry=every(10))
        parks = [await parked(cm) for _ in range(3)]
        await cm.run(late, retry=every(1))
        await trio.sleep(1)
        cm.limit = 2
        await trio.sleep_until(20)
        for park in parks:
            park.cancel()
    assert late.calls == [0, 3]
    assert [task.calls for task in early] == [[0, 20]] * 4


async def test_a_task_may_give_its_slot_back_again_when_another_has_taken_one_again(
    autojump_clock: MockClock,
) -> None:
    async def run(cm: ConMan[Any], delay: float) -> Flaky:
        task = Flaky(RetriableError("no"), seconds=0)
        await cm.run(task, retry=every(delay))
        return task

    async with manager() as cm:
        park = await parked(cm)
        tasks = [await run(cm, delay) for delay in (4, 20, 30)]  # the third keeps its slot: two are without
        park.cancel()
        await trio.sleep(5)  # the first is done
        tasks.append(await run(cm, 40))  # in the slot that was parked; gives it back
        tasks.append(Flaky())
        await cm.run(tasks[-1])
    assert [task.calls for task in tasks] == [[0, 4], [0, 20], [0, 30], [5, 45], [5]]


async def test_without_a_limit_all_back_off_without_a_slot(autojump_clock: MockClock) -> None:
    tasks = [Flaky(RetriableError("no")) for _ in range(50)]
    async with manager(math.inf, retry=every(10)) as cm:
        for task in tasks:
            await cm.run(task)
        await trio.sleep(5)
        assert (cm.statistics().backing_off, cm.statistics().running) == (50, 0)
    assert [task.calls for task in tasks] == [[0, 10]] * 50


async def test_a_lowered_limit_holds_for_those_that_come_back(autojump_clock: MockClock) -> None:
    tasks = [Flaky(RetriableError("no"), seconds=2) for _ in range(4)]
    async with manager(4, retry=every(10)) as cm:
        for task in tasks:
            await cm.run(task)
        await trio.sleep(5)
        cm.limit = 2
    assert [task.calls[0] for task in tasks] == [0] * 4
    assert sorted(task.calls[1] for task in tasks) == [12, 12, 14, 14]


async def test_a_raised_limit_serves_those_that_wait_to_come_back_first(autojump_clock: MockClock) -> None:
    flaky, other = Flaky(RetriableError("no")), Flaky(seconds=1)
    async with manager() as cm, trio.open_nursery() as callers:
        await cm.run(trio.sleep, 20)
        await cm.run(flaky, retry=every(1))
        await cm.run(trio.sleep, 20)
        callers.start_soon(cm.run, other)
        await trio.sleep(5)
        cm.limit = 3
    assert flaky.calls == [0, 5]
    assert other.calls == [5]


# Contexts


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Looks:
    """Notes what it sees of the variable, changes it, and fails but for the last time."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.seen: list[str] = []

    async def __call__(self) -> str:
        self.seen.append(variable.get())
        variable.set(f"changed {len(self.seen)} times")
        await trio.lowlevel.checkpoint()
        assert variable.get() == f"changed {len(self.seen)} times"
        if len(self.seen) < self.times:
            raise RetriableError("no")
        return "done"


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 9}])
async def test_each_attempt_sees_the_context_of_the_submission_and_leaks_nothing(
    autojump_clock: MockClock, delay: float, options: dict[str, Any]
) -> None:
    tasks = [Looks(3), Looks(3), Looks(3)]
    async with manager(3, retry=every(delay), **options) as cm:
        variable.set("first")
        await cm.run(tasks[0])
        variable.set("second")
        cm.run_nowait(tasks[1])
        variable.set("third")
        await cm.run(tasks[2])
        variable.set("later")
        await cm.wait()
        assert variable.get() == "later"
    assert [task.seen for task in tasks] == [["first"] * 3, ["second"] * 3, ["third"] * 3]
    assert cm.outputs() == ["done"] * 3


async def test_a_task_that_waited_for_its_slot_sees_the_context_of_its_submission(
    autojump_clock: MockClock,
) -> None:
    task = Looks(2)
    other = Looks(1)

    async def submit() -> None:
        variable.set("the submitter's")
        await cm.run(task)
        assert variable.get() == "the submitter's"

    async with manager(retry=every(1)) as cm, trio.open_nursery() as callers:
        variable.set("the body's")
        for _ in range(2):
            await cm.run(trio.sleep, 1)
        callers.start_soon(submit)
        await wait_all_tasks_blocked()
        variable.set("changed while it waited")
        await cm.run(other)
    assert task.seen == ["the submitter's"] * 2
    assert other.seen == ["changed while it waited"]


async def test_a_task_of_a_task_sees_what_that_one_had_set(autojump_clock: MockClock) -> None:
    inner = Looks(2)

    async def outer() -> TaskHandle[str]:
        variable.set("the task's")
        return cm.run_nowait(inner)

    async with manager(retry=every(1)) as cm:
        variable.set("the body's")
        await cm.run(outer)
        await cm.wait()
    assert inner.seen == ["the task's"] * 2


async def test_an_outcome_is_the_same_seen_from_everywhere(autojump_clock: MockClock) -> None:
    async with manager(retry=every(1, max_attempts=1)) as cm:
        handle = await cm.run(always())
        outcome: Outcome[Any] = await handle.wait()
    assert cm.outcomes() == [outcome]
    assert handle.outcome is outcome
    statistics = cm.statistics()
    assert (statistics.submitted, statistics.failed, statistics.retries, statistics.cancelled) == (1, 1, 1, 0)
