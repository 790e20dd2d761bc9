"""What the tests of deadlines share."""

from collections.abc import Callable
from typing import Any

import trio

from trio_conman import Outcome, RetriableError, RetryConfig, StopReason, Success, TaskCancelledError

ATTEMPT_TIMEOUT = (trio.TooSlowError, StopReason.ATTEMPT_TIMEOUT)
TASK_TIMEOUT = (trio.TooSlowError, StopReason.TASK_TIMEOUT)
MANAGER_TIMEOUT = (trio.TooSlowError, StopReason.MANAGER_TIMEOUT)
CANCELLED = (TaskCancelledError, StopReason.CANCELLED)

EVERY_SECOND = RetryConfig.linear(max_attempts=2, initial_delay=1, backoff_factor=0)


def ending(outcome: Outcome[Any] | None) -> Any:
    """A success's value, or the type of a failure's error and its reason."""
    assert outcome is not None
    return outcome.value if isinstance(outcome, Success) else (type(outcome.error), outcome.reason)


async def job(value: Any, seconds: float) -> Any:
    await trio.sleep(seconds)
    return value


class Flaky:
    """Fails in each call, after so many seconds; notes when it was called."""

    def __init__(
        self, seconds: float = 0, error: Callable[[], Exception] = lambda: RetriableError("no")
    ) -> None:
        self.seconds = seconds
        self.error = error
        self.calls: list[float] = []

    async def __call__(self) -> None:
        self.calls.append(trio.current_time())
        await trio.sleep(self.seconds)
        raise self.error()
