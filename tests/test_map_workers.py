"""The workers of a `map`: trio tasks that run item after item, and nothing of one item reaches the next."""

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)
from trio_conman._engine.pool import Pool, Worker

variable: ContextVar[Any] = ContextVar("variable")


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def async_range(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def values(outcomes: AsyncIterator[Outcome[Any]]) -> list[Any]:
    return [outcome.value async for outcome in outcomes if isinstance(outcome, Success)]


class Spawned(trio.abc.Instrument):
    """Counts the trio tasks that are made."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)

    @property
    def workers(self) -> int:
        return self.names.count("item")


@contextmanager
def spawning() -> Iterator[Spawned]:
    instrument = Spawned()
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)


# How often they have no room


@pytest.mark.parametrize("ordered", [False, True])
def test_they_seldom_rest_while_the_consumer_keeps_up(ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def step(_: int) -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 10) as cm:
            async with cm.map(step, range(1000), ordered=ordered) as outcomes:
                assert len(await values(outcomes)) == 1000

    rests = waits = 0
    wait = Pool.wait

    async def counted(self: Pool, worker: Worker) -> bool:
        nonlocal rests, waits
        waits += 1
        rests += worker.source is None
        return await wait(self, worker)

    monkeypatch.setattr(Pool, "wait", counted)
    # As it is outside of tests: trio runs every other batch of tasks backwards, at random.
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", False)
    for seed in range(20):
        monkeypatch.setattr("trio._core._run._r", random.Random(seed))
        trio.run(main)
    items = 20 * 1000
    assert rests / items < 0.04
    # In the order of the items it cannot be less: half of the batches end the first item last.
    assert waits / items < (0.3 if ordered else 0.09)


# How many there are


@pytest.mark.parametrize("source", [range, async_range])
@pytest.mark.parametrize("ordered", [False, True])
async def test_there_is_at_most_one_for_each_slot(
    source: Callable[[int], Any], ordered: bool, autojump_clock: MockClock
) -> None:
    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
            async with cm.map(second, source(30), name="item", ordered=ordered) as outcomes:
                assert len(await values(outcomes)) == 30
    assert spawned.workers == 3
    assert trio.current_time() == 10


@pytest.mark.parametrize("source", [range, async_range])
async def test_few_items_start_few_workers_however_high_the_limit_is(
    source: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 1000) as cm:
            async with cm.map(second, source(5), name="item") as outcomes:
                assert len(await values(outcomes)) == 5
    assert 5 <= spawned.workers <= 11
    assert trio.current_time() == 1


async def test_a_worker_that_had_nothing_to_do_is_used_again(autojump_clock: MockClock) -> None:
    async def in_bursts() -> AsyncIterator[int]:
        for number in range(12):
            if number % 3 == 0:
                await trio.sleep(5)
            yield number

    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
            async with cm.map(second, in_bursts(), name="item") as outcomes:
                assert len(await values(outcomes)) == 12
    assert spawned.workers == 3


async def test_workers_are_used_again_when_others_take_the_slots_in_turn(autojump_clock: MockClock) -> None:
    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            for number in range(10):
                cm.start_soon(second, number)
            async with cm.map(second, range(10), name="item") as outcomes:
                assert len(await values(outcomes)) == 10
    assert spawned.workers <= 2
    assert trio.current_time() == 10


@pytest.mark.parametrize("limit_of", [int, trio.CapacityLimiter])
async def test_errors_and_expired_deadlines_of_attempts_cost_no_worker(
    limit_of: Callable[[int], Any], autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(value: int) -> int:
        if value % 3 == 0:
            await trio.sleep_forever()
        if value % 3 == 1:
            raise ValueError
        return await second(value)

    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
            async with cm.map(item, range(30), name="item", attempt_timeout=2) as outcomes:
                record += [each.reason if isinstance(each, Failure) else None async for each in outcomes]
    assert spawned.workers == 2
    assert [record.count(kind) for kind in (None, StopReason.ERROR, StopReason.ATTEMPT_TIMEOUT)] == [10] * 3


class Steps(trio.abc.Instrument):
    """Counts the steps of each trio task."""

    def __init__(self) -> None:
        self.taken: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken[task] += 1


async def test_a_worker_begins_its_first_item_in_its_first_step() -> None:
    steps = Steps()

    async def step(_: int) -> int:
        return steps.taken[trio.lowlevel.current_task()]

    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(step, range(2)) as outcomes:
            assert await values(outcomes) == [1, 1]


# Contexts


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


class NeverCompared:
    def __eq__(self, other: object) -> NoReturn:
        raise AssertionError("compared")

    __hash__ = object.__hash__


@pytest.mark.parametrize("kind", [object, AlwaysEqual, NeverCompared])
@pytest.mark.parametrize("sleeps", [False, True])
async def test_what_an_item_sets_is_seen_by_no_other(
    kind: type[Any], sleeps: bool, autojump_clock: MockClock
) -> None:
    mine = kind()

    async def look_and_set(value: int) -> bool:
        seen = variable.get()
        if value % 3:
            variable.set(kind())
            assert variable.get() is not mine
        if sleeps:
            await trio.sleep(1)
            assert (variable.get() is mine) is (value % 3 == 0)
        return seen is mine

    async with trio.open_nursery() as nursery, ConMan[bool].open(nursery, 2) as cm:
        token: Token[Any] = variable.set(mine)
        async with cm.map(look_and_set, range(20)) as outcomes:
            assert await values(outcomes) == [True] * 20
        assert variable.get() is mine
        variable.reset(token)


async def test_a_variable_that_was_not_set_is_not_set_for_the_next(autojump_clock: MockClock) -> None:
    async def look_and_set(value: int) -> bool:
        seen = variable.get(None)
        variable.set(value)
        return seen is None

    async with trio.open_nursery() as nursery, ConMan[bool].open(nursery, 2) as cm:
        async with cm.map(look_and_set, range(20)) as outcomes:
            assert await values(outcomes) == [True] * 20


@pytest.mark.parametrize("delay", [0, 1])
async def test_each_attempt_sees_the_context_of_the_entry(delay: float, autojump_clock: MockClock) -> None:
    attempts: list[Any] = []

    async def flaky(value: int) -> int:
        attempts.append(variable.get())
        variable.set("attempt")
        await trio.lowlevel.checkpoint()
        if len(attempts) % 3:
            raise RetriableError("once more")
        return value

    config = RetryConfig.linear(initial_delay=delay, backoff_factor=0)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        variable.set("entry")
        async with cm.map(flaky, iter([0]), retry=config) as outcomes:
            variable.set("body")
            assert await values(outcomes) == [0]
        async with cm.map(flaky, iter([1, 1]), retry=config) as outcomes:
            await values(outcomes)
    assert attempts[:3] == ["entry"] * 3
    assert set(attempts[3:]) == {"body"}


async def test_the_moment_of_a_maps_context_is_its_entry() -> None:
    async def look(_: int) -> Any:
        return variable.get()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        variable.set("call")
        mapping = cm.map(look, range(3))
        variable.set("entry")
        async with mapping as outcomes:
            variable.set("body")
            assert await values(outcomes) == ["entry"] * 3


# Scopes left open


async def leave_scope_open(value: int) -> int:
    if value == 1:
        trio.CancelScope(deadline=trio.current_time() + 0.5).__enter__()
    await trio.sleep(0.25)
    return value


async def leave_scope_open_and_fail(value: int) -> int:
    if value == 1:
        trio.CancelScope().__enter__()
        raise ValueError("mine")
    await trio.sleep(0.25)
    return value


@pytest.mark.parametrize("item", [leave_scope_open, leave_scope_open_and_fail])
@pytest.mark.parametrize("timeout", [None, 50])
async def test_an_item_that_leaves_a_scope_open_fails_and_its_worker_is_replaced(
    item: Any, timeout: float | None, autojump_clock: MockClock, record: list[Any]
) -> None:
    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            async with cm.map(item, range(10), name="item", task_timeout=timeout) as outcomes:
                async for outcome in outcomes:
                    record.append((outcome.index, isinstance(outcome, Success)))
                    if isinstance(outcome, Failure):
                        assert outcome.reason is StopReason.ERROR
                        with pytest.raises(RuntimeError, match=r"(?i)^cancel scope stack corrupted"):
                            raise outcome.error
    assert sorted(record) == [(index, index != 1) for index in range(10)]
    assert spawned.workers == 3


# Cancelled in the very tick of the end


@pytest.mark.parametrize("seconds", [0.5, 1, 1.5])
async def test_an_item_whose_deadline_is_its_end_ends_once_and_the_next_one_is_untouched(
    seconds: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(value: int) -> int:
        await trio.sleep(seconds)
        return value

    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            async with cm.map(item, range(12), name="item", task_timeout=1) as outcomes:
                async for outcome in outcomes:
                    record.append(isinstance(outcome, Success))
                    assert outcome.elapsed == min(seconds, 1)
    # On the tick itself, either may be; before and after it there is no doubt.
    if seconds != 1:
        assert record == [seconds < 1] * 12
    assert len(record) == 12
    assert 2 <= spawned.workers <= 14


async def test_an_item_that_ends_though_its_deadline_passed_keeps_its_result(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(value: int) -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(2 if value % 2 else 0.5)
        return value

    with spawning() as spawned:
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            async with cm.map(item, range(6), name="item", task_timeout=1) as outcomes:
                assert sorted(await values(outcomes)) == list(range(6))
    # A scope that was cancelled is of no use to the next item; its worker is.
    assert spawned.workers == 2
    assert trio.current_time() == 4.5


class Handles(Instrument):
    """Collects the handles of all tasks."""

    def __init__(self) -> None:
        self.handles: list[TaskHandle[Any]] = []

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self.handles.append(handle)


async def test_an_item_that_ends_though_its_handle_was_cancelled_keeps_its_result(
    autojump_clock: MockClock,
) -> None:
    seen = Handles()

    async def item(value: int) -> int:
        if value % 2:
            seen.handles[value].cancel()
        return value

    with spawning() as spawned:
        async with trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 2, instruments=[seen]) as cm:
                async with cm.map(item, range(6), name="item") as outcomes:
                    assert sorted(await values(outcomes)) == list(range(6))
    # A scope that was cancelled is of no use to the next item; its worker is.
    assert spawned.workers == 2


async def test_the_timeout_of_an_item_does_not_pass_while_its_worker_rests(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, range(8), task_timeout=2) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, Success)
                await trio.sleep(9)


async def test_a_timeout_of_one_item_is_not_that_of_the_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def deadline(value: int) -> float:
        await trio.sleep(value)
        return trio.current_effective_deadline() - trio.current_time() + value

    async with trio.open_nursery() as nursery, ConMan[float].open(nursery, 2) as cm:
        async with cm.map(deadline, [1, 2, 3, 4, 99], task_timeout=5) as outcomes:
            record += [each.value if isinstance(each, Success) else each.reason async for each in outcomes]
    assert record == [5, 5, 5, 5, StopReason.TASK_TIMEOUT]


async def test_maps_inside_of_tasks_that_are_left_look_at_their_own_items_only(
    autojump_clock: MockClock,
) -> None:
    """However many workers there are."""
    looked: list[int] = []

    class Workers(set[Worker]):
        def __iter__(self) -> Iterator[Worker]:
            looked.append(len(self))
            return super().__iter__()

    async def task(n: int) -> None:
        async with cm.map(trio.sleep, [n, math.inf, math.inf]) as outcomes:
            await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, math.inf) as cm:
        cm._runner.pool.workers = Workers()
        for n in range(100):
            cm.start_soon(task, n)
        await cm.wait()
        assert looked == []
    assert cm.statistics().cancelled == 200
