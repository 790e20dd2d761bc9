"""in_batches: lists that are full or in time, and nothing lost."""

from __future__ import annotations

import signal
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, nullcontext, suppress
from functools import partial
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Outcome, Success
from trio_conman._engine.stream import Stream
from trio_conman.batches import in_batches


async def job(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


def values(outcomes: list[Outcome[Any]]) -> list[Any]:
    return [each.value for each in outcomes if isinstance(each, Success)]


async def arriving(*times: float) -> AsyncIterator[float]:
    """Each at its time."""
    start = trio.current_time()
    for each in times:
        await trio.sleep_until(start + each)
        yield each


async def test_full_lists_and_the_rest(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 10) as cm:
        async with cm.map(job, range(1, 8)) as outcomes, in_batches(outcomes, 3) as batches:
            async for batch in batches:
                record.append((trio.current_time(), values(batch)))
            assert batches.rest == []
    assert record == [(3, [1, 2, 3]), (6, [4, 5, 6]), (7, [7])]
    assert cm.outcomes() == []


async def test_in_time_from_the_arrival_of_the_first(autojump_clock: MockClock, record: list[Any]) -> None:
    start = trio.current_time()
    async with in_batches(arriving(1, 2, 2.5, 2.75, 10, 11), 3, seconds=2) as batches:
        async for batch in batches:
            record.append((trio.current_time() - start, batch))
    assert record == [(2.5, [1, 2, 2.5]), (4.75, [2.75]), (11, [10, 11])]


@pytest.mark.parametrize("seconds", [0, 0.6])
async def test_a_reader_that_is_busy_finds_what_has_arrived(
    autojump_clock: MockClock, record: list[Any], seconds: float
) -> None:
    async with in_batches(arriving(1, 1.5, 4, 5, 6, 7), 3, seconds=seconds) as batches:
        async for batch in batches:
            record.append(batch)
            await trio.sleep(4.25)
    assert record == ([[1], [1.5, 4, 5], [6, 7]] if seconds == 0 else [[1, 1.5], [4, 5], [6, 7]])


@pytest.mark.parametrize("size", [5, 1000])
async def test_takes_no_more_than_one_list_ahead(size: int, autojump_clock: MockClock) -> None:
    drawn = 0

    async def source() -> AsyncGenerator[int]:
        nonlocal drawn
        while drawn < 5 * size:
            drawn += 1
            yield drawn

    async with aclosing(source()) as numbers, in_batches(numbers, size) as batches:
        await trio.sleep(1)
        assert drawn == size
        assert await anext(batches) == [*range(1, size + 1)]
        await trio.sleep(1)
        assert drawn == 2 * size
        assert batches.rest == [*range(size + 1, 2 * size + 1)]


@pytest.mark.parametrize("kind", ["map", "ordered", "send_to", "generator"])
async def test_a_reader_s_timeout_loses_nothing(
    autojump_clock: MockClock, record: list[Any], kind: str
) -> None:
    send, receive = trio.open_memory_channel[Outcome[float]](0)
    numbers = [n / 5 for n in range(1, 11)]

    async def read(source: Any) -> None:
        timeouts = 0
        async with in_batches(source, 3, seconds=1) as batches:
            while True:
                try:
                    with trio.fail_after(0.1):
                        batch = await anext(batches)
                except trio.TooSlowError:
                    timeouts += 1
                except StopAsyncIteration:
                    break
                else:
                    record.append(batch if kind == "generator" else values(batch))
        assert timeouts > 5

    if kind == "generator":
        await read(arriving(*numbers))
    else:
        async with trio.open_nursery() as nursery:
            sending = kind == "send_to"
            async with ConMan[float].open(nursery, 20, send_to=send if sending else None) as cm:
                if sending:
                    nursery.start_soon(read, receive)
                    for each in numbers:
                        cm.start_soon(job, each)
                else:
                    async with cm.map(job, numbers, ordered=kind == "ordered") as outcomes:
                        await read(outcomes)
    assert record == [numbers[0:3], numbers[3:6], numbers[6:9], numbers[9:]]


async def whole_lists(cm: ConMan[float], items: list[float], record: list[Any], *, ordered: bool) -> None:
    async with cm.map(job, items, ordered=ordered) as outcomes, in_batches(outcomes, 4) as batches:
        async for batch in batches:
            record.append(values(batch))
            await trio.sleep(3)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("end", ["deadline", "cancel", "scope"])
@pytest.mark.parametrize("busy", [False, True])
async def test_what_was_taken_is_kept_when_the_map_is_ended_from_outside(
    autojump_clock: MockClock, record: list[Any], ordered: bool, end: str, busy: bool
) -> None:
    # At 7.5 the reader waits for a second list, or it is still busy with the first.
    items = [1, 2, 3, 4, 5, 6, 7, 8.0] if not busy else [1, 2, 4.75, 5, 5.5, 6, 7, 9.0]
    async with trio.open_nursery() as nursery:
        async with ConMan[float].open(nursery, 10, timeout=7.5 if end == "deadline" else inf) as cm:
            with trio.move_on_after(7.5 if end == "scope" else inf):
                if end == "cancel":
                    nursery.start_soon(cancel_at, cm, 7.5)
                await whole_lists(cm, items, record, ordered=ordered)
    assert record == [items[:4]]
    kept = values(cm.outcomes())
    assert kept == items[4:7]


async def cancel_at(cm: ConMan[float], seconds: float) -> None:
    await trio.sleep(seconds)
    cm.cancel()


async def test_what_a_reader_leaves_by_itself_is_dropped_as_in_a_map(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, [1, 2, 3, 4, 5]) as outcomes:
            async with in_batches(outcomes, 2) as batches:
                async for _ in batches:
                    await trio.sleep(1.5)
                    break
            # The map has it back.
            assert values([await anext(outcomes)]) == [3]
    assert cm.outcomes() == []


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_a_map_has_back_goes_at_once_to_a_consumer_that_waits(
    autojump_clock: MockClock, record: list[Any], ordered: bool
) -> None:
    async def consume() -> None:
        async for each in outcomes:
            record.append((trio.current_time(), each.index))

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, [1, 2, 9], ordered=ordered) as outcomes, trio.open_nursery() as inner:
            async with in_batches(outcomes, 5):
                await trio.sleep(3)
                inner.start_soon(consume)
                await trio.sleep(1)
    assert record == [(4, 0), (4, 1), (9, 2)]


