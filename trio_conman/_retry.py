"""What is retried, and after which delay: the configs, `RetriableError`, and the pure decision."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack, final

import attrs

from ._backoff import Strategy, backoff, full_jitter
from ._checks import check_bool, check_count, check_number, check_type
from ._outcomes import StopReason

logger = logging.getLogger("trio_conman")

Predicate: TypeAlias = Callable[[Exception], bool | float]
RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Predicate | None


class _Overrides(TypedDict, total=False):
    """The fields of a `RetryConfig`, for the presets."""

    max_attempts: int | float
    initial_delay: float
    backoff_factor: float
    max_delay: float
    jitter: bool
    strategy: Strategy
    max_elapsed: float
    max_retry_after: float
    hold_slot: bool
    retry_on: RetryOn


def _number(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_number(field.name, value)


def _finite(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_number(field.name, value, finite=True)


def _flag(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_bool(field.name, value)


def _attempts(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_count(field.name, value, minimum=1)


def _strategy(_: object, field: attrs.Attribute[Any], value: object) -> None:
    wanted = "'exponential', 'linear' or 'none'"
    check_type(field.name, value, str, wanted)
    if value not in ("exponential", "linear", "none"):
        raise ValueError(f"{field.name} must be {wanted}, not {value!r}")


def _retry_on(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return
    if isinstance(value, (tuple, type)) or not callable(value):
        raise TypeError(
            f"{field.name} must be an Exception type, a tuple of them, a predicate, or None, not {value!r}"
        )


@final
@attrs.frozen(kw_only=True)
class RetryConfig:
    """How a task is retried.

    The delay before a retry is that of `delay`, drawn anew from between 0 and it when `jitter` is on.

    Raises:
        TypeError: a field is of the wrong kind.
        ValueError: a field is out of its range, or ``initial_delay`` is above ``max_delay``.
    """

    max_attempts: int | float = attrs.field(default=5, validator=_attempts)
    """How many *retries* follow the first attempt at most: a task that always fails runs ``1 + max_attempts``
    times. An int of at least 1, or `math.inf`."""
    initial_delay: float = attrs.field(default=0.1, validator=_finite)
    """Seconds before the first retry."""
    backoff_factor: float = attrs.field(default=2.0, validator=_finite)
    """How the delay grows; see `delay`."""
    max_delay: float = attrs.field(default=5.0, validator=_number)
    """Seconds that no delay of the strategy exceeds; applied before the jitter."""
    jitter: bool = attrs.field(default=True, validator=_flag)
    """Whether to draw each delay uniformly from between 0 and its full length ("full jitter")."""
    strategy: Literal["exponential", "linear", "none"] = attrs.field(
        default="exponential", validator=_strategy
    )
    """The formula of `delay`."""
    max_elapsed: float = attrs.field(default=math.inf, validator=_number)
    """Seconds from the start of the first attempt to the end of a delay; a longer delay is not begun."""
    max_retry_after: float = attrs.field(default=60.0, validator=_number)
    """Seconds of ``retry_after`` that are waited for; when asked for more, the task fails."""
    hold_slot: bool = attrs.field(default=False, validator=_flag)
    """Whether a task keeps its slot while it backs off."""
    retry_on: RetryOn = attrs.field(default=None, validator=_retry_on)
    """Which plain exceptions are retried, besides `RetriableError`: a type, a tuple of types, or a predicate.

    A predicate gets the exception and returns True (retry), False (do not), or a delay in seconds that is
    taken as it is, without cap and jitter. One that raises, or returns anything else, is logged, and the task
    fails with its own error.
    """

    def __attrs_post_init__(self) -> None:
        if self.initial_delay > self.max_delay:
            raise ValueError(
                f"initial_delay must be at most max_delay ({self.max_delay!r}), not {self.initial_delay!r}"
            )
        if (
            self.strategy == "exponential"
            and self.backoff_factor == 0
            and self.initial_delay > 0
            and self.max_attempts > 1
        ):
            raise ValueError(
                "backoff_factor must be above 0, not 0: all delays after the first would be none; "
                "use strategy='none' for retries without delay"
            )

    def delay(self, retry: int) -> float:
        """The delay before retry number `retry`, in seconds, without jitter.

        ===========  =====================================================
        strategy     delay before retry n, capped at ``max_delay``
        ===========  =====================================================
        exponential  ``initial_delay * backoff_factor ** (n - 1)``
        linear       ``initial_delay * (1 + backoff_factor * (n - 1))``
        none         0
        ===========  =====================================================

        Args:
            retry: the number of the retry; 1 is the first.

        Raises:
            TypeError: `retry` is no int.
            ValueError: `retry` is below 1.
        """
        if isinstance(retry, bool) or not isinstance(retry, int):
            raise TypeError(f"retry must be an int of at least 1, not {retry!r}")
        if retry < 1:
            raise ValueError(f"retry must be an int of at least 1, not {retry!r}")
        return backoff(
            self.strategy,
            retry,
            initial_delay=self.initial_delay,
            backoff_factor=self.backoff_factor,
            max_delay=self.max_delay,
        )

    @classmethod
    def exponential(cls, **overrides: Unpack[_Overrides]) -> Self:
        """Up to 5 retries after at most 0.1, 0.2, 0.4, 0.8, 1.6 seconds: the defaults of the class.

        Args:
            overrides: fields of the class, in place of these.
        """
        return cls(**overrides)

    @classmethod
    def linear(cls, **overrides: Unpack[_Overrides]) -> Self:
        """Up to 5 retries after 0.2, 0.4, 0.6, 0.8, 1.0 seconds (at most 2), without jitter.

        Args:
            overrides: fields of the class, in place of these.
        """
        preset: _Overrides = {
            "initial_delay": 0.2,
            "backoff_factor": 1.0,
            "max_delay": 2.0,
            "jitter": False,
            "strategy": "linear",
        }
        return cls(**(preset | overrides))

    @classmethod
    def none(cls, **overrides: Unpack[_Overrides]) -> Self:
        """Up to 3 retries without delay.

        Args:
            overrides: fields of the class, in place of these.
        """
        preset: _Overrides = {
            "max_attempts": 3,
            "initial_delay": 0.0,
            "backoff_factor": 0.0,
            "max_delay": 0.0,
            "jitter": False,
            "strategy": "none",
        }
        return cls(**(preset | overrides))


_DEFAULT = RetryConfig()


class RetriableError(Exception):
    """Raised by a task to be run again.

    Args:
        error: the exception that made the attempt fail, which becomes the failure's error when the retries
            end; or a message, and then this `RetriableError` itself does.
        retry_config: how to retry; by default as the task, or else the manager, says, or else
            ``RetryConfig.exponential()``.
        retry_after: seconds to wait at least, as a service asked for; not capped by ``max_delay``.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: `retry_after` is negative or not a number.
    """

    # Defaults in the class, for subclasses whose constructors do not call this one.
    err: Exception | None = None
    """The exception it was made from; None for a message."""
    retry_config: RetryConfig | None = None
    """How to retry; None when the error does not say."""
    retry_after: float | None = None
    """Seconds to wait at least; None for no such wish."""

    def __init__(
        self,
        error: Exception | str,
        *,
        retry_config: RetryConfig | None = None,
        retry_after: float | None = None,
    ) -> None:
        check_type("error", error, (Exception, str), "an Exception or a message")
        if retry_config is not None:
            check_type("retry_config", retry_config, RetryConfig, "a RetryConfig or None")
        if retry_after is not None:
            check_number("retry_after", retry_after)
        super().__init__(error)
        self.err = error if isinstance(error, Exception) else None
        self.retry_config = retry_config
        self.retry_after = retry_after

    def with_exponential_backoff(self) -> Self:
        """Retry by ``RetryConfig.exponential()``. Returns self."""
        return self.with_retry_config(RetryConfig.exponential())

    def with_linear_backoff(self) -> Self:
        """Retry by ``RetryConfig.linear()``. Returns self."""
        return self.with_retry_config(RetryConfig.linear())

    def with_no_backoff(self) -> Self:
        """Retry by ``RetryConfig.none()``. Returns self."""
        return self.with_retry_config(RetryConfig.none())

    def with_retry_config(self, config: RetryConfig) -> Self:
        """Retry by `config`. Returns self.

        Raises:
            TypeError: `config` is no `RetryConfig`.
        """
        check_type("config", config, RetryConfig, "a RetryConfig")
        self.retry_config = config
        return self


def real_error(error: Exception) -> Exception:
    """The error a person wants to see: the one inside a `RetriableError` that has one."""
    return error.err if isinstance(error, RetriableError) and error.err is not None else error


@attrs.frozen
class Retry:
    """The decision to run a task again."""

    delay: float
    """Seconds until then."""
    hold_slot: bool
    """Whether the task keeps its slot meanwhile."""


@attrs.frozen
class _Plan:
    """How one error wants to be retried."""

    config: RetryConfig
    retry_after: float = 0.0
    delay: float | None = None  # chosen by a predicate: taken as it is


def _ask(predicate: Predicate, error: Exception) -> bool | float:
    """A predicate's answer; what it may not answer is logged and means False."""
    try:
        answer = predicate(error)
        if isinstance(answer, bool):
            return answer
        check_number("the delay", answer)
        return float(answer)
    except Exception:
        logger.exception(
            "retry_on raised, or gave no bool or delay, for an error of type %s; not retried",
            type(error).__qualname__,
        )
        return False


