"""What the tests of configs, of RetriableError and of the decision to retry share."""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from trio_conman import RetriableError, RetryBudget, RetryConfig, StopReason
from trio_conman._policy.decision import Retry, decide

HUGE = 10**400  # more than any float holds
# Delays that show which config was used: 1, 2, 4, 8, 16.
DOUBLING = RetryConfig(initial_delay=1, max_delay=1000, jitter=False)


class Highest(random.Random):
    """Draws the whole delay each time, so that the jitter changes nothing."""

    def random(self) -> float:
        return 1.0


class Ambiguous:
    """Like an array: what comes out of a comparison is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    __ge__ = __gt__ = __le__ = __lt__ = __eq__
    __hash__ = None  # type: ignore[assignment]  # unhashable, as arrays are

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __repr__(self) -> str:
        return "array([1, 2])"


def verdict(
    error: Exception,
    config: RetryConfig | None = None,
    *,
    timed_out: bool = False,
    retries: int = 0,
    first_attempt: float = 0.0,
    now: float = 0.0,
    deadline: float = math.inf,
    permit: float = -math.inf,
    rng: random.Random | None = None,
    budget: RetryBudget | None = None,
) -> Retry | StopReason:
    return decide(
        error,
        config=config,
        timed_out=timed_out,
        retries=retries,
        first_attempt=first_attempt,
        now=now,
        deadline=deadline,
        permit=lambda deadline, latest: permit,
        rng=rng or Highest(),
        budget=budget,
    )


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def retriable(retry_after: float | None = None, config: RetryConfig | None = None) -> RetriableError:
    return RetriableError("busy", retry_config=config, retry_after=retry_after)


def slow(delay: Any, **changes: Any) -> RetryConfig:
    """A config with one and the same delay before each retry."""
    fields = {"initial_delay": delay, "backoff_factor": 1, "max_delay": delay, "jitter": False}
    return RetryConfig(**(fields | changes))


async def asking(*_: object) -> bool:
    return True


async def yielding(*_: object) -> AsyncIterator[bool]:
    yield True


class Asking:
    async def __call__(self, *_: object) -> bool:
        return True

    async def ask(self, _: Exception) -> bool:
        return True

    @staticmethod
    async def say(_: Exception) -> bool:
        return True


class Yielding:
    async def __call__(self, _: Exception) -> AsyncIterator[bool]:
        yield True


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


ways = pytest.mark.parametrize(
    "way", [through_pickle, copy.copy, copy.deepcopy], ids=lambda way: way.__name__
)


def raised(error: Exception, cause: Exception | None) -> Exception:
    """An error as it is after `raise error from cause` while another was handled."""
    try:
        try:
            raise KeyError("the context")
        except KeyError:
            raise error from cause
    except Exception as caught:
        return caught
