"""Parameters are checked where they are given: a wrong kind is a TypeError, a wrong range a ValueError."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from trio_conman import AdaptiveLimit, KeyedLimit, RateLimiter, RetryConfig
from trio_conman._base.checks import (
    check_bool,
    check_choice,
    check_count,
    check_limit,
    check_number,
    check_type,
    deferral,
)
from trio_conman.executors import restarting

# More than any float holds.
HUGE = 10**400


class Ambiguous:
    """Like an array: compares element by element, and the result is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    __ge__ = __gt__ = __le__ = __lt__ = __ne__ = __eq__
    __hash__ = None  # type: ignore[assignment]  # unhashable, as arrays are

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __float__(self) -> float:
        raise TypeError("only arrays of one element are numbers")

    def __repr__(self) -> str:
        return "array([1, 2])"


def raises(kind: type[Exception], value: object) -> Any:
    """Refused as `kind`, in a message that names the parameter first and the value last."""
    return pytest.raises(kind, match=rf"^field must be .*, not {re.escape(repr(value))}$")


@pytest.mark.parametrize("value", [1, "text", None, ValueError])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    with raises(TypeError, value):
        check_type("field", value, (float, Exception), "a float or an exception")


def test_a_value_of_one_of_the_types_passes() -> None:
    check_type("field", 1.0, (float, Exception), "a float or an exception")
    check_type("field", KeyError(), (float, Exception), "a float or an exception")


@pytest.mark.parametrize("value", [0, 1, None, "yes", math.nan, Ambiguous()], ids=repr)
def test_only_true_and_false_are_bools(value: object) -> None:
    with raises(TypeError, value):
        check_bool("field", value)
    check_bool("field", True)
    check_bool("field", False)


def test_only_the_choices_are_taken_as_plain_texts() -> None:
    class Text(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    assert check_choice("field", "b", "a", "b") == "b"
    assert type(check_choice("field", Text("a"), "a", "b")) is str
    for value, kind in [(Text("x"), ValueError), ("A", ValueError), (None, TypeError), (b"a", TypeError)]:
        with pytest.raises(kind, match=rf"^field must be 'a', 'b' or 'c', not {re.escape(repr(value))}$"):
            check_choice("field", value, "a", "b", "c")


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize(
    "value", [True, False, None, "1", b"1", 1j, [1], (1,), Decimal(1), object, Ambiguous()], ids=repr
)
def test_what_is_no_real_number_is_of_the_wrong_kind(value: object, finite: bool) -> None:
    with raises(TypeError, value):
        check_number("field", value, finite=finite)


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("value", [-1, -1e-300, -math.inf, math.nan, -math.nan, Fraction(-1, 3)], ids=repr)
def test_a_negative_or_undefined_number_is_out_of_range(value: object, finite: bool) -> None:
    with raises(ValueError, value):
        check_number("field", value, finite=finite)


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("value", [HUGE, -HUGE, Fraction(HUGE)], ids=["int", "negative", "fraction"])
def test_a_number_that_no_float_can_hold_is_out_of_range(value: object, finite: bool) -> None:
    with pytest.raises(ValueError, match=r"^field must be .*, not \D*10+\.\.\.0+\D*\d?\)?$"):
        check_number("field", value, finite=finite)


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("value", [0, 0.0, -0.0, 3, 0.5, 1e308, 5e-324, Fraction(1, 3)], ids=repr)
def test_numbers_from_zero_up_pass(value: object, finite: bool) -> None:
    check_number("field", value, finite=finite)


class Broken(float):
    def __float__(self) -> float:
        raise KeyError


def test_a_number_that_cannot_be_read_is_of_the_wrong_kind() -> None:
    with raises(TypeError, Broken(1)) as raised:
        check_number("field", Broken(1))
    assert isinstance(raised.value.__cause__, KeyError)


def test_infinity_is_a_number_where_it_need_not_be_finite() -> None:
    check_number("field", math.inf)
    with raises(ValueError, math.inf):
        check_number("field", math.inf, finite=True)


@pytest.mark.parametrize("minimum", [1, 2])
@pytest.mark.parametrize(
    "value", [True, None, "2", 2.0, 2.5, math.nan, Decimal(2), Fraction(2), 2j, Ambiguous()], ids=repr
)
def test_what_is_no_int_is_no_count(value: object, minimum: int) -> None:
    with raises(TypeError, value):
        check_count("field", value, minimum=minimum)


@pytest.mark.parametrize("value, minimum", [(0, 1), (-1, 1), (1, 2), (0, 2), (-(10**9), 1)])
def test_a_count_below_the_minimum_is_out_of_range(value: int, minimum: int) -> None:
    with raises(ValueError, value):
        check_count("field", value, minimum=minimum)


@pytest.mark.parametrize(
    "value", [2, 3, HUGE, math.inf, float("inf")], ids=["minimum", "more", "huge", "inf", "made"]
)
def test_ints_from_the_minimum_up_and_infinity_are_counts(value: float) -> None:
    check_count("field", value, minimum=2)


@pytest.mark.parametrize(
    "check",
    [
        lambda value: check_number("field", value),
        lambda value: check_count("field", value, minimum=1),
        lambda value: check_bool("field", value),
    ],
    ids=["number", "count", "bool"],
)
def test_a_message_says_what_would_do(check: Callable[[object], None]) -> None:
    with pytest.raises(TypeError, match=r"^field must be (a number of|an int of|True or False).*, not 'x'$"):
        check("x")


@pytest.mark.parametrize("value", [2, HUGE, math.inf], ids=["2", "huge", "inf"])
def test_limits_pass(value: float) -> None:
    check_limit(value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_below_1_is_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=rf"^limit must be an int of at least 2, or math.inf, not {value}$"):
        check_limit(value)


def test_for_a_limit_of_1_the_way_out_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^limit must be .*trio\.CapacityLimiter\(1\) runs one at a time\), not 1$"
    ):
        check_limit(1)


