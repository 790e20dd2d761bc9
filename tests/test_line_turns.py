"""Retries and beginners take turns in the line; a slot passes by who has no use for it; who shares a limiter
hears of each other."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from trio_conman import ConMan, Failure, KeyedLimit, RetriableError, RetryConfig, Success
from trio_conman._engine.mapping import Mapping
from trio_conman._engine.pool import AT_ONCE


async def job(value: int, seconds: float = 1) -> int:
    await trio.sleep(seconds)
    return value


def fail_at_first(delay: float) -> None:
    if trio.current_time() == 0:
        raise RetriableError("again", retry_config=RetryConfig(initial_delay=delay, jitter=False))


async def fail_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise RetriableError("again")


@each_kind
async def test_tasks_that_fail_slowly_do_not_keep_out_the_healthy(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def healthy() -> None:
        record.append(trio.current_time())
        await trio.sleep(1)

    retry = RetryConfig(initial_delay=1, backoff_factor=1, jitter=False, max_attempts=math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(10), retry=retry, timeout=100) as cm:
            for _ in range(15):
                cm.start_soon(fail_after, 10)
            for _ in range(10):
                cm.start_soon(healthy)
    # From 11 on there is always somebody who is back from a backoff; each second slot is for a beginner.
    assert record[:5] == [10] * 5
    assert record[-1] <= 22


@each_kind
@pytest.mark.parametrize("endless, starts", [(3, [1.0625, 2.125, 4.1875, 6.3125]), (4, [])])
async def test_newcomers_start_until_twice_the_limit_retry_for_ever(
    endless: int, starts: list[float], limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    retry = RetryConfig(initial_delay=1, backoff_factor=1, jitter=False, max_attempts=math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, limit_of(2), retry=retry, timeout=8) as cm:
            for number in range(endless):
                cm.start_soon(fail_after, 1 + number / 16)  # so that no two end in one tick
            handles = [cm.start_soon(job, value, 1) for value in range(20)]
    ended = [handle.outcome for handle in handles if isinstance(handle.outcome, Success)]
    assert [outcome.waited for outcome in ended] == starts


@each_kind
async def test_an_endless_line_does_not_keep_out_a_retry(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def always() -> None:
        record.append(("retry", trio.current_time()))
        await fail_after(1)

    async def new(cm: ConMan[None]) -> None:
        record.append(("new", trio.current_time()))
        cm.start_soon(new, cm)
        await trio.sleep(1)

    retry = RetryConfig(initial_delay=0.5, backoff_factor=1, jitter=False, max_attempts=math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(2), retry=retry, timeout=6.5) as cm:
            cm.start_soon(trio.sleep_forever)
            cm.start_soon(always)
            cm.start_soon(new, cm)
    # Back half a second after each failure, and served when the next slot is free.
    assert record == [("retry" if second % 2 == 0 else "new", second) for second in range(7)]


@each_kind
async def test_endless_retries_and_an_endless_line_both_go_on(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    starts = {"retry": 0, "new": 0}

    async def always() -> None:
        starts["retry"] += 1
        await trio.sleep(1)
        raise RetriableError("again")

    async def new(cm: ConMan[None]) -> None:
        starts["new"] += 1
        cm.start_soon(new, cm)
        await trio.sleep(1)

    retry = RetryConfig(initial_delay=0.5, backoff_factor=1, jitter=False, max_attempts=math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(4), retry=retry, timeout=100.5) as cm:
            for _ in range(6):
                cm.start_soon(always)
            for _ in range(4):
                cm.start_soon(new, cm)
    # Neither kind has less than a third of all starts.
    assert sum(starts.values()) > 300
    assert 3 * min(starts.values()) >= sum(starts.values())


@each_kind
@pytest.mark.parametrize("first", ["a map without items", "a run() that was cancelled"])
async def test_who_has_nothing_to_start_has_no_turn(
    first: str, limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    scope = trio.CancelScope()

    async def write(name: str) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(1)

    async def fail(name: str) -> None:
        await write(name)
        if trio.current_time() == 5:
            scope.cancel()
        raise RetriableError("again")

    async def stand(cm: ConMan[None]) -> None:
        if first == "a map without items":
            async with cm.map(write, (name for name in ["only"])) as outcomes:
                async for _ in outcomes:
                    pass
        else:
            await cm.run(write, "only")
            with scope:
                await cm.run(write, "never")

    retry = RetryConfig(initial_delay=0.25, backoff_factor=1, jitter=False, max_attempts=math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(2), retry=retry, timeout=8.5) as cm:
            cm.start_soon(trio.sleep_forever)
            cm.start_soon(fail, "r")
            cm.start_soon(fail, "s")
            nursery.start_soon(stand, cm)
            await trio.sleep(3.5)
            cm.start_soon(write, "a")
            cm.start_soon(write, "b")
    # At 5 it is the turn of those who have not started.
    order = ["r", "s", "r", "only", "s", "a", "r", "b", "s"]
    assert record == [(name, second) for second, name in enumerate(order)]


@each_kind
async def test_a_retry_that_was_cancelled_leaves_the_turn_to_whom_it_belongs(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def write(name: str) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(1)

    async def fail_once(name: str, delay: float) -> None:
        fail_at_first(delay)
        await write(name)
        if name == "r":
            gone.cancel()

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(5), timeout=5.5) as cm:
            for _ in range(4):
                cm.start_soon(trio.sleep_forever)
            await cm.run(fail_once, "r", 0.25)
            await cm.run(fail_once, "s", 0.5)
            gone = await cm.run(fail_once, "gone", 1.5, priority=1)
            await cm.run(trio.sleep, 1)
            cm.start_soon(write, "a")
            cm.start_soon(write, "b")
    assert record == [("r", 1), ("a", 2), ("s", 3), ("b", 4)]


@each_kind
@pytest.mark.parametrize("items", [2, AT_ONCE])
async def test_a_map_whose_items_lack_their_key_leaves_the_turn_to_who_has_not_started(
    items: int, limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def write(name: str) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(1)

    async def fail_once(name: str, delay: float) -> None:
        fail_at_first(delay)
        await write(name)

    async def hold(_: str) -> None:
        await trio.sleep_forever()

    per_key = KeyedLimit(1, key=lambda name, *_: name)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit_of(3), per_key=per_key, timeout=5.5) as cm:
            for name in ("key", "other"):
                cm.start_soon(hold, name)
            await cm.run(fail_once, "r", 0.25)
            await cm.run(fail_once, "s", 0.5)
            await cm.run(trio.sleep, 1)
            async with cm.map(write, ["key"] * items, lookahead=items) as outcomes:
                cm.start_soon(write, "a")
                cm.start_soon(write, "b")
                async for _ in outcomes:
                    pass
    assert record == [("r", 1), ("a", 2), ("s", 3), ("b", 4)]


@pytest.mark.usefixtures("order")
@each_kind
async def test_a_map_that_ends_as_it_has_its_turn_passes_it_on(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def write(name: str) -> None:
        record.append((name, trio.current_time()))
        await trio.sleep(10)

    async def fail_once(name: str) -> None:
        if trio.current_time() < 9:
            raise RetriableError("again")
        await write(name)

    retry = RetryConfig(initial_delay=5, jitter=False)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2), retry=retry) as cm:
        for name in "rs":
            cm.start_soon(fail_once, name)
            await trio.sleep(2)
        cm.start_soon(write, "other")
        async with cm.map(write, ["only"]) as outcomes:
            await trio.sleep(4)
            for name in "ab":
                cm.start_soon(write, name)
            async for _ in outcomes:
                pass
    assert sorted(name for name, when in record if when == 14) == ["a", "r"]


@each_kind
async def test_a_slot_passes_by_any_number_of_maps_without_room(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    """One after another, not one inside another: with a thousand of them there would be no stack for that."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        cm = await stack.enter_async_context(ConMan[int].open(nursery, limit_of(3)))
        blockers = [await cm.run(job, 0, 50) for _ in range(3)]
        maps = [
            await stack.enter_async_context(cm.map(partial(job, seconds=100), range(9))) for _ in range(600)
        ]
        # They wait with room for six outcomes; with none, once the limit is 2 and they have drawn what fits.
        cm.limit = 3000
        await wait_all_tasks_blocked()
        cm.limit = 2
        for handle in blockers:
            handle.cancel()
        last = cm.start_soon(job, 7, 1)
        await last.wait()
        assert isinstance(last.outcome, Success)
        assert len(maps) == 600
        cm.cancel()


