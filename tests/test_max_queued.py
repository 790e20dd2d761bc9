"""A bound on the queue: what start_soon refuses beyond it, and what it does not touch."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    ConManClosedError,
    KeyedLimit,
    KeyStatistics,
    RetriableError,
    RetryConfig,
    TaskHandle,
)

from .managed import manager

FULL = (
    "ConMan.start_soon() would queue one more task of 'conman', where {queued} are queued of "
    "max_queued={most}: await run(), which waits for a slot, or try again when some have started"
)


def full(queued: int, most: int) -> Any:
    return pytest.raises(trio.WouldBlock, match=f"^{re.escape(FULL.format(queued=queued, most=most))}$")


async def job(n: int) -> int:
    await trio.sleep(1)
    return n


async def test_one_more_is_refused_and_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with manager(2, max_queued=3) as cm:
        for n in range(5):
            cm.start_soon(job, n)
        before = cm.statistics()
        assert (before.running, before.queued, before.submitted) == (2, 3, 5)
        with full(3, 3):
            cm.start_soon(job, 5)
        assert cm.statistics() == before
        await trio.sleep(1.5)
        assert cm.start_soon(job, 6).index == 5  # some have started
        assert cm.start_soon(job, 7).state == "queued"
    assert sorted(cm.outputs()) == [0, 1, 2, 3, 4, 6, 7]


async def test_one_that_is_refused_counts_for_no_key(autojump_clock: MockClock) -> None:
    limit = KeyedLimit(2, key=lambda n: n % 2)
    async with manager(2, max_queued=1, per_key=limit) as cm:
        for n in (0, 2, 4):
            cm.start_soon(job, n)
        before = limit.statistics()
        assert before == {0: KeyStatistics(limit=2, running=2, waiting=1)}
        for n in (6, 1):
            with full(1, 1):
                cm.start_soon(job, n)
            assert limit.statistics() == before
    assert limit.statistics() == {}


async def test_with_0_it_starts_at_once_or_not_at_all(autojump_clock: MockClock) -> None:
    async with manager(2, max_queued=0) as cm:
        assert [cm.start_soon(job, n).state for n in range(2)] == ["running", "running"]
        with full(0, 0):
            cm.start_soon(job, 2)
        cm.pause()
        await trio.sleep(1.5)
        with full(0, 0):
            cm.start_soon(job, 3)
        cm.resume()
        cm.start_soon(job, 4)
    assert sorted(cm.outputs()) == [0, 1, 4]


async def test_run_and_maps_wait_as_ever(autojump_clock: MockClock) -> None:
    async with manager(2, max_queued=0) as cm:
        for n in range(4):
            await cm.run(job, n)
        async with cm.map(job, range(10, 16)) as outcomes:
            assert sorted([each.index async for each in outcomes]) == list(range(6))
        for n in range(2):
            cm.run_nowait(job, n)
        with pytest.raises(trio.WouldBlock, match=r"^$"):
            cm.run_nowait(job, 2)


async def test_calls_of_run_that_wait_and_tasks_that_back_off_are_not_queued(
    autojump_clock: MockClock,
) -> None:
    async def fails() -> None:
        raise RetriableError("not yet")

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, max_queued=1) as cm:
        again = RetryConfig(max_attempts=1, initial_delay=10, max_delay=10, jitter=False)
        cm.start_soon(fails, retry=again)
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(cm.run, job, 0)
        await wait_all_tasks_blocked()
        now = cm.statistics()
        assert (now.backing_off, now.waiting, now.queued) == (1, 1, 0)
        cm.start_soon(job, 1)
        with full(1, 1):
            cm.start_soon(job, 2)


async def test_what_is_cancelled_in_the_queue_makes_room(autojump_clock: MockClock) -> None:
    async with manager(2, max_queued=1) as cm:
        handles: list[TaskHandle[int]] = [cm.start_soon(job, n) for n in range(3)]
        handles[2].cancel()
        cm.start_soon(job, 3)
    assert sorted(cm.outputs()) == [0, 1, 3]


async def test_a_closed_manager_says_that_first(autojump_clock: MockClock) -> None:
    async with manager(2, max_queued=0) as cm:
        pass
    with pytest.raises(ConManClosedError):
        cm.start_soon(job, 0)


async def test_there_is_no_bound_unless_asked_for(autojump_clock: MockClock) -> None:
    for options in ({}, {"max_queued": inf}):
        async with manager(2, **options) as cm:
            for n in range(1000):
                cm.start_soon(job, n)
            assert cm.statistics().queued == 998
            cm.cancel()


@pytest.mark.parametrize(
    "value, error",
    [(-1, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError), ("9", TypeError)],
)
async def test_what_is_no_bound_is_refused_at_open(value: Any, error: type[Exception]) -> None:
    words = rf"^max_queued must be an int of at least 0, or math.inf, not {value!r}$"
    async with trio.open_nursery() as nursery:
        with pytest.raises(error, match=words):
            ConMan[Any].open(nursery, max_queued=value)