def _plan(error: Exception, config: RetryConfig) -> _Plan | None:
    """How one exception, no group, wants to be retried; None when it does not."""
    if isinstance(error, RetriableError):
        return _Plan(error.retry_config or config, error.retry_after or 0.0)
    wanted = config.retry_on
    if wanted is None:
        return None
    if isinstance(wanted, (type, tuple)):
        return _Plan(config) if isinstance(error, wanted) else None
    answer = _ask(wanted, error)
    if isinstance(answer, bool):
        return _Plan(config) if answer else None
    return _Plan(config, delay=answer)


def _leaves(error: Exception) -> Iterator[Exception]:
    """The exceptions in a group of any depth, or the exception itself."""
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, ExceptionGroup):
            stack.extend(error.exceptions)
        else:
            yield error


def _plans(error: Exception, config: RetryConfig) -> list[_Plan]:
    """How an error wants to be retried: a plan for each part of it; none when one part does not want to."""
    wanted = config.retry_on if isinstance(config.retry_on, tuple) else (config.retry_on,)
    groups = tuple(kind for kind in wanted if isinstance(kind, type) and issubclass(kind, ExceptionGroup))
    plans = []
    stack = [error]
    while stack:
        part = stack.pop()
        plan: _Plan | None
        if isinstance(part, groups):
            leaves = (leaf for leaf in _leaves(part) if isinstance(leaf, RetriableError))
            plan = _Plan(config, max((leaf.retry_after or 0.0 for leaf in leaves), default=0.0))
        elif isinstance(part, ExceptionGroup):
            stack.extend(part.exceptions)
            continue
        else:
            plan = _plan(part, config)
        if plan is None:
            return []
        plans.append(plan)
    return plans


