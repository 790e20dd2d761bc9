"""Calls from a thread that is not that of the trio run: refused before anything has changed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import Any, TypeAlias

import pytest
import trio

from trio_conman import ConMan, ConManStatistics, Instrument, Success, TaskHandle, as_completed
from trio_conman.batches import in_batches
from trio_conman.testing import RecordingInstrument


async def job(value: int, gate: trio.Event | None = None) -> int:
    if gate is not None:
        await gate.wait()
    return value


def set_limit(cm: ConMan[int]) -> None:
    cm.limit = 4


SYNC: dict[str, tuple[Callable[[ConMan[int]], object], str]] = {
    "start_soon": (lambda cm: cm.start_soon(job, 9), "run_sync(cm.start_soon, ...)"),
    "run_nowait": (lambda cm: cm.run_nowait(job, 9), "run_sync(cm.run_nowait, ...)"),
    "map": (lambda cm: cm.map(job, [9]), "run(...) with an async function that opens the map"),
    "limit": (set_limit, "run_sync(setattr, cm, 'limit', ...)"),
    "pause": (ConMan.pause, "run_sync(cm.pause)"),
    "resume": (ConMan.resume, "run_sync(cm.resume)"),
    "cancel": (ConMan.cancel, "run_sync(cm.cancel)"),
    "outcomes": (ConMan.outcomes, "run_sync(cm.outcomes)"),
    "outputs": (ConMan.outputs, "run_sync(cm.outputs)"),
    "errors": (ConMan.errors, "run_sync(cm.errors)"),
    "pop_outcomes": (ConMan.pop_outcomes, "run_sync(cm.pop_outcomes)"),
    "raise_errors": (ConMan.raise_errors, "run_sync(cm.raise_errors)"),
}
ASYNC: dict[str, tuple[Callable[[ConMan[int]], Any], str]] = {
    "run": (lambda cm: cm.run(job, 9), "run(cm.run, ...)"),
    "wait": (lambda cm: cm.wait(), "run(cm.wait)"),
    "shutdown": (lambda cm: cm.shutdown(0), "run(cm.shutdown, ...)"),
}


def drive(call: Callable[..., Any], *args: Any) -> object:
    """Run an async call to its first wait, which it must not reach."""
    coroutine = call(*args)
    try:
        return coroutine.send(None)
    finally:
        coroutine.close()


@pytest.mark.parametrize("free", [True, False], ids=["a slot is free", "no slot is free"])
@pytest.mark.parametrize("method", [*SYNC, *ASYNC])
async def test_a_manager_is_not_touched_from_another_thread(method: str, free: bool) -> None:
    call, way_out = (SYNC | ASYNC)[method]
    gate = trio.Event()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for value in range(1 if free else 4):
            cm.start_soon(job, value, gate)
        before = cm.statistics(), repr(cm)
        with pytest.raises(RuntimeError) as caught:
            await trio.to_thread.run_sync(*([call, cm] if method in SYNC else [drive, call, cm]))
        assert str(caught.value) == (
            f"ConMan.{method}() was called in another thread than that of its trio run; "
            f"from there use trio.from_thread.{way_out}"
        )
        assert (cm.statistics(), repr(cm)) == before
        gate.set()
    assert sorted(cm.outputs()) == list(range(1 if free else 4))


def test_nor_is_that_of_a_thread_from_the_one_that_has_started_it() -> None:
    """Of two threads each is refused what is the other's, whichever has the greater number."""
    opened: list[ConMan[int]] = []
    is_open, is_tried = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            opened.append(cm)
            is_open.set()
            is_tried.wait()

    thread = threading.Thread(target=trio.run, args=(elsewhere,))
    thread.start()
    is_open.wait()
    try:
        with pytest.raises(RuntimeError, match=r"^ConMan\.pause\(\) was called in another thread"):
            opened[0].pause()
        assert not opened[0].paused
    finally:
        is_tried.set()
        thread.join()


@pytest.mark.parametrize("where", ["queued", "running"])
async def test_nor_is_a_handle(where: str) -> None:
    gate = trio.Event()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handles = [cm.start_soon(job, value, gate) for value in range(3)]
        handle = handles[2 if where == "queued" else 0]
        with pytest.raises(
            RuntimeError, match=r"^TaskHandle\.cancel\(\) .* trio\.from_thread\.run_sync\(handle\.cancel\)$"
        ):
            await trio.to_thread.run_sync(handle.cancel)
        for name in ("wait", "result"):
            with pytest.raises(
                RuntimeError, match=rf"^TaskHandle\.{name}\(\) .* trio\.from_thread\.run\(handle\.{name}\)$"
            ):
                await trio.to_thread.run_sync(drive, getattr(handle, name))
        assert handle.state == where
        gate.set()
    assert sorted(cm.outputs()) == [0, 1, 2]
    # What has ended changes no more.
    await trio.to_thread.run_sync(handle.cancel)
    assert await trio.to_thread.run_sync(trio.run, handle.result) == handles.index(handle)
    assert len(await trio.to_thread.run_sync(cm.outcomes)) == 3


