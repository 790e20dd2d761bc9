"""Outcomes are for `match`, and the checkers see that nothing is left out."""

from typing import Any, TypeVar, assert_never, assert_type

from trio_conman import ConMan, Failure, Outcome, RetriedError, StopReason, Success

T = TypeVar("T")


def by_match(outcome: Outcome[int]) -> str:
    match outcome:
        case Success(value=value):
            assert_type(value, int)
            return str(value)
        case Failure(error=error):
            assert_type(error, Exception)
            return str(error)
        case _:
            assert_never(outcome)


def by_match_without_a_last_case(outcome: Outcome[int]) -> str:
    match outcome:
        case Success(value=value, retries=retries, elapsed=elapsed):
            assert_type(retries, int)
            assert_type(elapsed, float)
            return str(value)
        case Failure(error=OSError() as error, reason=StopReason.RETRIES_EXHAUSTED | StopReason.DEADLINE):
            return error.strerror or ""
        case Failure(reason=reason, history=history):
            assert_type(reason, StopReason)
            assert_type(history, tuple[RetriedError, ...])
            return reason.name


def by_isinstance(outcome: Outcome[str]) -> str:
    if isinstance(outcome, Success):
        assert_type(outcome, Success[str])
        return outcome.value
    assert_type(outcome, Failure)
    return str(outcome.error)


def over_a_list(cm: ConMan[int]) -> list[int]:
    return [outcome.value for outcome in cm.outcomes() if isinstance(outcome, Success)]


def common_fields(outcome: Outcome[int]) -> None:
    assert_type(outcome.index, int)
    assert_type(outcome.name, str)
    assert_type(outcome.args, tuple[Any, ...])
    assert_type(outcome.retries, int)
    assert_type(outcome.waited, float)
    assert_type(outcome.elapsed, float)


def of_a_wider_type(narrow: Success[bool], wide: Outcome[int]) -> list[Outcome[object]]:
    number: Success[int] = narrow
    anything: Outcome[object] = wide
    return [number, anything]


def of_a_generic_function(outcome: Outcome[T], default: T) -> T:
    match outcome:
        case Success(value=value):
            return value
        case Failure():
            return default


def of_any_type(outcome: Outcome[Any]) -> None:
    if isinstance(outcome, Success):
        assert_type(outcome.value, Any)


def history(entry: RetriedError) -> None:
    assert_type(entry.error_type, str)
    assert_type(entry.message, str)
    assert_type(entry.delay, float)


def every_reason(reason: StopReason) -> bool:
    match reason:
        case StopReason.ERROR | StopReason.RETRIES_EXHAUSTED | StopReason.MAX_ELAPSED | StopReason.DEADLINE:
            return True
        case StopReason.ATTEMPT_TIMEOUT | StopReason.TASK_TIMEOUT | StopReason.MANAGER_TIMEOUT:
            return True
        case StopReason.RETRY_AFTER | StopReason.RETRY_BUDGET | StopReason.CANCELLED:
            return False
        case _:
            assert_never(reason)
