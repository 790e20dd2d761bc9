"""Outcomes sent to a channel: in order, with backpressure, and none of them lost."""

import math
import weakref
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from tests.raised import OddError
from tests.sent import channel, indices, job, read
from trio_conman import ConMan, Failure, Outcome, RetriableError, RetryConfig

# Order, and what is taken


async def test_outcomes_come_in_completion_order_and_are_not_kept(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    error = OddError()
    taken: list[Outcome[int]] = []

    async def fail() -> int:
        await trio.sleep(2)
        raise error

    async def consume() -> None:
        async for outcome in receive:
            taken.append(outcome)
            record.append(trio.current_time())

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with ConMan[int].open(nursery, send_to=send) as cm:
            handles = [await cm.run(job, 0, 3), await cm.run(fail), await cm.run(job, 2, 1)]
        assert (cm.outcomes(), cm.outputs(), cm.errors(), cm.pop_outcomes()) == ([], [], [], [])
        cm.raise_errors()
    assert record == [1, 2, 3]
    assert indices(taken) == [2, 1, 0]
    # They are the very objects that the handles have.
    assert all(outcome is handles[outcome.index].outcome for outcome in taken)
    assert isinstance(taken[1], Failure) and taken[1].error is error
    assert (cm.statistics().succeeded, cm.statistics().failed) == (2, 1)


async def test_a_thousand_outcomes_that_nobody_reads_before_the_end_are_all_there(
    autojump_clock: MockClock,
) -> None:
    async def third_fails(number: int) -> int:
        if number % 3 == 0:
            raise OddError(number)
        return number

    send, receive = channel(math.inf)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        for number in range(1000):
            await cm.run(third_fails, number)
        await cm.wait()
        assert receive.statistics().current_buffer_used == 1000
    taken = [outcome async for outcome in receive]
    assert sorted(indices(taken)) == list(range(1000))
    assert all(isinstance(outcome, Failure) == (outcome.index % 3 == 0) for outcome in taken)
    assert trio.current_time() == 0


async def test_a_readers_timeout_loses_no_outcome(autojump_clock: MockClock, record: list[Any]) -> None:
    async def consume() -> None:
        timeouts = 0
        with suppress(trio.EndOfChannel):
            while True:
                with trio.move_on_after(0.1) as scope:
                    record.append((await receive.receive()).index)
                timeouts += scope.cancelled_caught
        assert timeouts > 5

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            await cm.run(job, 99, math.inf)
            for number in range(10):
                await cm.run(job, number, 0.2)
            await trio.sleep(0.5)
            cm.cancel()
    assert record == list(range(1, 11))
    assert indices(cm.outcomes()) == [0]


async def test_a_retry_is_no_outcome(autojump_clock: MockClock, record: list[Any]) -> None:
    failures = 2

    async def flaky() -> int:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RetriableError("once more")
        return 7

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, receive, record)
        retry = RetryConfig.linear(initial_delay=1, max_delay=1)
        async with ConMan[int].open(nursery, 2, send_to=send, retry=retry) as cm:
            await cm.run(flaky)
    assert record == [(2, 0)]
    assert cm.statistics().retries == 2


@pytest.mark.parametrize("wrong", [channel()[1], channel(), [], "channel", 1])
async def test_what_is_no_send_channel_is_refused(wrong: Any) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=r"^send_to must be a trio\.MemorySendChannel or None, not "):
            ConMan[int].open(nursery, send_to=wrong)


# Backpressure


@each_kind
async def test_a_task_keeps_its_slot_until_its_outcome_was_taken(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    taken: list[Any] = []
    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, receive, taken, 10)
        async with ConMan[int].open(nursery, limit_of(2), send_to=send) as cm:
            for number in range(5):
                await cm.run(job, number, 1 + number / 10)
                record.append(trio.current_time())
            assert cm.statistics().running == 2
    assert record == [0, 0, 10, 20, 30]
    assert taken == [(10, 0), (20, 1), (30, 2), (40, 3), (50, 4)]


