"""current_task: which managed task runs here, wherever that is asked."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Instrument, Outcome, RetriableError, RetryConfig, TaskHandle, current_task
from trio_conman._engine.pool import WORKERS

from .managed import manager


async def me() -> TaskHandle[Any] | None:
    before = current_task()
    await trio.sleep(1)
    assert current_task() is before
    return before


async def test_it_is_the_handle_that_the_submitter_has(autojump_clock: MockClock) -> None:
    async with manager(2) as cm:
        handles = [await cm.run(me), cm.start_soon(me), cm.start_soon(me), cm.start_soon(me)]
        assert current_task() is None
    assert [await handle.result() for handle in handles] == handles


async def test_items_of_a_map_have_handles_too(autojump_clock: MockClock) -> None:
    async def name_and_index(item: str) -> tuple[str, str, int]:
        handle = current_task()
        assert handle is not None
        return item, handle.name, handle.index

    async with manager(2) as cm, cm.map(name_and_index, "abc", name="letter", ordered=True) as outcomes:
        values = [outcome.value async for outcome in outcomes]  # type: ignore[union-attr]  # none fails
    assert values == [("a", "letter", 0), ("b", "letter", 1), ("c", "letter", 2)]


@pytest.mark.parametrize("delay", [0, 1])
async def test_it_tells_the_number_of_the_attempt(
    delay: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def fails() -> None:
        handle = current_task()
        assert handle is not None
        record.append((handle.name, handle.retries))
        raise RetriableError("again")

    async with manager(2) as cm:
        await cm.run(fails, retry=RetryConfig(max_attempts=2, initial_delay=delay, jitter=False))
    assert record == [(fails.__qualname__, 0), (fails.__qualname__, 1), (fails.__qualname__, 2)]


async def test_what_a_task_has_started_belongs_to_it(autojump_clock: MockClock, record: list[Any]) -> None:
    async def note() -> None:
        await trio.sleep(1)
        record.append(current_task())

    async def parent() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(note)
            async with trio.open_nursery() as innermost:
                innermost.start_soon(note)
        outer.start_soon(note)  # no part of it

    async with trio.open_nursery() as outer, ConMan[None].open(outer, 2) as cm:
        handle = await cm.run(parent)
    assert record == [handle, handle, None]


async def test_of_nested_managers_it_is_the_innermost_task(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def outer_task() -> None:
        async with manager(2) as inner:
            record.append(current_task())
            record.append(await (await inner.run(me)).result())
            record.append(inner.outcomes()[0].value)  # type: ignore[union-attr]  # it has not failed

    async with manager(2) as cm:
        handle = await cm.run(outer_task)
    assert record == [handle, record[1], record[1]]
    assert record[1] is not handle
    assert record[1].name == "me"


async def test_what_a_map_draws_from_is_no_task_of_its_manager(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def plain() -> Iterator[int]:
        for n in range(3):
            record.append(current_task())
            yield n

    async def awaited() -> AsyncIterator[int]:
        for n in range(3):
            record.append(current_task())
            yield n

    async def take_all(source: Any) -> None:
        async with manager(2) as cm, cm.map(one, source) as outcomes:
            async for _ in outcomes:
                pass

    async def one(_: int) -> None:
        await trio.sleep(1)

    await take_all(plain())
    await take_all(awaited())
    assert record == [None] * 6
    record.clear()
    async with manager(2) as outside:
        handle = await outside.run(take_all, plain())
        await handle.wait()
        again = await outside.run(take_all, awaited())
    assert record == [handle] * 3 + [again] * 3


def test_outside_of_trio_it_is_none() -> None:
    assert current_task() is None


async def test_without_a_manager_it_is_none() -> None:
    assert current_task() is None
    with pytest.raises(LookupError):
        WORKERS.get()


async def test_in_another_thread_it_is_none() -> None:
    async def task() -> tuple[object, object]:
        return await trio.to_thread.run_sync(current_task), await trio.to_thread.run_sync(
            trio.from_thread.run_sync, current_task
        )

    async with manager(2) as cm:
        handle = await cm.run(task)
    assert await handle.result() == (None, handle)
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(current_task()))
    thread.start()
    thread.join()
    assert seen == [None]


async def test_hooks_and_predicates_of_a_task_run_in_it(autojump_clock: MockClock, record: list[Any]) -> None:
    class Watching(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            record.append(("started", current_task() is handle))

        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            record.append(("finished", current_task()))

    def again(_: Exception) -> bool:
        handle = current_task()
        record.append(("failed", handle is not None and handle.name))
        return True

    async def fails() -> None:
        raise ValueError

    async with manager(2, instruments=[Watching()]) as cm:
        again_once = RetryConfig(max_attempts=1, retry_on=again, initial_delay=0)
        await cm.run(fails, name="it", retry=again_once)
    assert record == [
        ("started", True),
        ("failed", "it"),
        ("started", True),
        ("failed", "it"),
        ("finished", None),
    ]


async def test_a_log_filter_may_ask(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    class Names(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            handle = current_task()
            record.msg = f"{handle.name if handle else '-'}: {record.msg}"
            return True

    logger = logging.getLogger("test_current_task")
    logger.addFilter(Names())

    async def speaks() -> None:
        logger.warning("inside")

    async with manager(2) as cm:
        logger.warning("outside")
        await cm.run(speaks, name="page 7")
    assert caplog.messages == ["-: outside", "page 7: inside"]


async def test_workers_that_have_ended_are_forgotten(autojump_clock: MockClock) -> None:
    async def leaves_scope_open() -> None:
        trio.CancelScope().__enter__()

    async with manager(5) as cm:
        for _ in range(5):
            await cm.run(me)
        await cm.wait()
        assert len(WORKERS.get()) == 5
        for _ in range(3):
            await cm.run(leaves_scope_open)
        await cm.wait()
        async with manager(3) as other:
            await other.run(me)
            other.cancel()
    assert WORKERS.get() == {}
    assert len(cm.errors()) == 3


async def test_it_keeps_no_task_alive(autojump_clock: MockClock) -> None:
    gc.disable()
    try:
        async with manager(2) as cm:
            for _ in range(10):
                await cm.run(me)
            await cm.wait()
            assert all(worker.handle is None for worker in WORKERS.get().values())
    finally:
        gc.enable()
