"""`trio_conman.testing`: what users test their own code with."""

import copy
import pickle
from collections.abc import Callable
from traceback import walk_tb
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, RetriableError, RetryConfig, StopReason
from trio_conman.testing import Event, FixedJitter, FlakyTask, RecordingInstrument

RETRY = RetryConfig.exponential(initial_delay=2, max_delay=60, max_attempts=3, retry_on=OSError)


@pytest.mark.parametrize("share, times", [(1, [0, 2, 6, 14]), (0.5, [0, 1, 3, 7]), (0, [0, 0, 0, 0])])
async def test_fixed_jitter_draws_the_same_share_of_each_delay(
    share: float, times: list[float], autojump_clock: MockClock
) -> None:
    task = FlakyTask[None](OSError)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RETRY, rng=FixedJitter(share)) as cm:
            await cm.run(task)
    assert [time for time, _ in task.calls] == times


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_fixed_jitter_draws_the_same(again: Callable[[FixedJitter], FixedJitter]) -> None:
    assert again(FixedJitter(0.25)).uniform(0, 8) == 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be from 0 to 1, not"):
        FixedJitter(share)


@pytest.mark.parametrize("share", [True, "1", None])
def test_a_share_that_is_no_number_is_refused(share: Any) -> None:
    with pytest.raises(TypeError, match="share must be a number from 0 to 1, not"):
        FixedJitter(share)


async def test_a_flaky_task_answers_from_its_script(autojump_clock: MockClock) -> None:
    error = OSError("once")
    task = FlakyTask(error, KeyError, "a", "b", seconds=1.5)
    with pytest.raises(OSError, match="once") as raised:
        await task(1)
    assert raised.value is error
    with pytest.raises(KeyError):
        await task()
    assert [await task("x", "y"), await task(), await task()] == ["a", "b", "b"]
    assert task.calls == [(0, (1,)), (1.5, ()), (3, ("x", "y")), (4.5, ()), (6, ())]
    assert repr(task) == "<FlakyTask, called 5 times>"


async def test_what_is_no_exception_is_returned_as_it_is(autojump_clock: MockClock) -> None:
    values: list[Any] = [None, int, KeyboardInterrupt, [OSError]]
    task = FlakyTask[Any](*values)
    assert [await task() for _ in values] == values


async def test_an_error_of_the_script_does_not_lead_to_the_calls_before(autojump_clock: MockClock) -> None:
    error = OSError("busy")
    task = FlakyTask[None](error)
    lengths = []
    for _ in range(3):
        with pytest.raises(OSError, match=r"^busy$"):
            await task()
        lengths.append(len(list(walk_tb(error.__traceback__))))
    assert lengths == [2, 2, 2]


def test_a_script_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="answers must hold at least one"):
        FlakyTask()


async def test_an_error_that_cannot_be_shown_is_recorded_by_its_type(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class MuteError(Exception):
        def __repr__(self) -> str:
            raise ValueError("no repr")

    recorder = RecordingInstrument()
    retry = RetryConfig.none(max_attempts=1, retry_on=MuteError)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=retry, instruments=[recorder]) as cm:
            await cm.run(FlakyTask[None](MuteError), name="mute")
    assert [(event.hook, event.error) for event in recorder.events] == [
        ("task_submitted", None),
        ("attempt_started", None),
        ("retry_scheduled", "<MuteError object>"),
        ("attempt_started", None),
        ("task_finished", "<MuteError object>"),
    ]
    assert caplog.records == []


async def test_the_recording_instrument_records_the_whole_life_of_tasks(autojump_clock: MockClock) -> None:
    recorder = RecordingInstrument()
    good = FlakyTask[str](RetriableError(OSError("busy")), "page", seconds=1)
    bad = FlakyTask[str](ValueError("no"), seconds=2)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY, rng=FixedJitter(), instruments=[recorder]) as cm:
            await cm.run(good, name="good")
            await cm.run(bad, name="bad")
            cm.start_soon(trio.sleep_forever, name="late").cancel()
    assert sorted(recorder.events, key=lambda event: (event.index, event.time)) == [
        Event(0, "task_submitted", "good", 0),
        Event(0, "attempt_started", "good", 0, attempt=1),
        Event(1, "retry_scheduled", "good", 0, error="OSError('busy')", delay=2),
        Event(3, "attempt_started", "good", 0, attempt=2),
        Event(4, "task_finished", "good", 0),
        Event(0, "task_submitted", "bad", 1),
        Event(0, "attempt_started", "bad", 1, attempt=1),
        Event(2, "task_finished", "bad", 1, error="ValueError('no')", reason=StopReason.ERROR),
        Event(0, "task_submitted", "late", 2),
        Event(
            0,
            "task_finished",
            "late",
            2,
            error="TaskCancelledError(\"task 'late' (index 2) was cancelled: its handle was cancelled\")",
            reason=StopReason.CANCELLED,
        ),
    ]


async def test_an_answer_that_has_ended_a_task_asks_another_one_for_retries(
    autojump_clock: MockClock,
) -> None:
    task = FlakyTask[None](RetriableError("busy"))
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RetryConfig.none(max_attempts=2)) as cm:
            for _ in range(2):
                assert (await (await cm.run(task)).wait()).retries == 2
