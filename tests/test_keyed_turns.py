"""Managers that share limits by key: who came first has the next turn of a key, in whichever manager."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from math import inf
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory
from tests.managed import each_kind, manager
from tests.retried import every
from trio_conman import ConMan, KeyedLimit, RetriableError, Success
from trio_conman._limits.tokens import Tokens

Record = list[tuple[float, str]]


async def job(name: str, record: Record, seconds: float = 1) -> None:
    record.append((trio.current_time(), name))
    await trio.sleep(seconds)


def returning(record: Record) -> Callable[[str, float], Awaitable[None]]:
    """A task that fails at first, and comes back after so many seconds."""
    failed: set[str] = set()

    async def returns(name: str, seconds: float) -> None:
        if name not in failed:
            failed.add(name)
            raise RetriableError("not yet", retry_config=every(seconds))
        await job(name, record, 2)

    return returns


@each_kind
async def test_more_may_run_of_a_key(limit_of: Callable[[int], Any], autojump_clock: MockClock) -> None:
    record: Record = []
    limit, slots = KeyedLimit(1, key=lambda *_: "key"), limit_of(9)
    async with manager(slots, per_key=limit) as one, manager(slots, per_key=limit) as two:
        one.start_soon(job, "0", record, 9)
        for number, cm in enumerate((one, two, one, two), 1):
            cm.start_soon(job, f"{number}", record, 9)
        await trio.sleep(1)
        limit.limit = 3
    assert sorted(record) == [(0, "0"), (1, "1"), (1, "2"), (9, "3"), (10, "4")]


async def test_one_key_after_another_of_several_managers(autojump_clock: MockClock) -> None:
    """Their slots are those of one limiter, in which nobody waits, as it has enough."""
    record: Record = []
    slots: Any = trio.CapacityLimiter(9)
    limit = KeyedLimit(1, key=lambda *_: "key")
    async with (
        manager(slots, per_key=limit) as one,
        manager(slots, per_key=limit) as two,
        manager(slots, per_key=limit) as three,
    ):
        for number, cm in enumerate((one, two, three, one, three, two)):
            cm.start_soon(job, f"{number}", record)
    assert record == [(number, f"{number}") for number in range(6)]


async def test_who_has_waited_for_a_slot_before_changes_no_turns_of_a_key(autojump_clock: MockClock) -> None:
    record: Record = []
    slots: Any = trio.CapacityLimiter(9)
    limit = KeyedLimit(1, key=lambda *_: "key")
    async with manager(slots, per_key=limit) as one, manager(slots, per_key=limit) as two:
        tokens = [object() for _ in range(9)]
        for token in tokens:
            slots.acquire_on_behalf_of_nowait(token)
        handle = one.start_soon(job, "left", record)
        await wait_all_tasks_blocked()
        assert slots.statistics().tasks_waiting == 1
        handle.cancel()
        for token in tokens:
            slots.release_on_behalf_of(token)
        for number in range(8):
            (one, two)[number % 2].start_soon(job, f"{number}", record)
    assert record == [(number, f"{number}") for number in range(8)]


@each_kind
async def test_who_comes_in_the_instant_in_which_a_key_gets_free(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    record: Record = []
    limit, slots = KeyedLimit(1, key=lambda *_: "key"), limit_of(9)
    async with manager(slots, per_key=limit) as one, manager(slots, per_key=limit) as two:
        ends = one.start_soon(job, "0", record)
        one.start_soon(job, "1", record)
        await ends.wait()
        two.start_soon(job, "2", record)
    assert record == [(0, "0"), (1, "1"), (2, "2")]


@each_kind
async def test_the_first_of_a_manager_lacks_another_key(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    record: Record = []
    limits = [KeyedLimit(1, key=lambda name, *_, at=at: name[at]) for at in (0, 1)]
    slots = limit_of(9)
    async with manager(slots, per_key=limits) as one, manager(slots, per_key=limits) as two:
        two.start_soon(job, "by", record)
        one.start_soon(job, "cx", record, 9)
        one.start_soon(job, "bx", record)  # it came before the others, and cannot start yet
        two.start_soon(job, "by again", record)
        one.start_soon(job, "ay", record)
    assert sorted(record) == [(0, "by"), (0, "cx"), (1, "by again"), (2, "ay"), (9, "bx")]


@each_kind
async def test_one_of_two_queues_of_a_manager_has_its_turn_before_who_came_first(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    """It has the rank of the one who gets it, not that of the one who returned earlier."""
    record: Record = []
    limit, slots = KeyedLimit(1, key=lambda name, *_: name[0]), limit_of(9)
    returns = returning(record)
    async with manager(slots, per_key=limit) as one, manager(slots, per_key=limit) as two:
        one.start_soon(returns, "k returns first", 1)
        one.start_soon(returns, "k returns", 2.5)
        two.start_soon(job, "k", record, 2)
        await trio.sleep(3)
        two.start_soon(job, "k came first", record)
        await trio.sleep(0.5)
        one.start_soon(job, "k came later", record)
    assert record == [
        (0, "k"),
        (2, "k returns first"),
        (4, "k came first"),
        (5, "k came later"),
        (6, "k returns"),
    ]


@each_kind
async def test_who_has_the_turn_of_a_manager_lacks_what_another_one_has_got(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    """Then its other queue has it, whose first came before all others."""
    record: Record = []
    limit, slots = KeyedLimit(1, key=lambda name, *_: name[0]), limit_of(9)
    returns = returning(record)
    async with manager(slots, per_key=limit) as one, manager(slots, per_key=limit) as two:
        one.start_soon(returns, "a returns first", 1)
        one.start_soon(returns, "a returns", 2.5)
        two.start_soon(job, "a", record, 2)
        two.start_soon(job, "b", record, 9)
        await trio.sleep(3)
        two.start_soon(job, "a came later", record)
        two.start_soon(job, "b urgent", record, priority=1)
        one.start_soon(job, "b", record)
        limit.limit = 2
    assert sorted(record) == [
        (0, "a"),
        (0, "b"),
        (2, "a returns first"),
        (3, "a returns"),
        (3, "b urgent"),
        (4, "a came later"),
        (4, "b"),
    ]


async def test_who_needs_no_key_any_more_has_the_slot_and_another_manager_the_key(
    autojump_clock: MockClock,
) -> None:
    """It waits for the value of the task that gives both back."""
    record: Record = []
    limit = KeyedLimit(2, key=lambda name, *_: name[0])

    async def told(name: str, seconds: float) -> str:
        await job(name, record, seconds)
        return name

    async with manager(2, per_key=limit, journal=Memory()) as one, manager(9, per_key=limit) as two:
        one.start_soon(told, "k", 1)
        again = one.start_soon(told, "k", 1)
        await wait_all_tasks_blocked()
        one.start_soon(told, "long", 9)
        limit.limit = 1
        one.start_soon(told, "k came first", 1)
        two.start_soon(told, "k came later", 1)
        await again.wait()
        assert trio.current_time() == 1
    assert isinstance(again.outcome, Success)
    assert again.outcome.recalled
    assert record == [(0, "k"), (0, "long"), (1, "k came later"), (2, "k came first")]


@each_kind
async def test_who_gives_up_in_the_instant_of_its_turn(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    record: Record = []
    limit, slots, scope = KeyedLimit(1, key=lambda *_: "key"), limit_of(9), trio.CancelScope()

    async def ends() -> None:
        await job("0", record)
        scope.cancel()

    async def gives_up(cm: ConMan[Any]) -> None:
        with scope:
            await cm.run(job, "never", record)

    async with (
        manager(slots, per_key=limit) as one,
        manager(slots, per_key=limit) as two,
        trio.open_nursery() as nursery,
    ):
        one.start_soon(ends)
        nursery.start_soon(gives_up, two)
        await trio.sleep(0.5)
        one.start_soon(job, "1", record)
    assert record == [(0, "0"), (1, "1")]
    assert limit.statistics() == {}


async def test_who_waits_for_keys_has_no_more_turns_of_a_limiter_than_others(
    autojump_clock: MockClock,
) -> None:
    """All slots get free in one instant, and each leaves a key for somebody."""
    record: Record = []
    slots: Any = trio.CapacityLimiter(10)
    async with (
        manager(slots, per_key=KeyedLimit(1, key=lambda name, _: name)) as keyed,
        manager(slots) as plain,
    ):
        for number in range(100):
            keyed.start_soon(job, f"key {number // 5}", record)
            plain.start_soon(job, "plain", record)
    by_second = Counter((when, name == "plain") for when, name in record)
    assert {by_second[when, is_plain] for when in range(2, 18) for is_plain in (True, False)} == {5}


@each_kind
async def test_each_who_starts_is_looked_for_in_few_managers(
    limit_of: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Not anew in all of them, for each one: very many may start when a limit is raised."""
    record: Record = []
    limit, slots = KeyedLimit(1, key=lambda *_: "key"), limit_of(999)
    looks, rank = Counter[str](), Tokens.rank

    def looking(self: Tokens) -> Any:
        looks["rank"] += 1
        return rank(self)

    async with AsyncExitStack() as stack:
        cms = [await stack.enter_async_context(manager(slots, per_key=limit)) for _ in range(20)]
        for _ in range(20):
            for cm in cms:
                cm.start_soon(job, "", record)
        await trio.sleep(0.5)
        monkeypatch.setattr(Tokens, "rank", looking)
        limit.limit = 999
        assert limit.statistics()["key"].running == 400
    assert looks["rank"] <= 2 * 400 + 2 * 20


