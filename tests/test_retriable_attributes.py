"""What is assigned to a RetriableError later: judged when it is raised, and nonsense harms nobody."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig, StopReason
from trio_conman._policy.decision import Retry, asked_to_wait, decide, real_error
from trio_conman._policy.retry import renew

AT_ONCE = RetryConfig.none()


def verdict(error: Exception, config: RetryConfig = AT_ONCE) -> Retry | StopReason:
    return decide(
        error,
        config=config,
        timed_out=False,
        retries=0,
        first_attempt=0.0,
        now=0.0,
        deadline=math.inf,
        rng=random.Random(1),
    )


class Hostile:
    """Breaks whoever compares it, converts it, or asks whether it is true."""

    def __eq__(self, _: object) -> bool:
        raise RuntimeError

    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __float__ = __repr__ = __eq__  # type: ignore[assignment]  # that is the point
    __hash__ = None  # type: ignore[assignment]  # unhashable, too


class FailingError(RetriableError):
    """Cannot be asked what it wants."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"err", "retry_after"}:
            raise RuntimeError
        return super().__getattribute__(name)


@attrs.define(auto_exc=True)
class SlottedError(RetriableError):
    """Has a slot in place of the attribute."""

    retry_after: Any


class ClassyError(RetriableError):
    """Says it for all of its kind."""

    retry_config: Any = "linear"

    def __init__(self) -> None:
        pass


def assigned(**attributes: Any) -> RetriableError:
    error = RetriableError("busy")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


NO_SECONDS: list[Any] = ["soon", True, 1j, [1], -1, math.nan, 10**400, Hostile(), Fraction(-1, 2)]
NO_CONFIGS: list[Any] = [3, "linear", {}, False, Hostile(), RetryConfig]
NONSENSE: dict[str, RetriableError] = {
    **{f"retry_after={type(value).__name__}": assigned(retry_after=value) for value in NO_SECONDS},
    **{f"retry_config={type(value).__name__}": assigned(retry_config=value) for value in NO_CONFIGS},
    "both": assigned(retry_config=3, retry_after="soon"),
    "property": FailingError("busy"),
    "slot": SlottedError("soon"),
    "class attribute": ClassyError(),
}


@pytest.fixture(autouse=True)
def _unspent() -> Iterator[None]:
    """One test ends tasks with the errors of all."""
    yield
    for error in NONSENSE.values():
        renew(error)


each = pytest.mark.parametrize("error", NONSENSE.values(), ids=NONSENSE)


@each
def test_nonsense_is_logged_and_nothing_is_retried(
    error: RetriableError, caplog: pytest.LogCaptureFixture
) -> None:
    assert verdict(error) is StopReason.ERROR
    ((name, level, text),) = caplog.record_tuples
    assert (name, level) == ("trio_conman", logging.ERROR)
    assert type(error).__qualname__ in text
    assert caplog.records[0].exc_info
    assert real_error(error) is error


@each
def test_one_such_leaf_ends_the_retries_of_a_group(
    error: RetriableError, caplog: pytest.LogCaptureFixture
) -> None:
    group = ExceptionGroup("several", [RetriableError("busy"), error])
    assert verdict(group) is StopReason.ERROR
    assert verdict(group, RetryConfig.none(retry_on=ExceptionGroup)) is StopReason.ERROR
    assert len(caplog.records) == 2


@each
def test_nobody_waits_for_it(error: RetriableError, caplog: pytest.LogCaptureFixture) -> None:
    assert asked_to_wait(error, None) == 0
    assert asked_to_wait(ExceptionGroup("several", [RetriableError("busy", retry_after=3), error]), None) == 3
    assert caplog.records == []  # the decision logs it


@each
async def test_the_task_fails_with_its_own_error(
    autojump_clock: MockClock, error: RetriableError, caplog: pytest.LogCaptureFixture
) -> None:
    async def task() -> None:
        raise error

    rate = RateLimiter(1000)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, retry=AT_ONCE, rate=rate) as cm:
        handle = await cm.run(task)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert outcome.error is error
    assert (outcome.reason, outcome.retries) == (StopReason.ERROR, 0)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "value", ["text", 3, ValueError, KeyboardInterrupt(), Hostile()], ids=lambda v: type(v).__name__
)
def test_what_is_no_exception_is_not_the_error_inside(value: Any) -> None:
    error = assigned(err=value)
    assert real_error(error) is error
    assert verdict(error) == Retry(0, False)


class FalseError(ValueError):
    def __bool__(self) -> bool:
        return False


def test_an_error_inside_may_be_false() -> None:
    inside = FalseError()
    assert real_error(RetriableError(inside)) is inside


def test_what_makes_sense_counts() -> None:
    config = RetryConfig.linear(initial_delay=2, max_delay=2, max_attempts=1)
    assert verdict(assigned(retry_config=config)) == Retry(2, False)
    assert verdict(assigned(retry_after=Fraction(5, 2))) == Retry(2.5, False)
    assert verdict(assigned(retry_after=None, retry_config=None)) == Retry(0, False)
    assert verdict(SlottedError(3)) == Retry(3, False)
    inside = OSError("inside")
    assert real_error(assigned(err=inside)) is inside
