"""summarize and Tally: what a person wants to know at the end."""

from __future__ import annotations

import gc
import weakref
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, Outcome, RetriableError, RetryConfig, StopReason, Success
from trio_conman.reports import Tally, summarize


def success(
    name: str = "task", *, retries: int = 0, elapsed: float = 0.0, recalled: bool = False
) -> Success[None]:
    return Success(
        None, index=0, name=name, args=(), retries=retries, waited=0.0, elapsed=elapsed, recalled=recalled
    )


def failure(
    error: Exception, name: str = "task", reason: StopReason = StopReason.ERROR, *, retries: int = 0
) -> Failure:
    return Failure(error, reason, (), index=0, name=name, args=(), retries=retries, waited=0.0, elapsed=0.0)


async def job(number: int) -> int:
    await trio.sleep(number)
    if number % 4 == 1:
        raise RetriableError(ConnectionError(f"{number} is busy"))
    if number == 6:
        raise ValueError
    return number


async def test_says_what_became_of_the_tasks(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, retry=RetryConfig.none(max_attempts=2)) as cm:
            for number in range(8):
                await cm.run(job, number, name=f"job {number}")
    text = [
        "succeeded    5",
        "failed       3",
        "             2 x ConnectionError, retries exhausted; the first: job 1 (index 1): 1 is busy",
        "             1 x ValueError, error; the first: job 6 (index 6)",
    ]
    end = ["retries      4", "slowest      15.00 s, job 5 (index 5)"]
    assert summarize(cm.outcomes()).splitlines() == [*text, *end]
    assert summarize(iter(cm.outcomes()), total=8).splitlines() == [*text, *end]
    assert summarize(cm.outcomes(), total=1_008).splitlines() == [*text, "not started  1,000", *end]


def test_what_was_recalled_and_what_was_cancelled_are_told_apart() -> None:
    tally = Tally()
    for outcome in (
        success(),
        success(recalled=True),
        failure(OSError("no")),
        failure(OSError("no"), reason=StopReason.CANCELLED),
        failure(OSError("no"), reason=StopReason.CANCELLED),
    ):
        tally.add(outcome)
    assert str(tally).splitlines()[:2] == [
        "succeeded    2, 1 of them recalled",
        "failed       3, 2 of them cancelled",
    ]
    assert (tally.succeeded, tally.recalled, tally.failed, tally.cancelled) == (2, 1, 3, 2)


def test_of_nothing_there_is_little_to_say() -> None:
    assert summarize([]).splitlines() == ["succeeded    0", "failed       0", "retries      0"]
    assert summarize([], total=2).splitlines()[2] == "not started  2"


async def test_what_a_consumer_could_not_take_is_told_where_it_is_added(autojump_clock: MockClock) -> None:
    tally = Tally(total=10)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, timeout=3) as cm, cm.map(trio.sleep, [2] * 10) as outcomes:
            async for outcome in outcomes:
                tally.add(outcome)
    assert str(tally).splitlines()[1:3] == ["failed       0", "not started  8"]
    for outcome in cm.outcomes():
        tally.add(outcome)
    lines = str(tally).splitlines()
    assert (lines[1], lines[3]) == ("failed       2", "not started  6")


def test_the_slowest_may_have_taken_no_time() -> None:
    assert summarize([success("first"), success("second")]).splitlines()[-1] == (
        "slowest      0.00 s, first (index 0)"
    )


def test_tells_20_kinds_of_failures_apart() -> None:
    tally = Tally()
    kinds = [type(f"Error{n}", (Exception,), {}) for n in range(25)]
    for _ in range(2):
        for kind in kinds:
            tally.add(failure(kind("so"), kind.__name__))
    lines = str(tally).splitlines()[2:-2]
    assert lines[0] == f"{'':13}10 x of other kinds; the first: Error20 (index 0): so"
    assert lines[1:] == [f"{'':13}2 x Error{n}, error; the first: Error{n} (index 0): so" for n in range(20)]


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class OddGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> tuple[Exception, ...]:
        return (self,)


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("two\nlines"), "two lines"),
        (ValueError("x" * 300), "x" * 200 + "…"),
        (ValueError("a task fails"), None),
        (UnreadableError(), "(its text could not be had)"),
        (
            ExceptionGroup("in a nursery", [ExceptionGroup("it", [OSError("no"), KeyError()]), KeyError()]),
            "in a nursery (2 sub-exceptions): OSError: no",
        ),
        (ExceptionGroup("in a nursery", [KeyError()]), "in a nursery (1 sub-exception): KeyError"),
        (
            ExceptionGroup("it", [type("E" * 300, (Exception,), {})()]),
            "it (1 sub-exception): " + "E" * 200 + "…",
        ),
        (OddGroup("x" * 200, [ValueError("y" * 300)]), "x" * 200 + "…: ValueError: " + "y" * 200 + "…"),
    ],
)
def test_each_kind_of_failure_is_one_line(error: Exception, said: str | None) -> None:
    lines = summarize([failure(error, "a\ntask")]).splitlines()
    first = "a task fails" if said is None else f"a task (index 0): {said}"  # the name need not be told twice
    assert lines[2] == f"{'':13}1 x {type(error).__qualname__}, error; the first: {first}"
    assert len(lines) == 5


def test_the_name_of_a_kind_is_cut() -> None:
    kind = type("Error" * 100, (Exception,), {})
    lines = summarize([failure(kind("so"))]).splitlines()
    assert lines[2] == f"{'':13}1 x {'Error' * 40}…, error; the first: task (index 0): so"


def test_reasons_tell_kinds_apart() -> None:
    reasons = list(StopReason)
    lines = summarize(failure(OSError("no"), reason=each) for each in reasons).splitlines()
    assert [line.partition(" x ")[2] for line in lines[2:-2]] == [
        f"OSError, {each.value}; the first: task (index 0): no" for each in reasons
    ]


def test_a_tally_keeps_no_outcome() -> None:
    tally = Tally()
    error = UnreadableError()
    outcomes: list[Outcome[Any]] = [success("slow", retries=3, elapsed=2.0), failure(error, retries=1)]
    seen = [weakref.ref(each) for each in (error, *outcomes)]
    for each in outcomes:
        tally.add(each)
    del error, each
    outcomes.clear()
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]
    assert (tally.succeeded, tally.failed, tally.retries) == (1, 1, 4)
    assert str(tally).endswith("slowest      2.00 s, slow (index 0)")


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^outcome must be a Success or a Failure, not 3$"):
        Tally().add(3)  # type: ignore[arg-type]  # the mistake to be told
    with pytest.raises(ValueError, match=r"^total must be an int of at least 0, or None, not -1$"):
        summarize([], total=-1)
    with pytest.raises(TypeError, match=r"^total must be an int of at least 0"):
        Tally(total="3")  # type: ignore[arg-type]  # the mistake to be told
    with pytest.raises(TypeError, match=r"^total must be an int of at least 0, or None, not inf$"):
        Tally(total=inf)  # type: ignore[arg-type]  # nothing is so many tasks that are not started
    with pytest.raises(TypeError, match=r"^outcomes must be an iterable of outcomes, not 3$"):
        summarize(3)  # type: ignore[arg-type]  # the mistake to be told
