"""as_completed: handles in the order in which their tasks end."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import AsyncIterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, StopReason, TaskHandle, as_completed
from trio_conman._books import completed

from .managed import failure, manager


async def job(n: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return n


async def fails(seconds: float) -> int:
    await trio.sleep(seconds)
    raise ValueError(seconds)


async def noted(handles: AsyncIterable[TaskHandle[Any]]) -> list[tuple[str, float]]:
    return [(handle.name, trio.current_time()) async for handle in handles]


async def test_they_come_as_their_tasks_end(autojump_clock: MockClock) -> None:
    async with manager(9) as cm:
        handles = [cm.start_soon(job, n, seconds, name=str(n)) for n, seconds in enumerate((3, 1, 2))]
        assert await noted(as_completed(handles)) == [("1", 1), ("2", 2), ("0", 3)]


async def test_those_that_have_ended_come_first_in_the_order_given(autojump_clock: MockClock) -> None:
    async with manager(9) as cm:
        handles = [cm.start_soon(job, n, seconds, name=str(n)) for n, seconds in enumerate((5, 2, 1, 4))]
        await trio.sleep(3)
        assert await noted(as_completed(handles)) == [("1", 3), ("2", 3), ("3", 4), ("0", 5)]
        assert await noted(as_completed(iter(handles))) == [(n, 5) for n in "0123"]


async def test_failures_and_cancelled_tasks_come_too(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        failed, cancelled = cm.start_soon(fails, 2), cm.start_soon(job, 1, 9)
        queued = cm.start_soon(job, 2, 1)
        queued.cancel()
        iterator = as_completed([failed, cancelled, queued])
        assert await anext(iterator) is queued
        assert await anext(iterator) is failed
        cancelled.cancel()
        assert await anext(iterator) is cancelled
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
    assert [failure(each).reason for each in (failed, cancelled, queued)] == [
        StopReason.ERROR,
        StopReason.CANCELLED,
        StopReason.CANCELLED,
    ]


async def test_of_several_managers(autojump_clock: MockClock) -> None:
    async with manager(2) as one, manager(2) as other:
        handles = [(one, other)[n % 2].start_soon(job, n, 5 - n, name=str(n)) for n in range(4)]
        assert await noted(as_completed(handles)) == [("3", 2), ("2", 3), ("1", 4), ("0", 5)]


async def test_one_that_is_there_twice_comes_once(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        handle = cm.start_soon(job, 0, 1)
        assert [each async for each in as_completed([handle, handle])] == [handle]
        assert [each async for each in as_completed([handle, handle])] == [handle]


async def test_each_step_is_a_checkpoint(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        iterator = as_completed([cm.start_soon(job, 0, 0), cm.start_soon(job, 1, 1)])
        await wait_all_tasks_blocked()
        for _ in range(2):
            with assert_checkpoints():
                await anext(iterator)
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(iterator)
        with assert_checkpoints():
            assert await noted(as_completed([])) == []


async def test_a_step_that_is_cancelled_loses_none(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        handles = [cm.start_soon(job, n, n + 1, name=str(n)) for n in range(2)]
        iterator = as_completed(handles)
        with trio.move_on_after(0.5) as scope:
            await anext(iterator)
        assert scope.cancelled_caught
        assert [each.state for each in handles] == ["running", "running"]
        await trio.sleep(0.5)
        with trio.move_on_after(0) as scope:
            await anext(iterator)  # where one is there
        assert scope.cancelled_caught
        assert await noted(iterator) == [("0", 1), ("1", 2)]


@pytest.mark.parametrize("first", ["task", "scope"])
async def test_one_that_ends_in_the_tick_of_a_cancellation_is_not_lost(
    first: str, autojump_clock: MockClock
) -> None:
    async def cancel() -> None:
        await trio.sleep(1)
        scope.cancel()

    got: list[object] = []
    scope = trio.CancelScope()
    async with manager(2) as cm, trio.open_nursery() as nursery:
        if first == "scope":
            nursery.start_soon(cancel)
            await wait_all_tasks_blocked()
        handle = await cm.run(trio.sleep, 1)
        await wait_all_tasks_blocked()
        if first == "task":
            nursery.start_soon(cancel)
        iterator = as_completed([handle])
        with scope:
            got.append(await anext(iterator))
        got += [each async for each in iterator]
    assert got == [handle]


async def test_several_may_share_an_iterator_and_several_iterators_the_handles(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def take(who: str, handles: AsyncIterable[TaskHandle[int]]) -> None:
        async for handle in handles:
            record.append((who, handle.name, trio.current_time()))
        record.append((who, "end", trio.current_time()))

    async with manager(9) as cm:
        handles = [cm.start_soon(job, n, n + 1, name=str(n)) for n in range(3)]
        shared = as_completed(handles)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, "both", shared)
            nursery.start_soon(take, "both", shared)
            nursery.start_soon(take, "two", as_completed(handles[:2]))
            nursery.start_soon(take, "all", as_completed(handles))
    assert sorted(record) == [
        *[("all", "0", 1), ("all", "1", 2), ("all", "2", 3), ("all", "end", 3)],
        *[("both", "0", 1), ("both", "1", 2), ("both", "2", 3), ("both", "end", 3), ("both", "end", 3)],
        *[("two", "0", 1), ("two", "1", 2), ("two", "end", 2)],
    ]


async def test_who_waits_for_a_handle_is_woken_too_before_and_after(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def wait(handle: TaskHandle[int]) -> None:
        record.append((await handle.result(), trio.current_time()))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handle = cm.start_soon(job, 7, 1)
        nursery.start_soon(wait, handle)
        await wait_all_tasks_blocked()
        iterator = as_completed([handle])
        nursery.start_soon(wait, handle)
        other = cm.start_soon(job, 8, 1)
        waiting = as_completed([other])
        nursery.start_soon(wait, other)
        assert [each async for each in iterator] == [handle]
        assert [each async for each in waiting] == [other]
    assert sorted(record) == [(7, 1), (7, 1), (8, 1)]


async def test_an_iteration_that_was_left_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    gc.disable()
    try:
        async with manager(2) as cm:
            handles = [cm.start_soon(job, 0, 1), cm.start_soon(job, 1, 100)]
            await anext(as_completed(handles))
            gone = weakref.ref(iterator := as_completed(handles))
            del iterator
            assert gone() is None
            for _ in range(1000):
                await anext(as_completed(handles))
            done: Any = handles[1]._done
            assert len(done._followers) == 1
            del done
            end = weakref.ref(handles[1])
            del handles
            await cm.wait()
            cm.pop_outcomes()
            assert end() is None
    finally:
        gc.enable()


async def test_many_iterate_over_one_handle_in_time_that_grows_with_their_number(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    class Counted(weakref.ref[Any]):
        def __call__(self) -> Any:
            nonlocal looked
            looked += 1
            return super().__call__()

    monkeypatch.setattr(completed, "ref", Counted)
    async with manager(2) as cm:
        handle = cm.start_soon(job, 0, 1)
        iterators = [as_completed([handle]) for _ in range(1000)]
        assert looked < 3000
        assert [await anext(each) for each in iterators] == [handle] * 1000


@pytest.mark.parametrize("left", [0, 1, 5])
async def test_those_who_are_gone_take_no_more_room_than_those_who_are_left(
    left: int, autojump_clock: MockClock
) -> None:
    async with manager(2) as cm:
        handle = cm.start_soon(job, 0, 1)
        iterators = [as_completed([handle]) for _ in range(left)]
        known = set()
        for _ in range(50):
            as_completed([handle])
            done: Any = handle._done
            known.add(len(done._followers))
        assert max(known) == 2 * left + 1
        assert [await anext(each) for each in iterators] == [handle] * left


async def test_their_errors_count_as_seen_when_their_outcomes_are_read(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with manager(2) as cm:
        async for handle in as_completed([cm.start_soon(fails, 1)]):
            assert handle.outcome is not None
    del cm
    assert caplog.records == []


@pytest.mark.parametrize(
    "wrong, words",
    [
        (None, "handles must be an iterable of TaskHandle, not None"),
        (3, "handles must be an iterable of TaskHandle, not 3"),
        ("ab", "each of handles must be a TaskHandle, not 'a'"),
        ([[]], "each of handles must be a TaskHandle, not []"),
        ([None], "each of handles must be a TaskHandle, not None"),
    ],
)
def test_what_are_no_handles_is_refused_at_once(wrong: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        as_completed(wrong)


async def test_a_handle_and_a_manager_are_no_iterables(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        handle: Any = cm.start_soon(job, 0, 1)
        wrong: Any
        for wrong in (handle, cm):
            with pytest.raises(TypeError, match=r"^handles must be an iterable of TaskHandle, not <"):
                as_completed(wrong)
        bad: Any = [handle, 3]
        with pytest.raises(TypeError, match=r"^each of handles must be a TaskHandle, not 3$"):
            as_completed(bad)
        assert handle._done is None  # nothing has changed


async def test_another_thread_is_refused_while_a_task_has_not_ended() -> None:
    release = trio.Event()
    async with manager(2) as cm:
        handle = cm.start_soon(release.wait)
        words = (
            "as_completed() was called in another thread than that of its trio run; "
            "from there use trio.from_thread.run(...) with an async function that iterates"
        )
        with pytest.raises(RuntimeError, match=f"^{re.escape(words)}$"):
            await trio.to_thread.run_sync(as_completed, [handle])
        release.set()
        await handle.wait()
        iterator = await trio.to_thread.run_sync(as_completed, [handle])
        assert await anext(iterator) is handle
