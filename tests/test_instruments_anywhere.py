"""Instruments where it is hard to be one: outside of trio tasks, at the end of the stack, in a broken log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, Instrument, Outcome, StopReason, TaskHandle
from trio_conman.testing import RecordingInstrument

HOOKS = ["task_submitted", "attempt_started", "retry_scheduled", "task_finished"]


class InTasks(Instrument):
    """Records the hooks that it is called by, and asserts that trio can be used there."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def _record(self, hook: str, handle: TaskHandle[Any]) -> None:
        assert trio.lowlevel.in_trio_task()
        assert trio.current_effective_deadline() != 0
        self.told.append((hook, handle.index))

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self._record("submitted", handle)

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self._record("started", handle)

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        self._record("finished", handle)


@pytest.mark.parametrize("send_to", [False, True], ids=["kept", "sent"])
@pytest.mark.parametrize("whose", ["the manager's", "a scope around", "the nursery's"])
async def test_tasks_that_a_deadline_ends_in_the_queue_are_told_of(
    whose: str, send_to: bool, autojump_clock: MockClock
) -> None:
    instrument = InTasks()
    channel = trio.open_memory_channel[Any](100)[0] if send_to else None
    deadline = trio.current_time() + 5
    with trio.CancelScope(deadline=deadline if whose == "a scope around" else 100):
        async with trio.open_nursery() as nursery:
            if whose == "the nursery's":
                nursery.cancel_scope.deadline = deadline
            async with ConMan[None].open(
                nursery,
                2,
                timeout=5 if whose == "the manager's" else 100,
                instruments=[instrument],
                send_to=channel,
            ) as cm:
                for _ in range(7):
                    cm.start_soon(trio.sleep_forever)
    assert trio.current_time() == 5
    assert [index for hook, index in instrument.told if hook == "submitted"] == list(range(7))
    assert {index for hook, index in instrument.told if hook == "started"} == {0, 1}
    assert sorted(index for hook, index in instrument.told if hook == "finished") == list(range(7))


async def test_what_is_told_late_is_told_before_what_happens_later(autojump_clock: MockClock) -> None:
    recording = RecordingInstrument()

    async def last_words() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, timeout=5, instruments=[recording]) as cm:
            for _ in range(2):
                cm.start_soon(last_words)
            for _ in range(3):
                cm.start_soon(trio.sleep_forever)
    finished = [(event.index, event.time) for event in recording.events if event.hook == "task_finished"]
    assert finished[:3] == [(2, 5), (3, 5), (4, 5)]
    assert sorted(finished[3:]) == [(0, 6), (1, 6)]


class Canceller(Instrument):
    """Cancels each task in one hook."""

    def __init__(self, hook: str) -> None:
        self.calls = 0
        setattr(self, hook, self.cancel)

    def cancel(self, handle: TaskHandle[Any], *_: object) -> None:
        self.calls += 1
        handle.cancel("not wanted")


