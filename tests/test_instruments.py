"""Instruments: they are told all that happens, harm nobody, and the one that logs."""

import logging
import math
import signal
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.journaled import Memory
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    LoggingInstrument,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)
from trio_conman.testing import Event, FlakyTask, RecordingInstrument

HOOKS = ["task_submitted", "attempt_started", "retry_scheduled", "task_finished"]
RETRY = RetryConfig.linear(initial_delay=2, max_delay=2, max_attempts=1, retry_on=OSError)
variable: ContextVar[str] = ContextVar("variable", default="none")


async def second(_: object = None) -> None:
    await trio.sleep(1)


async def in_a_map(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    async def item(_: int) -> Any:
        return await task()

    async with cm.map(item, [0], name="task") as outcomes:
        async for _ in outcomes:
            pass


async def by_run(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    await cm.run(task, name="task")


async def by_run_nowait(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    cm.run_nowait(task, name="task")


async def by_start_soon(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    cm.start_soon(task, name="task")


doors = pytest.mark.parametrize("enter", [by_run, by_run_nowait, by_start_soon, in_a_map])


# What they are told


@doors
@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 60}, {"rate": RateLimiter(100)}])
async def test_an_instrument_is_told_of_every_step_of_a_task(
    enter: Callable[..., Awaitable[None]], options: dict[str, Any], autojump_clock: MockClock
) -> None:
    recorder = RecordingInstrument()
    task = FlakyTask(OSError("busy"), OSError("late"), "page", seconds=1)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, retry=attrs.evolve(RETRY, max_attempts=2), instruments=[recorder], **options
        ) as cm:
            await enter(cm, task)
    assert recorder.events == [
        Event(0, "task_submitted", "task", 0),
        Event(0, "attempt_started", "task", 0, attempt=1),
        Event(1, "retry_scheduled", "task", 0, error="OSError('busy')", delay=2),
        Event(3, "attempt_started", "task", 0, attempt=2),
        Event(4, "retry_scheduled", "task", 0, error="OSError('late')", delay=2),
        Event(6, "attempt_started", "task", 0, attempt=3),
        Event(7, "task_finished", "task", 0),
    ]


async def test_an_item_is_told_of_with_its_position(autojump_clock: MockClock) -> None:
    recorder = RecordingInstrument()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[recorder]) as cm:
            await cm.run(second)
            async with cm.map(second, "ab", ordered=True) as outcomes:
                assert [outcome.index async for outcome in outcomes] == [0, 1]
    assert [event.index for event in recorder.events if event.hook == "task_submitted"] == [0, 0, 1]


async def test_an_attempt_starts_when_it_has_its_slot_and_its_permit(autojump_clock: MockClock) -> None:
    recorder = RecordingInstrument()
    rate = RateLimiter(1, per=5)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, rate=rate, instruments=[recorder]) as cm:
            for _ in range(3):
                cm.start_soon(second)
    started = [(event.time, event.index) for event in recorder.events if event.hook == "attempt_started"]
    assert started == [(0, 0), (5, 1), (10, 2)]


async def test_a_queued_task_that_is_cancelled_starts_no_attempt(autojump_clock: MockClock) -> None:
    recorder = RecordingInstrument()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[recorder]) as cm:
            for _ in range(2):
                await cm.run(second)
            cm.start_soon(second).cancel()
    hooks = [event.hook for event in recorder.events if event.index == 2]
    assert hooks == ["task_submitted", "task_finished"]


