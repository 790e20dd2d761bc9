"""Success and Failure: plain, frozen values to match on."""

from __future__ import annotations

import pickle
from typing import Any, assert_never, get_args, get_origin

import attrs
import pytest

from trio_conman import Failure, Outcome, RetriedError, StopReason, Success


def success(value: Any = 7, **changes: Any) -> Success[Any]:
    fields: dict[str, Any] = {
        "index": 3,
        "name": "fetch",
        "args": ("url",),
        "retries": 1,
        "waited": 0.5,
        "elapsed": 2.0,
    }
    return Success(value=value, **(fields | changes))


def failure(error: Exception, **changes: Any) -> Failure:
    fields: dict[str, Any] = {
        "reason": StopReason.RETRIES_EXHAUSTED,
        "history": (RetriedError("OSError", "no route", 0.25),),
        "index": 3,
        "name": "fetch",
        "args": ("url",),
        "retries": 1,
        "waited": 0.5,
        "elapsed": 2.0,
    }
    return Failure(error=error, **(fields | changes))


class Array:
    """Equal element by element, as arrays are: what comes out of a comparison is no bool; unhashable."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # unhashable, as arrays are


COMMON = ["index", "name", "args", "retries", "waited", "elapsed"]


def test_outcomes_have_exactly_the_promised_fields() -> None:
    assert {field.name for field in attrs.fields(Success)} == {"value", "recalled", *COMMON}
    assert {field.name for field in attrs.fields(Failure)} == {"error", "reason", "history", *COMMON}
    assert [field.name for field in attrs.fields(RetriedError)] == ["error_type", "message", "delay"]


def test_stop_reasons_are_the_promised_ones_and_no_two_are_the_same() -> None:
    names = [
        "ERROR",
        "RETRIES_EXHAUSTED",
        "MAX_ELAPSED",
        "DEADLINE",
        "ATTEMPT_TIMEOUT",
        "TASK_TIMEOUT",
        "MANAGER_TIMEOUT",
        "RETRY_AFTER",
        "RETRY_BUDGET",
        "CANCELLED",
    ]
    # An alias would not be among the members.
    assert [reason.name for reason in StopReason] == names


@pytest.mark.parametrize(
    "value",
    [success(), failure(ValueError("x")), RetriedError("OSError", "no route", 0.25)],
    ids=["success", "failure", "retried"],
)
def test_fields_cannot_be_changed_or_added(value: Any) -> None:
    for name in [*(field.name for field in attrs.fields(type(value))), "another"]:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_outcomes_are_compared_by_identity_and_hashable_whatever_they_hold() -> None:
    array = Array()
    one, other = success(array, args=(array,)), success(array, args=(array,))
    assert one == one
    assert one != other
    error = ValueError("x")
    lost, also_lost = failure(error, args=(array,)), failure(error, args=(array,))
    assert lost == lost
    assert lost != also_lost
    assert len({one, other, lost, also_lost}) == 4
    assert [other, lost, one].index(one) == 2


def test_equal_records_of_retried_errors_are_equal() -> None:
    assert RetriedError("OSError", "no route", 0.25) == RetriedError("OSError", "no route", 0.25)
    assert RetriedError("OSError", "no route", 0.25) != RetriedError("OSError", "no route", 0.5)
    assert len({RetriedError("OSError", "no route", 0.25), RetriedError("OSError", "no route", 0.25)}) == 1


def describe(outcome: Outcome[int]) -> str:
    match outcome:
        case Success(value=value, retries=retries):
            return f"{value} after {retries} retries"
        case Failure(error=OSError() as error, reason=StopReason.RETRIES_EXHAUSTED):
            return f"gave up on {error}"
        case Failure(error=error, reason=reason):
            return f"{error!r}: {reason.value}"
        case _:
            assert_never(outcome)


@pytest.mark.parametrize(
    "outcome, text",
    [
        (success(7), "7 after 1 retries"),
        (success(None, retries=0), "None after 0 retries"),
        (failure(OSError("no route")), "gave up on no route"),
        (failure(OSError("no route"), reason=StopReason.DEADLINE), "OSError('no route'): deadline"),
        (failure(KeyError("k")), "KeyError('k'): retries exhausted"),
    ],
)
def test_outcomes_are_for_match(outcome: Outcome[int], text: str) -> None:
    assert describe(outcome) == text


def test_an_error_is_a_failure_also_when_it_was_returned() -> None:
    error = ValueError("a value like any other")
    assert describe(success(error)).startswith("a value like any other")


def test_outcomes_take_their_fields_over_a_pickle() -> None:
    kept = pickle.loads(pickle.dumps(success([1, 2])))
    assert attrs.asdict(kept) == attrs.asdict(success([1, 2]))
    lost = pickle.loads(pickle.dumps(failure(KeyError("k"))))
    assert (repr(lost.error), lost.reason) == ("KeyError('k')", StopReason.RETRIES_EXHAUSTED)
    assert lost.history == (RetriedError("OSError", "no route", 0.25),)
    assert pickle.loads(pickle.dumps(list(StopReason))) == list(StopReason)


def test_a_class_of_outcomes_can_be_parametrised() -> None:
    assert isinstance(success(), Success)
    assert get_origin(Success[int]) is Success
    alias: Any = Outcome
    assert get_args(alias[int]) == (Success[int], Failure)
