"""What an attempt takes of a rate limiter: fixed, by its arguments, and what is settled afterwards."""

import gc
import math
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import (
    ConMan,
    Failure,
    RateLimiter,
    RateLimiterStatistics,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
)
from trio_conman._base.texts import short


@pytest.mark.parametrize(
    "cost, burst, expected",
    [
        (1, 1, [0, 1, 2, 3]),
        (1.5, 1, [0, 1.5, 3, 4.5]),
        (2, 1, [0, 2, 4, 6]),
        (2, 4, [0, 0, 2, 4]),
        (0.5, 1, [0, 0, 0.5, 1]),
        (2.5, 3, [0, 2, 4.5, 7]),
        (10, 3, [0, 10, 20, 30]),
    ],
)
async def test_a_fixed_cost(
    cost: float, burst: int, expected: list[float], autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, burst=burst, cost=cost)) as cm:
        for index in range(4):
            await cm.run(note, record, index)
    assert record == [(when, index) for index, when in enumerate(expected)]


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("cost, burst, at_once", [(0.2, 3, 15), (0.1, 2, 20), (0.7, 7, 10), (0.01, 1, 100)])
async def test_parts_of_permits_make_up_a_burst_though_their_sum_is_rounded(
    cost: float, burst: int, at_once: int, others: int, autojump_clock: MockClock, record: list[Any]
) -> None:
    rates = [RateLimiter(1, burst=1000)] * others
    async with manager([*rates, RateLimiter(1, burst=burst, cost=cost)]) as cm:
        for index in range(at_once + 1):
            await cm.run(note, record, index)
    assert record[:-1] == [(0, index) for index in range(at_once)]
    assert record[-1] == (pytest.approx(cost), at_once)


async def test_what_is_given_back_in_parts_is_owed_no_more(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1)
    rate.charge(0.3)
    for _ in range(3):
        rate.charge(-0.1)
    rate.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        rate.acquire_nowait(1e-9)


@pytest.mark.parametrize("held", ["pause", "answer"])
async def test_the_last_part_of_a_burst_is_held_as_any_other(
    held: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=3, cost=0.2)
    for _ in range(14):
        rate.acquire_nowait(0.2)
    if held == "pause":
        rate.pause_for(0.1)
    else:
        rate.observe(remaining=0, reset=0.1)
    other = RateLimiter(1, burst=9)
    async with manager([other, rate]) as cm:
        await cm.run(note, record, "due")
        await wait_all_tasks_blocked()
        assert other.statistics().available == 9
    assert record == [(0.1, "due")]


def tokens(_: list[Any], name: str, permits: float = 0) -> float:
    return permits


async def spend(record: list[Any], name: str, permits: float = 0) -> None:
    await note(record, name)