@pytest.mark.parametrize("seconds", [0.5, 1.5])
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_has_back_what_its_source_raised(
    autojump_clock: MockClock, record: list[Any], ordered: bool, seconds: float
) -> None:
    """Also when it was not yet raised."""

    def items() -> Iterator[float]:
        yield from [1, 1, 1]
        raise OSError("the source broke")

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, items(), ordered=ordered) as outcomes:
            async with in_batches(outcomes, 3 if seconds == 0.5 else 4):
                await trio.sleep(seconds)
            record += [await anext(outcomes), await anext(outcomes), await anext(outcomes)]
            with pytest.raises(OSError, match=r"^the source broke$"):
                await anext(outcomes)
            assert values(record) == [1, 1, 1]
            assert [each async for each in outcomes] == []


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_has_back_what_its_source_raised_whichever_block_is_left_first(
    autojump_clock: MockClock, ordered: bool, first: int
) -> None:
    async def hold(size: int, leave: trio.Event) -> None:
        async with in_batches(outcomes, size):
            await leave.wait()

    def items() -> Iterator[float]:
        yield from [0] * 7
        raise OSError("the source broke")

    events = [trio.Event(), trio.Event()]
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, items(), ordered=ordered) as outcomes:
            async with trio.open_nursery() as holders:
                for size, event in zip([3, 10], events, strict=True):
                    holders.start_soon(hold, size, event)
                    await trio.sleep(1)
                for event in (events[first], events[not first]):
                    event.set()
                    await trio.sleep(1)
            assert values([await anext(outcomes) for _ in range(7)]) == [0] * 7
            with pytest.raises(OSError, match=r"^the source broke$"):
                await anext(outcomes)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_has_back_in_one_step_however_much_was_taken(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    steps: list[int] = []
    put_back = Stream.put_back

    def watched(self: Stream[Any], outcomes: list[Any], *args: Any) -> None:
        steps.append(len(outcomes))
        put_back(self, outcomes, *args)

    monkeypatch.setattr(Stream, "put_back", watched)
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, [0] * 500, ordered=ordered) as outcomes:
            async with in_batches(outcomes, 500) as batches:
                while len(batches.rest) < 500:
                    await trio.sleep(1)
            assert steps == [500]
            assert sorted([each.index async for each in outcomes]) == list(range(500))


