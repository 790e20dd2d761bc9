"""The arithmetic of delays: bounds, growth, and what chance may do to them."""

from __future__ import annotations

import logging
import math
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from trio_conman._policy.backoff import Strategy, backoff, full_jitter

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None)

STRATEGIES: list[Strategy] = ["exponential", "linear", "none"]
FAR = [6, 9, 18, 100, 400]  # powers of ten

kinds = st.sampled_from(STRATEGIES)
counts = st.integers(1, 50) | st.integers(1, 10**6) | st.sampled_from([10**power for power in FAR])
# Ints too: people write them, and their powers grow without bound.
factors = st.integers(0, 10) | st.floats(0, 4) | st.floats(0, 1e308)
seconds = st.integers(0, 1000) | st.floats(0, 1e6) | st.floats(0, 1e308)
far = pytest.mark.parametrize("retry", [pytest.param(10**power, id=f"10**{power}") for power in FAR])


def delays(
    strategy: Strategy, retries: int, initial: float, factor: float, cap: float = math.inf
) -> list[float]:
    return [
        backoff(strategy, n, initial_delay=initial, backoff_factor=factor, max_delay=cap)
        for n in range(1, retries + 1)
    ]


@pytest.mark.parametrize(
    "strategy, initial, factor, cap, expected",
    [
        ("exponential", 1, 2, math.inf, [1, 2, 4, 8, 16, 32]),
        ("exponential", 1, 2, 5, [1, 2, 4, 5, 5, 5]),
        ("exponential", 8, 0.5, 8, [8, 4, 2, 1, 0.5, 0.25]),
        ("exponential", 3, 1, 5, [3, 3, 3, 3, 3, 3]),
        ("exponential", 3, 0, 5, [3, 0, 0, 0, 0, 0]),
        ("exponential", 0, 2, 5, [0, 0, 0, 0, 0, 0]),
        ("linear", 2, 1, 5, [2, 4, 5, 5, 5, 5]),
        ("linear", 2, 0.5, math.inf, [2, 3, 4, 5, 6, 7]),
        ("linear", 2, 0, 5, [2, 2, 2, 2, 2, 2]),
        ("linear", 0, 2, 5, [0, 0, 0, 0, 0, 0]),
        ("none", 2, 2, 5, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_delays_follow_the_formulas(
    strategy: Strategy, initial: float, factor: float, cap: float, expected: list[float]
) -> None:
    assert delays(strategy, 6, initial, factor, cap) == expected


@given(
    retry=st.integers(1, 40),
    initial=st.floats(0.001, 100),
    factor=st.floats(0.1, 10),
    cap=st.floats(0.001, 1e6) | st.just(math.inf),
)
@reproducible
def test_delays_are_those_of_exact_arithmetic(retry: int, initial: float, factor: float, cap: float) -> None:
    exact = {
        "exponential": Fraction(initial) * Fraction(factor) ** (retry - 1),
        "linear": Fraction(initial) * (1 + Fraction(factor) * (retry - 1)),
        "none": Fraction(0),
    }
    for strategy in STRATEGIES:
        delay = backoff(strategy, retry, initial_delay=initial, backoff_factor=factor, max_delay=cap)
        assert delay == pytest.approx(min(float(exact[strategy]), cap), rel=1e-12)


@given(strategy=kinds, retry=counts, initial=seconds, factor=factors, cap=seconds | st.just(math.inf))
@reproducible
def test_every_delay_is_a_float_from_zero_to_the_cap(
    strategy: Strategy, retry: int, initial: float, factor: float, cap: float
) -> None:
    delay = backoff(strategy, retry, initial_delay=initial, backoff_factor=factor, max_delay=cap)
    assert type(delay) is float
    assert 0 <= delay <= cap


@given(
    retry=counts,
    more=st.integers(1, 10**6) | st.sampled_from([10**power for power in FAR]),
    initial=seconds,
    factor=factors,
    cap=seconds | st.just(math.inf),
)
@reproducible
def test_delays_grow_or_shrink_as_the_factor_says(
    retry: int, more: int, initial: float, factor: float, cap: float
) -> None:
    for strategy in STRATEGIES:
        earlier, later = (
            backoff(strategy, n, initial_delay=initial, backoff_factor=factor, max_delay=cap)
            for n in (retry, retry + more)
        )
        # The power of a factor next to 1 may be off by a last digit.
        if strategy == "linear" or factor >= 1:
            assert later >= earlier * (1 - 1e-12)
        else:
            assert later <= earlier * (1 + 1e-12)


@given(strategy=kinds, retry=counts, initial=seconds, factor=factors, caps=st.tuples(seconds, seconds))
@reproducible
def test_a_cap_does_nothing_but_cap(
    strategy: Strategy, retry: int, initial: float, factor: float, caps: tuple[float, float]
) -> None:
    low, high = (
        backoff(strategy, retry, initial_delay=initial, backoff_factor=factor, max_delay=cap)
        for cap in sorted(caps)
    )
    assert low == min(high, *caps)


# With ints, 2**(10**18) would not fit into any memory: the power is not one of ints.
@far
@pytest.mark.parametrize("strategy", ["exponential", "linear"])
def test_a_growing_delay_stays_at_the_cap_for_ever(strategy: Strategy, retry: int) -> None:
    for one, two, five in [(1, 2, 5), (1.0, 2.0, 5.0)]:
        assert backoff(strategy, retry, initial_delay=one, backoff_factor=two, max_delay=five) == 5


@far
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_delay_stays_none_for_ever(strategy: Strategy, retry: int) -> None:
    for factor in (0, 0.5, 1, 2, 1e308):
        assert backoff(strategy, retry, initial_delay=0, backoff_factor=factor, max_delay=5) == 0


@far
@pytest.mark.parametrize(
    "strategy, factor, expected",
    [("exponential", 1, 3), ("exponential", 0.5, 0), ("exponential", 0, 0), ("linear", 0, 3)],
)
def test_a_delay_that_does_not_grow_does_not_jump_to_the_cap(
    strategy: Strategy, factor: float, expected: float, retry: int
) -> None:
    assert backoff(strategy, retry, initial_delay=3, backoff_factor=factor, max_delay=5) == expected


def test_two_thousand_attempts_take_the_sum_of_their_delays() -> None:
    assert sum(delays("exponential", 1999, 1, 2, 5)) == 9987


@pytest.mark.parametrize("delay", [0.0, 5e-324, 0.1, 5.0, 1e308])
def test_ten_thousand_draws_stay_between_zero_and_the_delay(delay: float) -> None:
    rng = random.Random(1)
    drawn = [full_jitter(delay, rng) for _ in range(10_000)]
    assert min(drawn) >= 0
    assert max(drawn) <= delay


def test_draws_are_uniform_over_the_whole_delay() -> None:
    rng = random.Random(1)
    quarters = [0, 0, 0, 0]
    for _ in range(10_000):
        quarters[int(full_jitter(4.0, rng))] += 1
    # Each is expected to be 2500, with a standard deviation of 43.
    assert all(2300 < count < 2700 for count in quarters)


def test_the_same_seed_draws_the_same_delays() -> None:
    one, same, other = ([full_jitter(5.0, rng) for _ in range(100)] for rng in map(random.Random, [1, 1, 2]))
    assert one == same
    assert one != other


def test_the_global_source_of_randomness_is_left_alone() -> None:
    before = random.getstate()
    rng = random.Random(1)
    for _ in range(10_000):
        full_jitter(5.0, rng)
    assert random.getstate() == before


class Drawing(random.Random):
    """Draws what it is told to, or raises it."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def random(self) -> float:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result  # type: ignore[no-any-return]  # it may draw anything


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not to be printed")

    __repr__ = __str__


@pytest.mark.parametrize(
    "result",
    [
        math.nan,
        math.inf,
        -0.001,
        1.001,
        None,
        "half",
        0.5j,
        ZeroDivisionError("no entropy"),
        StopIteration(),
        pytest.param(UnprintableError(), id="UnprintableError"),
    ],
    ids=repr,
)
def test_a_broken_source_costs_only_the_jitter_and_is_logged(
    result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert full_jitter(4.0, Drawing(result)) == 4.0
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_conman", logging.ERROR)]


@pytest.mark.parametrize("result, expected", [(0.0, 0.0), (0.25, 1.0), (1.0, 4.0), (1, 4.0)])
def test_both_ends_of_the_range_may_be_drawn(
    result: float, expected: float, caplog: pytest.LogCaptureFixture
) -> None:
    assert full_jitter(4.0, Drawing(result)) == expected
    assert caplog.records == []


def test_an_interrupt_while_drawing_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        full_jitter(4.0, Drawing(KeyboardInterrupt()))
