"""pause and what waits for the rate: nothing has a permit in between, and nobody else is held up."""

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    KeyedLimit,
    RateLimiter,
    RetriableError,
    RetryConfig,
    StopReason,
    TaskHandle,
)


async def flaky(record: list[Any], config: RetryConfig) -> None:
    """Fail in the first call."""
    record.append((trio.current_time(), "flaky"))
    if sum(name == "flaky" for _, name in record) == 1:
        raise RetriableError("again", retry_config=config)


def later(seconds: float, **options: Any) -> RetryConfig:
    return RetryConfig.linear(initial_delay=seconds, backoff_factor=0, max_delay=seconds, **options)


async def test_a_pause_holds_back_who_waits_for_a_permit(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        for name in "abcd":
            await cm.run(note, record, name)
        await trio.sleep(1)
        cm.pause()
        cm.pause()
        assert waiting(rate) == 0
        await trio.sleep(44)
        assert record == [(0, "a")]
        cm.resume()
        assert waiting(rate) == 3
        cm.resume()
        await cm.wait()
    assert record == [(0, "a"), (45, "b"), (55, "c"), (65, "d")]


async def test_who_has_not_begun_to_wait_is_held_back_too_and_all_keep_their_order(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(RateLimiter(1, per=10, burst=9)) as cm:
            for name in "abcd":
                cm.start_soon(note, record, name)
            cm.pause()
            await trio.sleep(1)
            assert record == []
            cm.resume()
            cm.start_soon(note, record, "e")
            cm.pause()
            cm.resume()
            await cm.wait()
        assert [(when - start, name) for when, name in record] == [(1, name) for name in "abcde"]


@pytest.mark.parametrize("config", [later(0), later(5), later(5, hold_slot=True)])
@pytest.mark.parametrize("paused", [1, 0.25])
async def test_retries_have_no_permit_during_a_pause_whether_they_have_a_slot_or_not(
    config: RetryConfig, paused: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, per=3), 2) as cm:
        await cm.run(flaky, record, config)
        await trio.sleep(paused)
        cm.pause()
        await trio.sleep_until(20)
        assert record == [(0, "flaky")]
        cm.resume()
        await cm.wait()
    assert record == [(0, "flaky"), (20, "flaky")]


async def test_the_items_of_a_map_have_no_permit_during_a_pause(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def item(name: int) -> None:
        await note(record, name)

    async with manager(RateLimiter(1, per=10), 2) as cm:
        async with cm.map(item, range(4)) as outcomes, trio.open_nursery() as nursery:

            async def pauses() -> None:
                await trio.sleep(5)
                cm.pause()
                await trio.sleep(40)
                cm.resume()

            nursery.start_soon(pauses)
            assert sorted([outcome.index async for outcome in outcomes]) == [0, 1, 2, 3]
    assert [when for when, _ in record] == [0, 45, 55, 65]


@pytest.mark.parametrize("first", [True, False])
async def test_other_managers_of_the_limiter_are_not_held_up(
    first: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as paused, manager(rate) as other:
        await other.run(note, record, "a")
        for name in "bc":
            await (paused if first else other).run(note, record, name)
            await (other if first else paused).run(note, record, name.upper())
        await wait_all_tasks_blocked()
        paused.pause()
        assert waiting(rate) == 2
        await trio.sleep(25)
        names = "BC" if first else "bc"
        assert record == [(0, "a"), (10, names[0]), (20, names[1])]
        # Those who come in the meantime are first; those who were held follow in their order.
        await other.run(note, record, "d")
        paused.resume()
        await other.run(note, record, "e")
    assert [name for _, name in record[3:]] == ["d", *names.swapcase(), "e"]
    assert [when for when, _ in record[3:]] == [30, 40, 50, 60]


async def test_a_pause_makes_room_for_who_would_have_been_judged_later(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    for _ in range(20):
        record.clear()
        start = trio.current_time()
        async with manager(rate) as paused, manager(rate) as other:
            await other.run(note, record, "a")
            await wait_all_tasks_blocked()
            # None of them has said by when it must start, as the pause comes.
            paused.start_soon(note, record, "b")
            other.start_soon(note, record, "c", task_timeout=15)
            paused.pause()
            await trio.sleep(12)
            paused.resume()
        assert [(when - start, name) for when, name in record] == [(0, "a"), (10, "c"), (20, "b")]
        await trio.sleep(100)


async def test_a_hook_that_pauses_as_a_task_is_accepted_holds_it_back_and_nobody_else(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Pauses(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            paused.pause()

    rate = RateLimiter(1, per=10)
    async with manager(rate, instruments=[Pauses()]) as paused, manager(rate) as other:
        await paused.run(note, record, "a")
        await other.run(note, record, "b")
        await other.run(note, record, "c", task_timeout=15)
        await trio.sleep(25)
        paused.resume()
    assert record == [(0, "b"), (10, "c"), (25, "a")]


async def test_who_cannot_be_in_time_after_a_pause_fails_as_it_ends(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        handles = [await cm.run(note, record, name, task_timeout=25) for name in "bc"]
        await trio.sleep(1)
        cm.pause()
        await trio.sleep(17)
        cm.resume()
        await wait_all_tasks_blocked()
        outcome = handles[1].outcome
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.elapsed) == (StopReason.DEADLINE, 18)
    assert record == [(0, "a"), (18, "b")]


async def test_who_is_held_can_be_cancelled(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        for name in "ab":
            await cm.run(note, record, name)
        await wait_all_tasks_blocked()
        cm.pause()
        waits = cm.start_soon(note, record, "c")
        assert waits.state == "queued"
        cm.resume()
        handles = [waits, cm.start_soon(note, record, "d"), cm.start_soon(note, record, "e")]
        cm.pause()
        handles[1].cancel()  # before its first step
        await wait_all_tasks_blocked()
        handles[0].cancel()
        await trio.sleep(100)
        cm.resume()
    assert record == [(0, "a"), (100, "b"), (110, "e")]
    assert cm.statistics().cancelled == 2


@pytest.mark.parametrize("how", ["leave", "shutdown", "cancel", "timeout"])
async def test_a_paused_manager_with_a_rate_ends_as_any_other(
    how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate, timeout=35 if how == "timeout" else math.inf) as cm:
        for name in "abc":
            await cm.run(note, record, name)
        await trio.sleep(1)
        cm.pause()
        assert cm.paused
        await trio.sleep(29)
        if how == "shutdown":
            await cm.shutdown()
        elif how == "cancel":
            cm.cancel()
        elif how == "timeout":
            await trio.sleep_forever()
    if how in {"leave", "shutdown"}:
        assert not cm.paused
        assert record == [(0, "a"), (30, "b"), (40, "c")]
    else:
        assert record == [(0, "a")]
    assert waiting(rate) == 0


async def test_paused_tells(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery) as cm:
        told = [cm.paused]
        for change in (cm.pause, cm.pause, cm.resume, cm.resume, cm.pause):
            change()
            told.append(cm.paused)
    assert told == [False, True, True, False, False, True]
    assert not cm.paused
    with pytest.raises(AttributeError):
        cm.paused = True  # type: ignore[misc]  # as the checkers know too


@pytest.mark.parametrize("call", ["pause", "resume", "pause_for"])
async def test_deep_in_a_stack_a_call_changes_all_or_nothing_that_matters(
    call: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    """What may fail for want of stack comes before what it must keep in step with."""
    rate = RateLimiter(1, per=10)

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        elif call == "pause_for":
            rate.pause_for(25)
        else:
            getattr(paused, call)()

    for left in range(2, 60):
        record.clear()
        start = trio.current_time()
        async with manager(rate) as paused, manager(rate) as other:
            await other.run(note, record, "a")
            await paused.run(note, record, "b", task_timeout=22)
            await other.run(note, record, "c")
            await paused.run(note, record, "d")
            await wait_all_tasks_blocked()
            if call == "resume":
                paused.pause()
            try:
                dive(room() - left)
            except RecursionError:
                record.append("deep")
            await trio.sleep(1)
            paused.resume()
        names = [each[1] for each in record if each != "deep"]
        assert set(names) in ({*"abcd"}, {*"acd"}), left
        assert {each[0] - start for each in record if each != "deep"} <= {0, 10, 20, 25, 30, 35, 45}, left
        await trio.sleep(1000)


def room() -> int:
    """How many frames deeper one can go from where this is called."""
    import sys

    depth, frame = 0, sys._getframe(1)
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]  # None at the end
    return sys.getrecursionlimit() - depth


@pytest.mark.parametrize("hold_slot", [True, False])
async def test_a_retry_that_a_pause_has_held_back_beyond_max_elapsed_is_not_made(
    hold_slot: bool, autojump_clock: MockClock
) -> None:
    async def fail() -> None:
        raise RetriableError("again")

    retry = RetryConfig(initial_delay=1, jitter=False, max_elapsed=3, hold_slot=hold_slot)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=retry, rate=RateLimiter(100)) as cm:
            handle = cm.start_soon(fail)
            await trio.sleep(0.5)
            cm.pause()
            await trio.sleep(4)
            cm.resume()
            outcome = await handle.wait()
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.retries, outcome.elapsed) == (StopReason.MAX_ELAPSED, 0, 4.5)


async def test_an_item_whose_key_pauses_its_manager_stands_before_nobody_elses(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def key(name: str) -> str:
        cm.pause()
        return name

    async def items() -> AsyncIterator[str]:
        yield "item"

    rate = RateLimiter(1)
    async with manager(rate, per_key=KeyedLimit(1, key=key)) as cm, manager(rate) as other:
        async with cm.map(partial(note, record), items()) as outcomes:
            await wait_all_tasks_blocked()
            other.start_soon(note, record, "other")
            await trio.sleep(5)
            assert waiting(rate) == 0
            cm.resume()
            await anext(outcomes)
    assert record == [(0, "other"), (5, "item")]