async def test_a_cost_by_the_arguments_and_nobody_passes_a_dear_task(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(RateLimiter(1, burst=5, cost=tokens)) as cm:
        for name, cost in (("a", 3), ("dear", 5), ("b", 1), ("above", 8), ("c", 0.25), ("d", 5)):
            await cm.run(spend, record, name, cost)
    # The dear one waits for all 5; the one above the burst until nothing is owed, and then owes 8.
    assert record == [(0, "a"), (3, "dear"), (4, "b"), (9, "above"), (12.25, "c"), (17.25, "d")]


async def test_the_items_of_a_map_have_costs_too(autojump_clock: MockClock, record: list[Any]) -> None:
    async def item(cost: float) -> None:
        await note(record, cost)

    async with manager(RateLimiter(1, burst=3, cost=float), 2) as cm:
        async with cm.map(item, [3, 1, 2]) as outcomes:
            async for _ in outcomes:
                pass
    assert record == [(0, 3), (1, 1), (3, 2)]


async def test_a_cost_is_computed_anew_for_each_attempt_and_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    asked: list[float] = []

    def grows() -> float:
        asked.append(trio.current_time())
        return len(asked)

    async def flaky() -> None:
        await note(record, "x")
        if len(record) < 3:
            raise RetriableError("again", retry_config=RetryConfig.none())

    async with manager(RateLimiter(1, cost=grows)) as cm:
        await cm.run(flaky)
    assert record == [(0, "x"), (1, "x"), (3, "x")]
    assert asked == [0, 0, 1]


async def test_a_cost_is_computed_in_the_context_of_its_task(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def named(*_: object) -> float:
        record.append(trio.lowlevel.currently_ki_protected())
        return 1

    async with manager(RateLimiter(1, cost=named)) as cm:
        await cm.run(trio.sleep, 0)
    assert record == [False]


def raises(*_: object) -> float:
    raise KeyError("size")


async def is_async(*_: object) -> float:
    raise AssertionError


def gives(value: object) -> Callable[..., Any]:
    def gives_it(*_: object) -> object:
        return is_async() if value is is_async else value

    return gives_it


NONSENSE: list[tuple[Any, type[Exception], str]] = [
    (raises, RuntimeError, r"raises\(\), has raised KeyError\('size'\)$"),
    (lambda: 1, RuntimeError, r"<lambda>\(\), has raised TypeError\("),
    (gives(None), TypeError, "not None$"),
    (gives("1"), TypeError, "not '1'$"),
    (gives(True), TypeError, "not True$"),
    (gives(1j), TypeError, "not 1j$"),
    (gives(is_async), TypeError, "must be no coroutine: give a sync callable"),
    *(
        (gives(each), ValueError, rf"not {re.escape(short(each))}$")
        for each in (0, -1, -0.5, math.nan, math.inf, -math.inf, 10**400)
    ),
]


@pytest.mark.parametrize("cost, kind, text", NONSENSE)
@pytest.mark.parametrize("way", ["run", "map"])
async def test_a_cost_that_cannot_be_had_fails_that_task_and_says_whose_it_is(
    way: str, cost: Any, kind: type[Exception], text: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    def costs(name: str) -> Any:
        return 1 if name.startswith("good") else cost(name)

    costs.__qualname__ = getattr(cost, "__qualname__", "")
    rate, other = RateLimiter(1, per=2, cost=costs), RateLimiter(1)

    async def work(name: str) -> None:
        await note(record, name)

    names = ["good", "bad", "worse", "good too"]
    async with manager([other, rate], 2, retry=RetryConfig.none(retry_on=Exception)) as cm:
        if way == "map":
            async with cm.map(work, names, ordered=True) as outcomes:
                ended = [outcome async for outcome in outcomes]
        else:
            for name in names:
                cm.start_soon(work, name)
            await cm.wait()
            ended = sorted(cm.outcomes(), key=lambda outcome: outcome.index)
        assert (waiting(rate), waiting(other)) == (0, 0)
    assert [type(outcome) for outcome in ended] == [Success, Failure, Failure, Success]
    assert record == [(0, "good"), (2, "good too")]
    for failure in ended[1:3]:
        assert isinstance(failure, Failure)
        assert type(failure.error) is kind, failure.error
        assert (failure.reason, failure.retries) == (StopReason.ERROR, 0)
        assert str(failure.error).startswith(f"cost of {rate!r}, by ")
        if cost is not NONSENSE[1][0]:
            assert re.search(text, str(failure.error))


async def test_what_gives_a_cost_is_named_only_in_an_error(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class Cost:
        named = 0

        def __getattr__(self, name: str) -> str:
            if name != "__qualname__":
                raise AttributeError(name)
            Cost.named += 1
            return "dear"

        def __call__(self, record: list[Any], permits: float) -> float:
            return permits

    async with manager(RateLimiter(1, cost=Cost())) as cm:
        await cm.run(note, record, 2)
        await cm.run(note, record, 3)
        await cm.wait()
        assert (record, Cost.named) == ([(0, 2), (2, 3)], 0)
        outcome = await (await cm.run(note, record, -1)).wait()
    assert isinstance(outcome, Failure)
    assert (str(outcome.error).count("by dear()"), Cost.named) == (1, 1)


async def test_a_retry_whose_cost_cannot_be_had_fails_with_that(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    def once(name: str) -> float:
        if record:
            raise ValueError("no more")
        return 1

    async def fails(name: str) -> None:
        await note(record, name)
        raise RetriableError("again", retry_config=RetryConfig.none())

    rate = RateLimiter(1, cost=once)
    async with manager(rate) as cm:
        handle = await cm.run(fails, "a")
        outcome = await handle.wait()
        assert waiting(rate) == 0
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.retries, len(record)) == (StopReason.ERROR, 0, 1)
    assert str(outcome.error).endswith("has raised ValueError('no more')")
    cause = outcome.error.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__traceback__ is not None
    assert cause.__traceback__.tb_frame.f_code.co_name == "once"


async def test_a_failure_of_a_cost_makes_no_cycle(autojump_clock: MockClock) -> None:
    class Value:
        pass

    seen: list[weakref.ref[Any]] = []

    async def work(value: Value) -> None:
        raise AssertionError

    async def fill() -> None:
        async with manager(RateLimiter(1, cost=raises)) as cm:
            value = Value()
            seen.append(weakref.ref(value))
            await cm.run(work, value)
            del value
        assert [type(outcome) for outcome in cm.pop_outcomes()] == [Failure]

    gc.collect()
    gc.disable()
    try:
        await fill()
        await trio.sleep(1)
        assert [each() for each in seen] == [None]
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
async def test_the_error_of_a_cost_that_is_kept_keeps_no_argument(autojump_clock: MockClock) -> None:
    class Value:
        pass

    async def work(value: Value) -> None:
        raise AssertionError

    value = Value()
    gone = weakref.ref(value)
    cost: Any = float  # it takes no Value, and has no frame that holds one
    async with manager(RateLimiter(1, cost=cost)) as cm:
        cm.start_soon(work, value)
        del value
        await cm.wait()
        errors = [outcome.error for outcome in cm.pop_outcomes() if isinstance(outcome, Failure)]
        await wait_all_tasks_blocked()
        assert gone() is None
    assert [type(error.__cause__) for error in errors] == [TypeError]


@pytest.mark.parametrize("what", ["take", "charge", "pause", "cancel", "cm.pause", "handle", "run"])
async def test_a_cost_may_use_the_limiter_and_the_manager(
    what: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    def meddles(name: str) -> float:
        if name == "meddles":
            if what == "take":
                rate.acquire_nowait(2)
            elif what == "charge":
                rate.charge(3)
            elif what == "pause":
                rate.pause_for(5)
            elif what == "cancel":
                cm.cancel()
            elif what == "cm.pause":
                cm.pause()
            elif what == "handle":
                cm.start_soon(work, "x").cancel()
            else:
                cm.start_soon(work, "b")
        return 1

    async def work(name: str) -> None:
        await note(record, name)

    rate = RateLimiter(1, burst=3, cost=meddles)
    async with manager(rate) as cm:
        await cm.run(work, "meddles")
        await wait_all_tasks_blocked()
        if what == "cm.pause":
            await trio.sleep(7)
            cm.resume()
        if what != "cancel":
            await cm.wait()
    expected: dict[str, list[Any]] = {
        "take": [],  # not before itself: it stands in the queue
        "charge": [(1, "meddles")],
        "pause": [(5, "meddles")],
        "cm.pause": [(7, "meddles")],
        "run": [(0, "meddles"), (0, "b")],
    }
    if what != "cancel":
        assert record == expected.get(what, [(0, "meddles")])
    assert len(cm.outcomes()) == (2 if what in {"run", "handle"} else 1)


@pytest.mark.parametrize(
    "cost, kind",
    [
        *((each, TypeError) for each in (None, "1", True, 1j, is_async)),
        *((each, ValueError) for each in (0, -1, math.nan, math.inf, 10**400)),
    ],
)
def test_a_wrong_cost_is_refused_by_name(cost: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^cost must be "):
        RateLimiter(1, cost=cost)
    with pytest.raises(kind, match=r"^cost must be "):
        RateLimiter.restore(RateLimiter(1).snapshot(), cost=cost)


async def test_what_a_charge_adds_is_paid_off_before_anybody_starts(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=4, cost=2)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        await wait_all_tasks_blocked()
        rate.charge(5)
        assert rate.statistics().available == -3
        await cm.run(note, record, "b")
        await trio.sleep(1)
        rate.charge(0.5)
        await cm.run(note, record, "c")
    assert record == [(0, "a"), (5.5, "b"), (7.5, "c")]


async def test_what_is_given_back_lets_the_next_one_start_and_is_never_more_than_the_burst(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=4, cost=4)
    async with manager(rate) as cm:
        for name in "abc":
            await cm.run(note, record, name)
        await trio.sleep(1)
        rate.charge(-2)
        await trio.sleep(0.5)
        rate.charge(-0.5)
        await trio.sleep(1)
        rate.charge(-100)
        await wait_all_tasks_blocked()
        assert rate.statistics().available == 0
        rate.charge(-100)
        assert rate.statistics().available == 4
        rate.charge(1)
        assert rate.statistics().available == 3
    assert record == [(0, "a"), (1.5, "b"), (2.5, "c")]


@pytest.mark.parametrize("permits", [5, 0.5])
async def test_a_charge_ends_at_once_the_wait_of_those_that_it_makes_too_late(
    permits: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        handle = await cm.run(note, record, "b", task_timeout=3)
        await cm.run(note, record, "c", task_timeout=10)
        await wait_all_tasks_blocked()
        rate.charge(permits)
        await wait_all_tasks_blocked()
        assert handle.state == ("done" if permits == 5 else "running")
    assert [when for when, _ in record] == ([0, 6] if permits == 5 else [0, 1.5, 2.5])


@pytest.mark.parametrize(
    "permits, kind",
    [*((each, TypeError) for each in (None, "1", True)), (math.nan, ValueError), (-math.inf, ValueError)],
)
async def test_a_wrong_charge_is_refused_and_changes_nothing(permits: Any, kind: type[Exception]) -> None:
    rate = RateLimiter(1)
    with pytest.raises(kind, match=rf"^permits must be a finite number, not {re.escape(short(permits))}$"):
        rate.charge(permits)
    assert rate.statistics().available == 1


async def test_a_charge_beyond_any_float_stops_all_and_can_be_taken_back(autojump_clock: MockClock) -> None:
    rate, free = RateLimiter(1), RateLimiter.unlimited()
    for limiter in (rate, free):
        limiter.charge(1.7e308)
        limiter.charge(1.7e308)
        limiter.acquire_nowait() if limiter is free else None
    with pytest.raises(trio.WouldBlock):
        rate.acquire_nowait()
    rate.charge(-1.79e308)
    rate.charge(-1.79e308)
    rate.acquire_nowait()
    free.acquire_nowait(1e308)
    free.acquire_nowait(1e308)
    free.acquire_nowait()


async def test_unlimited_only_pauses(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter.unlimited()
    assert rate.statistics() == RateLimiterStatistics(
        rate=math.inf, per=1.0, burst=1, tasks_waiting=0, paused_for=0.0, available=math.inf
    )
    assert repr(rate) == "<RateLimiter without a rate>"

    async def busy() -> None:
        await note(record, "busy")
        if len(record) == 1:
            raise RetriableError("busy", retry_after=5)

    async with manager(rate, retry=RetryConfig.none(max_attempts=1)) as cm:
        await cm.run(busy)
        await wait_all_tasks_blocked()
        now = rate.statistics()
        assert (now.rate, now.available, now.paused_for) == (math.inf, 0, 5)
        for index in range(3):
            await cm.run(note, record, index)
        await cm.wait()
        assert rate.statistics().available == math.inf
    assert record == [(0, "busy"), *((5, index) for index in range(3)), (5, "busy")]


async def test_a_cancelled_attempt_keeps_its_cost(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, cost=3)
    async with manager(rate) as cm:
        handle = await cm.run(note, record, "a", 100)
        await trio.sleep(1)
        handle.cancel()
        await handle.wait()
        assert rate.statistics().available == -1
        await cm.run(note, record, "b")
    assert record == [(0, "a"), (3, "b")]


def test_conman_is_typed_for_several() -> None:
    assert "Iterable[RateLimiter]" in ConMan.open.__annotations__["rate"]


async def test_who_gives_up_leaves_no_cost(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager(RateLimiter(1, cost=tokens)) as cm:
        for name in ("a", "b", "c"):
            await cm.run(spend, record, name, 2)
        await wait_all_tasks_blocked()
        assert len(cm._runner.permits._priced) == 2  # type: ignore[union-attr]  # there is a rate
        cm.cancel()
    assert cm._runner.permits._priced == {}  # type: ignore[union-attr]  # as above
