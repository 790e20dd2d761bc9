"""RetriableError: what it is made from, how it reads, and what it leaves alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.judged import DOUBLING, group, raised, verdict, ways
from trio_conman import RetriableError, RetryConfig
from trio_conman._base.texts import short
from trio_conman._policy.decision import Retry, real_error


@pytest.mark.parametrize(
    "inner", [ValueError("x"), KeyError("k"), OSError(2, "no such file"), group(OSError())]
)
def test_a_retriable_error_made_from_an_error_reads_like_it(inner: Exception) -> None:
    error = RetriableError(inner)
    assert error.err is inner
    assert str(error) == str(inner)
    assert real_error(error) is inner
    assert (error.retry_config, error.retry_after) == (None, None)


@pytest.mark.parametrize("message", ["busy", ""])
def test_a_retriable_error_made_from_a_message_is_itself_the_error(message: str) -> None:
    error = RetriableError(message)
    assert error.err is None
    assert str(error) == message
    assert real_error(error) is error


def test_other_errors_are_themselves_the_error() -> None:
    for error in (ValueError("x"), group(RetriableError(ValueError("x")))):
        assert real_error(error) is error


@pytest.mark.parametrize(
    "value",
    [None, 1, b"busy", ValueError, KeyboardInterrupt(), BaseExceptionGroup("g", [KeyboardInterrupt()])],
)
def test_a_retriable_error_is_made_from_nothing_else(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^error must be .*, not {re.escape(short(value))}$"):
        RetriableError(value)


@pytest.mark.parametrize("value", [0, False, "linear", RetryConfig, {}])
def test_its_config_is_checked(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^retry_config must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy", retry_config=value)


@pytest.mark.parametrize("value", [0, None, "linear", RetryConfig])
def test_a_config_given_later_is_checked_too(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^config must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy").with_retry_config(value)


@pytest.mark.parametrize(
    "kind, value",
    [(TypeError, True), (TypeError, "1"), (TypeError, 1j), (ValueError, -1), (ValueError, math.nan)],
)
def test_its_retry_after_is_checked(kind: type[Exception], value: Any) -> None:
    with pytest.raises(kind, match=rf"^retry_after must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy", retry_after=value)


def test_options_of_a_retriable_error_are_given_by_name_only() -> None:
    arguments: list[Any] = ["busy", RetryConfig()]
    with pytest.raises(TypeError, match="positional"):
        RetriableError(*arguments)


@pytest.mark.parametrize(
    "method, config",
    [
        (RetriableError.with_exponential_backoff, RetryConfig.exponential()),
        (RetriableError.with_linear_backoff, RetryConfig.linear()),
        (RetriableError.with_no_backoff, RetryConfig.none()),
        (lambda error: error.with_retry_config(DOUBLING), DOUBLING),
    ],
)
def test_the_with_methods_set_the_config_and_return_the_error(
    method: Callable[[RetriableError], RetriableError], config: RetryConfig
) -> None:
    error = RetriableError("busy", retry_config=RetryConfig(max_attempts=1), retry_after=3)
    assert method(error) is error
    assert (error.retry_config, error.retry_after, error.args) == (config, 3, ("busy",))


class OwnError(RetriableError):
    pass


@ways
@pytest.mark.parametrize("kind", [RetriableError, OwnError])
@pytest.mark.parametrize("inner", ["busy", OSError(2, "no such file")])
def test_a_retriable_error_is_copied_with_its_fields(
    way: Callable[[Any], Any], kind: type[RetriableError], inner: Exception | str
) -> None:
    error = kind(inner, retry_after=2.5).with_linear_backoff()
    vars(error)["tag"] = "mine"
    error.add_note("and a note")
    copied = way(error)
    assert type(copied) is kind
    assert repr(copied) == repr(error)
    assert (copied.retry_config, copied.retry_after) == (RetryConfig.linear(), 2.5)
    assert (vars(copied)["tag"], copied.__notes__) == ("mine", ["and a note"])
    assert copied.err is (copied.args[0] if isinstance(inner, Exception) else None)
    assert str(copied) == str(error)


@pytest.mark.parametrize("cause", [OSError("the cause"), None])
@pytest.mark.parametrize("inner", ["busy", ValueError("x")])
def test_cause_context_and_traceback_are_left_alone(inner: Exception | str, cause: Exception | None) -> None:
    error = RetriableError(inner)
    raised(error, cause)
    before = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    assert before[0] is cause
    error.with_linear_backoff().with_no_backoff().with_exponential_backoff().with_retry_config(DOUBLING)
    assert verdict(error) == Retry(1, False)
    assert verdict(group(error)) == Retry(1, False)
    assert real_error(error) in (error, inner)
    after = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    assert all(one is other for one, other in zip(before, after, strict=True))
    if isinstance(inner, Exception):
        assert (inner.__cause__, inner.__context__, inner.__traceback__) == (None, None, None)


@attrs.define(auto_exc=True)
class BusyError(RetriableError):
    """Its `__init__` does not call the one of `RetriableError`: attrs writes such, and so do many people."""

    host: str


def test_a_subclass_with_a_constructor_of_its_own_is_retried() -> None:
    error = BusyError("example.org")
    assert verdict(error, DOUBLING) == Retry(1, False)
    assert real_error(error) is error
    assert (error.err, error.retry_config, error.retry_after) == (None, None, None)
    assert verdict(error.with_no_backoff(), DOUBLING) == Retry(0, False)
