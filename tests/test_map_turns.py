"""A `map` whose items pass no checkpoint lets others have their turns, whatever the limit."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory, MemoryRecords
from trio_conman import ConMan, KeyedLimit, Outcome
from trio_conman._books.handles import Slot
from trio_conman._engine.drawn import DrawnMap
from trio_conman._engine.pool import AT_ONCE, Worker
from trio_conman._engine.stream import Stream

ITEMS = 3000

# Every other batch of trio's may put others first and last.
BETWEEN_TWO_TURNS = 2 * AT_ONCE + 10


class Between:
    """Counts what happens between the turns of a trio task that wants one whenever it can."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self.turns = 0

    async def bystand(self) -> None:
        while True:
            self.count = 0
            self.turns += 1
            await trio.lowlevel.checkpoint()

    def tick(self) -> None:
        self.count += 1
        self.most = max(self.most, self.count)


@asynccontextmanager
async def watched(
    limit: int | float | trio.CapacityLimiter, between: Between | None = None, **options: Any
) -> AsyncIterator[tuple[ConMan[Any], Between]]:
    between = between or Between()
    async with trio.open_nursery() as bystanders:
        bystanders.start_soon(between.bystand)
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
            yield cm, between
        bystanders.cancel_scope.cancel()


async def async_range(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


each_limit = pytest.mark.parametrize(
    "limit_of", [lambda: 2, lambda: 100_000, lambda: math.inf, lambda: trio.CapacityLimiter(100_000)]
)
in_any_order = pytest.mark.parametrize("ordered", [False, True])


@each_limit
@in_any_order
@pytest.mark.parametrize("source", [range, async_range])
async def test_items_that_never_wait_leave_others_their_turns(
    limit_of: Callable[[], Any], ordered: bool, source: Any
) -> None:
    seen: list[int] = []
    async with watched(limit_of()) as (cm, between):

        async def item(value: int) -> int:
            between.tick()
            return value

        async with cm.map(item, source(ITEMS), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome.index)
    assert between.most <= BETWEEN_TWO_TURNS
    assert sorted(seen) == list(range(ITEMS))


@pytest.mark.unmeasured
@each_limit
@pytest.mark.parametrize("source", [range, async_range])
@pytest.mark.parametrize("lacks", ["fails", "waits"])
async def test_so_do_items_that_cannot_begin_for_their_keys(
    limit_of: Callable[[], Any], lacks: str, source: Any
) -> None:
    between = Between()
    started: list[int] = []

    def key(value: int) -> int:
        between.tick()
        return value // (lacks == "waits")

    async def item(value: int) -> None:
        started.append(value)
        await trio.lowlevel.checkpoint()

    keys = KeyedLimit(1, key=key if lacks == "fails" else lambda value: key(value) * 0)
    async with watched(limit_of(), between, per_key=keys) as (cm, _):
        async with cm.map(item, source(ITEMS), lookahead=ITEMS) as outcomes:
            assert len([outcome async for outcome in outcomes]) == ITEMS
    assert between.most <= BETWEEN_TWO_TURNS
    assert started == (list(range(ITEMS)) if lacks == "waits" else [])


@pytest.mark.parametrize("limit_of", [lambda: 3, lambda: trio.CapacityLimiter(3)])
@pytest.mark.parametrize("source", [range, async_range])
@pytest.mark.parametrize("where", ["key limit", pytest.param("journal", marks=pytest.mark.unmeasured)])
async def test_so_do_items_that_wait_for_another_one_of_their_key(
    limit_of: Callable[[], Any], source: Any, where: str
) -> None:
    async def item(value: int) -> None:
        between.tick()
        if value < 2:
            await all_are_drawn.wait()

    class Same(MemoryRecords):
        def key_of(self, args: tuple[Any, ...]) -> str:
            return str(key(*args))

    def key(value: int) -> int:
        between.tick()
        if value == ITEMS - 1:
            all_are_drawn.set()
        return 0

    between, all_are_drawn, journal = Between(), trio.Event(), Memory()
    journal._records = Same({})
    options: dict[str, Any] = (
        {"journal": journal} if where == "journal" else {"per_key": KeyedLimit(2, key=key)}
    )
    async with watched(limit_of(), between, **options) as (cm, _):
        async with cm.map(item, source(ITEMS), lookahead=ITEMS) as outcomes:
            assert len([outcome async for outcome in outcomes]) == ITEMS
    assert between.most <= BETWEEN_TWO_TURNS
    assert cm.statistics().recalled == (ITEMS - 1 if where == "journal" else 0)


async def test_items_that_cannot_begin_take_few_turns() -> None:
    async with watched(2, per_key=KeyedLimit(1, key=lambda _: 1 // 0)) as (cm, between):
        async with cm.map(trio.sleep, range(ITEMS), lookahead=ITEMS) as outcomes:
            assert len([outcome async for outcome in outcomes]) == ITEMS
    assert between.turns < 1.7 * ITEMS / AT_ONCE


@in_any_order
async def test_so_do_consumers_that_find_the_outcomes_there(ordered: bool) -> None:
    async def item(value: int) -> int:
        return value

    async with watched(10_000) as (cm, between):
        async with cm.map(item, range(ITEMS), ordered=ordered) as outcomes:
            await cm.wait()
            async for _ in outcomes:
                between.tick()
    assert between.most <= BETWEEN_TWO_TURNS


async def test_a_consumer_is_not_held_up_that_sleeps_now_and_then() -> None:
    """One that shares its turns with many workers takes all that they have to give."""

    async def item(_: int) -> None:
        await trio.lowlevel.checkpoint()

    async with watched(500) as (cm, between):
        async with cm.map(item, range(20_000)) as outcomes:
            async for _ in outcomes:
                pass
    # No more turns than it takes to run them, 500 at a time, and a few for the start.
    assert between.turns < 40 * 3


@pytest.mark.parametrize("change", ["from the start", "later"])
async def test_items_some_of_which_wait_leave_others_their_turns(change: str) -> None:
    async with watched(1000) as (cm, between):

        async def item(value: int) -> int:
            if value % 50 == 0 if change == "from the start" else value < 2000:
                await trio.lowlevel.checkpoint()
            else:
                between.tick()
            return value

        async with cm.map(item, range(2 * ITEMS)) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 2 * ITEMS
    # What follows an item that has waited is one more for its worker.
    assert between.most <= BETWEEN_TWO_TURNS + 1000 * (change == "later")


async def test_several_maps_and_queued_tasks_have_their_turns() -> None:
    started: list[str] = []
    async with watched(2) as (cm, between):

        async def item(value: int) -> int:
            between.tick()
            started.append("m")
            return value

        async def task() -> None:
            started.append("t")

        async def consume() -> None:
            async with cm.map(item, range(1000)) as outcomes:
                async for _ in outcomes:
                    pass

        async with trio.open_nursery() as consumers:
            for _ in range(3):
                consumers.start_soon(consume)
            for _ in range(50):
                cm.start_soon(task)
    assert started.count("m") == 3000
    assert between.most <= 4 * BETWEEN_TWO_TURNS
    assert "".join(started).rindex("t") < 1500


async def test_the_map_is_not_idle_while_it_lets_others_on() -> None:
    async def item(value: int) -> int:
        return value

    seen: list[Outcome[Any]] = []

    opened = trio.Event()

    async def consume(cm: ConMan[Any]) -> None:
        async with cm.map(item, range(ITEMS)) as outcomes:
            opened.set()
            async for outcome in outcomes:
                seen.append(outcome)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 100_000) as cm:
        nursery.start_soon(consume, cm)
        await opened.wait()
        # cm.wait() waits for the consumer as well.
        while cm._runner.unfinished or any(each.is_coming for each in cm._block.maps):
            await trio.lowlevel.checkpoint()
        assert cm.statistics().submitted == ITEMS


async def test_a_map_that_is_left_while_it_lets_others_on_ends() -> None:
    async def item(value: int) -> int:
        return value

    for taken in (1, 50, 150, 350):
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 100_000) as cm:
            async with cm.map(item, range(ITEMS)) as outcomes:
                for _ in range(taken):
                    await anext(outcomes)


@pytest.mark.parametrize("limit", [2, 1000])
async def test_items_that_wait_do_not_pay_for_it(
    limit: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = 0
    go_on = DrawnMap.go_on

    def counted(self: DrawnMap[Any], worker: Worker, slot: Slot) -> None:
        nonlocal pauses
        go_on(self, worker, slot)
        pauses += self._lets_others_on is worker

    monkeypatch.setattr(DrawnMap, "go_on", counted)
    jobs: list[Any] = [trio.sleep, lambda _: trio.lowlevel.checkpoint()]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        for job in jobs:
            async with cm.map(job, [0] * ITEMS) as outcomes:
                assert len([outcome async for outcome in outcomes]) == ITEMS
        assert pauses == 0
        async with cm.map(_nothing, [0] * ITEMS) as outcomes:
            assert len([outcome async for outcome in outcomes]) == ITEMS
        assert ITEMS / AT_ONCE - 2 <= pauses <= ITEMS / AT_ONCE


async def _nothing(_: int) -> None:
    pass


async def test_what_shows_that_an_item_has_waited_is_as_trio_says() -> None:
    """trio clears `custom_sleep_data` whenever it reschedules a task, and never else."""
    task = trio.lowlevel.current_task()
    task.custom_sleep_data = mark = object()
    with trio.CancelScope():
        assert task.custom_sleep_data is mark
    for wait in (
        trio.lowlevel.checkpoint,
        trio.lowlevel.cancel_shielded_checkpoint,
        lambda: trio.sleep(0),
        trio.CapacityLimiter(1).acquire,
        trio.Lock().acquire,
        lambda: trio.to_thread.run_sync(int),
    ):
        task.custom_sleep_data = mark
        await wait()
        assert task.custom_sleep_data is None
    task.custom_sleep_data = mark
    await trio.lowlevel.checkpoint_if_cancelled()
    assert task.custom_sleep_data is mark
    task.custom_sleep_data = None


class Steps(trio.abc.Instrument):
    """Counts the steps of all trio tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@pytest.mark.parametrize(
    "seed",  # gives the same order on any Python
    [
        0,
        pytest.param(1, marks=pytest.mark.unmeasured),
        *(
            pytest.param(seed, marks=[pytest.mark.one_python, pytest.mark.unmeasured])
            for seed in range(2, 12)
        ),
    ],
)
async def test_items_take_their_own_turns_and_few_more(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there is room for as many outcomes only as run, and trio's order may put the consumer last."""
    steps, items = Steps(), 20_000
    # Nothing public sets the seed, nor has trio keep the order that it has outside of pytest-trio.
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    order = trio._core._run._r
    state = order.getstate()
    order.seed(seed)
    trio.lowlevel.add_instrument(steps)
    try:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 100) as cm:
            async with cm.map(lambda _: trio.lowlevel.checkpoint(), range(items)) as outcomes:
                assert len([outcome async for outcome in outcomes]) == items
    finally:
        trio.lowlevel.remove_instrument(steps)
        order.setstate(state)
    assert steps.count < 1.1 * items


async def test_a_consumer_whose_turn_is_over_waits_for_those_who_had_no_room(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def consume() -> None:
        async for outcome in outcomes:
            record.append(outcome.args[0])

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 4) as cm:
        async with cm.map(lambda _: trio.sleep(1), range(2), ordered=True) as outcomes:
            await trio.sleep(2)
            assert isinstance(outcomes, Stream)
            # As many workers have it, in some of trio's orders only.
            outcomes.waits, outcomes._next_turn = True, 0
            async with trio.open_nursery() as consumers:
                consumers.start_soon(consume)
                await wait_all_tasks_blocked()
                assert record == []
                outcomes.wake()
    assert record == [0, 1]