async def submit_by_run(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    await cm.run(fn)


async def submit_by_run_nowait(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    cm.run_nowait(fn)


async def submit_by_start_soon(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    cm.start_soon(fn)


async def submit_to_the_queue(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    blockers = [cm.start_soon(trio.sleep, 3, name="blocker") for _ in range(2)]
    assert cm.start_soon(fn).state == "done"
    assert [handle.state for handle in blockers] == ["running", "running"]


async def submit_in_the_line(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    for _ in range(2):
        cm.start_soon(trio.sleep, 3, name="blocker")
    await cm.run(fn)
    assert trio.current_time() == 3


async def submit_as_an_item(cm: ConMan[Any], fn: Callable[..., Any]) -> None:
    async with cm.map(lambda _: fn(), range(3), name=fn.__qualname__) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, Failure)
            assert outcome.reason is StopReason.CANCELLED


@pytest.mark.parametrize(
    "submit",
    [
        submit_by_run,
        submit_by_run_nowait,
        submit_by_start_soon,
        submit_to_the_queue,
        submit_in_the_line,
        submit_as_an_item,
    ],
)
async def test_a_task_that_is_cancelled_as_it_is_submitted_never_begins(
    submit: Callable[..., Any], autojump_clock: MockClock, record: list[Any]
) -> None:
    class Refuser(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            if handle.name != "blocker":
                handle.cancel("not wanted")

        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.name != "blocker":
                assert isinstance(outcome, Failure)
                assert str(outcome.error).endswith("its handle was cancelled: not wanted")
                record.append(outcome.reason)

    async def never() -> None:
        record.append("began")

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[Refuser()]) as cm:
            await submit(cm, never)
    assert record == [StopReason.CANCELLED] * (3 if submit is submit_as_an_item else 1)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("rate", [False, True])
async def test_a_handle_can_be_cancelled_in_every_hook(
    hook: str, rate: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    from trio_conman import RateLimiter, RetryConfig

    async def failing() -> None:
        record.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise OSError

    retry = RetryConfig(initial_delay=1, jitter=False, max_attempts=1, retry_on=OSError)
    canceller = Canceller(hook)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(
            nursery, 2, retry=retry, instruments=[canceller], rate=RateLimiter(10) if rate else None
        ) as cm:
            handle = await cm.run(failing)
    assert isinstance(handle.outcome, Failure)
    calls = {"task_submitted": [], "attempt_started": [], "retry_scheduled": [0], "task_finished": [0, 1]}
    assert record == calls[hook]
    reason = StopReason.RETRIES_EXHAUSTED if hook == "task_finished" else StopReason.CANCELLED
    assert handle.outcome.reason is reason
    assert canceller.calls == 1


async def test_a_hook_may_be_set_on_the_object(autojump_clock: MockClock, record: list[Any]) -> None:
    instrument = Instrument()
    instrument.task_finished = lambda handle, outcome: record.append(handle.index)  # type: ignore[method-assign]  # the point
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[instrument]) as cm:
            await cm.run(trio.sleep, 1)
    assert record == [0]


@pytest.mark.parametrize(
    "make", [partial(MagicMock, spec=Instrument), partial(create_autospec, Instrument, instance=True)]
)
async def test_a_mock_is_an_instrument(make: Callable[[], Any], autojump_clock: MockClock) -> None:
    mock = make()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[mock]) as cm:
            handle = await cm.run(trio.sleep, 1)
    mock.task_submitted.assert_called_once_with(handle)
    mock.attempt_started.assert_called_once_with(handle, 1)
    mock.task_finished.assert_called_once_with(handle, handle.outcome)
    mock.retry_scheduled.assert_not_called()


async def test_an_instrument_that_overrides_nothing_costs_no_call(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[Instrument()]) as cm:
            assert cm._runner.instruments is None
            await cm.run(trio.sleep, 1)


async def test_what_a_hook_causes_is_told_after_what_it_was_told_of(autojump_clock: MockClock) -> None:
    """To those who come after it too, and in the right context."""

    class Causing(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            if handle.name == "queued":
                handle.cancel()

        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            if handle.name == "first":
                cm.start_soon(read, name="second")

    class Setting(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            variable.set(handle.name)

    async def read() -> str:
        return variable.get()

    variable = ContextVar("variable", default="nothing")
    instruments = [Causing(), recording := RecordingInstrument(), Setting()]
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 2, instruments=instruments) as cm:
            cm.pause()
            cm.start_soon(read, name="queued")
            cm.resume()
            cm.start_soon(read, name="first")
    assert cm.outputs() == ["first", "second"]
    assert [(event.name, event.hook) for event in recording.events] == [
        ("queued", "task_submitted"),
        ("queued", "task_finished"),
        ("first", "task_submitted"),
        ("first", "attempt_started"),
        ("second", "task_submitted"),
        ("first", "task_finished"),
        ("second", "attempt_started"),
        ("second", "task_finished"),
    ]


async def test_who_comes_after_a_hook_that_resumes_hears_of_the_pause_first() -> None:
    class Resuming(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            cm.resume()

    class Following(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            told.append(seconds)

    told: list[float] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[Resuming(), Following()]) as cm:
            cm.pause()
    assert told == [inf, 0]


async def test_what_two_hooks_of_one_event_cause_is_told_in_the_order_in_which_it_happens(
    autojump_clock: MockClock,
) -> None:
    """What the second one causes may end what the first one has handed in."""

    class Feeding(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.name == "first":
                cm.start_soon(trio.sleep, 1, name="second")
                cm.pause()

    class Ending(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.name == "first":
                cm.resume()
                cm.cancel()

    class Following(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            pauses.append(seconds)

    pauses: list[float] = []
    early, late = RecordingInstrument(), RecordingInstrument()
    async with trio.open_nursery() as nursery:
        instruments = [early, Feeding(), Ending(), Following(), late]
        async with ConMan[None].open(nursery, 2, instruments=instruments) as cm:
            cm.start_soon(trio.sleep, 1, name="first")
            cm.start_soon(trio.sleep, 9, name="other")
    for each in early, late:
        hooks = [event.hook for event in each.events if event.name == "second"]
        assert hooks == ["task_submitted", "task_finished"]
    assert pauses == [inf, 0]


async def test_what_a_hook_causes_in_another_manager_is_told_after_what_it_was_told_of(
    autojump_clock: MockClock,
) -> None:
    class Feeding(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.name == "first":
                second.start_soon(trio.sleep, 1, name="second")

    class Raising(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle.name == "first":
                raise KeyError  # to the other manager it is of use yet
            finished.append(handle.name)

    finished: list[str] = []
    instruments = [Feeding(), Raising(), recording := RecordingInstrument()]
    async with trio.open_nursery() as nursery:
        async with (
            ConMan[None].open(nursery, 2, instruments=instruments) as second,
            ConMan[None].open(nursery, 2, instruments=instruments) as first,
        ):
            first.start_soon(trio.sleep, 1, name="first")
    assert [(event.name, event.hook) for event in recording.events] == [
        ("first", "task_submitted"),
        ("first", "attempt_started"),
        ("first", "task_finished"),
        ("second", "task_submitted"),
        ("second", "attempt_started"),
        ("second", "task_finished"),
    ]
    assert finished == ["second"]


async def test_one_that_runs_out_of_stack_is_dropped_but_not_unheard(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Deep(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            self.task_submitted(handle)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(
            nursery, 2, instruments=[Deep(), recording := RecordingInstrument()]
        ) as cm:
            for _ in range(3):
                cm.start_soon(trio.sleep, 1)
            await wait_all_tasks_blocked()
            (logged,) = caplog.records
            assert logged.getMessage() == (
                f"task_submitted of an instrument of type {Deep.__qualname__} raised; "
                "it is not called any more"
            )
    assert len([event for event in recording.events if event.hook == "task_submitted"]) == 3


class Stopping(logging.Handler):
    """A handler that wants the program to end at an error."""

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyboardInterrupt("enough")


@contextmanager
def stopped_by_the_log() -> Iterator[None]:
    logger, handler = logging.getLogger("trio_conman"), Stopping()
    logger.addHandler(handler)
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            yield
    finally:
        logger.removeHandler(handler)
    assert caught.group_contains(KeyboardInterrupt, match="enough")


@pytest.mark.parametrize("hook", ["task_submitted", "attempt_started", "task_finished"])
def test_what_a_handler_of_the_log_raises_leaves_through_the_nursery(hook: str) -> None:
    """And every task has its outcome first."""

    def broken(*_: object) -> None:
        raise OSError

    managers: list[ConMan[None]] = []

    async def main() -> None:
        instrument = Instrument()
        setattr(instrument, hook, broken)
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[instrument]) as cm:
                managers.append(cm)
                for _ in range(4):
                    cm.start_soon(trio.sleep, 1)
                await trio.sleep_forever()

    with stopped_by_the_log():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    (cm,) = managers
    assert len(cm.outcomes()) == 4


async def test_so_does_what_it_raises_at_the_very_end() -> None:
    class Broken(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            assert seconds == inf

    with stopped_by_the_log():
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, instruments=[Broken()]) as cm:
            cm.pause()
            cm.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()  # before the body does


DEPTHS = range(3, 90)


@pytest.mark.parametrize("instrument", [None, RecordingInstrument])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("door", ["start_soon", "run_nowait", "queue"])
def test_a_task_that_is_submitted_at_the_end_of_the_stack_is_accepted_wholly_or_not_at_all(
    door: str, shared: bool, instrument: type[RecordingInstrument] | None
) -> None:
    """A walk through a tree with a cycle ends in a RecursionError, somewhere inside of the library."""

    async def noop() -> None:
        pass

    def descend(call: Callable[[], Any], left: int) -> Any:
        return call() if left <= 0 else descend(call, left - 1)

    def at_depth(call: Callable[[], Any], spare: int) -> None:
        """Make a call where `spare` more frames fit."""
        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]  # None in the end
        with suppress(RecursionError):
            descend(call, sys.getrecursionlimit() - depth - spare)

    async def main() -> None:
        recording = None if instrument is None else instrument()
        accepted = 0
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(4) if shared else 4
            async with ConMan[None].open(
                nursery, limit, instruments=[] if recording is None else [recording]
            ) as cm:
                for spare in DEPTHS:
                    if door == "queue":
                        for _ in range(4):
                            cm.start_soon(trio.sleep, 1)
                    before = cm.statistics().submitted
                    method = cm.run_nowait if door == "run_nowait" else cm.start_soon
                    at_depth(partial(method, noop), spare)
                    accepted += cm.statistics().submitted - before
                    await cm.wait()
                    assert cm.statistics().running == cm.statistics().queued == 0
                assert accepted > 0
        assert isinstance(limit, int) or limit.borrowed_tokens == 0
        assert len(cm.outcomes()) == cm.statistics().submitted
        if recording is not None:
            for hook in ("task_submitted", "task_finished"):
                told = [event.index for event in recording.events if event.hook == hook]
                assert sorted(told) == list(range(cm.statistics().submitted)), hook

    trio.run(main, clock=MockClock(autojump_threshold=0))
