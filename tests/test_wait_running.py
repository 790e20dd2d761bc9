"""wait_running: until no attempt runs, paused or not."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.journaled import Memory
from tests.rated import manager, note
from trio_conman import ConMan, Instrument, Outcome, RateLimiter, RetriableError, RetryConfig, TaskHandle


async def wait(cm: ConMan[Any], record: list[Any], name: str = "calm") -> None:
    await cm.wait_running()
    record.append((trio.current_time(), name))


async def test_after_a_pause_it_waits_for_what_runs_and_not_for_what_is_queued(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for name, seconds in (("a", 3), ("b", 5), ("c", 1), ("d", 1)):
            cm.start_soon(note, record, name, seconds)
        cm.pause()  # before their first steps
        await wait(cm, record)
        assert (cm.statistics().running, cm.statistics().queued, cm.paused) == (0, 2, True)
        cm.resume()
        await wait(cm, record)
    assert sorted(record[:2]) == [(0, "a"), (0, "b")]
    assert record[2] == (5, "calm")
    assert sorted(record[3:5]) == [(5, "c"), (5, "d")]
    assert record[5:] == [(6, "calm")]


async def test_when_nothing_runs_it_returns_at_once_but_is_a_checkpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        with assert_checkpoints():
            await cm.wait_running()
        cm.pause()
        cm.start_soon(trio.sleep, 5)
        with assert_checkpoints():
            await cm.wait_running()
        with trio.CancelScope() as scope:
            scope.cancel()
            await cm.wait_running()
        assert scope.cancelled_caught
        assert trio.current_time() == 0
    with assert_checkpoints():
        await cm.wait_running()
    assert trio.current_time() == 5


async def test_any_number_may_wait_and_give_up(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        await cm.run(trio.sleep, 5)
        for name in "ab":
            nursery.start_soon(wait, cm, record, name)
        with trio.move_on_after(2):
            await cm.wait_running()
        record.append((trio.current_time(), "gave up"))
    assert sorted(record) == [(2, "gave up"), (5, "a"), (5, "b")]


async def test_a_backoff_is_no_attempt(autojump_clock: MockClock, record: list[Any]) -> None:
    async def flaky() -> None:
        await note(record, "flaky", 1)
        if len(record) == 1:
            raise RetriableError("again")

    retry = RetryConfig.linear(initial_delay=5, max_delay=5, hold_slot=True)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, retry=retry) as cm:
        await cm.run(flaky)
        await wait(cm, record)
        assert cm.statistics().backing_off == 1
        await trio.sleep(5.5)
        await wait(cm, record)
    assert record == [(0, "flaky"), (1, "calm"), (6, "flaky"), (7, "calm")]


async def test_nor_is_the_wait_for_another_task_of_the_same_key(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def flaky(_: str) -> None:
        await note(record, "flaky")
        if len(record) == 1:
            raise RetriableError("again")

    retry = RetryConfig.linear(initial_delay=5, max_delay=5)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, retry=retry, journal=Memory()) as cm:
            await cm.run(flaky, "key")
            await trio.sleep(1)
            cm.start_soon(flaky, "key")
            await wait(cm, record)  # it has a worker, which has not asked the journal yet
    assert record == [(0, "flaky"), (1, "calm"), (5, "flaky")]


async def test_a_wait_for_a_permit_is_no_attempt(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(RateLimiter(1, per=10)) as cm:
        for name in "ab":
            cm.start_soon(note, record, name, 2)
        await wait(cm, record)
        assert cm.statistics().running == 1
        await trio.sleep(9)
        await wait(cm, record)
        cm.start_soon(note, record, "c")
        cm.pause()
        await wait(cm, record)
    assert record == [(0, "a"), (2, "calm"), (10, "b"), (12, "calm"), (12, "calm"), (20, "c")]


async def test_an_outcome_that_waits_for_its_consumer_is_no_attempt(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    send, receive = trio.open_memory_channel[Outcome[Any]](0)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, send_to=send) as cm:
        for name in "abc":
            cm.start_soon(note, record, name, 1)
        cancelled = cm.start_soon(note, record, "d")
        cancelled.cancel()
        await wait(cm, record)
        assert cm.statistics().queued == 1
        with receive:
            for _ in range(4):
                await receive.receive()
                await wait_all_tasks_blocked()
            await wait(cm, record)
    assert sorted(record) == [(0, "a"), (0, "b"), (1, "c"), (1, "calm"), (2, "calm")]


@pytest.mark.parametrize("ordered", [False, True])
async def test_it_waits_for_the_items_of_a_map(
    ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        async with cm.map(trio.sleep, [1, 2, 1, 1]) as outcomes:
            await wait_all_tasks_blocked()
            cm.pause()
            await wait(cm, record)
            cm.resume()
            await wait_all_tasks_blocked()
            await wait(cm, record)
            assert sorted([outcome.index async for outcome in outcomes]) == [0, 1, 2, 3]
    assert record == [(2, "calm"), (3, "calm")]


async def test_who_starts_the_next_task_as_one_ends_leaves_no_calm_between_them(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Goes(Instrument):
        def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
            if len(record) < 3:
                cm.start_soon(note, record, len(record), 1)

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, instruments=[Goes()]) as cm:
            cm.start_soon(note, record, 0, 1)
            await wait(cm, record)
    assert record == [(0, 0), (1, 1), (2, 2), (3, "calm")]


async def test_a_cancelled_manager_is_calm(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2) as cm:
            for _ in range(4):
                cm.start_soon(trio.sleep_forever)
            nursery.start_soon(wait, cm, record)
            await trio.sleep(3)
            cm.cancel()
    assert record == [(3, "calm")]


async def test_inside_a_task_it_would_wait_for_itself(record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:

        async def task() -> None:
            with pytest.raises(
                RuntimeError, match=r"^wait_running\(\) was called from inside a task of 'conman'"
            ):
                await cm.wait_running()
            async with trio.open_nursery() as inner:
                inner.start_soon(child)

        async def child() -> None:
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await cm.wait_running()
            record.append("refused")

        await cm.run(task)
    assert record == ["refused"]


async def test_in_another_thread_it_is_refused() -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run\(cm\.wait_running\)$"):
                cm.wait_running().send(None)
            trio.from_thread.run(cm.wait_running)

        await trio.to_thread.run_sync(elsewhere)
