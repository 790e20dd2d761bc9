"""Leaving a `map` early, and what its consumer gets when the manager ends around it."""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Failure, Instrument, StopReason, TaskHandle


class Work:
    """Items that take their time, need more of it to clean up, and write down how they ended."""

    def __init__(self, clean_up: float = 0) -> None:
        self.clean_up = clean_up
        self.started: list[int] = []
        self.ended: list[tuple[float, int]] = []
        self.closed: list[float] = []

    async def item(self, value: int) -> int:
        self.started.append(value)
        try:
            await trio.sleep(1 if value == 0 else 100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.clean_up)
            self.ended.append((trio.current_time(), value))
        return value

    def items(self) -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            self.closed.append(trio.current_time())

    async def async_items(self) -> AsyncIterator[int]:
        try:
            for number in range(5):
                yield number
        finally:
            self.closed.append(trio.current_time())
            await trio.lowlevel.checkpoint()


each_source = pytest.mark.parametrize("source", [Work.items, Work.async_items])


async def consume(
    cm: ConMan[Any], work: Work, source: Callable[[Work], Any], record: list[Any], *, ordered: bool = False
) -> None:
    """Write down what a consumer gets, until the end and with it."""
    try:
        async with cm.map(work.item, source(work), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                kind = outcome.reason if isinstance(outcome, Failure) else None
                record.append((trio.current_time(), outcome.index, kind))
    except BaseException as exc:
        record.append(type(exc))
        raise
    record.append("end")


# By the consumer


@each_source
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_break_ends_the_rest_and_closes_the_input(
    source: Any, ordered: bool, autojump_clock: MockClock
) -> None:
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(work.item, source(work), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                assert outcome.index == 0
                break
        # By then, all is over.
        assert trio.current_time() == 1
        assert work.closed == [1]
        now = cm.statistics()
        assert (now.running, now.waiting, now.queued, now.succeeded) == (0, 0, 0, 1)
        assert now.cancelled == now.submitted - 1 == len(work.started) - 1
        await cm.wait()
        assert trio.current_time() == 1
    assert sorted(work.ended) == [(1, value) for value in sorted(work.started)]


@each_source
async def test_an_item_that_was_left_says_why(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    class Watches(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Any) -> None:
            if isinstance(outcome, Failure):
                record.append(str(outcome.error))

    work = Work()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, instruments=[Watches()]) as cm:
            async with cm.map(work.item, source(work), name="page") as outcomes:
                async for _ in outcomes:
                    break
    assert sorted(record) == [
        f"task 'page' (index {index}) was cancelled: its map was left" for index in (1, 2)
    ]


@each_source
async def test_an_error_in_the_body_arrives_as_it_is(source: Any, autojump_clock: MockClock) -> None:
    error = KeyError("mine")
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(KeyError) as caught:  # noqa: PT012  # leaving the block raises
            async with cm.map(work.item, source(work)) as outcomes:
                async for _ in outcomes:
                    raise error
        assert trio.current_time() == 1
    assert caught.value is error
    # No complaint about scopes, nor about a generator's end, hangs on it.
    assert error.__context__ is None
    assert error.__cause__ is None
    assert work.closed == [1]


async def test_an_error_that_leaves_the_manager_too_arrives_as_it_is(autojump_clock: MockClock) -> None:
    error = KeyError("mine")
    work = Work()
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError) as caught:  # noqa: PT012  # leaving the block raises
            async with ConMan[int].open(nursery, 2) as cm, cm.map(work.item, work.items()) as outcomes:
                async for _ in outcomes:
                    raise error
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert cm.outcomes() == []


@each_source
async def test_a_map_that_nobody_reads_from(source: Any, autojump_clock: MockClock) -> None:
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(work.item, source(work)):
            pass
        assert trio.current_time() == 0
        # Items may have had their slots, but none was drawn.
        assert cm.statistics().submitted == 0
    assert work.started == []


@each_source
async def test_the_clean_up_of_the_items_is_waited_for(source: Any, autojump_clock: MockClock) -> None:
    work = Work(clean_up=5)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        async with cm.map(work.item, source(work)):
            await trio.sleep(0.5)
        assert trio.current_time() == 5.5
    assert sorted(work.ended) == [(5.5, 0), (5.5, 1), (5.5, 2)]
    # An async input is closed by its own task, meanwhile; another one when the last item has ended.
    assert work.closed == [0.5 if source is Work.async_items else 5.5]


@each_source
async def test_a_cancellation_around_waits_for_the_clean_up_too(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work(clean_up=5)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with trio.move_on_after(0.5) as scope:
            await consume(cm, work, source, record)
        assert scope.cancelled_caught
        assert trio.current_time() == 5.5
        assert cm.statistics().running == 0
        # It was for the consumer, not for the manager.
        assert await (await cm.run(work.item, 0)).result() == 0
    assert record == [trio.Cancelled]
    assert work.closed == [0.5 if source is Work.async_items else 5.5]


async def test_an_async_input_that_blocks_is_interrupted(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        yield 0
        try:
            await trio.sleep_forever()
        finally:
            record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(Work().item, items()) as outcomes:
            await anext(outcomes)
        assert record == [1]


async def test_an_item_that_waits_for_its_slot_is_dropped(autojump_clock: MockClock) -> None:
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 3)
        async with cm.map(work.item, work.async_items()):
            await trio.sleep(1)
        assert work.closed == [1]
        assert cm.statistics().waiting == 0
        await cm.wait()
        assert trio.current_time() == 3
    assert work.started == []


@each_source
async def test_the_iterator_of_a_map_that_was_left_has_ended(source: Any, autojump_clock: MockClock) -> None:
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(work.item, source(work)) as outcomes:
            await anext(outcomes)
        with trio.fail_after(1), pytest.raises(StopAsyncIteration):
            await anext(outcomes)


@pytest.mark.parametrize("options", [{}, {"task_timeout": 50}], ids=["no deadline", "deadline"])
async def test_items_that_end_as_the_map_is_left_keep_their_results(
    options: dict[str, Any], autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(value: int) -> int:
        await trio.sleep(1)
        record.append(value)
        return value

    # Some of the items find the map left before they run again: they have to be cancelled, others not.
    for _ in range(20):
        record.clear()
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4) as cm:
            async with cm.map(item, range(4), **options):
                await trio.sleep(1)
            now = cm.statistics()
            assert (now.succeeded, now.cancelled) == (len(record), 4 - len(record))


async def test_other_work_goes_on_when_a_map_is_left(autojump_clock: MockClock, record: list[Any]) -> None:
    work, other = Work(), Work()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4) as cm:
        async with cm.map(other.item, [0, 0, 0, 0]) as others:
            handle = await cm.run(trio.sleep, 3)
            async with cm.map(work.item, work.items()):
                await trio.sleep(1.5)
            record.extend([outcome.index async for outcome in others])
        assert (await handle.wait()).elapsed == 3
    assert sorted(record) == [0, 1, 2, 3]


# By the manager


@each_source
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_manager_that_is_cancelled_ends_the_body_quietly(
    source: Any, how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work(clean_up=0.5)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, timeout=2 if how == "timeout" else math.inf) as cm:

            async def cancel() -> None:
                await trio.sleep(2)
                cm.cancel()

            if how == "cancel":
                nursery.start_soon(cancel)
            await consume(cm, work, source, record)
        assert trio.current_time() == 2.5
    assert cm.timed_out is (how == "timeout")
    assert record == [(1.5, 0, None), trio.Cancelled]


@each_source
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("how", ["cancel", "timeout", "left by an error", "shutdown"])
async def test_a_consumer_outside_gets_all_outcomes_and_then_the_end(
    source: Any, ordered: bool, how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work()
    error = KeyError("mine")

    async def watch(cm: ConMan[int]) -> None:
        with pytest.raises(ConManClosedError, match=r"^'conman' is closed and accepts no more tasks"):
            await consume(cm, work, source, record, ordered=ordered)

    async def end(cm: ConMan[int]) -> None:
        nursery.start_soon(watch, cm)
        await trio.sleep(3)
        if how == "cancel":
            cm.cancel("enough")
        elif how == "left by an error":
            raise error
        elif how == "shutdown":
            await cm.shutdown(0)
        await trio.sleep(0)

    async with trio.open_nursery() as nursery:
        with suppress(KeyError):
            async with ConMan[int].open(nursery, 2, timeout=3 if how == "timeout" else math.inf) as cm:
                await end(cm)
    reason = StopReason.MANAGER_TIMEOUT if how == "timeout" else StopReason.CANCELLED
    assert record[0] == (1, 0, None)
    assert sorted(record[1:-1]) == [(3, 1, reason), (3, 2, reason)]
    assert record[-1] is ConManClosedError
    assert work.closed == [3]
    assert sorted(work.ended) == [(1, 0), (3, 1), (3, 2)]


@each_source
async def test_a_cancelled_nursery_cancels_a_consumer_in_it(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work(clean_up=0.5)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 2
        async with ConMan[int].open(nursery, 2) as cm:
            nursery.start_soon(consume, cm, work, source, record)
            await trio.sleep_forever()
    assert trio.current_time() == 2.5
    assert record == [(1.5, 0, None), trio.Cancelled]
    assert len(work.started) == len(work.ended) == 3


@each_source
async def test_a_cancelled_nursery_ends_the_map_of_a_consumer_elsewhere(
    source: Any, autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work()
    opened = trio.Event()
    managers: list[ConMan[int]] = []

    async def watch() -> None:
        await opened.wait()
        with pytest.raises(ConManClosedError):
            await consume(managers[0], work, source, record)

    async with trio.open_nursery() as elsewhere:
        elsewhere.start_soon(watch)
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = 2
            async with ConMan[int].open(nursery, 2) as cm:
                managers.append(cm)
                opened.set()
                await trio.sleep_forever()
    assert trio.current_time() == 2
    assert record[0] == (1, 0, None)
    assert sorted(record[1:-1]) == [(2, 1, StopReason.CANCELLED), (2, 2, StopReason.CANCELLED)]
    assert record[-1] is ConManClosedError


async def test_workers_that_rest_end_with_the_nursery(autojump_clock: MockClock, record: list[Any]) -> None:
    async def items() -> AsyncIterator[int]:
        yield 0
        yield 0
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = 3
        async with ConMan[int].open(nursery, 3) as cm:
            await consume(cm, Work(), lambda _: items(), record)
    assert trio.current_time() == 3
    assert sorted(record[:2]) == [(1, 0, None), (1, 1, None)]
    assert record[2:] == [trio.Cancelled]


async def test_an_input_that_cancels_the_manager(autojump_clock: MockClock, record: list[Any]) -> None:
    work = Work()

    def items() -> Iterator[int]:
        yield 0
        cm.cancel()
        yield 1
        record.append("never")

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await consume(cm, work, lambda _: items(), record)
    assert trio.current_time() == 0
    assert record == [trio.Cancelled]
    assert cm.statistics().cancelled == cm.statistics().submitted == 2


async def test_a_map_that_had_drawn_all_does_not_tell_of_the_end(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    work = Work()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        nursery.start_soon(consume, cm, work, lambda _: range(2), record)
        await trio.sleep(3)
        await cm.shutdown(0)
    assert record == [(1, 0, None), (3, 1, StopReason.CANCELLED), "end"]


async def test_outcomes_can_be_taken_after_the_manager_has_closed(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def read() -> None:
        async with cm.map(Work().item, [0, 0]) as outcomes:
            await trio.sleep(10)
            record.extend([(trio.current_time(), outcome.index) async for outcome in outcomes])

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 3) as cm:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await cm.shutdown()
        assert trio.current_time() == 1
    assert sorted(record) == [(10, 0), (10, 1)]


async def test_an_item_that_has_its_worker_but_has_not_begun_when_the_map_is_left_does_not_begin() -> None:
    """Or it has, by chance, and meets its cancellation at its first checkpoint."""
    ended: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    async def item(value: int) -> None:
        await trio.lowlevel.checkpoint()
        ended.append(value)

    class Leaving(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            scope.cancel()

    for _ in range(50):
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[Leaving()]) as cm:
                with trio.CancelScope() as scope:
                    async with cm.map(item, source()) as outcomes:
                        await anext(outcomes)
        (outcome,) = cm.outcomes()
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.CANCELLED
    assert ended == []
