"""Limits by key: who is passed over, who is not, and what is left behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import each_kind
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    KeyedLimit,
    KeyStatistics,
    RetriableError,
    RetryConfig,
    TaskHandle,
)

RETRY = RetryConfig(initial_delay=0.5, max_delay=0.5, jitter=False, max_attempts=2)


def host(name: str, *_: object) -> str:
    """The key of a job: what its name begins with."""
    return name[0]


@attrs.define
class Log:
    """Which job started when."""

    entries: list[tuple[float, str]] = attrs.Factory(list)

    async def job(self, name: str, seconds: float = 1) -> str:
        self.entries.append((trio.current_time(), name))
        await trio.sleep(seconds)
        return name

    async def flaky(self, name: str) -> None:
        is_first = all(other != name for _, other in self.entries)
        await self.job(name)
        if is_first:
            raise RetriableError(name)

    def at(self, now: float) -> list[str]:
        return sorted(name for when, name in self.entries if when == now)


@pytest.fixture
def log() -> Log:
    return Log()


@each_kind
async def test_500_of_one_key_keep_nobody_of_another_waiting(
    limit_of: Callable[[int], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(2, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(4), per_key=limit) as cm:
        for number in range(500):
            cm.start_soon(log.job, f"a{number}")
        cm.start_soon(log.job, "b0")
        await trio.sleep(0.5)
        assert log.at(0) == ["a0", "a1", "b0"]
        assert limit.statistics() == {
            "a": KeyStatistics(limit=2, running=2, waiting=498),
            "b": KeyStatistics(limit=2, running=1, waiting=0),
        }
        await cm.run(log.job, "c0")
        await wait_all_tasks_blocked()
        assert log.at(0.5) == ["c0"]
    # In their order, two each second.
    expected = [(float(number // 2), f"a{number}") for number in range(500)]
    assert sorted(log.entries) == sorted([*expected, (0, "b0"), (0.5, "c0")])
    assert (limit.statistics(), limit._keys) == ({}, {})


@each_kind
async def test_who_was_passed_over_keeps_its_place(
    limit_of: Callable[[int], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2), per_key=limit) as cm:
        for name, seconds in [("a0", 2), ("b0", 1), ("a1", 1), ("b1", 3), ("c0", 1), ("d0", 1)]:
            cm.start_soon(log.job, name, seconds)
    # At 1 it is the turn of a1, which lacks its key, so b1 starts; at 2 that of a1, before c0.
    assert log.entries[2:] == [(1, "b1"), (2, "a1"), (3, "c0"), (4, "d0")]


async def test_run_and_run_nowait_wait_for_keys_too(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 4, per_key=limit) as cm:
        await cm.run(log.job, "a0")
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(log.job, "a1")
        assert limit.statistics() == {"a": KeyStatistics(limit=1, running=1, waiting=0)}
        with trio.move_on_after(0.5):
            await cm.run(log.job, "a2")
        assert limit.statistics() == {"a": KeyStatistics(limit=1, running=1, waiting=0)}
        await cm.run(log.job, "a3")
        assert trio.current_time() == 1
        cm.run_nowait(log.job, "b0")
    assert log.entries == [(0, "a0"), (1, "a3"), (1, "b0")] or log.at(1) == ["a3", "b0"]


async def test_retries_come_back_under_their_key(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, per_key=limit, retry=RETRY) as cm:
        cm.start_soon(log.flaky, "a0")
        for name in ("a1", "a2", "b0"):
            cm.start_soon(log.job, name)
        await trio.sleep(1.25)
        # It has given its key back with its slot.
        assert limit.statistics()["a"] == KeyStatistics(limit=1, running=1, waiting=1)
        await trio.sleep(0.5)
        assert limit.statistics()["a"] == KeyStatistics(limit=1, running=1, waiting=2)
    assert sorted(log.entries) == [(0, "a0"), (0, "b0"), (1, "a1"), (2, "a0"), (3, "a2")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_a_retry_that_waits_for_its_key_alone_and_one_that_is_cancelled(
    autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, per_key=limit, retry=RETRY) as cm:
        alone = cm.start_soon(log.flaky, "a0")
        await trio.sleep(1.25)
        assert limit.statistics() == {}
        await alone.wait()
        assert trio.current_time() == 2.5
        cancelled = cm.start_soon(log.flaky, "a1")
        cm.start_soon(log.job, "a2", 5)
        await trio.sleep(2)
        assert limit.statistics()["a"].waiting == 1
        cancelled.cancel()
        await trio.sleep(0)
        await wait_all_tasks_blocked()
        assert limit.statistics()["a"].waiting == 0
        asleep = cm.start_soon(log.flaky, "c")
        await trio.sleep(1.25)
        assert asleep.state == "backing_off"
        asleep.cancel()
        await trio.sleep(0)
        await wait_all_tasks_blocked()
        assert list(limit._keys) == ["a"]
    assert log.entries == [(0, "a0"), (1.5, "a0"), (2.5, "a1"), (3.5, "a2"), (4.5, "c")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_while_a_task_backs_off_its_key_is_the_one_that_others_have(
    autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, per_key=limit, retry=RETRY) as cm:
        cm.start_soon(log.flaky, "a0")
        await trio.sleep(1.25)
        limit.limit = 2
        cm.start_soon(log.job, "a1")
        await wait_all_tasks_blocked()
        assert limit.statistics() == {"a": KeyStatistics(limit=2, running=1, waiting=0)}
        limit.limits["a"] = 1
        cm.start_soon(log.job, "a2")
    assert log.entries == [(0, "a0"), (1.25, "a1"), (2.25, "a0"), (3.25, "a2")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_hold_slot_keeps_the_key_too(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    retry = attrs.evolve(RETRY, hold_slot=True)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, per_key=limit, retry=retry) as cm:
        cm.start_soon(log.flaky, "a0")
        cm.start_soon(log.job, "a1")
    assert log.entries == [(0, "a0"), (1.5, "a0"), (2.5, "a1")]


@pytest.mark.parametrize("way", ["key", "common", "delete"])
async def test_a_limit_that_is_raised_starts_as_many_as_fit(
    way: str, autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(
        4 if way == "delete" else 1, key=host, limits={"a": 1} if way == "delete" else {"c": 1}
    )
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 6, per_key=limit) as cm:
        for number in range(8):
            cm.start_soon(log.job, f"a{number}")
        await trio.sleep(0.5)
        if way == "key":
            limit.limits["a"] = 4
        elif way == "common":
            limit.limit = 4
        else:
            del limit.limits["a"]
        await wait_all_tasks_blocked()
        assert log.at(0.5) == ["a1", "a2", "a3"]
        await trio.sleep(0.25)
        limit.limits["a"] = 2
    assert [(when, len(log.at(when))) for when in (0, 0.5, 1, 1.5, 2.5)] == [
        (0, 1),
        (0.5, 3),
        (1, 0),
        (1.5, 2),
        (2.5, 2),
    ]


async def test_several_limits_hold_together(autojump_clock: MockClock, log: Log) -> None:
    hosts, users = KeyedLimit(2, key=host), KeyedLimit(1, key=lambda name, *_: name[1])
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, 10, per_key=[hosts, users]) as cm,
    ):
        for name in ("ax1", "ax2", "ay1", "az1", "bx1", "by1", "bz1"):
            cm.start_soon(log.job, name)
        await trio.sleep(0.5)
        assert users.statistics()["x"] == KeyStatistics(limit=1, running=1, waiting=2)
    assert log.at(0) == ["ax1", "ay1", "bz1"]
    assert log.at(1) == ["ax2", "az1", "by1"]
    assert log.at(2) == ["bx1"]


async def test_managers_that_share_a_limit_have_their_turns_as_they_came(
    autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, 2, per_key=limit) as one,
        ConMan[str].open(nursery, 2, per_key=limit) as two,
    ):
        for number in range(3):
            one.start_soon(log.job, f"a one {number}")
        for number in range(2):
            two.start_soon(log.job, f"a two {number}")
        one.start_soon(log.job, "a one 3")
        # Who is paused keeps nobody waiting.
        await trio.sleep(1.5)
        one.pause()
        await trio.sleep(1)
        assert limit.statistics()["a"] == KeyStatistics(limit=1, running=1, waiting=3)
        await trio.sleep(1)
        one.resume()
    names = ["a one 0", "a one 1", "a two 0", "a two 1", "a one 2", "a one 3"]
    assert log.entries == [(float(number), name) for number, name in enumerate(names)]


async def test_priorities_among_those_of_a_key(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 4, per_key=limit) as cm:
        handles = [cm.start_soon(log.job, f"a{number}") for number in range(4)]
        cm.start_soon(log.job, "a urgent", priority=1)
        handles[3].priority = 1
        handles[1].priority = -1
    assert [name for _, name in log.entries] == ["a0", "a urgent", "a3", "a2", "a1"]


@each_kind
async def test_a_higher_priority_counts_also_where_the_key_is_free_and_slots_are_not(
    limit_of: Callable[[int], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(3), per_key=limit) as cm:
        for name in ("a0", "c0"):
            cm.start_soon(log.job, name)
        for name, priority in (("a1", 0), ("c1", 1)):  # there is a slot: they lack their keys
            cm.start_soon(log.job, name, priority=priority)
        for name in "fgh":
            cm.start_soon(log.job, name, 5, priority=9)
        await trio.sleep(2)
        cm.start_soon(log.job, "a2", priority=2)
    assert [log.at(second) for second in (0, 1, 5, 6)] == [
        ["a0", "c0", "f"],
        ["g", "h"],
        ["a2"],
        ["a1", "c1"],
    ]


async def test_who_was_in_the_line_before_its_key_was_full_stays_before_the_others(
    autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(3, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2, per_key=limit) as cm:
        for name in ("x", "y"):
            cm.start_soon(log.job, name)
        for number in range(6):
            cm.start_soon(log.job, f"a{number}")
        late = cm.start_soon(log.job, "a low", priority=-1)
        gone = cm.start_soon(log.job, "a gone", priority=-1)
        limit.limits["a"] = 1
        cm.start_soon(log.job, "b")
        await trio.sleep(1.5)
        gone.cancel()
        cm.start_soon(log.job, "a urgent", priority=1)
        await trio.sleep(1)
        late.priority = 2
    assert [name for _, name in log.entries if name[0] == "a"] == [
        "a0",
        "a urgent",
        "a low",
        "a1",
        "a2",
        "a3",
        "a4",
        "a5",
    ]
    assert log.at(1) == ["a0", "b"]


@each_kind
async def test_cancelled_and_closed_leave_nothing_behind(
    limit_of: Callable[[int], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2), per_key=limit) as cm:
        handles = [cm.start_soon(log.job, f"{key}{number}") for number in range(5) for key in "abc"]
        nursery.start_soon(run_until_closed, cm, log, "a5")
        await trio.sleep(0.5)
        for handle in handles[::2]:
            handle.cancel()
        assert sum(each.waiting for each in limit.statistics().values()) == 7
        cm.cancel()
    assert (limit.statistics(), limit._keys) == ({}, {})
    assert len(cm.outcomes()) == len(handles)
    assert [outcome.index for outcome in cm.outcomes()[-6:-2]] == sorted(
        outcome.index for outcome in cm.outcomes()[-6:-2]
    )


async def run_until_closed(cm: ConMan[Any], log: Log, name: str) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await cm.run(log.job, name)


async def test_a_closed_manager_ends_who_waits_in_their_order(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 4, per_key=limit) as cm:
        for number, name in enumerate(("a0", "b0", "a1", "a2", "a3", "b1")):
            cm.start_soon(log.job, name, priority=number // 4)
        cm.cancel()
    waited = [outcome.args[0] for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    assert waited[:4] == ["a3", "b1", "a1", "a2"]


async def test_shutdown_runs_what_waits_for_keys(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 4, per_key=limit) as cm:
        for number in range(3):
            cm.start_soon(log.job, f"a{number}")
        await cm.shutdown()
        assert trio.current_time() == 3
        assert cm.outputs() == ["a0", "a1", "a2"]


# Maps


async def as_async(items: list[str]) -> AsyncIterator[str]:
    for item in items:
        yield item


each_source = pytest.mark.parametrize("source", [list, as_async])


@each_source
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_finds_items_of_other_keys(
    ordered: bool, source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    items = [*(f"a{number}" for number in range(6)), "b0", "c0", "b1"]
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit) as cm:
        async with cm.map(log.job, source(items), lookahead=8, ordered=ordered) as outcomes:
            taken = [outcome.args[0] async for outcome in outcomes]
    # The ninth is drawn when an outcome has been taken.
    assert log.at(0) == ["a0", "b0", "c0"]
    assert log.at(1) == ["a1", "b1"]
    assert sorted(taken) == sorted(items)
    assert taken == items or not ordered
    assert trio.current_time() == 6
    assert cm.statistics().submitted == cm.statistics().succeeded == 9


@each_source
@each_kind
async def test_items_of_one_key_start_in_their_order(
    limit_of: Callable[[int], Any], source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(2, key=host)
    items = ["a0", "a1", "a2", "a3", "b0", "a4", "a5"]

    async def fetch(name: str) -> None:
        await log.job(name, 1 if name == "a0" else 5)

    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit_of(3), per_key=limit) as cm:
            async with cm.map(fetch, source(items), lookahead=6) as outcomes:
                async for _ in outcomes:
                    pass
    assert (log.at(0), log.at(1), log.at(5)) == (["a0", "a1", "b0"], ["a2"], ["a3"])
    assert (log.at(6), log.at(10)) == (["a4"], ["a5"])


@each_source
@pytest.mark.parametrize("lookahead", [1, 2, 5, None])
async def test_no_more_is_drawn_than_was_said(
    lookahead: int | None, source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    drawn: list[str] = []

    def key(name: str) -> str:
        drawn.append(name)
        return name[0]

    items = [f"a{number}" for number in range(20)]
    limit = KeyedLimit(1, key=key)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit) as cm:
        async with cm.map(log.job, source(items), lookahead=lookahead) as outcomes:
            await wait_all_tasks_blocked()
            assert len(drawn) == (lookahead or 6)
            assert cm.statistics().queued == len(drawn) - 1
            assert cm.statistics().running == 1
            await trio.sleep(3)
            await wait_all_tasks_blocked()
            assert len(drawn) == (lookahead or 6)
            async for _ in outcomes:
                pass
    assert [name for _, name in log.entries] == items


@each_source
async def test_a_map_that_is_left_takes_those_out_that_wait_for_keys(
    source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit) as cm:
        cm.start_soon(log.job, "a", 9)
        async with cm.map(log.job, source(["a0", "a1", "b0"])) as outcomes:
            async for outcome in outcomes:
                assert outcome.args == ("b0",)
                break
        assert limit.statistics() == {"a": KeyStatistics(limit=1, running=1, waiting=0)}
        assert cm.statistics().cancelled == 2
        assert trio.current_time() == 1
    assert [name for _, name in log.entries] == ["a", "b0"] or log.at(0) == ["a", "b0"]


@each_source
async def test_a_cancelled_manager_keeps_what_a_map_has_passed_over(
    source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit, timeout=5) as cm:
        async with cm.map(log.job, source([f"a{number}" for number in range(9)])) as outcomes:
            async for _ in outcomes:
                await trio.sleep(1.25)
    failures = [outcome for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    assert len(failures) + cm.statistics().succeeded == cm.statistics().submitted
    assert (limit.statistics(), limit._keys) == ({}, {})
    assert cm.timed_out


@each_source
async def test_a_shutdown_lets_those_finish_that_were_drawn(
    source: Callable[[list[str]], Any], autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit) as cm:
        async with cm.map(log.job, source([f"a{number}" for number in range(9)])) as outcomes:
            await trio.sleep(0.5)
            await cm.shutdown()
            taken = [outcome.args[0] async for outcome in until_closed(outcomes)]
    assert taken == [f"a{number}" for number in range(6)]


async def until_closed(outcomes: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for outcome in outcomes:
            yield outcome
    except trio.ClosedResourceError:
        return
    raise AssertionError("the map has not said that it was cut off")


async def test_an_item_that_waits_for_its_key_can_be_cancelled(autojump_clock: MockClock, log: Log) -> None:
    class Cancels(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            if handle.args == ("a1",):
                handle.cancel("not this one")

    limit = KeyedLimit(1, key=host)
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, 3, per_key=limit, instruments=[Cancels()]) as cm,
    ):
        async with cm.map(log.job, ["a0", "a1", "a2"]) as outcomes:
            names = {outcome.args[0]: isinstance(outcome, Failure) async for outcome in outcomes}
    assert names == {"a0": False, "a1": True, "a2": False}
    assert log.entries == [(0, "a0"), (1, "a2")]


async def test_many_items_that_are_passed_over_let_others_have_a_turn(
    autojump_clock: MockClock, log: Log
) -> None:
    limit = KeyedLimit(1, key=host)
    items = [*(f"a{number}" for number in range(250)), "b0"]
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3, per_key=limit) as cm:
        async with cm.map(log.job, items, lookahead=300) as outcomes:
            await trio.sleep(0.5)
            assert log.at(0) == ["a0", "b0"]
            assert [outcome.args[0] async for outcome in outcomes if outcome.args[0][0] == "b"] == ["b0"]


async def test_a_handle_that_is_done_keeps_no_key(autojump_clock: MockClock, log: Log) -> None:
    class Host:
        pass

    made: list[weakref.ref[Host]] = []

    def key(*_: object) -> Host:
        value = Host()
        made.append(weakref.ref(value))
        return value

    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 2, per_key=KeyedLimit(1, key=key)) as cm:
            handle = cm.start_soon(log.job, "a0")
            await handle.wait()
            gc.collect()
            assert [each() for each in made] == [None]


async def test_who_has_waited_for_a_key_leaves_nothing_of_it_in_the_line(
    autojump_clock: MockClock, log: Log
) -> None:
    class Host:
        pass

    values = [Host()]
    value = weakref.ref(values[0])
    limit = KeyedLimit(1, key=lambda *_: values[0])
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2, per_key=limit) as cm:
        for name in ("a0", "a1"):
            cm.start_soon(log.job, name)
        values.clear()
        await cm.wait()
        assert log.entries == [(0, "a0"), (1, "a1")]
        gc.collect()
        assert value() is None


# What may be wrong


class Unhashable:
    __hash__ = None  # type: ignore[assignment]  # what is refused

    def __repr__(self) -> str:
        return "<no hash>"


def raises(*_: object) -> str:
    raise LookupError("no such host")


async def later() -> str:
    return "later"


def generated() -> Iterator[str]:
    yield "generated"


@pytest.mark.parametrize(
    "key, kind, text",
    [
        (
            raises,
            RuntimeError,
            r"key of <KeyedLimit of 1 by raises\(\)> has raised LookupError\('no such host'\)",
        ),
        (lambda *_: Unhashable(), TypeError, r"key of <KeyedLimit .*> must be hashable, not <no hash>"),
        (lambda *_: later(), TypeError, r"key of <KeyedLimit .*> must be no coroutine: give a sync callable"),
    ],
)
async def test_a_key_that_cannot_be_told_fails_its_task(
    key: Callable[..., Any], kind: type[Exception], text: str, autojump_clock: MockClock, log: Log
) -> None:
    good, bad = KeyedLimit(1, key=host), KeyedLimit(1, key=key)
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, 2, per_key=[good, bad], retry=RetryConfig(retry_on=Exception)) as cm,
    ):
        handles = [await cm.run(log.job, "a0"), cm.run_nowait(log.job, "a1"), cm.start_soon(log.job, "a2")]
        async with cm.map(log.job, ["a3", "a4"]) as outcomes:
            ends: list[Any] = [outcome async for outcome in outcomes]
        async with cm.map(log.job, as_async(["a5"])) as outcomes:
            ends += [outcome async for outcome in outcomes]
        for handle in handles:
            assert handle.state == "done"
            ends.append(handle.outcome)
        for outcome in ends:
            with pytest.raises(kind, match=f"^{text}$"):
                raise outcome.error
            assert (outcome.retries, outcome.waited, outcome.elapsed) == (0, 0, 0)
        assert trio.current_time() == 0
    assert log.entries == []
    assert good.statistics() == bad.statistics() == {}


@pytest.mark.parametrize("by", ["key", "hash"])
async def test_a_key_that_ends_its_manager(by: str, autojump_clock: MockClock, log: Log) -> None:
    def key(name: str) -> str:
        if name == "last":
            cm.cancel()
        return "a"

    limit = KeyedLimit(1, key=key)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2, per_key=limit) as cm:
        cm.start_soon(log.job, "first")
        if by == "key":
            with pytest.raises(trio.ClosedResourceError):
                cm.start_soon(log.job, "last")
        else:
            async with cm.map(log.job, ["last", "never"]) as outcomes:
                async for _ in outcomes:
                    pass
    assert (limit.statistics(), limit._keys) == ({}, {})


class Moody:
    hashes = 3  # to look for its limit, and for itself, and to be noted

    def __hash__(self) -> int:
        self.hashes -= 1
        if self.hashes < 0:
            raise ValueError("no more")
        return 1


@pytest.mark.parametrize("may_hold_slot", [False, True])
async def test_a_key_whose_hash_fails_later_harms_nobody(
    may_hold_slot: bool, autojump_clock: MockClock, log: Log
) -> None:
    moody, limit = KeyedLimit(1, key=lambda name: Moody()), KeyedLimit(1, key=host)
    retry = attrs.evolve(RETRY, hold_slot=may_hold_slot)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=[limit, moody], retry=retry) as cm:
            for name in ("a", "b"):
                await cm.run(log.flaky, name)
    assert sorted(log.entries) == [(0, "a"), (0, "b"), (1.5, "a"), (1.5, "b")]
    assert len(cm.outcomes()) == cm.statistics().succeeded == 2
    assert (limit.statistics(), moody.statistics(), limit._keys) == ({}, {}, {})


async def test_a_new_limit_is_that_of_all_keys_but_one_whose_hash_fails_now(
    autojump_clock: MockClock, log: Log
) -> None:
    keys = {"x": Moody(), "a": "a"}
    limit = KeyedLimit(1, key=lambda name: keys[name[0]])
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, per_key=limit) as cm:
            for name in ("x0", "a0", "a1"):
                cm.start_soon(log.job, name)
            await trio.sleep(0.5)
            limit.limit = 2
    assert sorted(log.entries) == [(0, "a0"), (0, "x0"), (0.5, "a1")]


async def test_a_key_whose_hash_hands_in_another_task_of_it(autojump_clock: MockClock, log: Log) -> None:
    hashed: list[Host] = []

    class Host:
        def __hash__(self) -> int:
            hashed.append(self)
            if len(hashed) == 2:  # the first one looks whether it is known
                cm.start_soon(log.job, "inner")
            return 1

        def __eq__(self, other: object) -> bool:
            return True

    limit = KeyedLimit(1, key=lambda _: Host())
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit) as cm:
            cm.start_soon(log.job, "outer")
    assert log.entries == [(0, "inner"), (1, "outer")]
    assert (limit.statistics(), limit._keys) == ({}, {})


WRONG: list[Any] = [True, 1.0, "1", None]


def test_nonsense_is_refused() -> None:
    for wrong in WRONG:
        with pytest.raises(TypeError, match=r"^limit must be an int of at least 1, not "):
            KeyedLimit(wrong, key=host)
        with pytest.raises(TypeError, match=r"^limits\['a'\] must be an int of at least 1, not "):
            KeyedLimit(1, key=host, limits={"a": wrong})
    with pytest.raises(ValueError, match=r"^limit must be an int of at least 1, not 0$"):
        KeyedLimit(0, key=host)
    wrong_key: Any
    for wrong_key in (None, "key", later, generated):
        with pytest.raises(TypeError, match=r"^key must be a sync callable, not "):
            KeyedLimit(1, key=wrong_key)
    wrong_limits: Any = [("a", 1)]
    with pytest.raises(TypeError, match=r"^limits must be a mapping or None, not "):
        KeyedLimit(1, key=host, limits=wrong_limits)


def test_its_limits_are_a_mapping() -> None:
    limit = KeyedLimit(3, key=host, limits={"a": 1})
    assert (limit.limit, dict(limit.limits), len(limit.limits)) == (3, {"a": 1}, 1)
    limit.limits["b"] = 2
    del limit.limits["a"]
    limit.limit = 4
    assert repr(limit.limits) == "{'b': 2}"
    for wrong in WRONG:
        with pytest.raises(TypeError):
            limit.limits["b"] = wrong
        with pytest.raises(TypeError):
            limit.limit = wrong
    with pytest.raises(ValueError, match=r"^limits\['b'\] must be an int of at least 1, not 0$"):
        limit.limits["b"] = 0
    with pytest.raises(ValueError, match=r"^limit must be an int of at least 1, not 0$"):
        limit.limit = 0
    with pytest.raises(KeyError):
        del limit.limits["c"]
    assert (limit.limit, dict(limit.limits)) == (4, {"b": 2})
    assert repr(limit) == "<KeyedLimit of 4 by host()>"
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_what_open_and_map_refuse() -> None:
    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery:
        wrong: Any
        for wrong in (1, "host", [1]):
            with pytest.raises(TypeError, match=r"^per_key must be a KeyedLimit, or several, or None, not "):
                ConMan[Any].open(nursery, per_key=wrong)
        with pytest.raises(ValueError, match=r"^per_key must have each limiter once, not "):
            ConMan[Any].open(nursery, per_key=[limit, limit])
        with pytest.raises(ValueError, match=r"^per_key must have at least one limiter, not "):
            ConMan[Any].open(nursery, per_key=[])
        async with ConMan[Any].open(nursery) as cm:
            for wrong in (True, 1.5, "3"):
                with pytest.raises(TypeError, match=r"^lookahead must be an int of at least 1, not "):
                    cm.map(trio.sleep, [0], lookahead=wrong)
            with pytest.raises(ValueError, match=r"^lookahead must be an int of at least 1, not 0$"):
                cm.map(trio.sleep, [0], lookahead=0)


async def test_another_thread_is_refused_also_in_a_run_of_its_own(log: Log) -> None:
    async def in_a_run(change: Callable[[], object]) -> None:
        change()

    limit = KeyedLimit(1, key=host)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit):
        for change in (
            partial(limit.limits.__setitem__, "a", 2),
            partial(limit.limits.__delitem__, "a"),
            partial(setattr, limit, "limit", 2),
            limit.statistics,
        ):
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync$"):
                await trio.to_thread.run_sync(change)
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync$"):
                await trio.to_thread.run_sync(trio.run, in_a_run, change)
    assert (limit.limit, dict(limit.limits)) == (1, {})
    assert await trio.to_thread.run_sync(limit.statistics) == {}


def test_one_run_at_a_time() -> None:
    limit, other = KeyedLimit(1, key=host), KeyedLimit(1, key=host)

    async def use() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=[other, limit]):
            pass

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit):
            await trio.to_thread.run_sync(trio.run, refused)

    async def refused() -> None:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RuntimeError, match=r"^per_key is <KeyedLimit .* of another trio run uses")
        ):
            await use()
        assert not other._is_used()

    trio.run(main)
    trio.run(use)


def test_a_run_that_has_crashed_leaves_nothing_to_the_next_one(log: Log) -> None:
    limit = KeyedLimit(1, key=host)

    async def crash() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit) as cm:
            await cm.run(log.job, "a0", 99)
            raise_in_trio()

    def raise_in_trio() -> None:
        limit._users += 1  # as if this manager had never ended

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, per_key=limit) as cm:
            await cm.run(log.job, "a1")

    trio.run(crash, clock=MockClock(autojump_threshold=0))
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert (limit.statistics(), limit._keys) == ({}, {})
    assert limit._users == 0


async def test_a_manager_that_is_dropped_goes_at_once(autojump_clock: MockClock, log: Log) -> None:
    limit = KeyedLimit(1, key=host)
    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, 2, per_key=limit) as cm:
                handles = [cm.start_soon(log.job, f"a{number}") for number in range(4)]
                async with cm.map(log.job, ["a", "b"]) as outcomes:
                    assert [outcome.args[0] async for outcome in outcomes] == ["b", "a"]
            gone = weakref.ref(cm)
            del cm, outcomes
        assert gone() is None
        assert len(handles) == 4
    finally:
        gc.enable()


async def test_distinct_keys_leave_nothing_behind(autojump_clock: MockClock) -> None:
    seen = 0

    async def item(number: int) -> None:
        nonlocal seen
        await trio.lowlevel.checkpoint()
        seen = max(seen, len(limit._keys))

    limit = KeyedLimit(1, key=lambda number: number)
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 10, per_key=limit) as cm:
        async with cm.map(item, range(5000)) as outcomes:
            async for _ in outcomes:
                pass
        for number in range(1000):
            await cm.run(item, number)
        for number in range(1000):
            cm.start_soon(item, number % 100)
        lanes: Any = cm._line._queue
        assert len(lanes._lanes) <= 100
    assert (limit.statistics(), limit._keys) == ({}, {})
    assert seen <= 110
    assert (lanes._lanes, lanes._bays, lanes._open._heap, bool(lanes.ready)) == ({}, {}, [], False)
