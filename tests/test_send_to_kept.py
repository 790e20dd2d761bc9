"""Outcomes that a channel did not take are kept, and the channel is closed, however a manager ends."""

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.raised import OddError
from tests.sent import Receive, Send, channel, indices, job, read
from trio_conman import ConMan, Failure, Outcome, StopReason, Success, TaskHandle


def kept(cm: ConMan[int]) -> list[tuple[int, StopReason | None]]:
    """What was not taken: which tasks', and why they failed."""
    return [(o.index, o.reason if isinstance(o, Failure) else None) for o in cm.outcomes()]


def cancel(cm: ConMan[int], nursery: trio.Nursery) -> None:
    cm.cancel()


def time_out(cm: ConMan[int], nursery: trio.Nursery) -> None:
    cm.cancel_scope.deadline = trio.current_time()


def cancel_nursery(cm: ConMan[int], nursery: trio.Nursery) -> None:
    nursery.cancel_scope.cancel()


def interrupt(cm: ConMan[int], nursery: trio.Nursery) -> None:
    raise KeyboardInterrupt


def fail(cm: ConMan[int], nursery: trio.Nursery) -> None:
    raise OddError


End: TypeAlias = Callable[[ConMan[int], trio.Nursery], None]
each_end = pytest.mark.parametrize("end", [cancel, time_out, cancel_nursery, interrupt, fail])


