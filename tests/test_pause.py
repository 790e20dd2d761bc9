"""pause and resume: nothing starts in between."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, RetriableError, RetryConfig


async def job(n: int, seconds: float, record: list[Any]) -> int:
    record.append((n, trio.current_time()))
    await trio.sleep(seconds)
    return n


@pytest.mark.parametrize("shared", [False, True])
async def test_nothing_starts_while_paused(
    autojump_clock: MockClock, record: list[Any], shared: bool
) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limiter if shared else 2) as cm:
            cm.start_soon(job, 0, 1, record)
            cm.start_soon(job, 1, 3, record)
            cm.start_soon(job, 2, 1, record)
            await trio.sleep(0.5)
            cm.pause()
            nursery.start_soon(cm.run, job, 3, 1, record)
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(job, 4, 1, record)
            await trio.sleep(4)
            statistics = cm.statistics()
            assert (statistics.running, statistics.queued, statistics.waiting) == (0, 1, 1)
            # Others have the tokens meanwhile, and nobody waits for one.
            assert limiter.statistics().borrowed_tokens == 0
            assert limiter.statistics().tasks_waiting == 0
            cm.pause()
            cm.resume()
            cm.resume()
            await cm.wait()
            assert trio.current_time() == 5.5
    assert sorted(record) == [(0, 0), (1, 0), (2, 4.5), (3, 4.5)]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_retry_that_gave_its_slot_back_is_held_too(autojump_clock: MockClock, shared: bool) -> None:
    calls: list[float] = []

    async def flaky() -> None:
        calls.append(trio.current_time())
        if len(calls) < 3:
            raise RetriableError("again", retry_config=RetryConfig.linear(initial_delay=1, max_delay=9))

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, trio.CapacityLimiter(2) if shared else 2) as cm:
            handle = await cm.run(flaky)
            await trio.sleep(0.5)
            cm.pause()
            await trio.sleep(3)
            assert handle.state == "backing_off"
            cm.resume()
    assert calls == [0, 3.5, 5.5]


async def test_a_paused_task_that_is_cancelled_ends(autojump_clock: MockClock) -> None:
    async def flaky() -> None:
        raise RetriableError("again", retry_config=RetryConfig.linear(initial_delay=1, max_delay=9))

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        handle = await cm.run(flaky)
        cm.pause()
        await trio.sleep(3)
        handle.cancel()
        await handle.wait()
        assert trio.current_time() == 3


async def test_leaving_the_block_resumes(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        cm.pause()
        for n in range(3):
            cm.start_soon(job, n, 1, record)
        await trio.sleep(2)
        assert record == []
    assert sorted(cm.outputs()) == [0, 1, 2]
    assert trio.current_time() == 4


async def test_tasks_may_pause_resume_and_resize(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:

        async def steering() -> None:
            cm.pause()
            cm.limit = 5
            await trio.sleep(2)
            cm.resume()
            await trio.sleep(1)
            cm.limit = 2

        cm.start_soon(steering)
        await wait_all_tasks_blocked()
        for n in range(6):
            cm.start_soon(job, n, 3, record)
        await trio.sleep(3)  # leaving the block would resume
    # Five slots from t=2 on, one of them the steering task's until t=3, when there are two.
    assert sorted(time for _, time in record) == [2, 2, 2, 2, 5, 5]


async def test_a_lower_limit_is_kept_through_a_pause(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4) as cm:
        for n in range(4):
            cm.start_soon(job, n, 1, record)
        for n in range(4, 8):
            cm.start_soon(job, n, 1, record)
        cm.pause()
        cm.limit = 2
        await trio.sleep(3)
        cm.resume()
    assert sorted(time for _, time in record) == [0, 0, 0, 0, 3, 3, 4, 4]