async def test_a_task_is_done_when_its_end_is_told(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    class Looks(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            seen.append((handle.state, handle.outcome is outcome, cm.outcomes()[-1] is outcome))

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[Looks()]) as cm:
            await cm.run(second)
    assert seen == [("done", True, True)]


@doors
@pytest.mark.parametrize("busy", [False, True])
async def test_a_submission_is_told_in_the_context_of_who_handed_it_in(
    busy: bool, enter: Callable[..., Awaitable[None]], autojump_clock: MockClock
) -> None:
    seen: list[str] = []

    class Looks(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            if handle.name == "task":
                seen.append(variable.get())
                variable.set("by the instrument")

    async def task() -> None:
        seen.append(variable.get())

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[Looks()]) as cm:
            if busy and enter is not by_run_nowait:
                for _ in range(2):
                    await cm.run(second)
            variable.set("the submitter's")
            await enter(cm, task)
            assert variable.get() == "the submitter's"
    assert seen == ["the submitter's"] * 2


async def test_what_an_instrument_sets_at_an_attempt_is_for_that_attempt_alone(
    autojump_clock: MockClock,
) -> None:
    seen: list[str] = []

    class Sets(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            seen.append(variable.get())
            variable.set(f"{handle.index}, {attempt}")

    async def task(number: int) -> None:
        await trio.sleep(0)
        seen.append(variable.get())
        if seen[-1] == "0, 1":
            raise OSError

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, retry=RETRY, instruments=[Sets()]) as cm:
            async with cm.map(task, range(3)) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 3
    assert sorted(each for each in seen if each != "none") == ["0, 1", "0, 2", "1, 1", "2, 1"]
    assert seen.count("none") == 4


# They harm nobody


class Unruly(Instrument):
    """Raises in one of its methods, and counts the calls of all."""

    def __init__(self, hook: str, error: type[BaseException]) -> None:
        self.calls: list[str] = []
        self._hook, self._error = hook, error

    def _called(self, hook: str) -> None:
        self.calls.append(hook)
        if hook == self._hook:
            raise self._error("unruly")

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self._called("task_submitted")

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self._called("attempt_started")

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        self._called("retry_scheduled")

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        self._called("task_finished")


@doors
@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("hook", HOOKS)
async def test_one_that_raises_is_logged_and_dropped_and_no_task_notices(
    hook: str,
    error: type[BaseException],
    enter: Callable[..., Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    unruly, recorder = Unruly(hook, error), RecordingInstrument()
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY, instruments=[unruly, recorder]) as cm:
            await enter(cm, FlakyTask(OSError, "page", seconds=1))
            await enter(cm, FlakyTask("page", seconds=1))
    assert (cm.statistics().succeeded, cm.statistics().failed) == (2, 0)
    assert unruly.calls[-1] == hook and unruly.calls.count(hook) == 1
    assert [event.hook for event in recorder.events if event.name == "task"].count("task_finished") == 2
    (logged,) = caplog.records
    assert logged.getMessage() == f"{hook} of an instrument of type Unruly raised; it is not called any more"
    assert logged.exc_info is not None and logged.exc_info[0] is error


async def test_one_that_raises_is_dropped_by_that_manager_alone(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    unruly = Unruly("task_submitted", ValueError)
    async with trio.open_nursery() as nursery:
        async with (
            ConMan[None].open(nursery, instruments=[unruly]) as first,
            ConMan[None].open(nursery, instruments=[unruly]) as other,
        ):
            for cm in (first, first, other):
                await cm.run(second)
    assert unruly.calls == ["task_submitted"] * 2


async def test_those_behind_one_that_is_dropped_hear_of_what_has_happened_meanwhile(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    class Cancels(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            handle.cancel()

    unruly, recorder = Unruly("task_submitted", ValueError), RecordingInstrument()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[Cancels(), unruly, recorder]) as cm:
            cm.pause()
            cm.start_soon(second)
    assert unruly.calls == ["task_submitted"]
    assert [event.hook for event in recorder.events] == ["task_submitted", "task_finished"]
    assert len(caplog.records) == 1


async def test_an_instrument_may_add_tasks_and_cancel_the_manager(autojump_clock: MockClock) -> None:
    class Meddles(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.index == 0:
                cm.start_soon(second)
            elif isinstance(outcome, Success):
                cm.cancel()

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[Meddles()]) as cm:
            await cm.run(second)
            await cm.run(trio.sleep, math.inf)
    assert (cm.statistics().succeeded, cm.statistics().cancelled) == (2, 1)
    assert trio.current_time() == 2


async def test_an_attempt_that_an_instrument_cancels_at_its_start_never_runs(
    autojump_clock: MockClock,
) -> None:
    class Cancels(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            handle.cancel("not wanted")

    ran: list[int] = []

    async def task(number: int) -> None:
        ran.append(number)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, rate=RateLimiter(1), instruments=[Cancels()]) as cm:
            for number in range(2):  # the second one waits for its permit
                cm.start_soon(task, number)
    assert [str(error) for error in cm.errors()] == [
        f"task {task.__qualname__!r} (index {number}) was cancelled: its handle was cancelled: not wanted"
        for number in range(2)
    ]
    assert (ran, trio.current_time()) == ([], 1)


async def test_a_retry_that_an_instrument_cancels_at_its_start_never_runs(autojump_clock: MockClock) -> None:
    class Cancels(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            if attempt == 2:
                handle.cancel("enough")

    task = FlakyTask[None](OSError("busy"), None)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RETRY, instruments=[Cancels()]) as cm:
            handle = cm.start_soon(task, name="task")
            failure = await handle.wait()
            await cm.run(second)  # on the same worker
    assert isinstance(failure, Failure)
    assert (str(failure.error), failure.reason, failure.retries, len(failure.history)) == (
        "task 'task' (index 0) was cancelled: its handle was cancelled: enough",
        StopReason.CANCELLED,
        1,
        1,
    )
    assert (len(task.calls), cm.statistics().succeeded) == (1, 1)


def test_an_interrupt_waits_until_the_instrument_is_through() -> None:
    class Interrupted(Instrument):
        through = False

        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            signal.raise_signal(signal.SIGINT)
            self.through = True

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, instruments=[instrument]) as cm:
                await cm.run(second)

    instrument = Interrupted()
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # in groups or not
        trio.run(main)
    assert isinstance(raised.value, KeyboardInterrupt) or raised.group_contains(KeyboardInterrupt)
    assert instrument.through


@pytest.mark.usefixtures("no_collector")
async def test_an_instrument_keeps_no_outcome_alive(autojump_clock: MockClock) -> None:
    class Local:
        pass

    locals_: list[weakref.ref[Local]] = []

    async def fail() -> None:
        local = Local()
        locals_.append(weakref.ref(local))
        raise ValueError("no")

    async with trio.open_nursery() as nursery:
        instruments = [RecordingInstrument(), Instrument()]
        async with ConMan[None].open(nursery, instruments=instruments) as cm:
            await cm.run(fail)
            await cm.wait()
            assert locals_[0]() is not None
            cm.pop_outcomes()
            assert locals_[0]() is None


# What is refused


class Async(Instrument):
    async def task_finished(self, handle: Any, outcome: Any) -> None:  # type: ignore[override]  # the mistake to be told
        pass


class Lazy(Instrument):
    def pause_changed(self, manager: str, seconds: float) -> Any:
        yield


@pytest.mark.parametrize(
    "given, text",
    [
        (None, "instruments must be an iterable of Instrument objects, not None"),
        (3, "instruments must be an iterable of Instrument objects, not 3"),
        (Instrument(), "instruments must be an iterable of Instrument objects, not <"),
        ("ab", "instruments must be an iterable of Instrument objects, with no 'a'"),
        ([Instrument], "instruments must be an iterable of Instrument objects, with no <class"),
        ([Instrument(), None], "instruments must be an iterable of Instrument objects, with no None"),
        ([Async()], "instruments must have sync methods, but task_finished of <"),
        ([Lazy()], "instruments must have sync methods, but pause_changed of <"),
    ],
)
async def test_what_is_no_instrument_is_refused_at_the_opening(given: Any, text: str) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError) as raised:
            ConMan[None].open(nursery, instruments=given)
    assert str(raised.value).startswith(text)


async def test_an_instrument_is_given_once() -> None:
    recorder = RecordingInstrument()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match=r"^instruments must be different ones, not \(<"):
            ConMan[None].open(nursery, instruments=[recorder, LoggingInstrument(), recorder])


# The one that logs


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


async def test_retries_are_warnings_and_failures_errors(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG, "trio_conman")
    error = ValueError("no")
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY, instruments=[LoggingInstrument()]) as cm:
            await cm.run(FlakyTask[str](RetriableError(OSError("busy")), "secret"), "password", name="good")
            await cm.wait()
            await cm.run(FlakyTask[str](error, seconds=1), "password", name="bad")
            await cm.wait()
            cm.start_soon(trio.sleep_forever, name="late").cancel()
    cancelled = "task 'late' (index 2) was cancelled: its handle was cancelled"
    assert logged(caplog) == [
        ("DEBUG", "good (index 0): submitted"),
        ("DEBUG", "good (index 0): attempt 1 started"),
        ("WARNING", "good (index 0): attempt 1 failed, retry in 2.000 s: OSError: busy"),
        ("DEBUG", "good (index 0): attempt 2 started"),
        ("DEBUG", "good (index 0): succeeded in 2.000 s"),
        ("DEBUG", "bad (index 1): submitted"),
        ("DEBUG", "bad (index 1): attempt 1 started"),
        ("ERROR", "bad (index 1): ValueError: no; not retried; 0 retries, 1.000 s"),
        ("DEBUG", "late (index 2): submitted"),
        ("INFO", f"late (index 2): TaskCancelledError: {cancelled}; cancelled; 0 retries, 0.000 s"),
    ]
    assert {record.name for record in caplog.records} == {"trio_conman"}
    assert "password" not in caplog.text and "secret" not in caplog.text
    fields = ("task_name", "task_index", "attempt", "delay", "error_type", "error", "reason", "retries")
    retry, failure = caplog.records[2].__dict__, caplog.records[7].__dict__
    assert [retry.get(field) for field in fields] == ["good", 0, 1, 2, "OSError", "busy", None, None]
    assert [failure.get(field) for field in fields] == ["bad", 1, None, None, "ValueError", "no", "ERROR", 0]
    assert (failure["waited"], failure["elapsed"], failure["exc_info"][1]) == (0, 1, error)