async def test_an_interrupt_does_not_hit_what_is_taken_of_a_map(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, record: list[Any]
) -> None:
    take = Stream.__anext__

    async def noted(self: Stream[Any]) -> Any:
        record.append(trio.lowlevel.currently_ki_protected())
        return await take(self)

    monkeypatch.setattr(Stream, "__anext__", noted)
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, [1, 2]) as outcomes, in_batches(outcomes, 2) as batches:
            assert values(await anext(batches)) == [1, 2]
    assert set(record) == {True}


async def test_what_was_taken_of_a_map_that_was_left_before_is_in_rest(autojump_clock: MockClock) -> None:
    """Its reader is another trio task, and busy meanwhile."""

    async def read(outcomes: AsyncIterator[Outcome[float]]) -> None:
        async with in_batches(outcomes, 2) as batches:
            assert values(await anext(batches)) == [1, 2]
            await trio.sleep(8)
        assert values(batches.rest) == [3, 4]

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery) as cm:
        async with cm.map(job, [1, 2, 3, 4, 5]) as outcomes:
            nursery.start_soon(read, outcomes)
            await trio.sleep(6)
        await trio.sleep(10)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def test_what_was_taken_of_anything_else_is_in_rest(autojump_clock: MockClock) -> None:
    with trio.move_on_after(3.5):
        async with in_batches(arriving(1, 2, 3, 4), 2) as batches:
            async for batch in batches:
                assert batch == [1, 2]
    assert batches.rest == [3]
    # It is also what comes next, though nothing more is taken.
    assert [batch async for batch in batches] == [[3]]


@pytest.mark.parametrize("error", [KeyError("k"), ValueError("v")])
async def test_what_the_source_raises_comes_after_its_last_list(
    autojump_clock: MockClock, error: Exception
) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise error

    async with in_batches(source(), 2) as batches:
        assert await anext(batches) == [1]
        with pytest.raises(type(error)) as caught:
            await anext(batches)
        assert caught.value is error
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_a_shutdown_ends_the_loop_after_what_had_started(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 2) as cm:

        async def shut_down() -> None:
            await trio.sleep(2.5)
            await cm.shutdown()

        nursery.start_soon(shut_down)
        async with cm.map(job, [1.0] * 100) as outcomes, in_batches(outcomes, 5) as batches:
            record.extend([len(await anext(batches)), len(await anext(batches)), trio.current_time()])
            with pytest.raises(ConManClosedError):
                await anext(batches)
    assert record == [5, 1, 3]


@pytest.mark.parametrize("error", [KeyError("k"), KeyboardInterrupt()])
async def test_what_the_block_raises_goes_on_as_it_is(
    autojump_clock: MockClock, error: BaseException
) -> None:
    async def fail_cancelled(scope: trio.CancelScope) -> None:
        async with in_batches(arriving(1, 2), 2):
            scope.cancel()
            raise error

    with trio.CancelScope() as scope:
        with pytest.raises(type(error)) as caught:
            await fail_cancelled(scope)
    assert caught.value is error


async def test_an_interrupt_of_the_source_leaves_the_block() -> None:
    async def source() -> AsyncIterator[int]:
        raise KeyboardInterrupt
        yield 1

    with pytest.RaisesGroup(KeyboardInterrupt):
        async with in_batches(source(), 2) as batches:
            await anext(batches)


class InterruptedList(list[Any]):
    """A Ctrl-C comes when all have gone."""

    def clear(self) -> None:
        super().clear()
        signal.raise_signal(signal.SIGINT)


class InterruptedOnce(list[Any]):
    """A Ctrl-C comes when the first one is there, and not yet put in."""

    def append(self, each: Any) -> None:
        if not self:
            signal.raise_signal(signal.SIGINT)
        super().append(each)


