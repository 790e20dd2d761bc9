"""A rate limiter that pauses: told to, or because a service asked with retry_after."""

import math
import re
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note
from trio_conman import (
    Failure,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
)
from trio_conman._base.texts import short

ONCE = RetryConfig.none(max_attempts=1)


class Asks:
    """Fails in its first call with an error; notes all of its calls."""

    def __init__(self, record: list[Any], error: Exception, seconds: float = 0) -> None:
        self.record = record
        self.seconds = seconds
        self.errors: list[Exception] = [error]

    async def __call__(self) -> None:
        await note(self.record, "asks", self.seconds)
        if self.errors:
            raise self.errors.pop()


class AsksAlways(Asks):
    """Fails in every call."""

    async def __call__(self) -> None:
        await note(self.record, "asks", self.seconds)
        raise self.errors[0]


def asking(seconds: float, config: RetryConfig = ONCE) -> RetriableError:
    return RetriableError(OSError("too many requests"), retry_config=config, retry_after=seconds)


def paused_for(rate: RateLimiter) -> float:
    return rate.statistics().paused_for


async def test_a_pause_holds_back_who_comes_and_who_sleeps_already(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        for name in "abc":
            await cm.run(note, record, name)
        await trio.sleep(0.5)
        rate.pause_for(5)
        await trio.sleep(1.5)
        await cm.run(note, record, "d")
    assert record == [(0, "a"), (5.5, "b"), (6.5, "c"), (7.5, "d")]


async def test_a_pause_holds_back_an_idle_limiter_and_then_lets_a_burst_start(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=3)
    async with manager(rate) as cm:
        rate.pause_for(5)
        await trio.sleep(1)
        for name in "abcd":
            await cm.run(note, record, name)
    assert record == [(5, "a"), (5, "b"), (5, "c"), (6, "d")]


async def test_a_pause_is_extended_and_never_shortened(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        rate.pause_for(4)
        await cm.run(note, record, "a")
        await trio.sleep(1)
        for seconds, left in ((0, 3), (1, 3), (2.5, 3), (3, 3), (8, 8), (4, 8)):
            rate.pause_for(seconds)
            assert paused_for(rate) == left
        # The head of the queue sleeps until 4, wakes, and sleeps on.
        await trio.sleep(5)
        rate.pause_for(10)
    assert record == [(16, "a")]


async def test_a_pause_shorter_than_the_wait_for_a_permit_delays_nobody(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        await cm.run(note, record, "b")
        await trio.sleep(1)
        rate.pause_for(5)
    assert record == [(0, "a"), (10, "b")]


async def test_a_pause_leaves_running_attempts_alone(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        handle = await cm.run(note, record, "a", 3)
        await trio.sleep(1)
        rate.pause_for(100)
        await handle.wait()
        assert (trio.current_time(), paused_for(rate)) == (3, 98)


@pytest.mark.parametrize(
    "value, kind",
    [
        *((value, TypeError) for value in (None, "1", True, [1])),
        *((value, ValueError) for value in (-1, -0.1, math.nan, math.inf, -math.inf, 10**400)),
    ],
)
async def test_a_wrong_pause_is_refused_and_pauses_nothing(value: Any, kind: type[Exception]) -> None:
    rate = RateLimiter(1)
    with pytest.raises(kind, match=rf"^seconds must be .*, not {re.escape(short(value))}$"):
        rate.pause_for(value)
    assert paused_for(rate) == 0


def test_outside_of_trio_there_is_no_time_to_pause() -> None:
    with pytest.raises(
        RuntimeError, match=r"inside of trio\.run\(\) only, .* with trio\.from_thread\.run_sync$"
    ):
        RateLimiter(1).pause_for(1)


async def test_with_a_rate_the_whole_pool_pauses(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(RateLimiter(4)) as cm:
        await cm.run(Asks(record, asking(5)))
        for name in "ab":
            await trio.sleep(1)
            await cm.run(note, record, name)
    # The retry joins the queue when its delay is over, behind those who wait already.
    assert record == [(0, "asks"), (5, "a"), (5.25, "b"), (5.5, "asks")]


async def test_without_a_rate_the_task_alone_waits(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(None) as cm:
        await cm.run(Asks(record, asking(5)))
        for name in "ab":
            await trio.sleep(1)
            await cm.run(note, record, name)
    assert record == [(0, "asks"), (1, "a"), (2, "b"), (5, "asks")]


async def test_all_managers_that_share_the_limiter_pause(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(4)
    async with manager(rate) as one, manager(rate) as other:
        await one.run(Asks(record, asking(5)))
        await trio.sleep(1)
        await other.run(note, record, "other")
    assert record == [(0, "asks"), (5, "other"), (5.25, "asks")]


async def test_an_item_of_a_map_pauses_the_pool_too(autojump_clock: MockClock, record: list[Any]) -> None:
    asks = Asks(record, asking(5))

    async def item(name: str) -> None:
        await (asks() if name == "asks" else note(record, name))

    async with manager(RateLimiter(1), retry=ONCE) as cm:
        async with cm.map(item, ["asks"]) as outcomes:
            await trio.sleep(1)
            await cm.run(note, record, "task")
            assert [outcome.retries async for outcome in outcomes] == [1]
    assert record == [(0, "asks"), (5, "task"), (6, "asks")]


async def test_the_pool_waits_as_long_as_was_asked_and_the_task_for_its_delay(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    slow = RetryConfig.linear(initial_delay=10, max_delay=10)
    async with manager(RateLimiter(4)) as cm:
        await cm.run(Asks(record, asking(3, slow)))
        await trio.sleep(1)
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (3, "a"), (10, "asks")]


async def test_the_longest_wait_that_was_asked_for_counts(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(4, burst=4)) as cm:
        for seconds in (3, 8, 5):
            await cm.run(Asks(record, asking(seconds), 0.5))
        await trio.sleep(1)
        await cm.run(note, record, "a")
    assert record == [(0, "asks")] * 3 + [(8.5, "a")] + [(8.5, "asks")] * 3


async def test_of_a_group_the_longest_wait_pauses_the_pool(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    group = ExceptionGroup("outer", [asking(2), ExceptionGroup("inner", [asking(6), asking(4)])])
    async with manager(RateLimiter(4)) as cm:
        await cm.run(Asks(record, group))
        await trio.sleep(1)
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (6, "a"), (6.25, "asks")]


async def test_a_group_that_is_retried_by_its_type_pauses_the_pool(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    group = ExceptionGroup("mixed", [asking(6), ValueError("no")])
    async with manager(RateLimiter(4), retry=attrs.evolve(ONCE, retry_on=ExceptionGroup)) as cm:
        await cm.run(Asks(record, group))
        await trio.sleep(1)
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (6, "a"), (6.25, "asks")]


IMPATIENT = attrs.evolve(ONCE, max_retry_after=10)


@pytest.mark.parametrize("error", [asking(10.5, IMPATIENT), ExceptionGroup("", [asking(10.5, IMPATIENT)])])
async def test_beyond_max_retry_after_the_task_fails_at_once_and_the_pool_goes_on(
    error: Exception, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(4)
    async with manager(rate) as cm:
        handle = await cm.run(Asks(record, error))
        await trio.sleep(1)
        assert paused_for(rate) == 0
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (1, "a")]
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.elapsed) == (StopReason.RETRY_AFTER, 0)
    assert outcome.error is getattr(error, "err", error)


async def test_what_is_just_max_retry_after_is_waited_for(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(4)) as cm:
        await cm.run(Asks(record, asking(10, IMPATIENT)))
        await trio.sleep(1)
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (10, "a"), (10.25, "asks")]


@pytest.mark.parametrize(
    "options, config, reason",
    [
        ({}, ONCE, StopReason.RETRIES_EXHAUSTED),
        ({}, attrs.evolve(ONCE, max_elapsed=4), StopReason.MAX_ELAPSED),
        ({"task_timeout": 4}, ONCE, StopReason.DEADLINE),
        ({"retry_budget": RetryBudget(0)}, ONCE, StopReason.RETRY_BUDGET),
    ],
)
async def test_a_task_that_is_not_retried_pauses_the_pool_for_the_others(
    options: dict[str, Any],
    config: RetryConfig,
    reason: StopReason,
    autojump_clock: MockClock,
    record: list[Any],
) -> None:
    rate = RateLimiter(4)
    async with manager(rate, **options) as cm:
        handle = await cm.run(AsksAlways(record, asking(5, config)))
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.reason, paused_for(rate)) == (reason, 5)
        ended = trio.current_time()
        await cm.run(note, record, "a", task_timeout=math.inf)
    assert record[-1] == (ended + 5, "a")
    assert ended == (5 if reason is StopReason.RETRIES_EXHAUSTED else 0)


async def test_an_exhausted_task_that_was_asked_for_too_much_does_not_pause_the_pool(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    # What is too long for one task is too long for all of them, whatever else stopped it.
    rate = RateLimiter(4)
    async with manager(rate) as cm:
        asks = AsksAlways(record, asking(1, IMPATIENT))
        handle = await cm.run(asks)
        await trio.sleep(0.5)
        asks.errors = [asking(3600, IMPATIENT)]
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.RETRIES_EXHAUSTED
        assert paused_for(rate) == 0


@pytest.mark.parametrize("where", ["task", "manager", "error"])
@pytest.mark.parametrize("most, pause", [(10, 0), (100, 80)])
async def test_the_limit_of_a_pause_is_that_of_the_config_that_counts(
    where: str, most: float, pause: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    config = attrs.evolve(ONCE, max_retry_after=most)
    other = attrs.evolve(ONCE, max_retry_after=110 - most)
    error = RetriableError("busy", retry_after=80, retry_config=config if where == "error" else None)
    rate = RateLimiter(4)
    async with manager(rate, retry=config if where == "manager" else other) as cm:
        handle = await cm.run(Asks(record, error), retry=config if where == "task" else None)
        await wait_all_tasks_blocked()
        assert paused_for(rate) == pause
        assert handle.state == ("backing_off" if pause else "done")


@pytest.mark.parametrize("own, group, asked, pause", [(10, 60, 30, 30), (100, 60, 80, 0)])
async def test_the_limit_of_a_pause_for_a_group_that_is_named_is_that_of_its_config(
    own: float, group: float, asked: float, pause: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    error = asking(asked, attrs.evolve(ONCE, max_retry_after=own))
    config = attrs.evolve(ONCE, max_retry_after=group, retry_on=ExceptionGroup)
    rate = RateLimiter(4)
    async with manager(rate, retry=config) as cm:
        handle = await cm.run(Asks(record, ExceptionGroup("both", [error])))
        await wait_all_tasks_blocked()
        assert paused_for(rate) == pause
        assert handle.state == ("backing_off" if pause else "done")


async def test_who_raises_while_it_is_cancelled_does_not_pause_the_pool(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def asks_late() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise asking(5) from None

    rate = RateLimiter(4)
    async with manager(rate) as cm:
        handle = await cm.run(asks_late)
        await wait_all_tasks_blocked()
        handle.cancel()
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        assert (outcome.reason, paused_for(rate)) == (StopReason.ERROR, 0)


@pytest.mark.parametrize(
    "config, reason",
    [(ONCE, StopReason.RETRY_AFTER), (attrs.evolve(ONCE, max_retry_after=math.inf), StopReason.DEADLINE)],
)
async def test_who_is_asked_to_wait_for_ever_fails_with_the_real_error(
    config: RetryConfig, reason: StopReason, autojump_clock: MockClock, record: list[Any]
) -> None:
    error = asking(math.inf, config)
    async with manager(RateLimiter(4)) as cm:
        handle = await cm.run(Asks(record, error))
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert (outcome.error, outcome.reason) == (error.err, reason)


async def test_what_fails_for_good_asks_for_nothing(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(4)
    async with manager(rate) as cm:
        await cm.run(Asks(record, ValueError("no")))
        await trio.sleep(1)
        assert paused_for(rate) == 0
        await cm.run(note, record, "a")
    assert record == [(0, "asks"), (1, "a")]


@pytest.mark.parametrize("seconds", [0.5, 1])
async def test_a_short_wait_that_a_service_asks_for_is_for_all(
    seconds: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def busy() -> None:
        raise RetriableError("busy", retry_after=seconds)

    async with manager(RateLimiter(100)) as cm:
        cm.start_soon(busy, retry=ONCE)
        await trio.sleep(0.1)
        await cm.run(note, record, "next")
    assert record == [(seconds, "next")]
    assert [repr(error) for error in cm.errors()] == ["RetriableError('busy')"]
