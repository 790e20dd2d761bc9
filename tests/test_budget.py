"""RetryBudget: how many retries there are, for whom, and what they cost."""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import (
    ConMan,
    Failure,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryBudgetStatistics,
    RetryConfig,
    StopReason,
    Success,
)
from trio_conman._base.texts import short

NO_DELAY = RetryConfig.none(max_attempts=3)
BUDGET = StopReason.RETRY_BUDGET
EXHAUSTED = StopReason.RETRIES_EXHAUSTED


@asynccontextmanager
async def manager(budget: RetryBudget | None, limit: int = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, limit, retry_budget=budget, **options) as cm:
            yield cm


async def succeed() -> None:
    pass


async def fail(config: RetryConfig = NO_DELAY, retry_after: float | None = None) -> None:
    raise RetriableError(ValueError("no"), retry_config=config, retry_after=retry_after)


class Recovers:
    """Fails so many times, then returns."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def __call__(self) -> None:
        if self.failures:
            self.failures -= 1
            await fail()


def ending(outcome: Outcome[Any]) -> tuple[StopReason | None, int]:
    """Why a task failed, None when it did not; and how many retries it made."""
    return outcome.reason if isinstance(outcome, Failure) else None, outcome.retries


async def one_by_one(cm: ConMan[Any], *tasks: Any) -> list[tuple[StopReason | None, int]]:
    """The endings of tasks that run one after the other."""
    return [ending(await (await cm.run(task)).wait()) for task in tasks]


async def test_each_retry_costs_a_token_and_without_a_whole_one_the_task_fails() -> None:
    budget = RetryBudget(7.5, ratio=0)
    async with manager(budget) as cm:
        assert await one_by_one(cm, fail, fail, fail, fail) == [
            (EXHAUSTED, 3),
            (EXHAUSTED, 3),
            (BUDGET, 1),
            (BUDGET, 0),
        ]
        assert cm.statistics().retries == 7
    assert budget.statistics() == RetryBudgetStatistics(tokens=7.5, remaining=0.5, ratio=0, refused=2)


async def test_a_task_without_budget_fails_now_with_its_real_error(autojump_clock: MockClock) -> None:
    slow = RetryConfig.linear(initial_delay=2)
    async with manager(RetryBudget(1, ratio=0)) as cm:
        outcome = await (await cm.run(fail, slow)).wait()
    assert isinstance(outcome, Failure)
    assert (repr(outcome.error), outcome.reason) == ("ValueError('no')", BUDGET)
    assert (outcome.retries, len(outcome.history), outcome.elapsed) == (1, 1, 2)


async def test_each_success_refunds_the_ratio() -> None:
    budget = RetryBudget(2, ratio=0.5)
    async with manager(budget) as cm:
        # 2 tokens: spend 2, of which the success gives back a half.
        assert await one_by_one(cm, Recovers(2), Recovers(1)) == [(None, 2), (BUDGET, 0)]
        assert budget.statistics().remaining == 0.5
        assert await one_by_one(cm, succeed, Recovers(1)) == [(None, 0), (None, 1)]
        assert budget.statistics().remaining == 0.5


def test_a_token_that_is_given_back_does_not_overfill_the_budget() -> None:
    budget = RetryBudget(2, ratio=0.75)
    assert budget._spend()
    budget._refund()
    budget._give_back()
    assert budget.statistics().remaining == 2
    budget._refund()
    assert budget.statistics().remaining == 2


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.05, 0.01])
async def test_as_many_successes_as_make_a_whole_token_pay_for_a_retry(ratio: float) -> None:
    # The sum of ten times 0.1 is no 1.0 in floats.
    successes = round(1 / ratio)
    async with manager(RetryBudget(1, ratio=ratio)) as cm:
        assert await one_by_one(cm, fail) == [(BUDGET, 1)]
        assert await one_by_one(cm, *[succeed] * (successes - 1), fail) == [
            *[(None, 0)] * (successes - 1),
            (BUDGET, 0),
        ]
        assert await one_by_one(cm, succeed, fail) == [(None, 0), (BUDGET, 1)]


async def test_refunds_stop_at_what_the_budget_holds_when_full() -> None:
    budget = RetryBudget(2.5, ratio=0.75)
    async with manager(budget) as cm:
        await one_by_one(cm, *[succeed] * 10)
        assert budget.statistics().remaining == 2.5
        assert await one_by_one(cm, fail) == [(BUDGET, 2)]


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.75, 1, 7])
async def test_a_full_budget_stays_exactly_full(ratio: float) -> None:
    budget = RetryBudget(2.5, ratio=ratio)
    async with manager(budget) as cm:
        for _ in range(200):
            await one_by_one(cm, succeed)
            assert budget.statistics().remaining == 2.5
        assert await one_by_one(cm, fail) == [(BUDGET, 2)]


async def test_failures_and_cancelled_tasks_refund_nothing(autojump_clock: MockClock) -> None:
    async def fail_plainly() -> None:
        raise ValueError("no")

    budget = RetryBudget(3, ratio=1)
    async with manager(budget) as cm:
        assert await one_by_one(cm, fail) == [(EXHAUSTED, 3)]
        assert await one_by_one(cm, fail_plainly) == [(StopReason.ERROR, 0)]
        handle = await cm.run(trio.sleep_forever)
        handle.cancel()
        await handle.wait()
    assert budget.statistics() == RetryBudgetStatistics(tokens=3, remaining=0, ratio=1, refused=0)


async def test_a_budget_without_tokens_allows_no_retry_ever() -> None:
    async with manager(RetryBudget(0, ratio=1)) as cm:
        assert await one_by_one(cm, succeed, succeed, fail) == [(None, 0), (None, 0), (BUDGET, 0)]


async def test_without_a_budget_there_is_no_bound() -> None:
    async with manager(None) as cm:
        assert await one_by_one(cm, *[fail] * 50) == [(EXHAUSTED, 3)] * 50


async def test_a_timed_out_attempt_that_is_retried_costs_a_token_too(autojump_clock: MockClock) -> None:
    async with manager(RetryBudget(2), retry=NO_DELAY, attempt_timeout=1) as cm:
        assert await one_by_one(cm, trio.sleep_forever) == [(BUDGET, 2)]


# What makes each of the reasons hold, in the order in which they are asked for.
ORDER: list[tuple[StopReason, dict[str, Any]]] = [
    (StopReason.RETRY_AFTER, {"max_retry_after": 4}),
    (StopReason.MAX_ELAPSED, {"max_elapsed": 4}),
    (StopReason.DEADLINE, {"task_timeout": 4}),
]


@pytest.mark.parametrize("first", range(len(ORDER) + 1))
async def test_the_budget_is_the_last_thing_that_is_asked(first: int, autojump_clock: MockClock) -> None:
    overrides = {name: value for _, each in ORDER[first:] for name, value in each.items()}
    timeout = overrides.pop("task_timeout", math.inf)
    config = attrs.evolve(NO_DELAY, **overrides)
    budget = RetryBudget(0.5)
    async with manager(budget) as cm:
        outcome = await (await cm.run(fail, config, 5, task_timeout=timeout)).wait()
    assert ending(outcome) == ([*ORDER, (BUDGET, {})][first][0], 0)
    # Only what the budget itself has refused is counted.
    assert budget.statistics().refused == (1 if first == len(ORDER) else 0)


async def test_who_has_no_retry_left_does_not_ask_the_budget() -> None:
    budget = RetryBudget(1, ratio=0)
    async with manager(budget) as cm:
        assert await one_by_one(cm, lambda: fail(RetryConfig.none(max_attempts=1))) == [(EXHAUSTED, 1)]
    assert budget.statistics() == RetryBudgetStatistics(tokens=1, remaining=0, ratio=0, refused=0)


@pytest.mark.parametrize("first", range(len(ORDER)))
async def test_a_retry_that_is_not_made_for_another_reason_costs_nothing(
    first: int, autojump_clock: MockClock
) -> None:
    overrides = dict(ORDER[first][1])
    timeout = overrides.pop("task_timeout", math.inf)
    budget = RetryBudget(3)
    async with manager(budget) as cm:
        outcome = await (
            await cm.run(fail, attrs.evolve(NO_DELAY, **overrides), 5, task_timeout=timeout)
        ).wait()
    assert ending(outcome) == (ORDER[first][0], 0)
    assert budget.statistics() == RetryBudgetStatistics(tokens=3, remaining=3, ratio=0.1, refused=0)


async def test_managers_may_share_a_budget() -> None:
    budget = RetryBudget(4, ratio=0.5)
    async with manager(budget) as one, manager(budget) as other:
        assert await one_by_one(one, fail) == [(EXHAUSTED, 3)]
        assert await one_by_one(other, fail) == [(BUDGET, 1)]
        await one_by_one(one, succeed, succeed)
        assert await one_by_one(other, fail) == [(BUDGET, 1)]
    assert budget.statistics() == RetryBudgetStatistics(tokens=4, remaining=0, ratio=0.5, refused=2)


async def test_the_items_of_a_map_share_the_budget_and_refund_it() -> None:
    async def item(fails: bool) -> None:
        await (fail() if fails else succeed())

    budget = RetryBudget(4, ratio=0.25)
    async with manager(budget) as cm:
        async with cm.map(item, [True, True]) as outcomes:
            assert sum([outcome.retries async for outcome in outcomes]) == 4
        async with cm.map(item, [False] * 5) as outcomes:
            assert [type(outcome) async for outcome in outcomes] == [Success] * 5
    assert budget.statistics().remaining == 1.25


async def test_a_dead_service_of_10_000_tasks_costs_100_retries() -> None:
    calls = 0

    async def dead() -> None:
        nonlocal calls
        calls += 1
        await fail()

    budget = RetryBudget()
    async with manager(budget, 100) as cm:
        for _ in range(10_000):
            cm.start_soon(dead)
    assert (len(cm.errors()), cm.statistics().retries, calls) == (10_000, 100, 10_100)
    # Without the budget there would be 30,000. Those who had all of their three retries are not refused.
    exhausted = sum(ending(outcome) == (EXHAUSTED, 3) for outcome in cm.outcomes())
    assert exhausted <= 33
    assert budget.statistics() == RetryBudgetStatistics(
        tokens=100, remaining=0, ratio=0.1, refused=10_000 - exhausted
    )


async def test_retries_stay_a_share_of_the_successes(autojump_clock: MockClock) -> None:
    async def service(index: int) -> None:
        await trio.sleep(0.001)
        if index % 2:
            await fail()

    budget = RetryBudget(10, ratio=0.125)
    async with manager(budget) as cm:
        for index in range(1000):
            await cm.run(service, index)
    statistics = cm.statistics()
    assert (statistics.succeeded, statistics.failed) == (500, 500)
    # Half of them fail whatever is tried: all that was there at first, and all that came back, is used up.
    assert 10 + 500 * 0.125 - 1 <= statistics.retries + budget.statistics().remaining <= 10 + 500 * 0.125
    assert statistics.retries <= 10 + 500 * 0.125


@pytest.mark.parametrize("ratio, failed", [(0.1, True), (0.5, False)])
async def test_a_quota_that_no_rate_keeps_costs_a_token_for_each_that_it_refuses(
    ratio: float, failed: bool, autojump_clock: MockClock
) -> None:
    windows: list[float] = []  # in which a request was let in

    async def service() -> None:
        await trio.sleep(0.1)
        window = trio.current_time() // 2
        if windows.count(window) == 10:
            raise RetriableError("too many", retry_after=2 * (window + 1) - trio.current_time())
        windows.append(window)

    budget = RetryBudget(10, ratio)
    async with manager(budget, 5, rate=RateLimiter.unlimited()) as cm:
        for _ in range(200):
            await cm.run(service)
    assert {o.reason for o in cm.outcomes() if isinstance(o, Failure)} == ({BUDGET} if failed else set())


def test_statistics_tell_what_was_given_and_cannot_be_changed() -> None:
    statistics = RetryBudget().statistics()
    assert statistics == RetryBudgetStatistics(tokens=100, remaining=100, ratio=0.1, refused=0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        statistics.tokens = 3  # type: ignore[misc]  # frozen, as the checker knows too
    tokens: Any = Fraction(5, 2)  # a number, though no float to a checker
    other = RetryBudget(tokens, ratio=0.25).statistics()
    assert (other.tokens, other.remaining, other.ratio) == (2.5, 2.5, 0.25)


def test_a_budget_shows_what_is_left() -> None:
    assert repr(RetryBudget(7, 0.5)) == "<RetryBudget, 7 of 7 tokens left>"
    tokens: Any = Fraction(5, 2)
    assert repr(RetryBudget(tokens)) == "<RetryBudget, 2.5 of 2.5 tokens left>"


@pytest.mark.parametrize("name", ["tokens", "ratio"])
@pytest.mark.parametrize(
    "value, kind",
    [
        *((value, TypeError) for value in (None, "1", True, [1], 1j)),
        *((value, ValueError) for value in (-1, -0.1, math.nan, math.inf, -math.inf, 10**400)),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{name} must be .*, not {re.escape(short(value))}$"):
        RetryBudget(**{name: value})


@pytest.mark.parametrize("budget", [1, 0.1, "1", RetryBudget])
async def test_a_manager_takes_no_other_kind_of_budget(budget: Any) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=rf"^retry_budget must be .*, not {re.escape(repr(budget))}$"):
            ConMan.open(nursery, retry_budget=budget)
