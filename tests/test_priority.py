"""Priorities: who has the next slot, at every door, live, and for retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, RetriableError, RetryConfig

RETRY = RetryConfig(initial_delay=0.5, max_delay=1, jitter=False, max_attempts=2)


@pytest.fixture
def record() -> list[tuple[float, str]]:
    return []


class Jobs:
    """Tasks of a second each that write when they start."""

    def __init__(self, record: list[tuple[float, str]]) -> None:
        self.record = record

    async def __call__(self, name: str) -> None:
        self.record.append((trio.current_time(), name))
        await trio.sleep(1)

    async def failing(self, name: str) -> None:
        """The first time only."""
        is_first = all(other != name for _, other in self.record)
        await self(name)
        if is_first:
            raise RetriableError(name)

    def order(self) -> list[str]:
        assert [when for when, _ in self.record] == list(range(len(self.record)))
        return [name for _, name in self.record]


@pytest.fixture
def job(record: list[tuple[float, str]]) -> Jobs:
    return Jobs(record)


@pytest.fixture(params=["own", "given"])
async def cm(request: pytest.FixtureRequest) -> AsyncIterator[ConMan[None]]:
    """A manager that runs one at a time, beside one that takes for ever."""
    limit = trio.CapacityLimiter(2) if request.param == "given" else 2
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit, retry=RETRY) as cm:
        parked = await cm.run(trio.sleep_forever)
        yield cm
        parked.cancel()


async def wait_until_alone(cm: ConMan[Any]) -> None:
    await trio.sleep(0.5)
    while (now := cm.statistics()).running + now.queued + now.backing_off > 1:
        await trio.sleep(1)


async def test_the_highest_has_the_next_slot(autojump_clock: MockClock, cm: ConMan[None], job: Jobs) -> None:
    for name, priority in [("first", -9), ("a", 0), ("b", -1), ("c", 7), ("d", 0), ("e", 7)]:
        cm.start_soon(job, name, priority=priority)
    await wait_until_alone(cm)
    assert job.order() == ["first", "c", "e", "a", "d", "b"]


async def test_run_and_start_soon_stand_in_one_line(
    autojump_clock: MockClock, cm: ConMan[None], job: Jobs
) -> None:
    async def submit(name: str, priority: int) -> None:
        handle = await cm.run(job, name, priority=priority)
        assert handle.priority == priority

    cm.run_nowait(job, "first", priority=1)
    cm.start_soon(job, "queued")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, "run", 0)
        await wait_all_tasks_blocked()
        nursery.start_soon(submit, "urgent run", 1)
        await wait_all_tasks_blocked()
        cm.start_soon(job, "urgent queued", priority=1)
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, "most urgent", priority=99)
    await wait_until_alone(cm)
    assert job.order() == ["first", "urgent run", "urgent queued", "queued", "run"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_items_of_a_map_have_its_priority(
    autojump_clock: MockClock, cm: ConMan[None], job: Jobs, is_async: bool
) -> None:
    async def names() -> AsyncIterator[str]:
        for name in ("m0", "m1", "m2"):
            yield name

    cm.start_soon(job, "first")
    for name, priority in [("low", 0), ("same", 3), ("high", 5)]:
        cm.start_soon(job, name, priority=priority)
    items: Any = names() if is_async else ["m0", "m1", "m2"]
    async with cm.map(job, items, priority=3) as outcomes:
        assert [outcome.args async for outcome in outcomes] == [("m0",), ("m1",), ("m2",)]
    await wait_until_alone(cm)
    assert job.order() == ["first", "high", "same", "m0", "m1", "m2", "low"]


async def test_a_task_that_waits_can_be_moved(autojump_clock: MockClock, cm: ConMan[None], job: Jobs) -> None:
    handles = {name: cm.start_soon(job, name) for name in ("first", "a", "b", "c", "d")}
    handles["c"].priority = 2
    handles["d"].priority = 2
    handles["d"].priority = 2  # stays where it is
    handles["a"].priority = -5
    handles["first"].priority = -9  # has started
    assert [handle.priority for handle in handles.values()] == [-9, -5, 0, 2, 2]
    await trio.sleep(1.5)
    handles["a"].priority = 9
    await wait_until_alone(cm)
    assert job.order() == ["first", "c", "a", "d", "b"]
    handles["a"].priority = 10  # is done
    assert handles["a"].priority == 9


async def test_a_retry_has_the_priority_of_its_task(
    autojump_clock: MockClock, cm: ConMan[None], job: Jobs
) -> None:
    cm.start_soon(job.failing, "flaky", priority=1)
    for name in ("a", "b", "c", "d"):
        cm.start_soon(job, name)
    cm.start_soon(job, "low", priority=-1)
    await wait_until_alone(cm)
    # It waits half a second, in which another one has a turn.
    assert job.order() == ["flaky", "a", "flaky", "b", "c", "d", "low"]


async def test_a_retry_of_low_priority_has_no_turn_before_others(
    autojump_clock: MockClock, cm: ConMan[None], job: Jobs
) -> None:
    handle = cm.start_soon(job.failing, "flaky", priority=-1)
    for name in ("a", "b", "c"):
        cm.start_soon(job, name)
    await wait_until_alone(cm)
    assert job.order() == ["flaky", "a", "b", "c", "flaky"]
    assert handle.retries == 1


async def test_a_task_that_waits_to_be_retried_can_be_moved(
    autojump_clock: MockClock, cm: ConMan[None], job: Jobs
) -> None:
    handle = cm.start_soon(job.failing, "flaky", priority=-1)
    for name in ("a", "b", "c"):
        cm.start_soon(job, name)
    await trio.sleep(1.25)
    assert handle.state == "backing_off"
    handle.priority = -2  # it is not in the line yet
    await trio.sleep(1)
    assert handle.state == "backing_off"
    handle.priority = 1
    await wait_until_alone(cm)
    assert job.order() == ["flaky", "a", "b", "flaky", "c"]


@pytest.mark.parametrize("limit", [2, 3])
async def test_pauses_and_changes_of_the_limit_serve_the_highest_first(
    limit: int, autojump_clock: MockClock, record: list[tuple[float, str]], job: Jobs
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        cm.pause()
        for number in range(4):
            cm.start_soon(job, str(number), priority=number)
        await trio.sleep(1)
        cm.resume()
        cm.limit = limit
    starts = [(1.0, "3"), (1.0, "2"), (1.0 if limit == 3 else 2.0, "1"), (2.0, "0")]
    assert sorted(record) == sorted(starts)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("how", ["resumed", "raised"])
@pytest.mark.parametrize("retrying", [0, 2])
async def test_where_several_slots_get_free_at_once_a_map_has_all_of_them_before_others(
    retrying: int,
    how: str,
    shared: bool,
    autojump_clock: MockClock,
    record: list[tuple[float, str]],
    job: Jobs,
) -> None:
    async def consume(cm: ConMan[None]) -> None:
        async with cm.map(job, [f"m{number}" for number in range(5)], priority=1) as outcomes:
            async for _ in outcomes:
                pass

    limit = trio.CapacityLimiter(2) if shared else 2
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit, retry=RETRY) as cm:
        for number in range(retrying):
            await cm.run(job.failing, f"r{number}")
        await trio.sleep(1.25)
        cm.pause()
        for number in range(4 - retrying):
            cm.start_soon(job, f"low{number}")
        nursery.start_soon(consume, cm)
        await trio.sleep(2.75)
        if how == "resumed":
            cm.limit = 3
            cm.resume()
        else:
            for _ in range(2):
                cm.start_soon(trio.sleep, 9, priority=2)
            cm.resume()
            await trio.sleep(1)
            cm.limit = 5
    start = 4 if how == "resumed" else 5
    names = [name for when, name in sorted(record) if when == start]
    assert names == ["m0", "m1", "m2"]
    lower = [when for when, name in record if not name.startswith("m")][retrying:]
    assert sorted(lower) == [start + 1, *[start + 2] * 3]


WRONG: list[Any] = [True, 1.0, "1", None]


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_no_int_is_refused(wrong: Any, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        with pytest.raises(TypeError, match=r"^priority must be an int, not "):
            await cm.run(trio.sleep, 0, priority=wrong)
        for door in (cm.run_nowait, cm.start_soon):
            with pytest.raises(TypeError, match=r"^priority must be an int, not "):
                door(trio.sleep, 0, priority=wrong)
        with pytest.raises(TypeError, match=r"^priority must be an int, not "):
            cm.map(trio.sleep, [0], priority=wrong)
        handle = await cm.run(trio.sleep, 1)
        with pytest.raises(TypeError, match=r"^priority must be an int, not "):
            handle.priority = wrong
        assert cm.statistics().submitted == 1


async def test_an_int_of_another_type_is_taken_as_a_plain_one() -> None:
    class Level(int):
        def __gt__(self, other: object) -> bool:
            raise AssertionError("nobody compares by this")

        __lt__ = __eq__ = __hash__ = __gt__  # type: ignore[assignment]  # none of them may be called

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        handle = await cm.run(trio.sleep, 0, priority=Level(3))
        assert type(handle.priority) is int
        handle.priority = Level(4)
        assert type(handle.priority) is int


async def test_another_thread_is_refused() -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        handle = await cm.run(trio.sleep_forever)
        with pytest.raises(RuntimeError, match=r"^TaskHandle\.priority\(\) was called in another thread"):
            await trio.to_thread.run_sync(setattr, handle, "priority", 3)
        assert handle.priority == 0
        handle.cancel()