def _delay(plan: _Plan, retry: int, rng: random.Random) -> float:
    if plan.delay is not None:
        return plan.delay
    delay = plan.config.delay(retry)
    if plan.config.jitter and delay > 0:
        delay = full_jitter(delay, rng)
    return max(delay, float(plan.retry_after))


def decide(
    error: Exception,
    *,
    config: RetryConfig | None,
    timed_out: bool,
    retries: int,
    first_attempt: float,
    now: float,
    deadline: float,
    rng: random.Random,
) -> Retry | StopReason:
    """Whether a task that failed with `error` runs again, and when; or the reason why it does not.

    The first reason that holds is given, in the order of the checks below.

    Args:
        error: what the attempt raised.
        config: the task's config, or else its manager's, or None. An error's own config goes before it.
        timed_out: whether `error` stands for the library's own ``attempt_timeout``.
        retries: how many retries the task has made, whatever the configs were.
        first_attempt: when the first attempt started, on the clock of `now` and `deadline`.
        now: the time.
        deadline: when the task ends in any case.
        rng: where jitter comes from.
    """
    spent = StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED
    if timed_out:
        if config is None:
            return spent
        plans = [_Plan(config)]
    else:
        plans = _plans(error, config or _DEFAULT)
        if not plans:
            return StopReason.ERROR
    if any(retries >= plan.config.max_attempts for plan in plans):
        return spent
    if any(plan.retry_after > plan.config.max_retry_after for plan in plans):
        return StopReason.RETRY_AFTER
    delay = max(_delay(plan, retries + 1, rng) for plan in plans)
    end = now + delay
    if any(now - first_attempt + delay > plan.config.max_elapsed for plan in plans):
        return StopReason.MAX_ELAPSED
    # A delay that ends on the deadline is of no use: the attempt would be cancelled as it starts.
    if end >= deadline:
        return StopReason.DEADLINE
    return Retry(delay, any(plan.config.hold_slot for plan in plans))
