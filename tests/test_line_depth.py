"""Calls from deep in a recursion: where the stack ends in them, they are done wholly or not at all."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from operator import delitem, setitem
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, KeyedLimit, Outcome, RetriableError, RetryConfig, TaskHandle

RETRY = RetryConfig(initial_delay=1, max_delay=1, jitter=False, max_attempts=2)
# From where nothing can be called to where there is room for all, which is so from 62 on at the latest.
# CPython 3.11 counts calls of C code too.
FRAMES = range(2, 76)


async def job(value: int, seconds: float = 1) -> int:
    await trio.sleep(seconds)
    return value


async def flaky() -> None:
    await trio.sleep(1)
    raise RetriableError("again")


@contextmanager
def room_for(frames: int) -> Iterator[None]:
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]  # None in the end
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(depth + frames)
        yield
    finally:
        sys.setrecursionlimit(before)


@attrs.define
class Edge:
    """Calls something where only so many frames are left; who calls there learns it by a RecursionError."""

    frames: int

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        with suppress(RecursionError), room_for(self.frames):
            return fn(*args)
        return None

    async def wait(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        with suppress(RecursionError):
            return await self._steps(fn, *args)
        return None

    @types.coroutine
    def _steps(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> Generator[Any, Any, Any]:
        """Await with so little room in each step, and as much as ever for others in between."""
        coroutine: Any = fn(*args)
        go, value = coroutine.send, None
        try:
            while True:
                try:
                    with room_for(self.frames):
                        trap = go(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    go, value = coroutine.send, (yield trap)
                except BaseException as error:
                    go, value = coroutine.throw, error
        finally:
            coroutine.close()  # it may not have begun


@attrs.define
class Stage:
    """Two managers, on one limiter or on one each, in which something runs, backs off, and is queued."""

    edge: Edge
    cm: ConMan[Any]
    other: ConMan[Any]
    handles: list[TaskHandle[Any]]

    async def until_idle(self) -> None:
        await self.cm.wait()
        await self.other.wait()

    def fill_the_other(self) -> None:
        """Whoever waits there is the only one."""
        with suppress(trio.WouldBlock):
            while True:
                self.other.run_nowait(job, 0, 5)

    async def take(self, outcomes: AsyncIterator[Outcome[Any]], count: int) -> None:
        """Take some at the edge, then all: none is missing, none comes twice."""
        taken = [await self.edge.wait(outcomes.__anext__) for _ in range(3)]
        taken += [outcome async for outcome in outcomes]
        assert sorted(each.index for each in taken if each is not None) == list(range(count))


async def pause(stage: Stage) -> None:
    stage.edge.call(stage.cm.pause)
    await trio.sleep(3)


async def resume(stage: Stage) -> None:
    stage.cm.pause()
    await trio.sleep(3)
    stage.edge.call(stage.cm.resume)


async def raise_the_limit(stage: Stage) -> None:
    stage.edge.call(setattr, stage.cm, "limit", 6)
    assert stage.cm.limit in (3, 6)


async def lower_the_limit(stage: Stage) -> None:
    stage.edge.call(setattr, stage.cm, "limit", 2)
    assert stage.cm.limit in (2, 3)


async def raise_the_limit_for_a_map_of_another(stage: Stage) -> None:
    await stage.until_idle()
    async with stage.other.map(job, range(20)) as outcomes:
        await trio.sleep(5)  # no room any more
        stage.edge.call(setattr, stage.cm, "limit", 6)
        await stage.take(outcomes, 20)


async def cancel_one_that_runs(stage: Stage) -> None:
    stage.edge.call(stage.handles[0].cancel)


async def cancel_one_that_backs_off(stage: Stage) -> None:
    await trio.sleep(1)
    assert stage.handles[1].state == "backing_off"
    stage.edge.call(stage.handles[1].cancel)


async def cancel_one_that_is_back(stage: Stage) -> None:
    await trio.sleep(1.8)
    stage.cm.pause()
    await trio.sleep(1)
    stage.edge.call(stage.handles[1].cancel)


async def cancel_one_in_the_queue(stage: Stage) -> None:
    stage.edge.call(stage.handles[-1].cancel)


async def cancel_the_only_one_in_the_queue(stage: Stage) -> None:
    stage.fill_the_other()
    stage.edge.call(stage.other.start_soon(job, 0).cancel)


async def cancel_the_manager(stage: Stage) -> None:
    stage.edge.call(stage.cm.cancel)


async def cancel_the_scope_of_the_manager(stage: Stage) -> None:
    stage.edge.call(stage.cm.cancel_scope.cancel)
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()
    assert all(handle.state == "done" for handle in stage.handles)


async def cancel_a_wait_in_run(stage: Stage) -> None:
    ends: list[str] = []

    async def wait(fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        try:
            await fn(*args)
        finally:
            ends.append(fn.__name__)

    stage.fill_the_other()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, stage.other.run, job, 1)
        nursery.start_soon(wait, trio.sleep_forever)
        await wait_all_tasks_blocked()
        stage.edge.call(nursery.cancel_scope.cancel)
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert sorted(ends) == ["run", "sleep_forever"]


async def cancel_a_wait_for_a_slot_after_a_backoff(stage: Stage) -> None:
    await trio.sleep(1.8)
    stage.cm.pause()
    await trio.sleep(1)
    assert stage.handles[1].state == "backing_off"
    await cancel_the_scope_of_the_manager(stage)


async def start_soon(stage: Stage) -> None:
    stage.edge.call(stage.cm.start_soon, job, 0)
    stage.edge.call(stage.other.start_soon, job, 0)


async def run_nowait(stage: Stage) -> None:
    await stage.until_idle()
    stage.edge.call(stage.cm.run_nowait, job, 0)


async def run(stage: Stage) -> None:
    await stage.edge.wait(stage.cm.run, job, 0)
    await stage.edge.wait(stage.other.run, job, 0)


async def shutdown(stage: Stage) -> None:
    await stage.edge.wait(stage.cm.shutdown)


async def shutdown_at_once(stage: Stage) -> None:
    await stage.edge.wait(stage.cm.shutdown, 0)


async def open_a_manager(stage: Stage) -> None:
    handles: list[TaskHandle[Any]] = []

    async def use() -> None:
        async with ConMan[Any].open(nursery, 2) as cm:
            for value in range(5):
                handles.append(cm.start_soon(job, value))  # those before one that fails too

    async with trio.open_nursery() as nursery:
        await stage.edge.wait(use)
    assert all(handle.outcome is not None for handle in handles)


async def open_a_map(stage: Stage) -> None:
    async def use() -> None:
        async with stage.cm.map(job, range(9)) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome.index)

    taken: list[int] = []
    async with trio.open_nursery() as nursery:
        await stage.edge.wait(use)
        nursery.start_soon(stage.until_idle)  # no map is open any more, for whose consumer others wait
    assert len(taken) == len(set(taken))


async def take_from_a_map(stage: Stage, *, ordered: bool = False) -> None:
    await stage.until_idle()
    handles = [stage.cm.start_soon(job, 0, 10) for _ in range(2)]
    async with stage.cm.map(job, range(20), ordered=ordered) as outcomes:
        # One worker has drawn what there was room for. Whoever makes room starts others.
        await trio.sleep(11)
        assert all(handle.outcome is not None for handle in handles)
        await stage.take(outcomes, 20)


async def take_from_an_ordered_map(stage: Stage) -> None:
    await take_from_a_map(stage, ordered=True)


async def change_the_limits_of_keys(stage: Stage) -> None:
    limit = KeyedLimit(1, key=lambda *_: "a")
    changes: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (setattr, (limit, "limit", 2)),
        (setitem, (limit.limits, "a", 4)),
        (setattr, (limit, "limit", 6)),
        (delitem, (limit.limits, "a")),
    ]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        for value in range(9):
            cm.start_soon(job, value)
        for fn, args in changes:
            stage.edge.call(fn, *args)
            await wait_all_tasks_blocked()
            assert limit.statistics()["a"].limit == limit.limits.get("a", limit.limit)
            assert limit.statistics()["a"].running == limit.statistics()["a"].limit


CALLS = [
    pause,
    resume,
    raise_the_limit,
    lower_the_limit,
    raise_the_limit_for_a_map_of_another,
    cancel_one_that_runs,
    cancel_one_that_backs_off,
    cancel_one_that_is_back,
    cancel_one_in_the_queue,
    cancel_the_only_one_in_the_queue,
    cancel_the_manager,
    start_soon,
    run_nowait,
    run,
    shutdown,
    shutdown_at_once,
    open_a_manager,
    open_a_map,
    take_from_a_map,
    take_from_an_ordered_map,
    change_the_limits_of_keys,
]
CALLS_OF_TRIO = [
    cancel_the_scope_of_the_manager,
    cancel_a_wait_in_run,
    cancel_a_wait_for_a_slot_after_a_backoff,
]


def play(call: Callable[[Stage], Awaitable[None]], limit: int | trio.CapacityLimiter, frames: int) -> None:
    async def main() -> None:
        with trio.fail_after(1000):
            async with (
                trio.open_nursery() as nursery,
                ConMan[Any].open(nursery, limit) as other,
                ConMan[Any].open(nursery, limit, retry=RETRY) as cm,
            ):
                handles = [cm.start_soon(job, 0, 1.5), cm.start_soon(flaky)]
                handles += [cm.start_soon(job, value) for value in range(6)]
                await trio.sleep(0.5)
                await call(Stage(Edge(frames), cm, other, handles))
        assert all(handle.outcome is not None for handle in handles)
        # The fixture looks at the rest: one outcome for each task, nobody waiting, no slot borrowed.

    trio.run(main, clock=MockClock(autojump_threshold=0))


each_kind = pytest.mark.parametrize(
    "limit_of", [int, pytest.param(trio.CapacityLimiter, marks=pytest.mark.unmeasured)]
)


@each_kind
@pytest.mark.parametrize("call", CALLS)
def test_where_the_stack_ends_a_call_is_done_wholly_or_not_at_all(
    call: Callable[[Stage], Awaitable[None]], limit_of: Callable[[int], int | trio.CapacityLimiter]
) -> None:
    for frames in FRAMES:
        play(call, limit_of(3), frames)


def trio_cancels(frames: int) -> bool:
    """Whether so much room is enough for trio itself; with less, it loses waits of its own."""

    async def main() -> bool:
        ends: list[type[BaseException]] = []

        async def wait() -> None:
            task.append(trio.lowlevel.current_task())
            try:
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            except BaseException as error:
                ends.append(type(error))

        task: list[trio.lowlevel.Task] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            Edge(frames).call(nursery.cancel_scope.cancel)
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
            if not ends:
                trio.lowlevel.reschedule(task[0])
        return ends == [trio.Cancelled]

    return trio.run(main)


@pytest.mark.skipif(
    sys.gettrace() is not None and sys.version_info < (3, 12),
    reason="there a tracer takes frames of its own, which trio does not know of",
)
@each_kind
@pytest.mark.parametrize("call", CALLS_OF_TRIO)
def test_wherever_trio_can_cancel_what_waits_here_is_cancelled(
    call: Callable[[Stage], Awaitable[None]], limit_of: Callable[[int], int | trio.CapacityLimiter]
) -> None:
    enough = next(frames for frames in FRAMES if trio_cancels(frames))
    for frames in range(enough, FRAMES.stop):
        play(call, limit_of(3), frames)


async def test_an_async_source_is_drawn_from_where_items_can_start(nursery: trio.Nursery) -> None:
    async def count() -> AsyncIterator[int]:
        yield 1

    async with ConMan.open(nursery) as cm, cm.map(job, count()) as outcomes:
        with room_for(50), pytest.raises(RecursionError):
            await anext(outcomes)
    assert cm.statistics().submitted == 0


@pytest.mark.parametrize("number", [0, 3])
async def test_what_follows_a_cancellation_is_done_later_where_the_stack_ends(
    number: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room() -> None:
        raise RecursionError

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handles = [cm.start_soon(job, value, 9) for value in range(number)]
        monkeypatch.setattr("trio_conman._engine.block.need_more_stack", no_room)
        cm.cancel_scope.cancel()
        await trio.sleep(9)
    assert [handle.state for handle in handles] == ["done"] * number
    assert trio.current_time() == 0
