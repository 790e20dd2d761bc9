"""Why a task failed: every StopReason, each by the shortest way that leads to it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import (
    ConMan,
    Failure,
    Outcome,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    TaskCancelledError,
    TaskHandle,
)

# Retried after 2, 4, and 6 seconds.
SLOWLY = RetryConfig.linear(max_attempts=3, initial_delay=2, backoff_factor=1, max_delay=math.inf)


async def plain() -> None:
    raise ValueError("no")


async def retriable() -> None:
    raise RetriableError(ValueError("no"))


async def asked() -> None:
    raise RetriableError(ValueError("no"), retry_after=121)


@attrs.frozen
class Case:
    """A task that ends for a reason, and how; `options` are the manager's."""

    reason: StopReason
    task: Callable[[], Awaitable[None]]
    error: type[Exception]
    ends: float
    retries: int = 0
    options: dict[str, Any] = attrs.Factory(dict)
    note: str = ""


CASES = [
    Case(StopReason.ERROR, plain, ValueError, 0),
    Case(StopReason.RETRIES_EXHAUSTED, retriable, ValueError, 12, 3),
    Case(StopReason.MAX_ELAPSED, retriable, ValueError, 2, 1, {"retry": attrs.evolve(SLOWLY, max_elapsed=5)}),
    Case(StopReason.DEADLINE, retriable, ValueError, 2, 1, {"task_timeout": 6}, "of the task"),
    Case(StopReason.DEADLINE, retriable, ValueError, 6, 2, {"timeout": 12}, "of the manager"),
    Case(StopReason.ATTEMPT_TIMEOUT, trio.sleep_forever, trio.TooSlowError, 16, 3, {"attempt_timeout": 1}),
    Case(
        StopReason.ATTEMPT_TIMEOUT,
        trio.sleep_forever,
        trio.TooSlowError,
        1,
        0,
        {"attempt_timeout": 1, "retry": None},
        "without a retry",
    ),
    Case(StopReason.TASK_TIMEOUT, trio.sleep_forever, trio.TooSlowError, 5, 0, {"task_timeout": 5}),
    Case(StopReason.MANAGER_TIMEOUT, trio.sleep_forever, trio.TooSlowError, 5, 0, {"timeout": 5}),
    Case(StopReason.RETRY_AFTER, asked, ValueError, 0),
    Case(StopReason.RETRY_BUDGET, retriable, ValueError, 6, 2, {"retry_budget": (2, 0.1)}),
    Case(StopReason.CANCELLED, trio.sleep_forever, TaskCancelledError, 7, 0, {}, "by its handle"),
    Case(StopReason.CANCELLED, trio.sleep_forever, TaskCancelledError, 8, 0, {}, "by the manager"),
    Case(StopReason.CANCELLED, trio.sleep_forever, TaskCancelledError, 9, 0, {}, "by a scope around"),
]


def test_the_table_has_every_reason() -> None:
    assert {case.reason for case in CASES} == set(StopReason)


async def by_run(cm: ConMan[None], task: Callable[[], Awaitable[None]]) -> TaskHandle[None]:
    return await cm.run(task)


async def by_run_nowait(cm: ConMan[None], task: Callable[[], Awaitable[None]]) -> TaskHandle[None]:
    return cm.run_nowait(task)


async def by_start_soon(cm: ConMan[None], task: Callable[[], Awaitable[None]]) -> TaskHandle[None]:
    return cm.start_soon(task)


@pytest.mark.parametrize("enter", [by_run, by_run_nowait, by_start_soon])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason.name} {case.note}".strip())
async def test_a_task_fails_for_this_reason(
    case: Case,
    enter: Callable[[ConMan[None], Callable[[], Awaitable[None]]], Awaitable[TaskHandle[None]]],
    autojump_clock: MockClock,
) -> None:
    options = {"retry": SLOWLY, **case.options}
    if "retry_budget" in options:
        options["retry_budget"] = RetryBudget(*options["retry_budget"])
    scope = trio.CancelScope(deadline=9 if case.note == "by a scope around" else math.inf)
    with scope:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, **options) as cm:
            handle = await enter(cm, case.task)
            if case.note == "by its handle":
                await trio.sleep(7)
                handle.cancel()
            if case.note == "by the manager":
                await trio.sleep(8)
                cm.cancel()
    (outcome,) = cm.outcomes()
    assert isinstance(outcome, Failure)
    assert (outcome.reason, type(outcome.error)) == (case.reason, case.error)
    assert (outcome.elapsed, outcome.retries, len(outcome.history)) == (case.ends, case.retries, case.retries)
    assert cm.statistics().cancelled == (case.reason is StopReason.CANCELLED)
    assert scope.cancelled_caught == (case.note == "by a scope around")


