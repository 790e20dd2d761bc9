"""What is retried, and after which delay: the configs, and `RetriableError`."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack, final
from weakref import WeakValueDictionary

import attrs

from trio_conman._base.checks import (
    check_bool,
    check_choice,
    check_count,
    check_int,
    check_number,
    check_sync,
    check_type,
)
from trio_conman._base.explained import explained
from trio_conman._base.texts import short

from .backoff import Strategy, backoff

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


# Kept as floats: a NumPy number would round, or overflow, and so would what is compared with it.
def _number(config: object, field: attrs.Attribute[Any], value: object) -> None:
    object.__setattr__(config, field.name, check_number(field.name, value))


def _finite(config: object, field: attrs.Attribute[Any], value: object) -> None:
    object.__setattr__(config, field.name, check_number(field.name, value, finite=True))


def _flag(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_bool(field.name, value)


def _attempts(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_count(field.name, value, minimum=0)


def _strategy(_: object, field: attrs.Attribute[Any], value: object) -> None:
    check_choice(field.name, value, "exponential", "linear", "none")


def _retry_on(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return
    wanted = "an Exception type, a tuple of them, a sync predicate, or None"
    if isinstance(value, (tuple, type)):
        raise TypeError(f"{field.name} must be {wanted}, not {short(value)}")
    check_sync(field.name, value, wanted)


@final
@attrs.frozen(kw_only=True)
class RetryConfig:
    """How a task is retried.

    The delay before a retry is that of `delay`, drawn anew from between 0 and it when `jitter` is on.

    Raises:
        TypeError: a field is of the wrong kind.
        ValueError: a field is out of its range.
    """

    max_attempts: int | float = attrs.field(default=5, validator=_attempts)
    """How many *retries* follow the first attempt at most: a task that always fails runs ``1 + max_attempts``
    times. An int of at least 0, or `math.inf`; 0 is no retries."""
    initial_delay: float = attrs.field(default=0.1, validator=_finite)
    """Seconds before the first retry, capped at ``max_delay`` like the others; finite, at least 0."""
    backoff_factor: float = attrs.field(default=2.0, validator=_finite)
    """How the delay grows, see `delay`; finite, at least 0. 0 is refused where it would leave an exponential
    ``strategy`` no delay but the first."""
    max_delay: float = attrs.field(default=5.0, validator=_number)
    """Seconds that no delay of the strategy exceeds; applied before the jitter. 0 makes tests quick;
    `math.inf` is no bound."""
    jitter: bool = attrs.field(default=True, validator=_flag)
    """Whether to draw each delay uniformly from between 0 and its full length ("full jitter")."""
    strategy: Literal["exponential", "linear", "none"] = attrs.field(
        default="exponential", validator=_strategy
    )
    """The formula of `delay`."""
    max_elapsed: float = attrs.field(default=math.inf, validator=_number)
    """Seconds from the start of the first attempt to the end of a delay and, where there is a rate, to the
    permit of the retry; a longer wait is not begun. `math.inf` is no bound."""
    max_retry_after: float = attrs.field(default=120.0, validator=_number)
    """Seconds of ``retry_after`` that are waited for; when asked for more, the task fails. `math.inf` is no
    bound."""
    hold_slot: bool = attrs.field(default=False, validator=_flag)
    """Whether a task keeps its slot while it backs off."""
    retry_on: RetryOn = attrs.field(default=None, validator=_retry_on)
    """Which plain exceptions are retried, besides `RetriableError`: a type, a tuple of types, or a predicate.

    A predicate, which cannot be async, gets the exception and returns True (retry), False (do not), or a
    delay in seconds that is taken as it is, without cap and jitter. One that raises, or returns anything
    else, is logged, and the task fails with its own error.
    """

    def __attrs_post_init__(self) -> None:
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
        return backoff(
            self.strategy,
            check_int("retry", retry, minimum=1),
            initial_delay=self.initial_delay,
            backoff_factor=self.backoff_factor,
            max_delay=self.max_delay,
        )

    @classmethod
    def exponential(cls, **overrides: Unpack[_Overrides]) -> Self:
        """Up to 5 retries after at most 0.1, 0.2, 0.4, 0.8, 1.6 seconds: the defaults of the class.

        Args:
            overrides: fields of the class, in place of these.

        Raises:
            TypeError, ValueError: as for the class.
        """
        return cls(**overrides)

    @classmethod
    def linear(cls, **overrides: Unpack[_Overrides]) -> Self:
        """Up to 5 retries after 0.2, 0.4, 0.6, 0.8, 1.0 seconds (at most 2), without jitter.

        Args:
            overrides: fields of the class, in place of these.

        Raises:
            TypeError, ValueError: as for the class.
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

        Raises:
            TypeError, ValueError: as for the class.
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


_RETRIES = "use max_attempts=..., which counts the retries after the first attempt"
_INSTEAD: dict[str, str] = dict.fromkeys(["attempts", "max_retries", "retries"], _RETRIES)


RetryConfig.__init__ = explained(_INSTEAD.get)(  # type: ignore[method-assign]  # attrs has written it
    RetryConfig.__init__
)


class RetriableError(Exception):
    """Raised by a task to be run again.

    Make a new one for each ``raise``: one that has ended a task, itself or in a group, asks for no more, and
    is an ordinary error where `TaskHandle.result` or a ``raise`` brings it into another task. What is
    assigned to its attributes is looked at when the attempt has failed; nonsense is logged, and the task
    fails with the error.

    Args:
        error: the exception that made the attempt fail, which becomes the failure's error when the retries
            end; or a message, and then this `RetriableError` itself does.
        retry_config: how to retry. Default: as the task, or else the manager, says, or else
            ``RetryConfig.exponential()``.
        retry_after: seconds to wait at least, as a service asked for; not capped by ``max_delay``. Where the
            manager has a rate, everybody waits: ``rate=RateLimiter.unlimited()`` does nothing else. Default:
            no such wish.

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
    # How much of them the service did not ask for: it is waited for, but not compared with max_retry_after.
    _margin: float = 0.0

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


# Those that ended a task, by their id. With a slot for it no subclass could be an OSError as well; what is in
# an object's dict, its copies have too.
_spent: WeakValueDictionary[int, RetriableError] = WeakValueDictionary()


def is_spent(error: RetriableError) -> bool:
    """Whether it has ended a task, and so asks for nothing any more."""
    return _spent.get(id(error)) is error


def spend(error: Exception) -> None:
    """An error has ended a task: what it is made of asks for no more, wherever it is raised again."""
    for each in made_of(error):
        if isinstance(each, RetriableError):
            _spent[id(each)] = each


def renew(error: Exception) -> None:
    """An error is to be raised as if it were a new one."""
    for each in made_of(error):
        _spent.pop(id(each), None)


def inner(error: Exception) -> Exception | None:
    """The exception that a `RetriableError` was made from, if there is one."""
    if isinstance(error, RetriableError):
        with suppress(Exception):  # anything can be assigned to an attribute
            err: object = error.err
            if isinstance(err, Exception):
                return err
    return None


def made_of(error: Exception) -> list[Exception]:
    """An exception, and all those in it: in a group, of any depth, and in a `RetriableError`."""
    if not isinstance(error, (RetriableError, ExceptionGroup)):
        return [error]  # as most are
    found: dict[int, Exception] = {id(error): error}
    stack: list[Exception] = [error]
    while stack:
        each = stack.pop()
        parts = each.exceptions if isinstance(each, ExceptionGroup) else ()
        for part in (*parts, inner(each)):
            if part is not None and id(part) not in found:
                found[id(part)] = part
                stack.append(part)
    return list(found.values())
