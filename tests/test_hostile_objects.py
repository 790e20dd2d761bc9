"""What users hand in may raise from all that it is asked: nobody loses an outcome, or a slot, by it."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import pickle
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from tests.hostile import Hostile, HostileError
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    LoggingInstrument,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    Success,
)

RETRY = RetryConfig.linear(max_attempts=2, initial_delay=1, retry_on=HostileError)


LOGGER = logging.getLogger("trio_conman")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[logging.LogRecord]]:
    """What is logged, and not formatted: for a traceback Python asks an exception whether it is true."""
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(LOGGER, "callHandlers", records.append)
    LOGGER.setLevel(logging.DEBUG)
    yield records
    LOGGER.setLevel(logging.NOTSET)


def failing(error: Exception) -> Callable[[], Any]:
    async def task() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return task


def instruments() -> list[Instrument]:
    """All that there are."""
    from rich.console import Console

    from trio_conman.progress import RichProgress
    from trio_conman.telemetry import OpenTelemetryInstrument

    progress = RichProgress(console=Console(file=io.StringIO()))
    return [LoggingInstrument(arguments=True), progress, OpenTelemetryInstrument()]


async def test_an_error_that_cannot_be_shown_or_compared_is_an_outcome(
    autojump_clock: MockClock, logged: list[logging.LogRecord]
) -> None:
    error = HostileError()
    with pytest.raises(ZeroDivisionError):
        pickle.dumps(error)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RETRY, instruments=instruments()) as cm:
            await cm.run(failing(error), name="hostile")
    (outcome,) = cm.outcomes()
    assert isinstance(outcome, Failure)
    assert outcome.error is error
    assert (outcome.reason, outcome.retries, outcome.elapsed) == (StopReason.RETRIES_EXHAUSTED, 2, 3.0)
    assert [retried.message for retried in outcome.history] == ["(its text could not be had)"] * 2
    text = "hostile (index 0): HostileError: (its text could not be had); no retry left of max_attempts"
    assert str(outcome).startswith(text)
    with pytest.raises(ExceptionGroup) as raised:
        cm.raise_errors()
    assert raised.value.exceptions[0] is error
    # No instrument was dropped for it.
    assert not [record for record in logged if "not called any more" in record.getMessage()]
    assert [record.levelname for record in logged if record.levelno >= logging.WARNING] == [
        "WARNING",
        "WARNING",
        "ERROR",
    ]


@pytest.mark.parametrize(
    "wrap",
    [
        RetriableError,
        lambda error: ExceptionGroup("", [error, error]),
        lambda error: ExceptionGroup("", [RetriableError(error)]),
    ],
    ids=["retriable", "group", "group of retriable"],
)
async def test_an_error_inside_another_is_retried_all_the_same(
    autojump_clock: MockClock, wrap: Callable[[Exception], Exception]
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RETRY, instruments=[LoggingInstrument()]) as cm:
            await cm.run(failing(wrap(HostileError())))
    (outcome,) = cm.outcomes()
    assert (outcome.retries, isinstance(outcome, Failure)) == (2, True)
    assert repr(outcome).startswith("<Failure ")


async def test_errors_that_end_the_manager_need_not_be_shown() -> None:
    error = HostileError()

    async def main(nursery: trio.Nursery) -> None:
        async with ConMan[None].open(nursery, max_errors=0) as cm:
            await cm.run(failing(error))
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        # Inside: trio's own nursery cannot be left by what has no repr.
        with pytest.raises(ExceptionGroup) as raised:
            await main(nursery)
    assert raised.value.exceptions[0] is error


@pytest.mark.parametrize(
    "answer",
    [HostileError(), Hostile(), "yes", math.nan, -1, 1j, None, [], object()],
    ids=["raises", "hostile", "text", "nan", "negative", "complex", "None", "list", "object"],
)
async def test_a_predicate_that_is_broken_costs_the_retry_only(
    answer: Any, logged: list[logging.LogRecord]
) -> None:
    def predicate(_: Exception) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    error = ValueError("the task's own")
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RetryConfig(retry_on=predicate)) as cm:
            await cm.run(failing(error))
            await cm.run(trio.sleep, 0)
    failure, success = sorted(cm.outcomes(), key=lambda outcome: outcome.index)
    assert isinstance(failure, Failure) and isinstance(success, Success)
    assert (failure.error, failure.reason, failure.retries) == (error, StopReason.ERROR, 0)
    assert len(logged) == 1


@pytest.mark.parametrize(
    "drawn",
    [HostileError(), Hostile(), "x", math.nan, -1.0, 2.0, None],
    ids=["raises", "hostile", "text", "nan", "negative", "above", "None"],
)
async def test_a_jitter_source_that_is_broken_costs_the_jitter_only(
    drawn: Any, autojump_clock: MockClock, logged: list[logging.LogRecord]
) -> None:
    class Broken(random.Random):
        def random(self) -> Any:
            if isinstance(drawn, Exception):
                raise drawn
            return drawn

    retry = RetryConfig(max_attempts=1, initial_delay=4, retry_on=HostileError)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=retry, rng=Broken()) as cm:
            await cm.run(failing(HostileError()))
    (outcome,) = cm.outcomes()
    assert (outcome.retries, outcome.elapsed) == (1, 4.0)
    assert logged


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_an_iterable_that_raises_loses_nothing_that_it_gave(asynchronous: bool) -> None:
    error = HostileError()

    def source() -> Iterator[Hostile]:
        yield Hostile()
        yield Hostile()
        raise error

    async def async_source() -> AsyncIterator[Hostile]:
        for each in source():
            yield each

    async def task(item: Hostile) -> Hostile:
        return item

    taken: list[Any] = []

    async def take(cm: ConMan[Hostile]) -> None:
        async with cm.map(task, async_source() if asynchronous else source()) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome)

    async with trio.open_nursery() as nursery, ConMan[Hostile].open(nursery, 2) as cm:
        with pytest.raises(HostileError) as raised:
            await take(cm)
    assert raised.value is error
    assert [type(outcome) for outcome in taken] == [Success, Success]
    assert all(type(outcome.args[0]) is Hostile and outcome.value is outcome.args[0] for outcome in taken)
    assert [repr(outcome) for outcome in taken]


@pytest.mark.parametrize("raised", [HostileError(), SystemExit(3), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("hook", ["task_submitted", "attempt_started", "retry_scheduled", "task_finished"])
async def test_an_instrument_that_raises_is_dropped_and_no_task_notices(
    hook: str, raised: BaseException, autojump_clock: MockClock, logged: list[logging.LogRecord]
) -> None:
    class Broken(Instrument):
        pass

    def method(self: Broken, *_: object) -> None:
        raise raised

    setattr(Broken, hook, method)
    left = iter([HostileError()])

    async def task() -> str:
        for error in left:
            raise error
        return "done"

    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY, instruments=[Broken()]) as cm:
            await cm.run(task)
            await cm.run(task)
    assert cm.outputs() == ["done", "done"]
    assert len([record for record in logged if record.levelno == logging.ERROR]) == 1


async def test_a_callable_whose_attributes_raise_is_refused_by_its_own_error_and_takes_nothing() -> None:
    class Callable:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

        async def __call__(self) -> None:
            pass

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        with contextlib.suppress(ZeroDivisionError):
            await cm.run(Callable())
        statistics = cm.statistics()
        assert statistics.submitted == statistics.succeeded


async def test_an_error_that_is_false_is_logged_with_its_traceback(logged: list[logging.LogRecord]) -> None:
    class EmptyError(Exception):
        def __len__(self) -> int:
            return 0

    error = EmptyError("no items")
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[LoggingInstrument()]) as cm:
            await cm.run(failing(error))
    (record,) = [record for record in logged if record.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[1] is error


async def test_a_log_handler_that_raises_harms_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def emit(record: logging.LogRecord) -> None:
        raise ZeroDivisionError

    def predicate(_: Exception) -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(LOGGER, "callHandlers", emit)
    error = KeyError("the task's own")
    retry = RetryConfig(retry_on=predicate)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=retry, instruments=[LoggingInstrument()]) as cm:
            await cm.run(failing(error))
    assert cm.errors() == [error]


async def test_an_error_that_is_frozen_is_retried_as_any_other(nursery: trio.Nursery) -> None:
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

        def with_traceback(self, traceback: TracebackType | None) -> NoReturn:
            raise ZeroDivisionError

    error = FrozenError(503)
    async with ConMan[None].open(nursery, retry=RetryConfig.none(retry_on=FrozenError)) as cm:
        outcome = await (await cm.run(failing(error))).wait()
    assert isinstance(outcome, Failure)
    assert (outcome.error, outcome.retries, outcome.reason) == (error, 3, StopReason.RETRIES_EXHAUSTED)


class Sneaky(float):
    """A number that becomes a plain one when it is asked to, and does nothing else."""

    def __float__(self) -> float:
        return 5.0

    def _raise(self, *_: object) -> NoReturn:
        raise ZeroDivisionError

    __add__ = __radd__ = __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __ne__ = __repr__ = _raise
    __hash__ = float.__hash__


@pytest.mark.parametrize("option", ["attempt_timeout", "task_timeout"])
async def test_a_number_is_taken_for_what_it_says_to_be(option: str, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {option: Sneaky(1)}
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, timeout=Sneaky(9), **options) as cm:
            await cm.run(trio.sleep_forever)
            await cm.run(trio.sleep_forever, **options)
    assert trio.current_time() == 5.0
    assert [type(error) for error in cm.errors()] == [trio.TooSlowError] * 2


def test_so_is_a_number_of_a_budget() -> None:
    budget = RetryBudget(Sneaky(1), Sneaky(1))
    budget._refund()
    assert repr(budget) == "<RetryBudget, 5 of 5 tokens left>"
    statistics = budget.statistics()
    assert (type(statistics.tokens), type(statistics.ratio)) == (float, float)


class Unspeakable(str):
    """A text that says what it is to nobody but `str`."""

    __slots__ = ()

    def _raise(self, *_: object) -> NoReturn:
        raise ZeroDivisionError

    __format__ = __repr__ = __str__ = __eq__ = __bool__ = __len__ = _raise
    __hash__ = str.__hash__


async def test_a_text_is_taken_for_its_characters(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with ConMan[None].open(nursery, 2, name=Unspeakable("mine")) as cm:
        running = await cm.run(trio.sleep_forever, name=Unspeakable("endless"))
        await cm.run(trio.sleep_forever)
        queued = cm.start_soon(trio.sleep_forever, name=Unspeakable("never"))
        for handle in (running, queued):
            handle.cancel(Unspeakable("enough"))
        await running.wait()
        cm.cancel(Unspeakable("all of it"))
    assert [str(error) for error in cm.errors()] == [
        "task 'never' (index 2) was cancelled: its handle was cancelled: enough",
        "task 'endless' (index 0) was cancelled: its handle was cancelled: enough",
        "task 'sleep_forever' (index 1) was cancelled: 'mine' was cancelled: all of it",
    ]


async def test_a_task_whose_name_is_no_plain_text_has_that_of_its_type(nursery: trio.Nursery) -> None:
    class Job:
        async def __call__(self) -> None: ...

    job = Job()
    job.__qualname__ = Unspeakable("job")  # type: ignore[attr-defined]  # as a wrapper sets it
    async with ConMan[None].open(nursery, 2) as cm:
        await cm.run(job)
    assert [outcome.name for outcome in cm.outcomes()] == [Job.__qualname__]