async def test_a_ring_that_another_manager_closes_on_a_shared_limiter_is_told(
    autojump_clock: MockClock,
) -> None:
    async def parent(cm: ConMan[int]) -> int:
        await trio.sleep(1)
        await cm.run(job, 1)
        return 0

    limiter = trio.CapacityLimiter(3)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with (
                ConMan[int].open(nursery, limiter, name="A") as a,
                ConMan[int].open(nursery, limiter, name="B") as b,
            ):
                parents = [await a.run(parent, a) for _ in range(2)]
                await b.run(job, 5, 5)
                await trio.sleep(2)
                limiter.total_tokens = 2  # whoever does that, and however
    ends = [handle.outcome for handle in parents]
    assert [type(end) for end in ends] in ([Success, Failure], [Failure, Success])
    (failure,) = [end for end in ends if isinstance(end, Failure)]
    assert str(failure.error).startswith("run() was called inside a task of 'A' while every slot is held")
    assert trio.current_time() == 6


async def test_a_ring_of_two_managers_on_one_limiter_is_told(autojump_clock: MockClock) -> None:
    async def parent(own: ConMan[int], seconds: float) -> int:
        await trio.sleep(seconds)
        await own.run(job, 1)
        return 0

    limiter = trio.CapacityLimiter(2)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, limiter) as a, ConMan[int].open(nursery, limiter) as b:
                first = await a.run(parent, a, 1)
                second = await b.run(parent, b, 2)
    assert isinstance(first.outcome, Success)
    assert isinstance(second.outcome, Failure)
    assert second.outcome.elapsed == 2


