"""`map`: which outcomes come, in which order, and when; and how much of the input is drawn."""

import math
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, Outcome, RetriableError, RetryConfig, StopReason, Success

in_any_order = pytest.mark.parametrize("ordered", [False, True])


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def sleeper(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def at_once(value: int) -> int:
    return value


class Source:
    """Counts up to `end`, and knows how far it was drawn."""

    def __init__(self, end: float = math.inf) -> None:
        self.end = end
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        while self.drawn < self.end:
            self.drawn += 1
            yield self.drawn - 1


class AsyncSource(Source):
    async def __aiter__(self) -> AsyncIterator[int]:
        for item in self:
            yield item


each_source = pytest.mark.parametrize("kind", [Source, AsyncSource])


async def take(outcomes: AsyncIterator[Outcome[Any]], record: list[Any]) -> None:
    async for outcome in outcomes:
        assert isinstance(outcome, Success)
        record.append((trio.current_time(), outcome.index, outcome.value))


# Order and times


async def test_outcomes_come_as_items_complete(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 4) as cm:
        async with cm.map(sleeper, [10, 6, 4, 1, 1, 1.5]) as outcomes:
            await take(outcomes, record)
    # A long item holds nobody up: the one that ends first makes way for the next.
    assert record == [(1, 3, 1), (2, 4, 1), (3.5, 5, 1.5), (4, 2, 4), (6, 1, 6), (10, 0, 10)]


async def test_ordered_outcomes_come_in_the_order_of_the_items(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 4) as cm:
        async with cm.map(sleeper, [3, 1, 2, 5, 1], ordered=True) as outcomes:
            await take(outcomes, record)
    assert record == [(3, 0, 3), (3, 1, 1), (3, 2, 2), (5, 3, 5), (5, 4, 1)]


@in_any_order
@each_source
async def test_items_run_as_many_at_once_as_there_are_slots(
    kind: type[Source], ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 3) as cm:
        async with cm.map(second, kind(8), ordered=ordered) as outcomes:
            await take(outcomes, record)
    assert [when for when, *_ in record] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert sorted(record) == [(1 + index // 3, index, index) for index in range(8)]
    if ordered:
        assert record == sorted(record)


@each_source
@in_any_order
async def test_no_items_no_outcomes(kind: type[Source], ordered: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(second, kind(0), ordered=ordered) as outcomes:
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(outcomes)
    assert trio.current_time() == 0
    assert cm.statistics().submitted == 0


@in_any_order
@each_source
async def test_many_items_that_never_sleep(kind: type[Source], ordered: bool, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 3) as cm:
        async with cm.map(at_once, kind(1000), ordered=ordered) as outcomes:
            await take(outcomes, record)
    assert sorted(value for _, _, value in record) == list(range(1000))


async def test_any_iterable_will_do(record: list[Any]) -> None:
    class Sequence:
        def __getitem__(self, index: int) -> int:
            return [5, 6, 7][index]

    sources: list[Any] = [(5, 6, 7), {5: 0, 6: 0, 7: 0}, iter([5, 6, 7]), Sequence(), range(5, 8)]
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        for source in sources:
            async with cm.map(at_once, source, ordered=True) as outcomes:
                await take(outcomes, record)
    assert [value for _, _, value in record] == [5, 6, 7] * len(sources)


async def test_the_next_outcome_is_a_checkpoint_when_it_is_not_there(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(second, [1]) as outcomes:
            with assert_checkpoints():
                await anext(outcomes)


async def test_the_consumer_can_be_cancelled_though_there_are_outcomes(record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(at_once, Source()) as outcomes:
            with trio.CancelScope() as scope:
                async for outcome in outcomes:
                    record.append(outcome.index)
                    if len(record) == 100:
                        scope.cancel()
    assert len(record) == 100


async def test_several_consumers_share_the_outcomes(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(second, range(6)) as outcomes, trio.open_nursery() as consumers:
            for _ in range(3):
                consumers.start_soon(take, outcomes, record)
        assert trio.current_time() == 3
    assert sorted(index for _, index, _ in record) == list(range(6))


# What an outcome says


async def test_an_outcome_tells_its_place_in_the_items_its_argument_and_its_times(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 2) as cm:
        await cm.run(sleeper, 3)
        await cm.run(sleeper, 2)
        async with cm.map(sleeper, [7, 1], ordered=True) as outcomes:
            record += [
                (each.index, each.args, each.name, each.waited, each.elapsed) async for each in outcomes
            ]
    # The wait of an item begins when it is drawn, which is when it has its slot.
    assert record == [(0, (7,), "sleeper", 0, 7), (1, (1,), "sleeper", 0, 1)]


@pytest.mark.parametrize(
    "options, name", [({}, "second"), ({"name": "mine"}, "mine")], ids=["default", "given"]
)
async def test_the_name_of_the_items(
    options: dict[str, Any], name: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def named(value: int) -> int:
        record.append(trio.lowlevel.current_task().name)
        return await second(value)

    named.__qualname__ = "second"
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(partial(named), [1], **options) as outcomes:
            record.extend([outcome.name async for outcome in outcomes])
    assert record == [name, name]


async def test_failures_are_outcomes_and_others_go_on(autojump_clock: MockClock, record: list[Any]) -> None:
    errors = {2: ValueError("two"), 4: KeyError("four")}

    async def some_fail(value: int) -> int:
        await trio.sleep(value)
        if value in errors:
            raise errors[value]
        return value

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 5) as cm:
        async with cm.map(some_fail, range(1, 6)) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case Success(value=value):
                        record.append(value)
                    case Failure(error=error, reason=reason):
                        record.append((error, reason))
    assert record == [1, (errors[2], StopReason.ERROR), 3, (errors[4], StopReason.ERROR), 5]


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
async def test_an_item_that_raises_an_end_of_iteration_ends_none(
    kind: type[Exception], record: list[Any]
) -> None:
    async def ends(value: int) -> None:
        raise kind

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(ends, range(4)) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, Failure)
                record.append(type(outcome.error.__cause__ or outcome.error))
    assert record == [kind] * 4


async def test_outcomes_are_counted_but_not_kept(autojump_clock: MockClock) -> None:
    async def odd_fails(value: int) -> int:
        if value % 2:
            raise ValueError
        return value

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(second, 17)
        async with cm.map(odd_fails, range(5)) as outcomes:
            async for _ in outcomes:
                pass
    now = cm.statistics()
    assert (now.submitted, now.succeeded, now.failed, now.cancelled) == (6, 4, 2, 0)
    assert (cm.outputs(), cm.errors(), len(cm.outcomes())) == ([17], [], 1)


async def test_a_channel_of_the_manager_gets_none_of_them(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Outcome[int]](10)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        await cm.run(second, 17)
        async with cm.map(second, range(5)) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 5
    assert [outcome.args async for outcome in receive] == [(17,)]
    assert cm.outcomes() == []


async def test_max_errors_counts_failed_items(autojump_clock: MockClock, record: list[Any]) -> None:
    async def fail(value: int) -> None:
        await trio.sleep(value)
        raise ValueError(value)

    two = pytest.RaisesExc(ValueError, match="^[12]$")
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(two, two, match=r"^2 of 3 tasks of 'conman' failed"):
            async with ConMan[int].open(nursery, 3, max_errors=1) as cm:
                async with cm.map(fail, [1, 2, 100]) as outcomes:
                    async for outcome in outcomes:
                        record.append((trio.current_time(), outcome.index))  # else lost
        assert trio.current_time() == 2
    # The body is cancelled with the tasks: the second failure does not reach it.
    assert record == [(1, 0)]


# Retries and deadlines of a map's own


async def test_a_map_has_retries_of_its_own(autojump_clock: MockClock, record: list[Any]) -> None:
    calls: list[tuple[float, int]] = []

    async def flaky(value: int) -> int:
        calls.append((trio.current_time(), value))
        if len(calls) < 3:
            raise OSError
        return value

    config = RetryConfig(initial_delay=1, max_attempts=2, jitter=False, retry_on=OSError)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(flaky, [7], retry=config) as outcomes:
            record += [(each.retries, each.elapsed, isinstance(each, Success)) async for each in outcomes]
        assert cm.statistics().retries == 2
    assert calls == [(0, 7), (1, 7), (3, 7)]
    assert record == [(2, 3, True)]


async def test_an_item_that_backs_off_lends_its_slot_to_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    failed: set[int] = set()

    async def once(value: int) -> int:
        record.append((trio.current_time(), value))
        if value < 2 and value not in failed:
            failed.add(value)
            raise RetriableError("once more", retry_config=RetryConfig.linear(initial_delay=1.5))
        await trio.sleep(1)
        return value

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(once, range(6)) as outcomes:
            done = [(trio.current_time(), outcome.index) async for outcome in outcomes]
    # Four are in hand until t=1, which is all that may be drawn, so 4 and 5 follow as 2 and 3 are taken.
    assert sorted(record) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 0), (2, 1)]
    assert sorted(done) == [(1, 2), (1, 3), (2, 4), (2, 5), (3, 0), (3, 1)]


@pytest.mark.parametrize(
    "options, reason, text",
    [
        ({"attempt_timeout": 2}, StopReason.ATTEMPT_TIMEOUT, r"attempt_timeout=2 s"),
        ({"task_timeout": 2}, StopReason.TASK_TIMEOUT, r"task_timeout=2 s"),
    ],
)
async def test_a_map_has_deadlines_of_its_own(
    options: dict[str, Any],
    reason: StopReason,
    text: str,
    autojump_clock: MockClock,
    record: list[Any],
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, attempt_timeout=50, task_timeout=50) as cm:
            async with cm.map(sleeper, [1, 3, 1, 1.5], **options) as outcomes:
                async for outcome in outcomes:
                    why = None
                    if isinstance(outcome, Failure):
                        assert outcome.reason is reason
                        with pytest.raises(trio.TooSlowError, match=text):
                            raise outcome.error
                        why = outcome.index
                    record.append((trio.current_time(), outcome.index, why))
    # The deadline of one item says nothing about the next one on the same worker. The third takes one
    # second from t=1, and the fourth one and a half from t=2.
    assert sorted(record) == [(1, 0, None), (2, 1, 1), (2, 2, None), (3.5, 3, None)]


async def test_the_deadlines_of_the_manager_hold_for_items_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, task_timeout=2) as cm:
        async with cm.map(sleeper, [3]) as outcomes:
            outcome = await anext(outcomes)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.elapsed) == (StopReason.TASK_TIMEOUT, 2)


# The bound


@each_source
@in_any_order
async def test_what_nobody_takes_is_not_drawn_beyond_twice_the_limit(
    kind: type[Source], ordered: bool, autojump_clock: MockClock
) -> None:
    source = kind()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 3) as cm:
        async with cm.map(second, source, ordered=ordered) as outcomes:
            # An iterable is drawn from when there is a slot; of an async one an item may wait for its slot.
            await trio.sleep(0.5)
            assert source.drawn == (4 if kind is AsyncSource else 3)
            await trio.sleep(100)
            assert source.drawn == 6
            for taken in range(1, 5):
                await anext(outcomes)
                await trio.sleep(5)
                assert source.drawn == 6 + taken


@pytest.mark.parametrize("limit", [math.inf, float("inf")])  # they are two objects
@each_source
async def test_without_a_limit_a_thousand_are_drawn(
    kind: type[Source], limit: float, autojump_clock: MockClock
) -> None:
    source = kind()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit) as cm:
        async with cm.map(second, source) as outcomes:
            await trio.sleep(5)
            assert source.drawn == cm.statistics().submitted == 1000
            for _ in range(10):
                await anext(outcomes)
            await trio.sleep(5)
            assert source.drawn == 1010


