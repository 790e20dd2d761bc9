"""Retries run through a manager: when, how often, in which context, and what is left of the errors."""

import contextvars
import logging
import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import failure, manager
from tests.retried import Flaky, Scripted, always, doubling, every
from trio_conman import (
    Failure,
    Outcome,
    RetriableError,
    RetriedError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)

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