@pytest.mark.usefixtures("limit_of_0")
@pytest.mark.parametrize("how", ["a manager", "directly"])
@pytest.mark.parametrize("when", ["from the start", "when it has caught up"])
async def test_a_map_goes_on_when_anybody_raises_a_shared_limit_from_0(
    how: str, when: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(2)

    async def raise_later(other: ConMan[int]) -> None:
        await trio.sleep(10)
        if how == "a manager":
            other.limit = 2
        else:
            limiter.total_tokens = 2

    async def lower(seconds: float) -> None:
        await trio.sleep(seconds)
        limiter.total_tokens = 0

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, limiter) as cm, ConMan[int].open(nursery, limiter) as other:
                if when == "from the start":
                    limiter.total_tokens = 0
                else:
                    nursery.start_soon(lower, 1.5)
                nursery.start_soon(raise_later, other)
                async with cm.map(job, range(6)) as outcomes:
                    async for outcome in outcomes:
                        record.append((outcome.index, trio.current_time()))
    if when == "from the start":
        assert sorted(record) == [(n, 11 + n // 2) for n in range(6)]
    else:
        assert sorted(record) == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 11), (5, 11)]


async def test_another_manager_that_raises_the_limit_makes_room_for_a_map_at_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(2)

    async def item(_: int) -> None:
        record.append(trio.current_time())
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limiter) as cm, ConMan[None].open(nursery, limiter) as other:
            async with cm.map(item, range(20)):
                await trio.sleep(5)
                assert record == [0, 0, 1, 1]  # twice the limit, none of them taken
                other.limit = 5
                await trio.sleep(1)
                assert record[4:] == [5] * 5
                other.limit = 2


def test_searching_for_rings_costs_no_more_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    needs_slots = Mapping._needs_slots

    def counted(self: Mapping[Any]) -> bool:
        nonlocal asked
        asked += 1
        return needs_slots(self)

    monkeypatch.setattr(Mapping, "_needs_slots", counted)

    async def consume(cm: ConMan[int]) -> int:
        async with cm.map(job, range(3)) as outcomes:
            return len([outcome async for outcome in outcomes])

    async def main(tasks: int) -> int:
        nonlocal asked
        asked = 0
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, tasks + 2) as cm:
            for _ in range(tasks):
                cm.start_soon(consume, cm)
        assert cm.outputs() == [3] * tasks
        return asked

    few, many = (trio.run(main, tasks, clock=MockClock(autojump_threshold=0)) for tasks in (100, 400))
    assert many <= 6 * few + 100


def test_a_limiter_is_for_one_trio_run_at_a_time() -> None:
    limiter = trio.CapacityLimiter(2)

    async def inner() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
            await cm.run(job, 1, 0)

    async def outer() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter, name="outer") as cm:
            with pytest.raises(BaseExceptionGroup) as caught:
                await trio.to_thread.run_sync(trio.run, inner)
            assert caught.group_contains(
                RuntimeError, match=r"^limit is a CapacityLimiter that manager 'outer'"
            )
            assert cm.statistics().submitted == 0
            await cm.run(job, 1, 0)
        # When its managers have ended it may be used elsewhere.
        await trio.to_thread.run_sync(trio.run, inner)

    trio.run(outer)
    trio.run(outer)


def test_a_run_that_crashed_does_not_keep_its_limiter() -> None:
    limiter = trio.CapacityLimiter(2)
    kept: list[ConMan[int]] = []

    async def crash() -> None:
        async with trio.open_nursery() as nursery:
            opening = ConMan[int].open(nursery, limiter)
            kept.append(await opening.__aenter__())
            nursery.cancel_scope.cancel()

    async def use() -> None:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
            await cm.run(job, 1, 0)

    with suppress(BaseException):
        trio.run(crash)
    assert kept
    trio.run(use)


async def test_a_manager_that_is_not_open_yet_has_nothing_to_do_with_a_new_limit(
    autojump_clock: MockClock,
) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery:
        later = ConMan[int].open(nursery, limiter)
        async with ConMan[int].open(nursery, limiter) as cm:
            cm.limit = 3
            await cm.run(job, 1)
        async with later as other:
            await other.run(job, 2)
            assert other.limit == 3
    assert (cm.outputs(), other.outputs()) == ([1], [2])