async def test_ordered_outcomes_wait_for_the_first_under_the_same_bound(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    source = Source()

    async def first_is_slow(value: int) -> int:
        await trio.sleep(1 if value else 10)
        return value

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(first_is_slow, source, ordered=True) as outcomes:
            await trio.sleep(9)
            assert source.drawn == 4
            async for outcome in outcomes:
                record.append((trio.current_time(), outcome.index))
                if outcome.index == 5:
                    break
    assert record == [(10, 0), (10, 1), (10, 2), (10, 3), (11, 4), (11, 5)]


@pytest.mark.parametrize("kind, drawn", [(Source, 8), (AsyncSource, 9)])
async def test_the_input_does_not_run_ahead_of_the_slots(
    kind: type[Source], drawn: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    source = kind()
    with trio.move_on_after(3.5):
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
            async with cm.map(second, source) as outcomes:
                await take(outcomes, record)
    assert trio.current_time() == 3.5
    assert source.drawn == drawn
    assert sorted(index for _, index, _ in record) == list(range(6))


async def test_a_slow_consumer_slows_the_input_down(autojump_clock: MockClock, record: list[Any]) -> None:
    source = Source(9)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(at_once, source) as outcomes:
            await wait_all_tasks_blocked()
            async for outcome in outcomes:
                await trio.sleep(1)
                record.append((outcome.index, source.drawn))
    assert sorted(index for index, _ in record) == list(range(9))
    assert [drawn for _, drawn in record] == [5, 6, 7, 8, 9, 9, 9, 9, 9]


async def test_a_readers_timeout_loses_nothing(autojump_clock: MockClock, record: list[Any]) -> None:
    timeouts = 0
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(partial(_after, 0.2), range(10), ordered=True) as outcomes:
            while len(record) < 10:
                with trio.move_on_after(0.1) as scope:
                    record.append((await anext(outcomes)).index)
                timeouts += scope.cancelled_caught
    assert record == list(range(10))
    assert timeouts >= 5


async def _after(seconds: float, value: int) -> int:
    await trio.sleep(seconds)
    return value