async def test_a_buffer_takes_outcomes_ahead_of_the_reader(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    send, receive = channel(3)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            await cm.run(job, 99, 100)
            nursery.start_soon(read, receive, [], 50)
            for number in range(6):
                await cm.run(job, number, 1)
                record.append(trio.current_time())
    # Three lie in the buffer; the fourth waits for the reader.
    assert record == [0, 1, 2, 3, 50, 100]


async def test_what_is_not_taken_yet_counts_as_running(autojump_clock: MockClock, record: list[Any]) -> None:
    async def wait() -> None:
        await cm.wait()
        record.append(("idle", trio.current_time()))

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 3, send_to=send) as cm:
            handles = [await cm.run(job, number, number + 1) for number in range(2)]
            nursery.start_soon(wait)
            await trio.sleep(5)
            # The handles know already.
            assert [handle.state for handle in handles] == ["done", "done"]
            statistics = cm.statistics()
            assert (statistics.running, statistics.succeeded) == (2, 2)
            assert (cm.outcomes(), cm.outputs()) == ([], [])
            assert record == []
            assert (await receive.receive()).index == 0
            await wait_all_tasks_blocked()
            assert (cm.statistics().running, record) == (1, [])
            await trio.sleep(1)
            assert (await receive.receive()).index == 1
            await cm.wait()
            await wait_all_tasks_blocked()
            assert (cm.statistics().running, record) == (0, [("idle", 6)])


async def test_leaving_the_block_waits_until_all_is_taken(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    send, receive = channel()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            nursery.start_soon(read, receive, record, 4)
            await cm.run(job, 0, 1)
            await cm.run(job, 1, 2)
        assert trio.current_time() == 8
    assert record == [(4, 0), (8, 1)]
    assert cm.outcomes() == []


@each_kind
async def test_a_changed_limit_counts_those_that_are_not_taken(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def feed() -> None:
        for number in range(8):
            await cm.run(job, number, 1 + number / 10)
            record.append((trio.current_time(), number))

    send, receive = channel()
    taken: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limit_of(2), send_to=send) as cm:
            nursery.start_soon(feed)
            await trio.sleep(5)
            cm.limit = 4
            await trio.sleep(5)
            assert record == [(0, 0), (0, 1), (5, 2), (5, 3)]
            cm.limit = 2
            nursery.start_soon(read, receive, taken, 10)
    # Three have to be taken before the fifth one starts.
    assert record[4:] == [(40, 4), (50, 5), (60, 6), (70, 7)]
    assert taken == [(10 * number + 20, number) for number in range(8)]


async def test_a_queued_task_that_is_cancelled_has_its_outcome_taken_too(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    send, receive = channel()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            for number in range(3):
                cm.start_soon(job, number, 5 + number)
            queued = cm.start_soon(job, 3)
            await trio.sleep(1)
            queued.cancel("not needed")
            # At once, though nobody has taken it: until then it counts as running, but holds no slot.
            assert queued.state == "done"
            await trio.sleep(1)
            statistics = cm.statistics()
            assert (statistics.running, statistics.cancelled, cm.outcomes()) == (3, 1, [])
            nursery.start_soon(read, receive, record, 1)
    assert record == [(3, 3), (5, 0), (6, 1), (12, 2)]


@pytest.mark.usefixtures("no_collector")
async def test_live_tasks_are_bounded_by_the_limit_not_by_their_number(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Argument:
        pass

    alive: weakref.WeakSet[Argument] = weakref.WeakSet()

    async def use(argument: Argument) -> int:
        await trio.sleep(1)
        return 0

    async def consume() -> None:
        async for _ in receive:
            record.append(len(alive))
            del _
            await trio.sleep(3)

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with ConMan[int].open(nursery, 3, send_to=send) as cm:
            for _ in range(50):
                argument = Argument()
                alive.add(argument)
                await cm.run(use, argument)
    # Three in hand, three that were taken, of a batch that is still on its way; and one handed in.
    assert len(record) == 50
    assert max(record) <= 3 + 3 + 1


async def test_tasks_that_end_without_a_slot_are_bounded_too(autojump_clock: MockClock) -> None:
    # Each gives its slot back to back off, and runs out of time before it gets one again.
    soon = RetryConfig.linear(initial_delay=0.5, backoff_factor=0, max_delay=0.5, max_attempts=math.inf)

    async def fails(seconds: float) -> None:
        await trio.sleep(seconds)
        raise RetriableError("again")

    send, _receive = trio.open_memory_channel[Any](0)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, retry=soon, send_to=send) as cm:
            await cm.run(trio.sleep, 0)  # nobody takes its outcome, so it keeps a slot
            await cm.run(fails, 2)
            await trio.sleep(2.25)
            for _ in range(20):
                cm.start_soon(fails, 0, task_timeout=1.125)
                await trio.sleep(2.5)
            statistics = cm.statistics()
            assert statistics.running + statistics.backing_off <= 4
            cm.cancel()
    assert len(cm.outcomes()) == 22
