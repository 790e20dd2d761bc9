"""What the tests of retries through a manager share."""

import math
import random
from collections.abc import Callable
from typing import Any

import trio

from trio_conman import RetriableError, RetryConfig


def doubling(**overrides: Any) -> RetryConfig:
    """Delays of 1, 2, 4, … seconds."""
    return RetryConfig.exponential(
        **({"initial_delay": 1, "max_delay": math.inf, "jitter": False} | overrides)
    )


def every(seconds: float, **overrides: Any) -> RetryConfig:
    return RetryConfig.linear(
        **({"initial_delay": seconds, "max_delay": seconds, "backoff_factor": 0} | overrides)
    )


class Flaky:
    """Raises the errors given, one in each call, then returns; notes the times of the calls.

    An error may be given as a function that makes it; the last of them may be repeated for ever.
    """

    def __init__(
        self, *errors: Exception | Callable[[], Exception], forever: bool = False, seconds: float = 0
    ) -> None:
        self.errors = errors
        self.forever = forever
        self.seconds = seconds
        self.calls: list[float] = []

    async def __call__(self) -> str:
        number = len(self.calls)
        self.calls.append(trio.current_time())
        await trio.sleep(self.seconds)
        if number >= len(self.errors):
            if not self.forever:
                return "done"
            number = -1
        error = self.errors[number]
        raise error if isinstance(error, Exception) else error()


def always(**options: Any) -> Flaky:
    return Flaky(lambda: RetriableError("no"), forever=True, **options)


class Scripted(random.Random):
    """Draws the parts given of each interval, the last of them for ever; notes what it was asked for."""

    def __init__(self, *parts: float) -> None:
        super().__init__()
        self.parts = list(parts)
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        part = self.parts.pop(0) if len(self.parts) > 1 else self.parts[0]
        return a + part * (b - a)


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)
