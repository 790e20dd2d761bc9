"""The decision to retry a group: its leaves decide, unless its type is named."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.judged import DOUBLING, group, retriable, slow, verdict
from trio_conman import RetriableError, RetryConfig, StopReason
from trio_conman._policy.decision import Retry, real_error


class OwnGroup(ExceptionGroup[Exception]):
    pass


@pytest.mark.parametrize(
    "error",
    [
        group(retriable()),
        group(retriable(), retriable()),
        group(group(retriable()), group(group(retriable(), retriable()))),
        OwnGroup("own", [retriable()]),
    ],
    ids=str,
)
def test_a_group_is_retried_when_all_its_leaves_are_retriable(error: Exception) -> None:
    assert verdict(error, DOUBLING, retries=1) == Retry(2, False)


@pytest.mark.parametrize(
    "error",
    [
        group(ValueError("x")),
        group(retriable(), ValueError("x")),
        group(ValueError("x"), retriable()),
        group(group(retriable()), group(group(ValueError("x"), retriable()))),
    ],
    ids=str,
)
def test_a_group_with_a_leaf_that_is_not_retriable_is_not_retried(error: Exception) -> None:
    assert verdict(error, DOUBLING) is StopReason.ERROR
    assert verdict(error, attrs.evolve(DOUBLING, retry_on=OSError)) is StopReason.ERROR


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), lambda error: isinstance(error, OSError)])
def test_retry_on_speaks_for_the_leaves_of_a_group(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    assert verdict(group(OSError(), group(retriable(), ConnectionError())), config) == Retry(1, False)
    assert verdict(group(OSError(), group(retriable(), ValueError())), config) is StopReason.ERROR


def test_a_predicate_is_asked_about_leaves_never_about_the_group(record: list[Any]) -> None:
    def ask(error: Exception) -> float:
        record.append(error)
        return len(record)

    one, other = OSError("one"), KeyError("other")
    config = RetryConfig(retry_on=ask)
    assert verdict(group(one, group(retriable(), other)), config) == Retry(2, False)
    assert len(record) == 2
    assert set(record) == {one, other}


def test_a_broken_predicate_for_one_leaf_ends_the_whole_group(caplog: pytest.LogCaptureFixture) -> None:
    config = attrs.evolve(DOUBLING, retry_on=lambda error: {"good": True}[str(error)])
    assert verdict(group(OSError("good"), retriable()), config) == Retry(1, False)
    assert verdict(group(OSError("good"), OSError("bad")), config) is StopReason.ERROR
    assert len(caplog.records) == 1


def test_the_longest_delay_of_a_group_counts() -> None:
    short, long = retriable(config=slow(2)), retriable(config=slow(7))
    for error in (group(short, long), group(long, short), group(group(long), short)):
        assert verdict(error, DOUBLING) == Retry(7, False)
    assert verdict(group(short, retriable(retry_after=30)), DOUBLING) == Retry(30, False)
    config = attrs.evolve(DOUBLING, retry_on=lambda error: 9)
    assert verdict(group(short, long, OSError("x")), config) == Retry(9, False)


def test_the_strictest_leaf_of_a_group_counts() -> None:
    patient = retriable(config=slow(1, max_attempts=10))
    for strict, reason in [
        (retriable(config=slow(1, max_attempts=3)), StopReason.RETRIES_EXHAUSTED),
        (
            retriable(retry_after=5, config=slow(1, max_attempts=10, max_retry_after=4)),
            StopReason.RETRY_AFTER,
        ),
        (retriable(config=slow(1, max_attempts=10, max_elapsed=0.5)), StopReason.MAX_ELAPSED),
    ]:
        for error in (group(patient, strict), group(strict, patient), group(patient, group(strict))):
            assert verdict(error, retries=3) is reason


def test_max_elapsed_of_one_leaf_is_held_against_the_longest_delay_of_all() -> None:
    error = group(retriable(config=slow(1, max_elapsed=2)), retriable(config=slow(3)))
    assert verdict(error) is StopReason.MAX_ELAPSED


def test_a_group_holds_its_slot_when_one_leaf_does() -> None:
    error = group(retriable(config=slow(1, hold_slot=True)), retriable(config=slow(2)))
    assert verdict(error) == Retry(2, True)


@pytest.mark.parametrize("retry_on", [ExceptionGroup, (OSError, ExceptionGroup), (ExceptionGroup, OwnGroup)])
@pytest.mark.parametrize(
    "error",
    [group(ValueError("x")), group(group(ValueError("x")), KeyError()), OwnGroup("own", [ValueError("x")])],
)
def test_a_group_of_a_named_type_is_retried_whatever_is_inside(error: Exception, retry_on: Any) -> None:
    assert verdict(error, attrs.evolve(DOUBLING, retry_on=retry_on)) == Retry(1, False)


def test_a_named_group_type_is_that_type_and_its_subclasses_only() -> None:
    config = attrs.evolve(DOUBLING, retry_on=OwnGroup)
    assert verdict(OwnGroup("own", [ValueError("x")]), config) == Retry(1, False)
    assert verdict(group(ValueError("x")), config) is StopReason.ERROR
    assert verdict(ValueError("x"), config) is StopReason.ERROR
    # Exception names every type, but no group type: the leaves decide.
    assert verdict(group(retriable(), ValueError("x")), attrs.evolve(DOUBLING, retry_on=Exception)) == Retry(
        1, False
    )


def test_what_the_leaves_of_a_named_group_ask_for_is_a_floor_too() -> None:
    config = attrs.evolve(DOUBLING, retry_on=ExceptionGroup)
    assert verdict(group(ValueError("x"), retriable(retry_after=50)), config) == Retry(50, False)
    assert verdict(group(ValueError("x"), retriable(retry_after=121)), config) is StopReason.RETRY_AFTER
    soon = attrs.evolve(config, initial_delay=0.25)
    for quiet in (group(ValueError("x"), retriable()), group(ValueError("x"))):
        assert verdict(quiet, soon) == Retry(0.25, False)


def test_the_longest_wait_that_the_leaves_of_a_named_group_ask_for_counts() -> None:
    config = attrs.evolve(DOUBLING, retry_on=ExceptionGroup)
    for longest, expected in ((50, Retry(50, False)), (121, StopReason.RETRY_AFTER)):
        short, long = retriable(retry_after=20), retriable(retry_after=longest)
        for error in (group(short, long), group(long, short), group(group(long), short)):
            assert verdict(error, config) == expected


def test_a_retriable_error_made_from_a_group_is_retriable() -> None:
    inner = group(ValueError("x"))
    assert verdict(RetriableError(inner), DOUBLING) == Retry(1, False)
    assert real_error(RetriableError(inner)) is inner


def test_groups_nested_deeper_than_the_stack_are_judged() -> None:
    def nested(leaf: Exception) -> Exception:
        for _ in range(3000):
            leaf = group(leaf)
        return leaf

    # As names of their own: pytest must not print such a thing.
    good = verdict(nested(retriable()), DOUBLING)
    bad = verdict(nested(ValueError("x")), DOUBLING)
    assert (good, bad) == (Retry(1, False), StopReason.ERROR)
