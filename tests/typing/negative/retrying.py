"""What configs and retriable errors refuse."""

from trio_conman import RetriableError, RetryConfig


def fields() -> None:
    RetryConfig(5)  # error
    RetryConfig(max_attempts="5")  # error
    RetryConfig(initial_delay="1")  # error
    RetryConfig(backoff_factor=None)  # error
    RetryConfig(max_delay=None)  # error
    RetryConfig(jitter="full")  # error
    RetryConfig(strategy="fibonacci")  # error
    RetryConfig(max_elapsed=None)  # error
    RetryConfig(max_retry_after="60")  # error
    RetryConfig(hold_slot=1)  # error
    RetryConfig(retries=5)  # error


def presets() -> None:
    RetryConfig.exponential(5)  # error
    RetryConfig.exponential(max_attempts="5")  # error
    RetryConfig.exponential(retries=5)  # error
    RetryConfig.linear(strategy="fibonacci")  # error
    RetryConfig.linear(retry_on=5)  # error
    RetryConfig.linear(attempts=5)  # error
    RetryConfig.none(jitter="full")  # error
    RetryConfig.none(delay=5)  # error


def wrong_predicate(error: Exception) -> str:
    return str(error)


def narrow_predicate(error: OSError) -> bool:
    return True


async def slow_predicate(error: Exception) -> bool:
    return True


def what_to_retry() -> None:
    RetryConfig(retry_on=BaseException)  # error
    RetryConfig(retry_on=KeyboardInterrupt)  # error
    RetryConfig(retry_on=(OSError, KeyboardInterrupt))  # error
    RetryConfig(retry_on=[OSError])  # error
    RetryConfig(retry_on=OSError())  # error
    RetryConfig(retry_on=int)  # error
    RetryConfig(retry_on=True)  # error
    RetryConfig(retry_on=wrong_predicate)  # error
    RetryConfig(retry_on=narrow_predicate)  # error
    RetryConfig(retry_on=slow_predicate)  # error
    RetryConfig(retry_on=lambda: True)  # error
    RetryConfig(retry_on=lambda error: None)  # error


def use(config: RetryConfig) -> None:
    config.max_attempts = 3  # error
    config.delay("1")  # error
    config.delay(1.5)  # error


def retriable_errors(config: RetryConfig) -> None:
    RetriableError()  # error
    RetriableError(5)  # error
    RetriableError(KeyboardInterrupt())  # error
    RetriableError(ValueError)  # error
    RetriableError("text", config)  # error
    RetriableError("text", retry_config="linear")  # error
    RetriableError("text", retry_after="5")  # error
    RetriableError("text", retries=5)  # error
    RetriableError("text").with_retry_config(None)  # error
    RetriableError("text").with_linear_backoff(5)  # error


class Own(RetryConfig):  # error
    pass