async def test_the_way_out_that_the_message_names() -> None:
    async def work(cm: ConMan[int]) -> None:
        def in_thread() -> TaskHandle[int]:
            trio.from_thread.run_sync(setattr, cm, "limit", 3)
            return trio.from_thread.run_sync(lambda: cm.start_soon(job, 7))

        assert await (await trio.to_thread.run_sync(in_thread)).result() == 7

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await work(cm)
        assert cm.limit == 3


async def test_a_block_is_entered_in_the_thread_of_its_nursery() -> None:
    async with trio.open_nursery() as nursery:
        opening = ConMan[int].open(nursery, 2)
        with pytest.raises(RuntimeError, match=r"^ConMan\.open\(\) was called in another thread"):
            await trio.to_thread.run_sync(drive, opening.__aenter__)
        async with opening as cm:
            await cm.run(job, 1)
    assert cm.outputs() == [1]


Calling: TypeAlias = Callable[[ConMan[int]], Awaitable[None]]


def as_a_guest(main: Callable[[Calling], Awaitable[None]], callback: Callable[[ConMan[int]], None]) -> None:
    """Run it as a guest of asyncio; what it gets has the host call back with a manager, and waits for it."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        async def have_called(cm: ConMan[int]) -> None:
            has_called = trio.Event()

            def call() -> None:
                callback(cm)
                has_called.set()

            loop.call_soon(call)
            await has_called.wait()

        trio.lowlevel.start_guest_run(
            main,
            have_called,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        (await done).unwrap()

    asyncio.run(host())


def test_in_guest_mode_the_hosts_callbacks_may_call(record: list[Any]) -> None:
    """Between two ticks there is no trio task; instruments are told inside of one, in order."""
    recording = RecordingInstrument()
    statistics: list[ConManStatistics] = []

    async def main(have_called: Calling) -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2, instruments=[recording]) as cm:
                await have_called(cm)
        record.append(sorted(cm.outputs()))

    def feed(cm: ConMan[int]) -> None:
        handles = [cm.start_soon(job, value) for value in range(5)]
        cm.pause()
        cm.limit = 3
        handles[4].cancel()
        assert handles[4].state == "done"
        statistics.append(cm.statistics())
        cm.resume()
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, 9)

    as_a_guest(main, feed)
    assert record == [[0, 1, 2, 3]]
    assert [(now.running, now.queued, now.cancelled) for now in statistics] == [(2, 2, 1)]
    told = [(event.hook, event.index) for event in recording.events]
    assert told[:5] == [("task_submitted", index) for index in range(5)]
    assert told[5] == ("task_finished", 4)
    assert sorted(told[6:]) == sorted(
        [(hook, index) for hook in ("attempt_started", "task_finished") for index in range(4)]
    )


def test_what_a_callback_of_the_host_does_is_told_in_its_context() -> None:
    """As what a trio task does: who did it may be in a variable, for the log."""
    who = ContextVar("who", default="nobody")
    told: list[tuple[float, str]] = []

    class Looks(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            told.append((seconds, who.get()))
            who.set("the instrument")

    async def main(have_called: Calling) -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2, instruments=[Looks()]) as cm:
                await have_called(cm)
                assert who.get() == "nobody"

    def pause(cm: ConMan[int]) -> None:
        who.set("the host")
        cm.pause()
        cm.resume()
        assert who.get() == "the host"

    as_a_guest(main, pause)
    assert told == [(inf, "the host"), (0, "the host")]


def test_a_task_that_a_callback_cancels_never_begins(record: list[Any]) -> None:
    async def main(have_called: Calling) -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            await have_called(cm)
        record.append([isinstance(outcome, Success) for outcome in cm.outcomes()])

    def feed(cm: ConMan[int]) -> None:
        cm.start_soon(job, 1).cancel()

    as_a_guest(main, feed)
    assert record == [[False]]


async def test_nor_is_a_map_entered_elsewhere() -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        block = cm.map(job, [1, 2])
        with pytest.raises(RuntimeError, match=r"^ConMan\.map\(\) was called in another thread"):
            await trio.to_thread.run_sync(drive, block.__aenter__)
        async with block as outcomes:
            assert sorted([outcome.index async for outcome in outcomes]) == [0, 1]


@pytest.mark.parametrize("way", ["map", "anext of a map", "in_batches", "as_completed"])
async def test_outcomes_are_iterated_over_in_the_run_of_their_manager(way: str) -> None:
    """Not in another run, in another thread; and nothing has changed when that was refused."""
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        gate = trio.Event()
        handles = [cm.start_soon(job, value, gate) for value in range(4)]
        async with cm.map(partial(job, gate=gate), range(4)) as outcomes:
            ended = as_completed(handles)

            async def elsewhere() -> None:
                if way == "map":
                    [_ async for _ in outcomes]
                elif way == "anext of a map":
                    await anext(outcomes)
                elif way == "in_batches":
                    async with in_batches(outcomes, 2) as batches:
                        await anext(batches)
                else:
                    [_ async for _ in ended]

            name = "as_completed" if way == "as_completed" else r"ConMan\.map"
            with pytest.raises(
                RuntimeError, match=rf"^{name}\(\) was called in another thread .*from_thread\.run\(\.\.\.\)"
            ):
                await trio.to_thread.run_sync(trio.run, elsewhere)
            gate.set()
            assert len([_ async for _ in outcomes]) == len([_ async for _ in ended]) == 4