class InterruptedLot:
    """A Ctrl-C comes when a list has been taken."""

    def unpark_all(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("when", ["one is taken", "a list is handed over", "the rest is put back"])
def test_a_ctrl_c_loses_nothing(when: str) -> None:
    seen: list[Outcome[Any]] = []
    managers: list[ConMan[Any]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            managers.append(cm)
            async with cm.map(job, [0.0] * 9) as outcomes, in_batches(outcomes, 3) as batches:
                if when == "one is taken":
                    batches.rest = InterruptedOnce()
                await wait_all_tasks_blocked()
                if when == "a list is handed over":
                    batches._room = InterruptedLot()  # type: ignore[assignment]  # it is used as a lot is
                else:
                    batches.rest = InterruptedList(batches.rest)
                    cm.cancel()
                seen.extend(await anext(batches))
                await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert caught.value.split(KeyboardInterrupt)[1] is None
    (cm,) = managers
    outcomes = [*seen, *cm.outcomes()]
    assert sorted(each.index for each in outcomes) == list(range(cm.statistics().submitted))


async def test_a_source_of_the_user_can_be_interrupted() -> None:
    async def source() -> AsyncIterator[bool]:
        yield trio.lowlevel.currently_ki_protected()

    async with in_batches(source(), 3) as batches:
        assert await anext(batches) == [False]


async def test_two_readers_share_the_lists(autojump_clock: MockClock, record: list[Any]) -> None:
    async def read(batches: AsyncIterator[list[float]]) -> None:
        async for batch in batches:
            record.append(batch)

    async with in_batches(arriving(1, 2, 3, 4, 5), 2, seconds=1.5) as batches:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, batches)
            nursery.start_soon(read, batches)
    assert record == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("kind", ["map", "generator"])
async def test_a_reader_elsewhere_does_not_wait_for_a_block_that_was_left(
    autojump_clock: MockClock, record: list[Any], kind: str
) -> None:
    async def read(batches: AsyncIterator[list[Any]]) -> None:
        async for batch in batches:
            record.append(batch)
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, timeout=60) as cm:
        async with cm.map(job, [1, 30]) as outcomes:
            async with in_batches(outcomes if kind == "map" else arriving(1, 30), 2) as batches:
                nursery.start_soon(read, batches)
                await trio.sleep(5)
            # The map has back what the reader of the batches has not had.
            assert kind == "generator" or values([await anext(outcomes)]) == [1]
            await trio.sleep(1)
    assert record == ([5] if kind == "map" else [[1], 5])


@pytest.mark.parametrize("around, held", [(nullcontext, 0), (partial(in_batches, size=1), 1)])
@pytest.mark.parametrize("who", ["entered it", "reads"])
async def test_who_waits_for_the_manager_does_not_wait_for_itself_to_read(
    who: str, around: Any, held: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    """As a consumer of the map, also far from who has opened that."""
    gone = trio.Event()

    async def wait(cm: ConMan[float]) -> None:
        await cm.wait()
        record.append(trio.current_time())

    async def read(cm: ConMan[float], batches: Any) -> None:
        record.append(len(await anext(batches)))
        if who == "reads":
            await wait(cm)
        gone.set()

    async def enter(cm: ConMan[float], outcomes: Any, readers: trio.Nursery) -> None:
        async with in_batches(outcomes, 2) as batches:
            if who == "entered it":
                await wait(cm)
            readers.start_soon(read, cm, batches)
            await gone.wait()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 2) as cm:
            async with cm.map(job, [1] * 20) as taken, around(taken) as outcomes:
                nursery.start_soon(enter, cm, outcomes, nursery)
                await gone.wait()
    # Two are taken, or four, and as many as there may be are there, and in each of the batches within.
    assert record == ([3 + held, 2] if who == "entered it" else [2, 4 + held])


@pytest.mark.usefixtures("no_collector")
async def test_an_error_of_the_source_leads_to_no_cycle() -> None:
    class Local:
        pass

    async def source() -> AsyncIterator[int]:
        local = Local()
        seen.append(weakref.ref(local))
        raise KeyError("k")
        yield 1

    seen: list[weakref.ref[Local]] = []
    async with in_batches(source(), 2) as batches:
        with suppress(KeyError):
            await anext(batches)
    assert [ref() for ref in seen] == [None]


