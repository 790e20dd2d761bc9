"""A shutdown that drops what is queued: what runs finishes, and nothing starts any more."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory
from tests.managed import MakeLimit, each_kind, failure, manager
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Instrument,
    KeyedLimit,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
    TaskHandle,
)


async def job(n: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return n


def was_dropped(handle: TaskHandle[Any], manager: str = "conman") -> bool:
    end = failure(handle)
    assert type(end.error) is TaskCancelledError
    assert str(end.error) == (
        f"task {handle.name!r} (index {handle.index}) was cancelled: "
        f"it was queued when {manager!r} was shut down"
    )
    return end.reason is StopReason.CANCELLED


@pytest.mark.parametrize("per_key", [None, KeyedLimit(9, key=lambda _: 0)])
@pytest.mark.parametrize("grace", [math.inf, 1])
@each_kind
async def test_a_run_that_is_cancelled_in_the_same_tick_was_never_accepted(
    limit_of: MakeLimit, grace: float, per_key: KeyedLimit | None, autojump_clock: MockClock
) -> None:
    stop = trio.CancelScope()

    async def feed() -> None:
        with stop:
            await cm.run(trio.sleep, 5)

    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, limit_of(2), per_key=per_key) as cm,
    ):
        for _ in range(2):
            await cm.run(trio.sleep, 5)
        nursery.start_soon(feed)
        await wait_all_tasks_blocked()
        stop.cancel()
        await cm.shutdown(grace, queued="drop")
        assert trio.current_time() == min(grace, 5)
        statistics = cm.statistics()
    assert (statistics.submitted, statistics.succeeded + statistics.failed, statistics.queued) == (2, 2, 0)
    assert sorted(each.index for each in cm.outcomes()) == [0, 1]


@each_kind
async def test_what_runs_finishes_and_what_is_queued_is_cancelled_at_once(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        running = [cm.start_soon(job, n, n + 2) for n in range(2)]
        queued = [cm.start_soon(job, n, 1) for n in range(2, 5)]
        nursery.start_soon(lambda: cm.shutdown(queued="drop"))
        await wait_all_tasks_blocked()
        assert all(was_dropped(handle) for handle in queued)
        assert [(failure(handle).waited, failure(handle).elapsed) for handle in queued] == [(0, 0)] * 3
        assert [handle.state for handle in running] == ["running", "running"]
        await cm.wait()
        assert trio.current_time() == 3
    now = cm.statistics()
    assert (now.submitted, now.succeeded, now.failed, now.cancelled, now.queued) == (5, 2, 3, 3, 0)
    assert cm.outputs() == [0, 1]


async def test_it_returns_when_all_have_ended_and_the_body_goes_on(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        for n in range(9):
            cm.start_soon(job, n, 5)
        await cm.shutdown(queued="drop")
        assert trio.current_time() == 5
        assert len(cm.outcomes()) == 9
        with pytest.raises(ConManClosedError):
            cm.start_soon(job, 9, 1)
        await trio.sleep(1)
    assert trio.current_time() == 6


async def test_the_grace_is_for_what_runs(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        slow, quick, queued = cm.start_soon(job, 0, 9), cm.start_soon(job, 1, 1), cm.start_soon(job, 2, 1)
        await cm.shutdown(3, queued="drop")
    assert trio.current_time() == 3
    assert was_dropped(queued)
    assert isinstance(quick.outcome, Success)
    assert str(failure(slow).error).endswith("was cancelled: 'conman' was shut down")


@pytest.mark.parametrize("queued", [{}, {"queued": "run"}])
async def test_without_it_what_is_queued_runs(queued: Any, autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        for n in range(4):
            cm.start_soon(job, n, 1)
        await cm.shutdown(**queued)
        assert sorted(cm.outputs()) == [0, 1, 2, 3]


async def test_a_paused_manager_drops_its_queue_before_it_goes_on(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        cm.pause()
        handles = [cm.start_soon(job, n, 1) for n in range(3)]
        await cm.shutdown(queued="drop")
        assert all(was_dropped(handle) for handle in handles)
    assert trio.current_time() == 0


async def test_it_may_follow_one_that_drops_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handles = [cm.start_soon(job, n, 2) for n in range(6)]
        nursery.start_soon(cm.shutdown)
        await trio.sleep(3)
        await cm.shutdown(queued="drop")
        assert trio.current_time() == 4
    assert [isinstance(handle.outcome, Success) for handle in handles] == [True] * 4 + [False] * 2
    assert all(was_dropped(handle) for handle in handles[4:])


@pytest.mark.parametrize("hold_slot", [False, True])
async def test_tasks_that_back_off_go_on(hold_slot: bool, autojump_clock: MockClock) -> None:
    tries = 0

    async def second_time_lucky() -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RetriableError("not yet")
        return 7

    retry = RetryConfig(initial_delay=3, max_delay=3, jitter=False, hold_slot=hold_slot)
    async with manager(2) as cm:
        again = await cm.run(second_time_lucky, retry=retry)
        others = [cm.start_soon(job, n, 9) for n in range(3)]
        await trio.sleep(1)
        await cm.shutdown(queued="drop")
    assert await again.result() == 7
    assert [was_dropped(handle) for handle in others if isinstance(handle.outcome, Failure)] == (
        [True, True] if hold_slot else [True]
    )


async def test_calls_of_run_raise_and_a_map_draws_no_more(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def run() -> None:
        with pytest.raises(ConManClosedError):
            await cm.run(job, 9, 1)
        record.append(("run", trio.current_time()))

    async def consume() -> None:
        with pytest.raises(ConManClosedError):  # noqa: PT012  # the iterator raises it
            async with cm.map(lambda n: job(n, 4), drawn()) as outcomes:
                async for outcome in outcomes:
                    record.append((outcome.index, trio.current_time()))

    def drawn() -> Any:
        for n in range(100):
            record.append(f"drew {n}")
            yield n

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(consume)
        await wait_all_tasks_blocked()
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        queued = cm.start_soon(job, 5, 1)
        await trio.sleep(1)
        await cm.shutdown(queued="drop")
        await cm.wait()
    assert was_dropped(queued)
    assert sorted(map(str, record)) == ["('run', 1.0)", "(0, 4.0)", "(1, 4.0)", "drew 0", "drew 1"]


async def test_tasks_that_wait_for_another_one_of_their_key_are_queued(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def consume() -> None:
        with pytest.raises(ConManClosedError):  # noqa: PT012  # the iterator raises it
            async with cm.map(lambda n: job(n, 4), [1, 1, 2, 3, 4], journal=Memory()) as outcomes:
                async for outcome in outcomes:
                    record.append((outcome.index, type(outcome), trio.current_time()))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(consume)
        await trio.sleep(1)
        assert cm.statistics().queued == 1
        await cm.shutdown(queued="drop")
    assert sorted(record, key=lambda each: each[0]) == [(0, Success, 4), (1, Failure, 1), (2, Success, 4)]


async def test_hooks_that_cancel_others_of_the_queue_do_no_harm(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Cancels(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            record.append(handle.index)
            for other in handles:
                other.cancel("by a hook")

    async with manager(2, instruments=[Cancels()]) as cm:
        handles = [cm.start_soon(job, n, 1) for n in range(5)]
        await cm.shutdown(queued="drop")
    assert sorted(record) == [0, 1, 2, 3, 4]
    assert was_dropped(handles[2])
    assert "by a hook" in str(failure(handles[3]).error)


@pytest.mark.parametrize(
    "value, error", [("Drop", ValueError), ("", ValueError), (None, TypeError), (True, TypeError)]
)
async def test_another_word_is_refused_and_nothing_has_changed(
    value: Any, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with manager(2) as cm:
        with pytest.raises(error, match=f"^queued must be 'run' or 'drop', not {re.escape(repr(value))}$"):
            await cm.shutdown(queued=value)
        cm.start_soon(job, 0, 1)
    assert cm.outputs() == [0]