@asynccontextmanager
async def ended() -> AsyncIterator[trio.Nursery]:
    """A nursery; what the ends above raise ends here."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except* (OddError, KeyboardInterrupt):
        pass


@each_end
async def test_what_was_not_taken_when_the_manager_ends_is_kept(end: End, autojump_clock: MockClock) -> None:
    taken: list[int] = []
    send, receive = channel()
    async with ended() as nursery:
        async with ConMan[int].open(nursery, 5, send_to=send) as cm:
            for number in range(4):
                await cm.run(job, number, 4 - number)
            await cm.run(job, 4, 100)
            cm.start_soon(job, 5)
            await trio.sleep(4.5)
            taken.append((await receive.receive()).index)
            end(cm, nursery)
            await trio.sleep_forever()
    reason = StopReason.MANAGER_TIMEOUT if end is time_out else StopReason.CANCELLED
    assert taken == [3]
    # First those that were done, in their order, then those that were cut short.
    assert kept(cm)[:3] == [(2, None), (1, None), (0, None)]
    assert sorted(kept(cm)[3:]) == [(4, reason), (5, reason)]
    assert trio.current_time() == 4.5
    assert cm.timed_out == (end is time_out)
    assert cm.outputs() == [2, 1, 0]
    assert indices(cm.pop_outcomes())[:3] == [2, 1, 0]
    assert cm.outcomes() == []
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


def close_receiver(send: Send, receive: Receive) -> None:
    receive.close()


def close_sender(send: Send, receive: Receive) -> None:
    send.close()


each_closing = pytest.mark.parametrize("close", [close_receiver, close_sender])


@each_closing
async def test_when_the_channel_is_closed_the_rest_is_kept_and_the_manager_goes_on(
    close: Callable[[Send, Receive], None], autojump_clock: MockClock, record: list[Any]
) -> None:
    async def feed() -> None:
        for number in range(6):
            await cm.run(job, number, 1 + number / 10)
            record.append((trio.current_time(), number))

    send, receive = channel()
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        nursery.start_soon(feed)
        await trio.sleep(5)
        assert (await receive.receive()).index == 0
        await trio.sleep(5)
        # Two wait to be taken, one of them while the collector tries to send it.
        assert (cm.statistics().running, cm.outcomes()) == (2, [])
        close(send, receive)
        await wait_all_tasks_blocked()
        assert indices(cm.outcomes()) == [1, 2]
        # A reader is never behind a handle from here on.
        handle = await cm.run(job, 99, 0.5)
        assert await handle.wait() in cm.outcomes()
    assert record == [(0, 0), (0, 1), (5, 2), (10, 3), (10, 4), (11.3, 5)]
    assert sorted(indices(cm.outcomes())) == list(range(1, 7))
    assert trio.current_time() == 12.8


@each_closing
async def test_a_channel_that_is_closed_from_the_beginning_takes_nothing(
    close: Callable[[Send, Receive], None], autojump_clock: MockClock
) -> None:
    send, receive = channel(10)
    close(send, receive)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        for number in range(5):
            await cm.run(job, number, 1 + number / 10)
    assert cm.outputs() == list(range(5))


async def test_a_consumer_that_goes_away_after_its_last_one_loses_nothing(autojump_clock: MockClock) -> None:
    async def take_three() -> None:
        with receive:
            async for outcome in receive:
                taken.append(outcome)
                if len(taken) == 3:
                    return

    taken: list[Outcome[int]] = []
    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_three)
        async with ConMan[int].open(nursery, 3, send_to=send) as cm:
            # All in one tick, so that they travel together.
            for number in range(9):
                cm.start_soon(job, number)
    assert len(taken) == 3
    assert sorted(indices(taken + cm.outcomes())) == list(range(9))


@pytest.mark.parametrize("seed", range(20))
async def test_whenever_it_ends_each_outcome_is_taken_or_kept_once(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    taken: list[Outcome[int]] = []
    handles: list[TaskHandle[int]] = []
    send, receive = channel(rng.choice([0, 1, 3]))

    async def consume() -> None:
        async for outcome in receive:
            taken.append(outcome)
            await trio.sleep(rng.choice([0, 0, 1]))

    async with ended() as nursery:
        nursery.start_soon(consume)
        async with ConMan[int].open(nursery, 3, send_to=send, timeout=rng.randrange(6)) as cm:
            for number in range(60):
                handles.append(await cm.run(job, number, rng.choice([0, 0, 1])))
                if rng.random() < 0.05:
                    handles.append(cm.start_soon(job, number))
                    handles[-1].cancel()
            if rng.random() < 0.5:
                raise OddError
    assert len(taken) + len(cm.outcomes()) == len(handles)
    assert {id(o) for o in taken + cm.outcomes()} == {id(handle.outcome) for handle in handles}


async def test_max_errors_counts_what_was_taken(autojump_clock: MockClock, record: list[Any]) -> None:
    async def fail(number: int) -> int:
        await trio.sleep(number)
        raise OddError(number)

    send, receive = channel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, receive, record)
        with pytest.RaisesGroup(OddError, OddError, match=r"^2 of 3 tasks of 'conman' failed$") as caught:
            async with ConMan[int].open(nursery, send_to=send, max_errors=1) as cm:
                await cm.run(fail, 2)
                await cm.run(fail, 1)
                await cm.run(job, 9, 100)
    assert [error.args for error in caught.value.exceptions] == [(1,), (2,)]
    assert record == [(1, 1)]
    assert sorted(kept(cm)) == [(0, StopReason.ERROR), (2, StopReason.CANCELLED)]


# The channel's end


async def test_the_channel_is_closed_with_the_manager_and_not_before(autojump_clock: MockClock) -> None:
    send, receive = channel(math.inf)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            await cm.run(job, 0, 1)
            await cm.wait()
            await trio.sleep(1)
            assert receive.statistics().open_send_channels == 1
            await cm.shutdown()
            assert receive.statistics().open_send_channels == 1
        assert receive.statistics().open_send_channels == 0
        assert [outcome.index async for outcome in receive] == [0]


@each_end
async def test_the_channel_is_closed_however_the_manager_ends(end: End, autojump_clock: MockClock) -> None:
    send, receive = channel(math.inf)
    async with ended() as nursery, ConMan[int].open(nursery, 2, send_to=send) as cm:
        await cm.run(job, 0, 1)
        await cm.run(job, 1, 10)
        await trio.sleep(2)
        end(cm, nursery)
        await trio.sleep_forever()
    assert receive.statistics().open_send_channels == 0
    assert indices([outcome async for outcome in receive]) == [0]
    assert kept(cm) == [(1, StopReason.MANAGER_TIMEOUT if end is time_out else StopReason.CANCELLED)]


async def test_the_manager_closes_its_own_end_and_no_clone(autojump_clock: MockClock) -> None:
    send, receive = channel(math.inf)
    mine = send.clone()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            await cm.run(job, 0)
        async with ConMan[int].open(nursery, 2, send_to=mine.clone()) as cm:
            await cm.run(job, 1)
    assert receive.statistics().open_send_channels == 1
    mine.close()
    assert [o.value async for o in receive if isinstance(o, Success)] == [0, 1]