async def test_a_retry_is_logged_with_the_number_of_the_attempt_that_failed(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    retry = RetryConfig.linear(retry_on=OSError, initial_delay=1, backoff_factor=0, max_attempts=4)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=retry, instruments=[LoggingInstrument()]) as cm:
            await cm.run(FlakyTask[str](OSError, OSError, OSError, "page"), name="task")
    assert [text.partition(",")[0] for _, text in logged(caplog)] == [
        f"task (index 0): attempt {number} failed" for number in (1, 2, 3)
    ]
    assert [vars(record)["attempt"] for record in caplog.records] == [1, 2, 3]


async def test_what_was_recalled_is_logged_as_such(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG, "trio_conman")
    journal = Memory({"1": "value"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, instruments=[LoggingInstrument()], journal=journal) as cm:
            await cm.run(second, 1, name="task")
            await cm.run(second, 2, name="other")
    assert logged(caplog)[::4] == [
        ("DEBUG", "task (index 0): submitted"),
        ("DEBUG", "other (index 1): succeeded in 1.000 s"),
    ]
    assert ("DEBUG", "task (index 0): recalled") in logged(caplog)
    assert [record.__dict__.get("recalled") for record in caplog.records].count(True) == 1


async def test_arguments_are_logged_where_that_is_asked_for(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG, "trio_conman")
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, instruments=[LoggingInstrument(arguments=True)]) as cm:
            await cm.run(FlakyTask[str](ValueError("no")), "/home", "x" * 10_000, name="bad")
    submitted, _, failed = caplog.records
    args = submitted.__dict__["task_args"]
    assert args.startswith("('/home', 'xxx") and len(args) < 200
    assert submitted.getMessage() == f"bad (index 0): submitted; arguments: {args}"
    line = f"bad (index 0): ValueError: no; not retried; 0 retries, 0.000 s; arguments: {args}"
    assert (failed.getMessage(), failed.__dict__["task_args"]) == (line, args)


def test_whether_to_log_arguments_is_a_bool() -> None:
    with pytest.raises(TypeError, match=r"^arguments must be True or False, not 1$"):
        LoggingInstrument(arguments=1)  # type: ignore[arg-type]  # what is refused


async def test_text_in_a_name_or_an_error_is_not_taken_for_a_format(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[LoggingInstrument()]) as cm:
            await cm.run(FlakyTask[None](ValueError("%s\n{0}")), name="100\n%s")
    assert logged(caplog) == [
        ("ERROR", "100 %s (index 0): ValueError: %s {0}; not retried; 0 retries, 0.000 s")
    ]
