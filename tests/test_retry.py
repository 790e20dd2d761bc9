"""The decision to retry, which has no clock: whose config counts, retry_on, and the random source."""

from __future__ import annotations

import gc
import logging
import math
import random
from collections.abc import Callable
from fractions import Fraction
from numbers import Real
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from tests.judged import DOUBLING, HUGE, Ambiguous, asking, group, raised, retriable, slow, verdict, yielding
from trio_conman import RetriableError, RetryConfig, StopReason
from trio_conman._policy.decision import Retry

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=300)


class TextlessError(Exception):
    """An exception that breaks whoever asks for its text."""

    def __str__(self) -> str:
        raise RuntimeError("not to be printed")


class UnprintableError(TextlessError):
    """An exception that breaks whoever prints it in any way."""

    def __repr__(self) -> str:
        raise RuntimeError("not to be printed")


@Real.register
class Scalar:
    """Like a scalar of an array library: a real number, but no float."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __ge__(self, other: float) -> bool:
        return self.value >= other


def test_the_numbers_of_a_config_are_floats_whatever_is_given() -> None:
    names = ["initial_delay", "backoff_factor", "max_delay", "max_elapsed", "max_retry_after"]
    given: dict[str, Any] = dict.fromkeys(names, Scalar(2.5))
    config = RetryConfig(**given, jitter=False)
    assert [(type(value), value) for value in (getattr(config, name) for name in names)] == [(float, 2.5)] * 5
    assert verdict(retriable(2.25), config) == Retry(2.5, False, 2.5)


# Whose config


def test_the_errors_own_config_goes_before_the_tasks() -> None:
    assert verdict(retriable(config=slow(7)), slow(9)) == Retry(7, False)
    assert verdict(retriable(config=slow(7)), None) == Retry(7, False)


def test_the_tasks_config_goes_before_the_default() -> None:
    assert verdict(retriable(), slow(9)) == Retry(9, False)


def test_the_default_is_exponential_with_jitter() -> None:
    for retries, longest in enumerate([0.1, 0.2, 0.4, 0.8, 1.6]):
        outcome = verdict(retriable(), retries=retries)
        assert isinstance(outcome, Retry)
        assert outcome.delay == pytest.approx(longest)
    assert verdict(retriable(), retries=5) is StopReason.RETRIES_EXHAUSTED
    rng = random.Random(1)
    drawn = random.Random(1).uniform(0, 0.1)
    assert verdict(retriable(), rng=rng) == Retry(drawn, False)


@pytest.mark.parametrize("config", [None, DOUBLING, RetryConfig(retry_on=KeyError)])
@pytest.mark.parametrize("retries", [0, 2, 5, 10**6])
@pytest.mark.parametrize(
    "error", [ValueError("x"), UnprintableError(), group(ValueError("x")), StopIteration()]
)
def test_a_plain_error_is_never_retried_whatever_came_before(
    error: Exception, config: RetryConfig | None, retries: int
) -> None:
    assert verdict(error, config, retries=retries) is StopReason.ERROR


def test_a_new_config_counts_the_retries_already_made() -> None:
    assert verdict(retriable(config=DOUBLING), retries=3) == Retry(8, False)
    assert verdict(retriable(config=RetryConfig.none()), DOUBLING, retries=2) == Retry(0, False)
    assert verdict(retriable(config=RetryConfig.none()), DOUBLING, retries=3) is StopReason.RETRIES_EXHAUSTED


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 5])
def test_max_attempts_counts_retries(attempts: int) -> None:
    config = attrs.evolve(DOUBLING, max_attempts=attempts)
    delays: list[float] = []
    while isinstance(outcome := verdict(retriable(), config, retries=len(delays)), Retry):
        delays.append(outcome.delay)
    assert delays == [1, 2, 4, 8, 16][:attempts]
    assert outcome is StopReason.RETRIES_EXHAUSTED


@pytest.mark.parametrize("retries", [0, 10**6, HUGE], ids=["none", "many", "huge"])
def test_without_a_limit_retries_go_on_for_ever(retries: int) -> None:
    config = RetryConfig(max_attempts=math.inf, jitter=False, initial_delay=5)
    assert verdict(retriable(), config, retries=retries) == Retry(5, False)


@pytest.mark.parametrize("own, tasks, hold", [(None, True, True), (False, True, False), (True, False, True)])
def test_whether_the_slot_is_held_is_told_by_the_config_used(
    own: bool | None, tasks: bool, hold: bool
) -> None:
    config = None if own is None else slow(1, hold_slot=own)
    assert verdict(retriable(config=config), slow(1, hold_slot=tasks)) == Retry(1, hold)


# retry_on


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), Exception, lambda error: True])
def test_retry_on_makes_plain_errors_retriable(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    for error in (OSError("x"), ConnectionResetError("x"), raised(OSError("x"), KeyError("cause"))):
        assert verdict(error, config, retries=2) == Retry(4, False)


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), (), lambda error: False])
def test_what_retry_on_does_not_name_is_not_retried(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    for error in (ValueError("x"), raised(ValueError("x"), OSError("cause"))):
        assert verdict(error, config) is StopReason.ERROR


@pytest.mark.parametrize("retry_on", [OSError, (), lambda error: False, lambda error: 1 / 0])
def test_a_retriable_error_needs_no_retry_on(retry_on: Any) -> None:
    assert verdict(retriable(), attrs.evolve(DOUBLING, retry_on=retry_on)) == Retry(1, False)


def test_the_retry_on_of_an_errors_own_config_says_nothing_about_later_errors() -> None:
    # It is looked up at each failure, and a plain error brings none with it.
    verdict(retriable(config=RetryConfig(retry_on=Exception)), DOUBLING)
    assert verdict(ValueError("x"), DOUBLING, retries=1) is StopReason.ERROR


def test_a_predicate_is_asked_once_for_each_decision_with_the_error_itself(record: list[Any]) -> None:
    def ask(error: Exception) -> bool:
        record.append(error)
        return True

    config = attrs.evolve(DOUBLING, retry_on=ask)
    error = UnprintableError()
    verdict(error, config)
    verdict(error, config, retries=1)
    assert record == [error, error]


@pytest.mark.parametrize(
    "answer, delay",
    [(0, 0), (0.0, 0), (3, 3), (0.25, 0.25), (4000.0, 4000), (Fraction(1, 2), 0.5), (Scalar(2.5), 2.5)],
)
def test_a_delay_from_a_predicate_is_taken_as_it_is(answer: Any, delay: float) -> None:
    # Neither capped at 5 s nor drawn.
    config = RetryConfig(retry_on=lambda error: answer)
    result = verdict(OSError("x"), config, retries=3, rng=random.Random(1))
    assert result == Retry(delay, False)
    assert isinstance(result, Retry)
    assert type(result.delay) is float


def test_true_and_false_from_a_predicate_are_no_delays_of_1_and_0() -> None:
    assert verdict(OSError("x"), attrs.evolve(DOUBLING, retry_on=lambda error: True), retries=3) == Retry(
        8, False
    )
    assert verdict(OSError("x"), attrs.evolve(DOUBLING, retry_on=lambda error: False)) is StopReason.ERROR


def test_a_delay_from_a_predicate_is_held_to_every_limit() -> None:
    def config(**changes: Any) -> RetryConfig:
        return RetryConfig(retry_on=lambda error: 3, **changes)

    assert verdict(OSError("x"), config(), retries=5) is StopReason.RETRIES_EXHAUSTED
    assert verdict(OSError("x"), config(max_elapsed=2.5)) is StopReason.MAX_ELAPSED
    assert verdict(OSError("x"), config(), deadline=3) is StopReason.DEADLINE
    assert verdict(OSError("x"), config(hold_slot=True)) == Retry(3, True)


def test_an_infinite_delay_from_a_predicate_never_ends_in_time() -> None:
    assert verdict(OSError("x"), RetryConfig(retry_on=lambda error: math.inf)) is StopReason.DEADLINE


BROKEN = [
    None,
    "1",
    math.nan,
    -1,
    -0.5,
    -math.inf,
    1j,
    [True],
    HUGE,
    object(),
    Ambiguous(),
    Scalar(-1),
    Scalar(math.nan),
]


@pytest.mark.parametrize("error", [OSError("x"), UnprintableError()], ids=["printable", "unprintable"])
@pytest.mark.parametrize("answer", BROKEN, ids=lambda answer: str(answer)[:20])
def test_a_predicate_that_answers_nonsense_is_logged_and_nothing_is_retried(
    answer: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert verdict(error, RetryConfig(retry_on=lambda error: answer)) is StopReason.ERROR
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_conman", logging.ERROR)]
    assert "retry_on" in caplog.records[0].getMessage()


@pytest.mark.parametrize("error", [OSError("x"), UnprintableError()], ids=["printable", "unprintable"])
@pytest.mark.parametrize(
    "fault", [ValueError("x"), StopIteration(), group(KeyError()), UnprintableError(), RetriableError("x")]
)
def test_a_predicate_that_raises_is_logged_and_nothing_is_retried(
    fault: Exception, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(error: Exception) -> bool:
        raise fault

    assert verdict(error, RetryConfig(retry_on=ask)) is StopReason.ERROR
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_conman", logging.ERROR)]
    assert "retry_on" in caplog.records[0].getMessage()
    logged = caplog.records[0].exc_info
    assert logged is not None
    assert logged[1] is fault
    assert (error.__context__, error.__cause__) == (None, None)


def test_a_predicate_may_raise_the_very_error_it_was_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    def ask(error: Exception) -> bool:
        raise error

    assert verdict(OSError("x"), RetryConfig(retry_on=ask)) is StopReason.ERROR
    assert len(caplog.records) == 1


def test_a_predicate_that_gives_a_coroutine_is_logged_and_leaves_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # It cannot be seen before. Warnings are errors here.
    answers: list[Any] = [lambda _: asking(), lambda _: yielding()]
    for answer in answers:
        assert verdict(OSError("x"), RetryConfig(retry_on=answer)) is StopReason.ERROR
    gc.collect()
    assert len(caplog.records) == 2


def test_an_interrupt_in_a_predicate_is_not_swallowed() -> None:
    def ask(error: Exception) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict(OSError("x"), RetryConfig(retry_on=ask))


def test_a_good_predicate_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for answer in (True, False, 0, 1.5):
        verdict(OSError("x"), RetryConfig(retry_on=lambda _, answer=answer: answer))  # type: ignore[misc]  # no type for answer
    assert caplog.records == []


# The random source


def test_the_same_seed_gives_the_same_delays_and_leaves_the_global_source_alone() -> None:
    config = RetryConfig(max_attempts=math.inf)

    def run(seed: int) -> list[Retry | StopReason]:
        rng = random.Random(seed)
        return [verdict(retriable(), config, retries=n, rng=rng) for n in range(1000)]

    before = random.getstate()
    assert run(1) == run(1)
    assert run(1) != run(2)
    assert random.getstate() == before


def test_a_broken_source_costs_only_the_jitter(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(random.Random):
        def random(self) -> float:
            return math.nan

    assert verdict(retriable(), RetryConfig(initial_delay=4), rng=Broken()) == Retry(4, False)
    assert len(caplog.records) == 1


def test_nothing_is_drawn_without_jitter_or_delay() -> None:
    rng = random.Random(1)
    before = rng.getstate()
    verdict(retriable(), DOUBLING, rng=rng)
    verdict(retriable(), RetryConfig(strategy="none"), rng=rng)
    verdict(OSError("x"), RetryConfig(retry_on=lambda error: 3), rng=rng)
    assert rng.getstate() == before


# Whatever is thrown at it


numbers = st.integers(0, 100) | st.floats(0, 100) | st.fractions(0, 100) | st.floats(0, 1e308)
limits = st.just(math.inf) | st.just(60.0) | numbers


def answering(answer: Any) -> Callable[[Exception], Any]:
    return lambda error: answer


def raising(error: Exception) -> bool:
    raise KeyError


def config_of(fields: dict[str, Any]) -> RetryConfig:
    """A config of fields that go together."""
    factor = fields.pop("backoff_factor")
    return RetryConfig(**fields, backoff_factor=factor or int(fields["strategy"] == "exponential"))


configs = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(0, 10) | st.just(HUGE) | st.just(math.inf),
        "initial_delay": numbers,
        "backoff_factor": st.integers(0, 10) | st.floats(0, 10) | st.floats(0, 1e308),
        "max_delay": limits,
        "jitter": st.booleans(),
        "strategy": st.sampled_from(["exponential", "linear", "none"]),
        "max_elapsed": limits,
        "max_retry_after": limits,
        "hold_slot": st.booleans(),
        "retry_on": st.sampled_from([None, OSError, (OSError, KeyError), Exception, raising])
        | st.sampled_from([True, False, 0, 0.5, 1e308, math.inf, *BROKEN]).map(answering),
    }
).map(config_of)
leaves = st.one_of(
    st.sampled_from([OSError, OSError, KeyError, TextlessError]).map(lambda kind: kind()),
    st.builds(
        RetriableError,
        st.sampled_from(["busy", OSError("inside"), TextlessError()]),
        retry_config=st.none() | configs,
        retry_after=st.none() | limits,
    ),
)
errors: st.SearchStrategy[Exception] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda several: group(*several)),
    max_leaves=6,
)
times = st.floats(-1e6, 1e6)


@pytest.mark.one_python
@given(
    error=errors,
    config=st.none() | configs,
    timed_out=st.sampled_from([False, False, False, True]),
    retries=st.integers(0, 5) | st.integers(0, 10**6) | st.just(HUGE),
    first_attempt=times,
    lasted=numbers.map(float),
    left=limits.map(float) | st.just(-math.inf),
    seed=st.integers(0, 1000),
)
@reproducible
def test_any_failure_is_judged_within_all_limits_and_left_as_it_is(
    error: Exception,
    config: RetryConfig | None,
    timed_out: bool,
    retries: int,
    first_attempt: float,
    lasted: float,
    left: float,
    seed: int,
) -> None:
    now = first_attempt + lasted
    deadline = now + left

    def judge(error: Exception, config: RetryConfig | None = config) -> Retry | StopReason:
        return verdict(
            error,
            config,
            timed_out=timed_out,
            retries=retries,
            first_attempt=first_attempt,
            now=now,
            deadline=deadline,
            rng=random.Random(seed),
        )

    def state(error: Exception) -> list[object]:
        inside = [state(leaf) for leaf in error.exceptions] if isinstance(error, ExceptionGroup) else []
        return [id(error), error.__cause__, error.__context__, vars(error).copy(), error.args, *inside]

    before = state(error)
    outcome = judge(error)
    assert state(error) == before
    if isinstance(outcome, Retry):
        assert outcome.delay >= 0
        assert now + outcome.delay < deadline
    else:
        assert outcome in {
            StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED,
            StopReason.ERROR,
            StopReason.RETRY_AFTER,
            StopReason.MAX_ELAPSED,
            StopReason.DEADLINE,
        }
    assert judge(error) == outcome
    if not timed_out:
        # A group around it changes nothing; a leaf that is not retriable changes all.
        assert judge(group(error)) == outcome
        assert (
            judge(group(error, ValueError()), attrs.evolve(config or RetryConfig(), retry_on=None))
            is StopReason.ERROR
        )