@attrs.define(eq=False)
class Waiting:
    """A task, as it must be served."""

    name: str
    manager: int
    priority: int
    seconds: float


@attrs.define(eq=False)
class Program:
    """Tasks of several managers, one handed in after another, while the limit of one sort of keys changes."""

    chance: random.Random
    events: list[tuple[float, Waiting | int]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        pick, now = self.chance.choice, 0.0
        for number in range(60):
            now += pick([0, 0, 0, 0.5, 1]) + 0.001
            if pick(range(8)) == 0:
                self.events.append((now, pick([1, 2, 3])))
            else:
                name, priority = f"{pick('ab')}{pick('xy')}{number}", pick([0, 0, 0, 1, -1])
                # Nothing ends in the instant of something else.
                task = Waiting(name, pick(range(3)), priority, pick([0.5, 1, 2]) + number / 1e6)
                self.events.append((now, task))

    def expected(self, slots: list[int | float]) -> Record:
        """Who starts when: at each event the first in rank of all who can, again and again."""
        record: Record = []
        limit, events, used = 1, list(self.events), Counter[Any]()
        queue: list[Waiting] = []
        ends: list[tuple[float, Waiting]] = []
        while events or ends:
            ends.sort(key=lambda end: end[0])
            if not events or (ends and ends[0][0] < events[0][0]):
                now, ended = ends.pop(0)
                used.subtract([ended.manager, *ended.name[:2]])
            else:
                now, event = events.pop(0)
                if isinstance(event, int):
                    limit = event
                else:
                    queue.append(event)
                    queue.sort(key=lambda task: -task.priority)
            for task in list(queue):
                has_slot = used[task.manager] < slots[task.manager]
                if has_slot and used[task.name[0]] < limit and used[task.name[1]] < 2:
                    queue.remove(task)
                    used.update([task.manager, *task.name[:2]])
                    record.append((now, task.name))
                    ends.append((now + task.seconds, task))
        return record

    async def run(self, limits_of_managers: list[Any]) -> Record:
        record: Record = []
        limits = [KeyedLimit(at + 1, key=lambda name, *_, at=at: name[at]) for at in (0, 1)]
        one, two, three = [manager(each, per_key=limits) for each in limits_of_managers]
        async with one as first, two as second, three as third:
            for when, event in self.events:
                await trio.sleep_until(when)
                if isinstance(event, int):
                    limits[0].limit = event
                else:
                    cm = (first, second, third)[event.manager]
                    cm.start_soon(job, event.name, record, event.seconds, priority=event.priority)
        return record


@pytest.mark.parametrize("kind", ["own", "shared"])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_they_do(seed: int, kind: str, autojump_clock: MockClock) -> None:
    program = Program(random.Random(seed))
    if kind == "own":
        slots: list[Any] = [2, 3, inf]
        expected = program.expected(slots)
    else:
        slots = [trio.CapacityLimiter(inf)] * 3
        expected = program.expected([inf] * 3)
    record = await program.run(slots)
    assert sorted(record) == sorted(expected)
