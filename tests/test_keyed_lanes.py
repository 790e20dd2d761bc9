"""How those wait who need keys: who has gone leaves nothing, whichever way he went."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.managed import manager
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    KeyedLimit,
    KeyStatistics,
    Outcome,
    RetriableError,
    RetryConfig,
    TaskHandle,
)
from trio_conman._limits import lanes
from trio_conman._limits.keys import Keys, full_one
from trio_conman._limits.ranked import MAX_STALE

Record = list[tuple[float, str]]


async def as_async(names: list[str]) -> AsyncIterator[str]:
    for name in names:
        yield name


def host(name: str, *_: object) -> str:
    """The key of a job: what its name begins with."""
    return name[0]


async def job(name: str, record: Record, seconds: float = 1) -> None:
    record.append((trio.current_time(), name))
    await trio.sleep(seconds)


async def test_who_was_passed_over_on_the_road_can_be_cancelled(autojump_clock: MockClock) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host, limits={"b": 9})
    async with manager(per_key=limit) as one, manager(per_key=limit) as two:
        one.start_soon(job, "b0", record)
        one.start_soon(job, "b1", record, 3)
        passed_over = one.start_soon(job, "a1", record)  # nobody has the key yet
        two.start_soon(job, "a0", record, 5)
        await trio.sleep(2)
        assert limit.statistics()["a"] == KeyStatistics(limit=1, running=1, waiting=1)
        passed_over.cancel()
        assert limit.statistics()["a"] == KeyStatistics(limit=1, running=1, waiting=0)
    assert sorted(record) == [(0, "a0"), (0, "b0"), (0, "b1")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_who_is_found_to_lack_its_key_late_still_comes_before_who_came_after(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    async with manager(2, per_key=KeyedLimit(1, key=host, limits={"b": 9})) as cm:
        for name, seconds in (("a0", 5), ("b0", 1), ("a1", 1), ("b1", 1), ("a2", 1)):
            cm.start_soon(job, name, record, seconds)
        await trio.sleep(1.5)
        cm.start_soon(job, "a3", record)  # a1 was passed over by now, and a2 was not looked at
    assert record[2:] == [(1, "b1"), (5, "a1"), (6, "a2"), (7, "a3")]


async def test_who_lacks_one_key_after_the_other_keeps_its_place(autojump_clock: MockClock) -> None:
    """At the second key others wait already, of whom nobody was looked at since one of them could start."""
    record: Record = []
    limits = [KeyedLimit(1, key=host), KeyedLimit(1, key=lambda name, *_: name[1])]
    async with manager(9, per_key=limits) as one, manager(per_key=limits) as two:
        for name in ("pb", "aq", "ab", "cb"):
            one.start_soon(job, name, record)
        one.pause()
        await trio.sleep(2)
        two.start_soon(job, "xb", record, 2)
        await trio.sleep(1)
        one.resume()
    assert record == [(0, "pb"), (0, "aq"), (2, "xb"), (4, "ab"), (5, "cb")]
    assert [limit._keys for limit in limits] == [{}, {}]


async def test_a_task_that_is_moved_again_and_again_leaves_nothing(autojump_clock: MockClock) -> None:
    record: Record = []
    entries: list[int] = []
    limit = KeyedLimit(1, key=host, limits={"b": 9})
    async with manager(per_key=limit) as one, manager(per_key=limit) as two:
        two.start_soon(job, "a0", record)
        for name in ("a1", "a2"):
            one.start_soon(job, name, record)
        moved = one.start_soon(job, "a3", record)
        one.start_soon(job, "b0", record, 2)
        one.start_soon(job, "b1", record, 2)
        await trio.sleep(1.5)  # the key is there again, and no slot
        queue: Any = one._line._queue
        for priority in range(1, 100):
            moved.priority = priority
            entries += [
                len(heap._heap) for heap in (queue._open, *[bay.lanes for bay in queue._bays.values()])
            ]
    assert max(entries) == 2 + MAX_STALE + 1  # of one lane, or bay
    assert queue._open._heap == []
    assert sorted(record) == [(0, "a0"), (0, "b0"), (0, "b1"), (2, "a3"), (3, "a1"), (4, "a2")]


async def test_who_waits_for_a_key_is_not_looked_at_for_each_that_has_it_before(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(keys: Keys) -> Any:
        nonlocal looks
        looks += 1
        return full_one(keys)

    monkeypatch.setattr(lanes, "full_one", counted)
    record: Record = []
    limits = [KeyedLimit(1, key=host), KeyedLimit(1, key=lambda name, _: name)]
    async with manager(per_key=limits) as cm:
        for number in range(200):
            cm.start_soon(job, f"a{number}", record)
    assert record == [(number, f"a{number}") for number in range(200)]
    assert looks < 200 * 10


async def test_a_key_that_nobody_has_to_wait_for_makes_no_lane(autojump_clock: MockClock) -> None:
    record: Record = []
    counts: list[int] = []
    limit = KeyedLimit(2, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit) as cm:
        for number in range(6):
            cm.start_soon(job, f"a{number}", record)
        for _ in range(3):
            await trio.sleep(0.9)
            cm.pause()
            cm.resume()  # looks who could start
            counts.append(len(cm._line._queue._lanes))  # type: ignore[union-attr]  # it has lanes
    assert counts == [0, 0, 0]
    assert sorted(record) == [(0, "a0"), (0, "a1"), (1, "a2"), (1, "a3"), (2, "a4"), (2, "a5")]


async def test_who_has_another_priority_still_hears_of_a_key_in_another_manager(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    limit, limiter = KeyedLimit(1, key=host), trio.CapacityLimiter(2)
    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, limiter, per_key=limit) as one,
        ConMan[Any].open(nursery, limiter, per_key=limit) as two,
    ):
        two.start_soon(job, "a0", record, 2)
        one.start_soon(job, "b0", record, 5)
        waits = one.start_soon(job, "a1", record)
        waits.priority = 1
        await trio.sleep(6)  # to leave the block would look who could start
    assert sorted(record) == [(0, "a0"), (0, "b0"), (2, "a1")]


@pytest.mark.parametrize("returns", [False, True])
async def test_who_has_lacked_a_slot_too_is_before_who_came_later_in_another_manager(
    returns: bool, autojump_clock: MockClock
) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host)
    tries = iter([RetriableError("again")] if returns else [])

    async def first(name: str) -> None:
        for error in tries:
            raise error
        await job(name, record)

    retry = RetryConfig.linear(initial_delay=0.25)
    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, 2, per_key=limit, retry=retry) as one,
        ConMan[Any].open(nursery, 2, per_key=limit) as two,
    ):
        if returns:
            one.start_soon(first, "a1")
        one.start_soon(job, "a0", record)
        one.start_soon(job, "b0", record, 5)
        if not returns:
            one.start_soon(first, "a1")
        await trio.sleep(0.5)
        two.start_soon(job, "a2", record)
    assert sorted(record) == [(0, "a0"), (0, "b0"), (1, "a1"), (2, "a2")]


async def test_who_lacks_a_slot_too_is_behind_who_came_before_in_another_manager(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host)
    async with manager(2, per_key=limit) as one, manager(2, per_key=limit) as two:
        one.start_soon(job, "a0", record)
        one.start_soon(job, "b0", record, 5)
        two.start_soon(job, "a1", record)
        one.start_soon(job, "a2", record)
    assert sorted(record) == [(0, "a0"), (0, "b0"), (1, "a1"), (2, "a2")]


async def test_of_those_with_one_key_the_highest_is_first_wherever_it_has_waited(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    async with manager(2, per_key=KeyedLimit(1, key=host)) as cm:
        cm.start_soon(job, "a0", record, 3)
        cm.start_soon(job, "b0", record)
        cm.start_soon(job, "a1", record, priority=1)  # these two lack a slot as well, until b0 has ended
        cm.start_soon(job, "a2", record)
        await trio.sleep(2)
        for name, priority in (("a3", -1), ("a4", 2), ("a5", 1)):
            cm.start_soon(job, name, record, priority=priority)
    assert sorted(record) == [(0, "a0"), (0, "b0"), (3, "a4"), (4, "a1"), (5, "a5"), (6, "a2"), (7, "a3")]


async def test_a_task_of_higher_priority_is_before_a_lane(autojump_clock: MockClock) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host)
    async with manager(per_key=limit) as one, manager(per_key=limit) as two:
        two.start_soon(job, "a", record, 0.5)
        for name, seconds, priority in (
            ("a0", 1, 0),
            ("a1", 1, 0),
            ("other", 9, 0),
            ("c0", 1, 0),
            ("b0", 1, 2),
        ):
            one.start_soon(job, name, record, seconds, priority=priority)
    assert sorted(record)[:3] == [(0, "a"), (0, "c0"), (0, "other")]
    assert sorted(record)[3:] == [(1, "b0"), (2, "a0"), (3, "a1")]


async def test_who_joins_a_lane_does_not_move_it_back(autojump_clock: MockClock) -> None:
    record: Record = []
    limits = [KeyedLimit(1, key=host), KeyedLimit(9, key=lambda name, *_: name[1])]
    async with manager(4, per_key=limits) as cm:
        for name in ("ax0", "ax1", "ay2", "ax3"):
            cm.start_soon(job, name, record)
        queue: Any = cm._line._queue
        assert [len(bay.lanes.entries) for bay in queue._bays.values()] == [2]
    assert record == [(0, "ax0"), (1, "ax1"), (2, "ay2"), (3, "ax3")]


async def test_a_lane_whose_first_has_gone_has_the_turn_of_the_next(autojump_clock: MockClock) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host)
    async with manager(per_key=limit) as one, manager(per_key=limit) as two:
        two.start_soon(job, "a0", record, 0.5)
        first = one.start_soon(job, "a1", record)
        one.start_soon(job, "other", record, 9)
        for name in ("d0", "c0", "c1", "a2"):
            one.start_soon(job, name, record)
        await trio.sleep(0.7)
        first.cancel()
    assert sorted(record)[:3] == [(0, "a0"), (0, "d0"), (0, "other")]
    assert sorted(record)[3:] == [(1, "c0"), (2, "c1"), (3, "a2")]


async def test_who_gives_up_in_the_instant_of_its_turn_keeps_no_key(autojump_clock: MockClock) -> None:
    record: Record = []
    limit, scope = KeyedLimit(1, key=host, limits={"b": 9}), trio.CancelScope()

    async def gives_up(cm: ConMan[Any]) -> None:
        with scope:
            await cm.run(job, "a0", record)

    async def job_and_cancel(name: str) -> None:
        await job(name, record)
        scope.cancel()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit) as cm:
        cm.start_soon(job_and_cancel, "b0")
        cm.start_soon(job, "b1", record, 9)
        nursery.start_soon(gives_up, cm)
        await trio.sleep(0.5)
        cm.start_soon(job, "a1", record)
    assert sorted(record) == [(0, "b0"), (0, "b1"), (1, "a1")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_a_map_gives_its_slot_to_who_waits_in_a_lane(autojump_clock: MockClock) -> None:
    record: Record = []
    limit = KeyedLimit(9, key=host, limits={"b": 1})

    async def a_job(name: str) -> None:
        await job(name, record)

    async with manager(per_key=limit) as one, manager(per_key=limit) as two:
        two.start_soon(job, "b0", record, 0.5)
        one.start_soon(job, "b1", record)
        async with one.map(a_job, [f"a{number}" for number in range(6)]) as outcomes:
            async for _ in outcomes:
                pass
    assert (1, "b1") in record


async def test_a_map_gives_its_key_to_who_waits_for_it_in_another_manager(autojump_clock: MockClock) -> None:
    record: Record = []
    limit = KeyedLimit(1, key=host)

    async def a_job(name: str) -> None:
        await job(name, record, 9 if name == "b" else 1)

    async with manager(2, per_key=limit) as one, manager(2, per_key=limit) as two:
        async with one.map(a_job, ["b", "a0", "a2"]) as outcomes:
            await trio.sleep(0.5)
            two.start_soon(a_job, "a1")
            async for _ in outcomes:
                pass
    assert sorted(record) == [(0, "a0"), (0, "b"), (1, "a1"), (2, "a2")]


async def test_who_moves_while_a_manager_that_ends_tells_all_who_wait(autojump_clock: MockClock) -> None:
    class Moves(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if handle is waiting[0]:
                waiting[1].cancel("no more of these")  # too late: all were cancelled before
                waiting[2].priority = 1

    record: Record = []
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, instruments=[Moves()]) as cm:
            cm.start_soon(job, "a0", record)
            waiting = [cm.start_soon(job, f"a{number}", record) for number in (1, 2, 3)]
            cm.cancel()
    texts = [str(handle.outcome.error) for handle in waiting if isinstance(handle.outcome, Failure)]
    assert [text.rpartition(": ")[2] for text in texts] == ["'conman' was cancelled"] * 3
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_those_who_never_had_a_turn_are_told_so_in_the_order_of_the_turns(
    autojump_clock: MockClock,
) -> None:
    ended: list[str] = []

    class Notes(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            ended.append(handle.name)

    jobs = {"a0": 0, "a1": 0, "a2": -1, "a3": 2, "b4": 0, "b5": 1, "a6": 2, "c7": 0, "d8": 1, "a9": 1}
    async with trio.open_nursery() as nursery:
        per_key = KeyedLimit(1, key=host)
        async with ConMan[Any].open(nursery, 3, per_key=per_key, instruments=[Notes()]) as cm:
            for name, priority in jobs.items():
                cm.start_soon(job, name, [], 9, name=name, priority=priority)
            await trio.sleep(1)
            cm.cancel()
    assert ended[:7] == ["a3", "a6", "b5", "d8", "a9", "a1", "a2"]
    assert sorted(ended[7:]) == ["a0", "b4", "c7"]


@pytest.mark.parametrize("kind", [list, as_async])
async def test_a_key_that_ends_the_manager_of_a_map(
    kind: Callable[[list[str]], Any], autojump_clock: MockClock
) -> None:
    def key(name: str) -> str:
        if name == "a1":
            cm.cancel()
        return name[0]

    async def work(name: str) -> None:
        await trio.sleep(5)

    limit = KeyedLimit(1, key=key)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, per_key=limit) as cm:
            async with cm.map(work, kind(["a0", "a1", "a2"])) as outcomes:
                async for _ in outcomes:
                    pass
    assert trio.current_time() == 0
    assert [outcome.args for outcome in cm.outcomes() if isinstance(outcome, Failure)] == [("a1",), ("a0",)]
    assert (limit.statistics(), limit._keys) == ({}, {})


def test_a_manager_of_a_run_that_has_crashed_takes_nothing_from_the_next_one() -> None:
    limit = KeyedLimit(1, key=host)

    async def opened() -> trio.lowlevel.TrioToken:
        limit._open()
        return trio.lowlevel.current_trio_token()

    crashed = trio.run(opened)
    present = trio.run(opened)
    limit._close(crashed)  # the garbage collector has found it by now
    assert limit._users == 1
    limit._close(present)
    assert limit._users == 0


def test_what_a_run_that_has_crashed_has_left_counts_for_nothing() -> None:
    limit = KeyedLimit(1, key=host)

    async def opened(keys: int) -> None:
        limit._open()
        assert limit.statistics() == {}
        for _ in range(keys):
            limit._enter("a")

    trio.run(opened, 2)
    trio.run(opened, 0)
