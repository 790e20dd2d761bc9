"""The limits of the decision to retry: which of them ends the retries, and exactly when."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import product
from typing import Any

import attrs
import pytest

from tests.judged import DOUBLING, group, retriable, slow, verdict
from trio_conman import RetryBudget, RetryConfig, StopReason
from trio_conman._policy.decision import Retry, asked_to_wait


@pytest.mark.parametrize(
    "exhausted, retry_after, max_elapsed, deadline, timed_out",
    # An attempt that timed out asks for no wait.
    [
        combination
        for combination in product([True, False], repeat=5)
        if not (combination[1] and combination[4])
    ],
)
def test_the_first_reason_that_holds_is_given(
    exhausted: bool, retry_after: bool, max_elapsed: bool, deadline: bool, timed_out: bool
) -> None:
    outcome = verdict(
        TimeoutError() if timed_out else retriable(11 if retry_after else 2),
        slow(3, max_attempts=2, max_retry_after=10, max_elapsed=102.9 if max_elapsed else math.inf),
        timed_out=timed_out,
        retries=2 if exhausted else 1,
        first_attempt=1000.0,
        now=1100.0,
        deadline=1103.0 if deadline else 1200.0,
    )
    reasons = [
        (exhausted, StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED),
        (retry_after, StopReason.RETRY_AFTER),
        (max_elapsed, StopReason.MAX_ELAPSED),
        (deadline, StopReason.DEADLINE),
    ]
    assert outcome == next((reason for holds, reason in reasons if holds), Retry(3, False))


def test_an_attempts_own_timeout_is_retried_only_where_a_config_is_given() -> None:
    error = TimeoutError("an attempt took too long")
    assert verdict(error, None, timed_out=True) is StopReason.ATTEMPT_TIMEOUT
    # The same error raised by the task itself is plain.
    assert verdict(error, DOUBLING, timed_out=False) is StopReason.ERROR
    for config in (DOUBLING, attrs.evolve(DOUBLING, retry_on=KeyError)):
        assert verdict(error, config, timed_out=True, retries=1) == Retry(2, False)
        assert verdict(error, config, timed_out=True, retries=5) is StopReason.ATTEMPT_TIMEOUT


@pytest.mark.parametrize(
    "delay, retry_after, expected", [(3, None, 3), (3, 0, 3), (3, 2, 3), (3, 7, 7), (0, 7, 7), (3, 60, 60)]
)
def test_retry_after_is_a_floor_above_any_cap(
    delay: float, retry_after: float | None, expected: float
) -> None:
    assert verdict(retriable(retry_after), slow(delay)) == Retry(expected, False)


@pytest.mark.parametrize("seconds", [7, Fraction(7)], ids=["int", "fraction"])
def test_a_delay_is_a_float_whatever_kind_of_number_was_given(seconds: Any) -> None:
    for outcome in (verdict(retriable(seconds), slow(3)), verdict(retriable(), slow(Fraction(7)))):
        assert isinstance(outcome, Retry)
        assert (outcome.delay, type(outcome.delay)) == (7.0, float)


def test_retry_after_is_a_floor_for_the_drawn_delay() -> None:
    config = RetryConfig(initial_delay=4, max_delay=4)
    drawn = [verdict(retriable(3), config, rng=random.Random(seed)) for seed in range(100)]
    delays = [result.delay for result in drawn if isinstance(result, Retry)]
    assert len(delays) == 100
    assert min(delays) == 3
    assert 3 < max(delays) <= 4


def test_only_a_wait_beyond_max_retry_after_is_too_long() -> None:
    config = slow(1, max_retry_after=8)
    assert verdict(retriable(8), config) == Retry(8, False)
    assert verdict(retriable(math.nextafter(8, 9)), config) is StopReason.RETRY_AFTER
    assert verdict(retriable(0), slow(1, max_retry_after=0)) == Retry(1, False)
    assert verdict(retriable(1e9), slow(1, max_retry_after=math.inf)) == Retry(1e9, False)
    # It limits what is asked for, not the delay of the strategy.
    assert verdict(retriable(2), slow(30, max_retry_after=8)) == Retry(30, False)


def test_a_margin_is_waited_for_and_not_compared_with_max_retry_after() -> None:
    config = slow(1, max_retry_after=8, retry_on=ExceptionGroup)
    error = retriable(8.75)
    assert verdict(error, config) is StopReason.RETRY_AFTER
    error._margin = 0.75
    assert verdict(error, config) == Retry(8.75, False)
    both = group(error, retriable(8.5))
    assert verdict(both, config) is StopReason.RETRY_AFTER
    for quiet in (group(error, retriable(8)), group(error, ValueError("x"))):
        assert verdict(quiet, config) == Retry(8.75, False)
        assert asked_to_wait(quiet, config) == 8.75
    assert asked_to_wait(both, config) == 8.75
    error._margin = 0.5
    assert (verdict(error, config), asked_to_wait(error, config)) == (StopReason.RETRY_AFTER, 0)


def test_max_retry_after_is_that_of_the_config_used() -> None:
    error = retriable(20, slow(1, max_retry_after=10))
    assert verdict(error, slow(1, max_retry_after=30)) is StopReason.RETRY_AFTER
    assert verdict(retriable(20, slow(1, max_retry_after=30)), slow(1, max_retry_after=10)) == Retry(
        20, False
    )


def test_a_wait_for_ever_never_ends_in_time() -> None:
    assert verdict(retriable(math.inf), slow(1)) is StopReason.RETRY_AFTER
    assert verdict(retriable(math.inf), slow(1, max_retry_after=math.inf)) is StopReason.DEADLINE


def test_a_delay_may_end_exactly_at_max_elapsed() -> None:
    for allowed, max_elapsed in [
        (True, 8.0),
        (False, math.nextafter(8.0, 0)),
        (True, math.nextafter(8.0, 9)),
    ]:
        outcome = verdict(retriable(), slow(3, max_elapsed=max_elapsed), first_attempt=95.0, now=100.0)
        assert outcome == (Retry(3, False, 95 + max_elapsed) if allowed else StopReason.MAX_ELAPSED)


@pytest.mark.parametrize("now", [0.0, 0.1, 0.3, 1000.1, 123456.789])
@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 1.1])
def test_a_delay_of_max_elapsed_is_allowed_after_an_instant_failure_at_any_time(
    delay: float, now: float
) -> None:
    config = slow(delay, max_elapsed=delay)
    assert verdict(retriable(), config, first_attempt=now, now=now) == Retry(delay, False, now + delay)


def test_with_max_elapsed_0_only_an_instant_retry_is_made() -> None:
    assert verdict(retriable(), slow(0, max_elapsed=0), first_attempt=5, now=5) == Retry(0, False, 5)
    assert verdict(retriable(), slow(0, max_elapsed=0), first_attempt=5, now=6) is StopReason.MAX_ELAPSED
    assert verdict(retriable(), slow(1, max_elapsed=0), first_attempt=5, now=5) is StopReason.MAX_ELAPSED


@pytest.mark.parametrize(
    "permit, deadline, expected",
    [
        (108.0, 108.5, Retry(3, False, 108)),
        (math.nextafter(108, 109), math.inf, StopReason.MAX_ELAPSED),
        (108.5, 108.5, StopReason.MAX_ELAPSED),
        (108.0, 108.0, StopReason.DEADLINE),
        (0.0, 103.0, StopReason.DEADLINE),
    ],
)
def test_a_permit_has_to_be_due_within_max_elapsed_and_before_the_deadline(
    permit: float, deadline: float, expected: Retry | StopReason
) -> None:
    budget = RetryBudget(1)
    config = slow(3, max_elapsed=10)
    assert expected == verdict(
        retriable(), config, first_attempt=98.0, now=100.0, permit=permit, deadline=deadline, budget=budget
    )
    assert budget.statistics().remaining == (0 if isinstance(expected, Retry) else 1)


def test_a_delay_that_ends_on_the_deadline_is_refused() -> None:
    for allowed, deadline in [
        (False, 103.0),
        (False, math.nextafter(103, 0)),
        (True, math.nextafter(103, 104)),
    ]:
        outcome = verdict(retriable(), slow(3), now=100.0, deadline=deadline)
        assert outcome == (Retry(3, False) if allowed else StopReason.DEADLINE)


def test_no_delay_is_refused_on_the_deadline_too() -> None:
    assert verdict(retriable(), slow(0), now=100.0, deadline=100.0) is StopReason.DEADLINE
    assert verdict(retriable(), slow(0), now=100.0, deadline=-math.inf) is StopReason.DEADLINE


def test_a_drawn_delay_is_what_the_deadline_is_held_against() -> None:
    config = RetryConfig(initial_delay=4, max_delay=4)
    outcomes = [verdict(retriable(), config, deadline=2, rng=random.Random(seed)) for seed in range(100)]
    delays = [outcome.delay for outcome in outcomes if isinstance(outcome, Retry)]
    assert 30 < len(delays) < 70
    assert max(delays) < 2
    assert set(outcomes) - {Retry(delay, False) for delay in delays} == {StopReason.DEADLINE}
