"""Matches that leave something out, and misuse of outcomes."""

# ruff: noqa: B018
# What is wrong with these lines is for the type checkers to say.

from typing import assert_never

from trio_conman import Failure, Outcome, StopReason, Success


def only_success(outcome: Outcome[int]) -> None:
    match outcome:
        case Success():
            pass
        case _:
            assert_never(outcome)  # error


def not_every_failure(outcome: Outcome[int]) -> None:
    match outcome:
        case Success(value=value):
            print(value)
        case Failure(error=ValueError()):
            pass
        case _:
            assert_never(outcome)  # error


def no_last_case(outcome: Outcome[int]) -> str:  # error
    match outcome:  # error: pyright
        case Failure():
            return ""


def not_every_reason(reason: StopReason) -> None:
    match reason:
        case StopReason.ERROR | StopReason.CANCELLED:
            pass
        case _:
            assert_never(reason)  # error


def fields(outcome: Outcome[int], success: Success[int], failure: Failure) -> None:
    outcome.value  # error
    outcome.error  # error
    success.error  # error
    failure.value  # error
    success.value = 3  # error
    failure.retries = 3  # error
    success.value.upper()  # error
    reason: str = failure.reason  # error
    print(reason, StopReason.TIMEOUT)  # error


def narrower(wide: Success[int], outcome: Outcome[str]) -> None:
    flag: Success[bool] = wide  # error
    number: Outcome[int] = outcome  # error
    print(flag, number)


class OwnSuccess(Success[int]):  # error
    pass


class OwnFailure(Failure):  # error
    pass
