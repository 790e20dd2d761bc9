"""Configs and retriable errors."""

import math
from collections.abc import Callable
from typing import Literal, assert_type

import attrs

from trio_conman import RetriableError, RetryConfig


def configs(strategy: Literal["exponential", "linear", "none"]) -> None:
    for make in (RetryConfig, RetryConfig.exponential, RetryConfig.linear, RetryConfig.none):
        assert_type(make(), RetryConfig)
        make(max_attempts=3)
    RetryConfig(
        max_attempts=math.inf,
        initial_delay=1,
        backoff_factor=2,
        max_delay=math.inf,
        jitter=False,
        strategy=strategy,
        max_elapsed=60,
        max_retry_after=5,
        hold_slot=True,
        retry_on=OSError,
    )


def presets(strategy: Literal["exponential", "linear", "none"]) -> None:
    assert_type(
        RetryConfig.exponential(
            max_attempts=3,
            initial_delay=1,
            backoff_factor=2,
            max_delay=math.inf,
            jitter=False,
            strategy=strategy,
            max_elapsed=60,
            max_retry_after=5,
            hold_slot=True,
            retry_on=(OSError, KeyError),
        ),
        RetryConfig,
    )
    assert_type(
        RetryConfig.linear(
            max_attempts=math.inf,
            initial_delay=0.5,
            backoff_factor=0.5,
            max_delay=10.0,
            jitter=True,
            strategy=strategy,
            max_elapsed=math.inf,
            max_retry_after=0.5,
            hold_slot=False,
            retry_on=lambda error: isinstance(error, OSError),
        ),
        RetryConfig,
    )
    assert_type(
        RetryConfig.none(
            max_attempts=1,
            initial_delay=0,
            backoff_factor=0,
            max_delay=0,
            jitter=False,
            strategy="none",
            max_elapsed=0,
            max_retry_after=0,
            hold_slot=True,
            retry_on=None,
        ),
        RetryConfig,
    )


def is_transient(error: Exception) -> bool:
    return isinstance(error, OSError)


def wait_for(error: Exception) -> bool | float:
    return 3.0 if isinstance(error, OSError) else False


def seconds(error: BaseException) -> float:
    return 1 if error.args else 0


class Judge:
    def __call__(self, error: Exception, /) -> bool:
        return True

    def judge(self, error: Exception) -> bool:
        return True


def what_to_retry(own: Callable[[Exception], bool], several: tuple[type[Exception], ...]) -> None:
    RetryConfig(retry_on=ConnectionError)
    RetryConfig(retry_on=(ConnectionError, TimeoutError))
    RetryConfig(retry_on=several)
    RetryConfig(retry_on=ExceptionGroup)
    RetryConfig(retry_on=is_transient)
    RetryConfig(retry_on=wait_for)
    RetryConfig(retry_on=seconds)
    RetryConfig(retry_on=own)
    RetryConfig(retry_on=Judge())
    RetryConfig(retry_on=Judge().judge)
    RetryConfig(retry_on=lambda error: 1.5 if error.args else False)


def fields(config: RetryConfig) -> None:
    assert_type(config.max_attempts, int | float)
    assert_type(config.initial_delay, float)
    assert_type(config.backoff_factor, float)
    assert_type(config.max_delay, float)
    assert_type(config.jitter, bool)
    assert_type(config.strategy, Literal["exponential", "linear", "none"])
    assert_type(config.max_elapsed, float)
    assert_type(config.max_retry_after, float)
    assert_type(config.hold_slot, bool)
    assert_type(config.delay(3), float)
    assert_type(attrs.evolve(config, max_attempts=3), RetryConfig)


class BusyError(RetriableError):
    pass


def retriable_errors(cause: Exception, config: RetryConfig) -> None:
    error = RetriableError(cause)
    assert_type(error.err, Exception | None)
    assert_type(error.retry_config, RetryConfig | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.with_exponential_backoff(), RetriableError)
    assert_type(error.with_linear_backoff(), RetriableError)
    assert_type(error.with_no_backoff(), RetriableError)
    assert_type(error.with_retry_config(config), RetriableError)
    assert_type(BusyError("text").with_linear_backoff(), BusyError)
    assert_type(BusyError("text").with_retry_config(config), BusyError)
    RetriableError("text", retry_config=config, retry_after=1)
    RetriableError("text", retry_config=None, retry_after=None)
    raise RetriableError(cause).with_no_backoff() from cause