@pytest.mark.parametrize("value", [True, 1.0, "1", Fraction(1), Ambiguous()], ids=repr)
def test_what_only_looks_like_1_is_of_the_wrong_kind(value: object) -> None:
    with pytest.raises(TypeError, match=r"^limit must be an int of at least 2, or math.inf, not "):
        check_limit(value)


class Counted:
    def __call__(self) -> None:
        pass

    async def work(self) -> None:
        pass


async def work() -> None:
    pass


async def stream() -> AsyncIterator[None]:
    yield


def generator() -> Iterator[None]:
    yield


class Lazy:
    def __call__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    "fn, expected",
    [
        *[(print, None), (len, None), (Counted, None), (Counted(), None), (lambda _: work(), None)],
        *[(partial(print), None), (partial(partial(Counted())), None), (Counted().__call__, None)],
        *[(contextmanager(generator), None), (Lazy, None)],
        *[(each, "async") for each in (work, Counted().work, Counted.work, partial(partial(work)), stream)],
        *[(each, "a generator function") for each in (generator, Lazy(), partial(generator))],
    ],
)
def test_callables_whose_calls_run_nothing_are_told_from_others(
    fn: Callable[..., object], expected: str | None
) -> None:
    assert deferral(fn) == expected


@pytest.mark.parametrize(
    "name, take",
    [
        ("retry_on", lambda fn: RetryConfig(retry_on=fn)),
        ("cost", lambda fn: RateLimiter(1, cost=fn)),
        ("key", lambda fn: KeyedLimit(1, key=fn)),
        ("overloaded", lambda fn: AdaptiveLimit(overloaded=fn)),
        ("factory", restarting),
    ],
)
def test_a_generator_function_is_refused_where_a_value_is_wanted(
    name: str, take: Callable[[Callable[..., Any]], object]
) -> None:
    with pytest.raises(
        TypeError, match=rf"^{name} must be .*, not a generator function, as <function generator"
    ):
        take(generator)