@pytest.mark.parametrize("own", [None, ValueError("own")], ids=["left", "raised"])
async def test_what_the_source_raises_as_the_block_is_left_is_raised_by_that(
    own: Exception | None, no_collector: None
) -> None:
    """Unless it raises something itself; and no cycle keeps what the source had."""

    class Local:
        pass

    async def source() -> AsyncIterator[int]:
        local = Local()
        seen.append(weakref.ref(local))
        try:
            yield 1
            await trio.sleep_forever()
        finally:
            raise KeyError(id(local))

    async def use() -> None:
        async with in_batches(source(), 1) as batches:
            assert await anext(batches) == [1]
            await wait_all_tasks_blocked()
            if own is not None:
                raise own

    seen: list[weakref.ref[Local]] = []
    with pytest.raises(KeyError if own is None else ValueError) as caught:
        await use()
    assert own is None or caught.value is own
    del caught
    if own is not None:
        own.__traceback__ = None
    assert [ref() for ref in seen] == [None]


@pytest.mark.parametrize("left", ["left", "raised", "cancelled"])
async def test_what_a_nursery_of_the_source_raises_as_the_block_is_left_is_no_interrupt(left: str) -> None:
    """Its own cancellation, which is in that group too, goes no further."""

    async def failing() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("k")

    async def source() -> AsyncIterator[int]:
        yield 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing)
            await trio.sleep_forever()

    async def use(scope: trio.CancelScope) -> None:
        async with in_batches(source(), 1) as batches:
            assert await anext(batches) == [1]
            await wait_all_tasks_blocked()
            if left == "raised":
                raise ValueError("own")
            if left == "cancelled":
                scope.cancel()
                await trio.sleep_forever()

    with trio.CancelScope() as scope:
        if left == "raised":
            with pytest.raises(ValueError, match="own"):
                await use(scope)
        else:
            with pytest.RaisesGroup(KeyError):  # the source's own group
                await use(scope)
    assert not scope.cancelled_caught


@pytest.mark.parametrize("reads", ["here", "in a child"])
async def test_what_the_source_raises_as_all_is_cancelled_is_raised_too(
    reads: str, autojump_clock: MockClock
) -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("k")

    async def use() -> None:
        async with in_batches(source(), 1) as batches:
            assert await anext(batches) == [1]
            if reads == "here":
                await anext(batches)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()

    with trio.move_on_after(1) as scope, pytest.raises(KeyError, match="k"):
        await use()
    assert not scope.cancelled_caught


@pytest.mark.parametrize("ready", [False, True])
async def test_the_lists_are_checkpoints(ready: bool) -> None:
    async with in_batches(arriving(0, 0), 2) as batches:
        if ready:
            await wait_all_tasks_blocked()
        with assert_checkpoints():
            assert await anext(batches) == [0, 0]
        if ready:
            await wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(StopAsyncIteration), assert_checkpoints():
                await anext(batches)


async def test_is_entered_once_before_it_is_read() -> None:
    block: Any = in_batches(arriving(0), 2)
    with pytest.raises(RuntimeError, match=r"^in_batches\(\) was not entered: use 'async with in_batches"):
        await anext(block)
    async with block:
        with pytest.raises(RuntimeError, match=r"^in_batches\(\) was entered twice; every 'async with'"):
            await block.__aenter__()


@pytest.mark.parametrize(
    "outcomes, size, seconds, error, text",
    [
        ([1, 2], 2, 1, TypeError, r"outcomes must be an async iterable, not \[1, 2\]"),
        (arriving(), 0, 1, ValueError, r"size must be an int of at least 1, or math\.inf, not 0"),
        (arriving(), 2.0, 1, TypeError, r"size must be an int of at least 1, or math\.inf, not 2\.0"),
        (arriving(), 2, -1, ValueError, r"seconds must be a number of at least 0 .*, not -1"),
        (arriving(), 2, "1", TypeError, r"seconds must be a number of at least 0 .*, not '1'"),
    ],
)
def test_parameters_are_checked_at_once(
    outcomes: Any, size: Any, seconds: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        in_batches(outcomes, size, seconds=seconds)