# A manager's timeout and cancellation end the consumer of a map together with its items.
OF_A_MAP = [case for case in CASES if case.reason not in {StopReason.MANAGER_TIMEOUT, StopReason.CANCELLED}]


@pytest.mark.parametrize("case", OF_A_MAP, ids=lambda case: f"{case.reason.name} {case.note}".strip())
async def test_an_item_of_a_map_fails_for_the_same_reason(case: Case, autojump_clock: MockClock) -> None:
    async def item(_: int) -> None:
        await case.task()

    options = {"retry": SLOWLY, **case.options}
    if "retry_budget" in options:
        options["retry_budget"] = RetryBudget(*options["retry_budget"])
    outcomes: list[Outcome[None]] = []
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, **options) as cm:
        async with cm.map(item, [0]) as stream:
            async for outcome in stream:
                outcomes.append(outcome)  # what came before an end is kept
    (outcome,) = outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.reason, type(outcome.error)) == (case.reason, case.error)
    assert (outcome.elapsed, outcome.retries) == (case.ends, case.retries)


def test_every_reason_is_told_in_words_of_its_own() -> None:
    values = [reason.value for reason in StopReason]
    assert values == [reason.name.lower().replace("_", " ") for reason in StopReason]


LINES = {
    StopReason.ERROR: "not retried",
    StopReason.RETRIES_EXHAUSTED: "no retry left of max_attempts",
    StopReason.MAX_ELAPSED: "no retry within max_elapsed",
    StopReason.DEADLINE: "no time for an attempt before the deadline",
    StopReason.ATTEMPT_TIMEOUT: "longer than attempt_timeout, no retry left",
    StopReason.TASK_TIMEOUT: "longer than task_timeout",
    StopReason.MANAGER_TIMEOUT: "longer than the manager's timeout",
    StopReason.RETRY_AFTER: "asked to wait longer than max_retry_after",
    StopReason.RETRY_BUDGET: "no retry left in the budget",
    StopReason.CANCELLED: "cancelled",
}


def failure(error: Exception, reason: StopReason, **fields: Any) -> Failure:
    return Failure(
        **{
            "error": error,
            "reason": reason,
            "history": (),
            "index": 7,
            "name": "fetch",
            "args": ("secret",),
            "retries": 2,
            "waited": 0.5,
            "elapsed": 1.25,
            **fields,
        }
    )


@pytest.mark.parametrize("reason", StopReason)
def test_a_failure_says_in_one_line_what_to_do_about_it(reason: StopReason) -> None:
    outcome = failure(ConnectionError("503 busy"), reason)
    line = f"fetch (index 7): ConnectionError: 503 busy; {LINES[reason]}; 2 retries, 1.250 s"
    assert str(outcome) == line
    assert repr(outcome) == f"<Failure {line}>"


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error, text",
    [
        (KeyError(), "KeyError"),
        (OSError("a\nb \t c\r\n"), "OSError: a b c"),
        (ValueError("x" * 200), "ValueError: " + "x" * 200),
        (ValueError("x" * 201), "ValueError: " + "x" * 200 + "…"),
        (MuteError(), "MuteError: (its text could not be had)"),
        (ExceptionGroup("two", [OSError(), KeyError()]), "ExceptionGroup: two (2 sub-exceptions): OSError"),
    ],
)
def test_the_line_is_one_and_short_whatever_the_error_is(error: Exception, text: str) -> None:
    outcome = failure(error, StopReason.ERROR, retries=1)
    assert str(outcome) == f"fetch (index 7): {text}; not retried; 1 retry, 1.250 s"


def test_a_name_of_several_lines_is_told_in_one() -> None:
    line = str(failure(KeyError(), StopReason.ERROR, name="fetch\n the\u2028page\r\n"))
    assert line == "fetch the page (index 7): KeyError; not retried; 2 retries, 1.250 s"
