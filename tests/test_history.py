"""What is left of retried attempts: a few short texts, however many there were."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, RetriableError, RetriedError, RetryConfig
from trio_conman._base.outcomes import remember

pytestmark = pytest.mark.unmeasured


@asynccontextmanager
async def manager(**options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, **options) as cm:
        yield cm


class Rich(str):  # noqa: SLOT000  # with a dict, as such classes have
    """The text of an error, of a type that may hold and do anything."""

    def __getitem__(self, _: Any) -> NoReturn:
        raise KeyError


def history_of(errors: list[Exception]) -> tuple[RetriedError, ...]:
    history: list[RetriedError] | None = None
    for number, error in enumerate(errors):
        history = remember(history, error, float(number))
    return tuple(history or ())


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 22, 30, 1000])
def test_of_more_than_20_attempts_the_first_and_the_last_ten_are_kept(count: int) -> None:
    everything = [RetriedError("ValueError", f"attempt {n}", n) for n in range(count)]
    history = history_of([ValueError(f"attempt {n}") for n in range(count)])
    assert list(history) == (everything if count <= 20 else everything[:10] + everything[-10:])


@pytest.mark.parametrize("text", ["", "x" * 199, "x" * 200, "two\nlines", Rich("short"), "ä" * 3, "😀" * 200])
def test_a_short_text_is_kept_as_it_is(text: str) -> None:
    (kept,) = history_of([ValueError(text)])
    assert kept.message == text
    assert type(kept.message) is str


@pytest.mark.parametrize("text", ["xy" * 101, "x" * 10**6, Rich("xy" * 101), "😀\n" * 101])
def test_a_long_text_is_cut_at_200_characters(text: str) -> None:
    (kept,) = history_of([ValueError(text)])
    assert kept.message == "".join(text)[:200] if type(text) is str else "xy" * 100
    assert (len(kept.message), type(kept.message)) == (200, str)


def test_the_name_of_a_type_is_cut_too() -> None:
    (kept,) = history_of([type("E" * 10**6, (Exception,), {})("x")])
    assert kept.error_type == "E" * 200


async def test_an_outcome_has_the_ends_of_its_history_and_counts_all(autojump_clock: MockClock) -> None:
    calls = 0

    async def task() -> None:
        nonlocal calls
        calls += 1
        raise RetriableError(ValueError(f"attempt {calls} " + "x" * 1000))

    async with manager(retry=RetryConfig.none(max_attempts=50)) as cm:
        handle = await cm.run(task)
    assert isinstance(handle.outcome, Failure)
    assert handle.retries == handle.outcome.retries == 50
    history = handle.outcome.history
    assert [each.message.split()[1] for each in history] == [str(n) for n in (*range(1, 11), *range(41, 51))]
    assert {len(each.message) for each in history} == {200}


# An error that the client of a service keeps, and raises again and again: Python adds to its traceback.
KEPT = OSError("the connection is lost")


def new() -> NoReturn:
    raise RetriableError(f"busy {'x' * 10_000}")


def chained() -> NoReturn:
    try:
        raise OSError("x" * 10_000)
    except OSError as exc:
        raise RetriableError(ValueError("busy")) from exc


def kept() -> NoReturn:
    raise KEPT


def kept_inside() -> NoReturn:
    try:
        raise KEPT
    except OSError as exc:
        raise RetriableError(RetriableError(exc)) from None


def kept_in_groups() -> NoReturn:
    try:
        raise KEPT
    except OSError as exc:
        raise ExceptionGroup("several", [RetriableError(exc), ExceptionGroup("more", [KEPT])]) from None


def of_new_types() -> NoReturn:
    raise type("E" * 10_000, (RetriableError,), {})("busy")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {"attempt_timeout": 50, "task_timeout": 10**6}, id="timed", marks=pytest.mark.one_python
        ),
    ],
)
@pytest.mark.parametrize("raising", [new, chained, kept, kept_inside, kept_in_groups, of_new_types])
async def test_retries_without_end_need_no_memory(
    autojump_clock: MockClock, raising: Callable[[], NoReturn], options: dict[str, Any]
) -> None:
    many = 300 if raising is of_new_types else 2000 if options else 1000  # types are slow to make
    sizes: list[int] = []

    async def task() -> None:
        calls[0] += 1
        if calls[0] in {100, many}:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        if calls[0] == many:
            return
        await trio.lowlevel.checkpoint()
        raising()

    calls = [0]
    config = RetryConfig.linear(
        max_attempts=math.inf, initial_delay=0.25, max_delay=0.25, backoff_factor=0, retry_on=OSError
    )
    tracemalloc.start()
    try:
        async with manager(retry=config, **options) as cm:
            handle = await cm.run(task)
    finally:
        tracemalloc.stop()
        KEPT.__traceback__ = KEPT.__context__ = None
    assert handle.retries == many - 1
    # Trio keeps up to 1,000 deadlines that are past, some 77,000 bytes. What is left for each attempt is less
    # than any object takes.
    assert sizes[1] - sizes[0] < (110_000 if options else 16_000)
