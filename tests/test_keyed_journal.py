"""Limits by key with a journal: what is recalled needs no key, and what is not needs one."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.hostile import Moody
from tests.journaled import Memory
from trio_conman import (
    AdaptiveLimit,
    ConMan,
    Failure,
    KeyedLimit,
    KeyStatistics,
    Outcome,
    RetriableError,
    RetryConfig,
    Success,
)
from trio_conman.journal import open_journal

Record = list[tuple[float, str]]

TENANT = ContextVar[str]("TENANT")


def host(name: str) -> str:
    """The key of a job: what its name begins with."""
    return name[0]


def job_of(record: Record) -> Callable[[str], Any]:
    async def job(name: str) -> str:
        record.append((trio.current_time(), name))
        await trio.sleep(10 if name.endswith("long") else 1)
        if name.endswith("fails"):
            raise ValueError(name)
        return name.upper()

    return job


def seen(outcome: Outcome[Any] | None) -> tuple[Any, bool]:
    assert isinstance(outcome, Success)
    return outcome.value, outcome.recalled


async def as_async(name: str) -> AsyncIterator[str]:
    yield name


@pytest.mark.parametrize("door", ["run", "run_nowait", "start_soon", "map", "async map"])
async def test_what_is_recalled_needs_no_key(door: str, autojump_clock: MockClock) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(1, key=host), Memory({"a1": "known"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, per_key=limit, journal=journal) as cm:
            cm.start_soon(job, "a-long")
            await trio.sleep(1)
            if door.endswith("map"):
                items: Any = ["a1"] if door == "map" else as_async("a1")
                async with cm.map(job, items) as outcomes:
                    outcome = await anext(outcomes)
            else:
                handle = getattr(cm, door)(job, "a1")
                outcome = await (await handle if door == "run" else handle).wait()
            assert seen(outcome) == ("known", True)
            assert trio.current_time() == 1
            assert limit.statistics() == {"a": KeyStatistics(limit=1, running=1, waiting=0)}
    assert sorted(record) == [(0, "a-long")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_who_waits_for_a_task_of_the_same_arguments_has_no_key_meanwhile(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(2, key=host), Memory()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, per_key=limit, journal=journal) as cm:
            first = cm.start_soon(job, "a1")
            await wait_all_tasks_blocked()
            twin, third = (cm.start_soon(job, "a1") for _ in range(2))
            await trio.sleep(0.5)
            assert (twin.state, third.state, cm.statistics().queued) == ("queued", "queued", 2)
            assert limit.statistics() == {"a": KeyStatistics(limit=2, running=1, waiting=0)}
            for name in ("a-long", "a2-long", "a3-long"):
                cm.start_soon(job, name)
            # When the value is there the key is full again, and that is nothing to the others.
            assert seen(await twin.wait()) == seen(await third.wait()) == ("A1", True)
            assert trio.current_time() == 1
            assert seen(first.outcome) == ("A1", False)
            assert limit.statistics() == {"a": KeyStatistics(limit=2, running=2, waiting=1)}
    assert sorted(record) == [(0, "a1"), (0.5, "a-long"), (1, "a2-long"), (10.5, "a3-long")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_who_waits_for_one_of_the_same_arguments_needs_no_hash_of_its_key(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    key = Moody()
    job, limit = job_of(record), KeyedLimit(2, key=lambda name: key)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, per_key=limit, journal=Memory()) as cm:
            for _ in range(2):
                cm.start_soon(job, "a-fails")
            await trio.sleep(0.5)
            key.may_be_hashed = False
    assert record == [(0, "a-fails"), (1, "a-fails")]
    assert (cm.statistics().failed, limit.statistics()) == (2, {})


@pytest.mark.parametrize("end", ["granted", "cancelled", "closed"])
async def test_where_a_task_of_the_same_arguments_fails_the_other_one_needs_its_key(
    end: str, autojump_clock: MockClock
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(2, key=host), Memory()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, per_key=limit, journal=journal) as cm:
            cm.start_soon(job, "a-fails")
            await wait_all_tasks_blocked()
            twin = cm.start_soon(job, "a-fails")
            await wait_all_tasks_blocked()
            cm.start_soon(job, "a-long")
            await trio.sleep(0.5)
            assert limit.statistics() == {"a": KeyStatistics(limit=2, running=2, waiting=0)}
            limit.limit = 1
            await trio.sleep(1)
            assert limit.statistics() == {"a": KeyStatistics(limit=1, running=1, waiting=1)}
            assert (twin.state, cm.statistics().queued) == ("queued", 1)
            if end == "cancelled":
                twin.cancel()
                assert limit.statistics()["a"].waiting == 0
            elif end == "closed":
                cm.cancel()
                assert limit.statistics()["a"].waiting == 0
    assert isinstance(twin.outcome, Failure)
    started = [(10, "a-fails")] if end == "granted" else []
    assert sorted(record) == [(0, "a-fails"), (0, "a-long"), *started]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_who_comes_back_with_a_key_forgets_nobody_who_comes_back_without(
    autojump_clock: MockClock,
) -> None:
    tried: list[str] = []

    async def job(name: str) -> str:
        await trio.sleep(1)
        tried.append(name)
        if tried.count(name) == 1 and name != "d":
            raise RetriableError(name)
        return name.upper()

    limit = KeyedLimit(10, key=host)
    retry = RetryConfig.linear(initial_delay=0.5, max_delay=0.5, jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 2, retry=retry, journal=Memory(), per_key=limit) as cm:
            for name in "dddddabcdef":
                cm.start_soon(job, name)
    assert "".join(sorted(cm.outputs())) == "ABCDDDDDDEF"
    assert cm.statistics().recalled == 5
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_who_waits_for_another_task_has_its_priority_when_it_comes_back(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(3, key=host), Memory()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, journal=journal) as cm:
            cm.start_soon(job, "a-fails")
            await wait_all_tasks_blocked()
            twin = cm.start_soon(job, "a-fails")
            for name in ("b1", "b2", "b3", "b4", "b5"):
                cm.start_soon(job, name, priority=1)
            await trio.sleep(0.5)
            twin.priority = -1  # beside the line
            await trio.sleep(1)
            twin.priority = 2  # among those who come back
            assert twin.priority == 2
    starts = [(0, "a-fails"), (0, "b1"), (1, "b2"), (1, "b3"), (2, "a-fails"), (2, "b4"), (3, "b5")]
    assert sorted(record) == starts


async def test_who_holds_the_key_that_his_item_needs_from_then_on_is_told_at_once(
    autojump_clock: MockClock,
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(2, key=host), Memory()

    async def outer(_: str) -> None:
        with pytest.raises(RuntimeError, match="every slot, or all that a key allows"):
            async with cm.map(job, ["a1 fails"], journal=journal, lookahead=1) as outcomes:
                await anext(outcomes)
        record.append((trio.current_time(), "told"))

    async with trio.open_nursery() as nursery:
        async with (
            ConMan[Any].open(nursery, 2, journal=journal) as other,
            ConMan[Any].open(nursery, 3, per_key=limit) as cm,
        ):
            await other.run(job, "a1 fails")
            for fn, name in [(outer, "a"), (job, "b long"), (job, "c long")]:
                cm.start_soon(fn, name)
                await wait_all_tasks_blocked()
            limit.limits["a"] = 1
    assert record == [(0, "a1 fails"), (0, "b long"), (0, "c long"), (1, "told")]


@pytest.mark.parametrize("source", ["start_soon", "map"])
async def test_what_was_to_be_recalled_and_is_gone_needs_its_key(
    source: str, autojump_clock: MockClock
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(1, key=host), Memory({"a1": "known", "b1": "known"})

    async def discard() -> None:
        journal.records.values.clear()

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, journal=journal) as cm:
            cm.start_soon(job, "a-long")
            if source == "map":
                journal.records.reading["a1"] = journal.records.reading["b1"] = 0.5  # until it is discarded
                nursery.start_soon(discard)
                async with cm.map(job, ["a1", "b1"]) as outcomes:
                    came = [seen(each) async for each in outcomes]
                assert came == [("B1", False), ("A1", False)]
            else:
                other = cm.start_soon(job, "c1")
                handles = [cm.start_soon(job, name) for name in ("a1", "b1")]
                await discard()
                await other.wait()
                assert [seen(await each.wait()) for each in handles] == [("A1", False), ("B1", False)]
    assert sorted(each for each in record if each[1] != "c1") == [(0, "a-long"), (1, "b1"), (10, "a1")]
    assert journal.records.claims == {}
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_what_only_looks_as_if_it_were_there_runs_under_its_key(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    record: Record = []
    job, limit, journal = job_of(record), KeyedLimit(1, key=host), Memory()
    # As in an index that knows keys by their hashes: until it is claimed, the value is taken to be there.
    monkeypatch.setattr(journal.records, "holds", lambda _: True)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, journal=journal) as cm:
            handles = [cm.start_soon(job, name) for name in ("a1", "a2", "b1")]
            assert [seen(await each.wait()) for each in handles] == [
                ("A1", False),
                ("A2", False),
                ("B1", False),
            ]
    assert sorted(record) == [(0, "a1"), (0, "b1"), (1, "a2")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_what_was_to_be_recalled_and_has_no_key_fails(autojump_clock: MockClock) -> None:
    record: Record = []

    def broken(name: str) -> str:
        raise ZeroDivisionError

    job, limit, journal = job_of(record), KeyedLimit(1, key=broken), Memory({"a1": "known"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, journal=journal) as cm:
            handle = cm.start_soon(job, "a1")
            journal.records.values.clear()
            outcome = await handle.wait()
    assert isinstance(outcome, Failure)
    assert str(outcome.error) == (
        "key of <KeyedLimit of 1 by test_what_was_to_be_recalled_and_has_no_key_fails.<locals>.broken()> "
        "has raised ZeroDivisionError()"
    )
    assert (record, journal.records.claims) == ([], {})


@pytest.mark.usefixtures("no_collector")
async def test_it_is_in_no_cycle_then(autojump_clock: MockClock) -> None:
    class Name(str):
        __slots__ = ("__weakref__",)

    def broken(name: str) -> str:
        raise ZeroDivisionError

    name = Name("a1")
    gone, journal = weakref.ref(name), Memory({name: "known"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=KeyedLimit(1, key=broken), journal=journal) as cm:
            handle = cm.start_soon(job_of([]), name)
            del name
            journal.records.values.clear()
            assert isinstance(await handle.wait(), Failure)
            await wait_all_tasks_blocked()
            del handle
            cm.pop_outcomes()
            assert gone() is None


async def test_a_task_without_a_key_in_the_journal_fails_at_the_door(autojump_clock: MockClock) -> None:
    record: Record = []
    limit, journal = KeyedLimit(1, key=host), Memory()
    journal.records.wrong["key_of"] = error = ValueError("no key")
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=limit, journal=journal) as cm:
            handle = cm.start_soon(job_of(record), "a1")
            assert isinstance(handle.outcome, Failure)
            assert handle.outcome.error is error
            assert limit.statistics() == {}
    assert record == []


async def test_an_adaptive_limit_grows_while_tasks_wait_for_their_keys(autojump_clock: MockClock) -> None:
    record: Record = []
    job, limit, adaptive = job_of(record), KeyedLimit(1, key=host), AdaptiveLimit(2, 4, initial=2)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, adaptive, per_key=limit) as cm:
            for name in ("a1", "a2", "b1", "c1", "d1", "e1"):
                cm.start_soon(job, name)
            await trio.sleep(0.5)
            assert sorted(record) == [(0, "a1"), (0, "b1")]
            cm.limit = 3
            await wait_all_tasks_blocked()
            assert record[2:] == [(0.5, "c1")]  # a2 keeps its place
            cm.limit = 2
            await trio.sleep(1.25)
            assert record[3:] == [(1, "a2"), (1.5, "d1")]
    assert record[5:] == [(2, "e1")]
    assert (limit.statistics(), limit._keys) == ({}, {})


async def test_what_a_file_holds_needs_no_key(tmp_path: Path) -> None:
    hold, calls = trio.Event(), list[str]()

    async def job(name: str) -> str:
        calls.append(name)
        if name != "a":
            await hold.wait()
        return name

    for _ in range(2):
        hold = trio.Event()
        async with (
            open_journal(tmp_path / "a.journal", flush_after=60) as journal,
            trio.open_nursery() as nursery,
            ConMan[str].open(nursery, 2, per_key=KeyedLimit(1, key=host), journal=journal) as cm,
        ):
            if not calls:
                assert seen(await (await cm.run(job, "a")).wait()) == ("a", False)
            # On the disk, or on its way there.
            cm.start_soon(job, f"a long {len(calls)}")
            assert seen(await (await cm.run(job, "a")).wait()) == ("a", True)
            hold.set()
    assert calls == ["a", "a long 1", "a long 2"]


@pytest.mark.parametrize("door", ["run", "start_soon", "map", "async map"])
@pytest.mark.parametrize("shared", [False, True])
async def test_keys_are_made_in_the_context_of_who_hands_in(
    door: str, shared: bool, tmp_path: Path, patient_clock: MockClock
) -> None:
    """Whatever the task sets whose slot they get."""
    seen: set[str] = set()

    def key(name: str) -> str:
        seen.add(TENANT.get())
        return name

    async def job(name: str) -> str:
        assert TENANT.get() == "caller"
        TENANT.set(name)
        await trio.sleep(1)
        return name

    async def source() -> AsyncIterator[str]:
        for name in "abcdef":
            TENANT.set("source")
            yield name

    limit = trio.CapacityLimiter(2) if shared else 2
    async with open_journal(tmp_path / "journal") as journal, trio.open_nursery() as nursery:
        section = journal.section("jobs", key=key)
        keyed = KeyedLimit(1, key=key)
        async with ConMan[str].open(nursery, limit, per_key=keyed, journal=section) as cm:
            TENANT.set("caller")
            if door.endswith("map"):
                async with cm.map(job, "abcdef" if door == "map" else source()) as outcomes:
                    assert len([outcome async for outcome in outcomes]) == 6
            else:
                for name in "abcdef":
                    if door == "run":
                        await cm.run(job, name)
                    else:
                        cm.start_soon(job, name)
    assert (cm.statistics().succeeded, cm.statistics().recalled) == (6, 0)
    assert seen == {"caller"}
