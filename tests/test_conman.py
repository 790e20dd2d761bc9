"""The doors: what they take, when they let in, and what the manager tells about itself."""

import math
import random
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from trio_conman import (
    AdaptiveLimit,
    ConMan,
    ConManStatistics,
    Failure,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
)


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def by_run(cm: ConMan[Any], *args: Any, **options: Any) -> None:
    await cm.run(*args, **options)


async def by_run_nowait(cm: ConMan[Any], *args: Any, **options: Any) -> None:
    cm.run_nowait(*args, **options)


Door = Callable[..., Awaitable[None]]
each_door = pytest.mark.parametrize("enter", [by_run, by_run_nowait])

WRONG_LIMITS: list[tuple[Any, type[Exception]]] = [
    *((limit, ValueError) for limit in (0, 1, -1)),
    *((limit, TypeError) for limit in (1.5, 2.0, math.nan, "2", None, True, False, [2], Decimal(2), b"inf")),
]

# What is wrong with the option of a manager is wrong with that of a task; None is, to a manager only.
WRONG_OPTIONS: list[tuple[str, Any, type[Exception]]] = [
    ("name", 3, TypeError),
    ("name", b"x", TypeError),
    ("retry", 3, TypeError),
    ("retry", RetryConfig, TypeError),
    ("retry", {"max_attempts": 1}, TypeError),
    *(
        (name, value, kind)
        for name in ("attempt_timeout", "task_timeout")
        for value, kind in (
            (-1, ValueError),
            (-0.1, ValueError),
            (-math.inf, ValueError),
            (math.nan, ValueError),
            ("1", TypeError),
            (True, TypeError),
            ([], TypeError),
        )
    ),
]
WRONG_OPEN_OPTIONS: list[tuple[str, Any, type[Exception]]] = [
    *WRONG_OPTIONS,
    ("attempt_timeout", None, TypeError),
    ("task_timeout", None, TypeError),
    ("timeout", None, TypeError),
    ("timeout", -1, ValueError),
    ("timeout", math.nan, ValueError),
    ("timeout", "1", TypeError),
    ("timeout", False, TypeError),
    ("rng", random, TypeError),
    ("rng", 1, TypeError),
]


@pytest.mark.parametrize("limit, kind", WRONG_LIMITS)
async def test_a_wrong_limit_is_refused_at_open(limit: Any, kind: type[Exception]) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(kind, match=f"^limit must be .* not {re.escape(repr(limit))}$"):
            ConMan.open(nursery, limit)


async def test_of_a_limit_of_another_kind_open_says_all_that_may_be_given() -> None:
    limit: Any = AdaptiveLimit
    text = (
        "limit must be an int of at least 2, or math.inf, or a trio.CapacityLimiter, or an AdaptiveLimit, "
        "not <class 'trio_conman.AdaptiveLimit'>"
    )
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
            ConMan.open(nursery, limit)


@pytest.mark.parametrize("limit, kind", WRONG_LIMITS)
async def test_a_wrong_limit_is_refused_when_assigned_and_changes_nothing(
    limit: Any, kind: type[Exception]
) -> None:
    async with trio.open_nursery() as nursery, ConMan.open(nursery, 3) as cm:
        with pytest.raises(kind, match=f"^limit must be .* not {re.escape(repr(limit))}$"):
            cm.limit = limit
        assert cm.limit == 3


@pytest.mark.parametrize("option, value, kind", WRONG_OPEN_OPTIONS)
async def test_a_wrong_option_is_refused_at_open(option: str, value: Any, kind: type[Exception]) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(kind, match=f"^{option} must be .* not {re.escape(repr(value))}$"):
            ConMan.open(nursery, **{option: value})


@pytest.mark.parametrize("nursery", [None, trio.open_nursery, "nursery"])
async def test_open_needs_a_nursery(nursery: Any) -> None:
    with pytest.raises(TypeError, match=f"^nursery must be .* not {re.escape(repr(nursery))}$"):
        ConMan.open(nursery)


async def test_options_are_keyword_only() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match="positional"):
            ConMan.open(nursery, 2, "name")  # type: ignore[call-arg]  # as the checker knows too


@each_door
@pytest.mark.parametrize("option, value, kind", WRONG_OPTIONS)
async def test_a_wrong_option_of_a_task_is_refused_and_nothing_is_accepted(
    enter: Door, option: str, value: Any, kind: type[Exception]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with pytest.raises(kind, match=f"^{option} must be .* not {re.escape(repr(value))}$"):
            await enter(cm, job, 1, 0, **{option: value})
        await enter(cm, job, 2, 0)
    assert cm.outputs() == [2]


def test_there_is_no_public_constructor() -> None:
    with pytest.raises(TypeError, match=r"ConMan\.open\(nursery\)"):
        ConMan()


async def test_a_manager_that_is_never_entered_leaves_nothing() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.warns(RuntimeWarning, match="never entered"):
            ConMan.open(nursery, timeout=1)
        assert not nursery.child_tasks


async def test_the_default_limit_and_name() -> None:
    async with trio.open_nursery() as nursery, ConMan.open(nursery) as cm:
        assert (cm.limit, cm.name) == (10, "conman")


async def test_a_given_name_and_limiter_are_told() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, trio.CapacityLimiter(3), name="pages") as cm:
            assert (cm.limit, cm.name) == (3, "pages")
            assert repr(cm).startswith("<ConMan 'pages' open")
        assert repr(cm).startswith("<ConMan 'pages' closed")


async def test_an_infinite_limit_is_no_limit(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, math.inf) as cm:
            for number in range(1000):
                await cm.run(job, number, 1)
            assert trio.current_time() == 0
    assert trio.current_time() == 1
    assert sorted(cm.outputs()) == list(range(1000))


async def test_run_is_a_checkpoint_with_and_without_a_free_slot(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for number in range(4):
            with assert_checkpoints():
                await cm.run(job, number, 1)
    assert trio.current_time() == 2


async def test_run_nowait_is_no_checkpoint_and_never_waits(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with assert_no_checkpoints():
            cm.run_nowait(job, 1, 1)
            cm.run_nowait(job, 2, 2)
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(job, 3, 1)
        await trio.sleep(1.5)
        cm.run_nowait(job, 4, 1)
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, 5, 1)
    assert cm.outputs() == [1, 2, 4]


@pytest.mark.parametrize("busy", [0, 2])
async def test_run_in_a_cancelled_scope_dispatches_nothing(busy: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for number in range(busy):
            await cm.run(job, number, 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await cm.run(job, 9, 1)
        assert scope.cancelled_caught
        assert cm.statistics().submitted == busy


async def test_the_callers_scopes_govern_the_wait_only(autojump_clock: MockClock, record: list[Any]) -> None:
    async def told() -> None:
        record.append(trio.current_effective_deadline())
        await trio.sleep(5)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        with trio.move_on_after(1) as scope:
            handle = await cm.run(told)
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert handle.state == "running"
    assert record == [math.inf]
    assert isinstance(handle.outcome, Success)
    assert trio.current_time() == 5


async def test_the_same_work_is_done_as_often_as_it_is_handed_in(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4) as cm:
        same = partial(job, 7, 1)
        handles = [await cm.run(same), await cm.run(same), await cm.run(same), cm.run_nowait(same)]
    assert cm.outputs() == [7, 7, 7, 7]
    assert len(set(handles)) == len(set(cm.outcomes())) == 4
    assert trio.current_time() == 1


async def test_one_caller_may_hold_the_tokens_of_its_own_tasks(autojump_clock: MockClock) -> None:
    # A CapacityLimiter lends once only to each borrower: the tasks borrow, the caller does not.
    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery, limiter, ConMan[int].open(nursery, limiter) as cm:
        await cm.run(job, 1, 1)
        await cm.run(job, 2, 1)
        assert trio.current_time() == 0
        await cm.run(job, 3, 1)
        assert trio.current_time() == 1


async def test_the_producer_does_not_run_ahead(autojump_clock: MockClock, record: list[Any]) -> None:
    with trio.move_on_after(3.5):
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            for number in range(10**9):
                record.append(number)
                await cm.run(job, number, 1)
    assert trio.current_time() == 3.5
    assert record == list(range(9))
    assert sorted(cm.outputs()) == list(range(6))
    assert {outcome.index for outcome in cm.outcomes() if isinstance(outcome, Failure)} == {6, 7}


async def test_a_task_may_hand_in_tasks(autojump_clock: MockClock) -> None:
    async def parent(cm: ConMan[int], generation: int) -> int:
        await trio.sleep(1)
        if generation:
            await cm.run(parent, cm, generation - 1)
        return generation

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(parent, cm, 3)
        await cm.wait()
        assert cm.outputs() == [3, 2, 1, 0]
        assert trio.current_time() == 4


async def test_statistics_tell_where_the_tasks_stand(autojump_clock: MockClock) -> None:
    soon = RetryConfig(initial_delay=2, max_delay=2, max_attempts=1, jitter=False)

    async def fail(error: Exception, seconds: float) -> int:
        await trio.sleep(seconds)
        raise error

    def expect(
        *, running: int = 0, waiting: int = 0, backing_off: int = 0, retries: int = 0, **done: int
    ) -> ConManStatistics:
        counts = {"submitted": 0, "succeeded": 0, "failed": 0, "cancelled": 0} | done
        return ConManStatistics(
            limit=2,
            running=running,
            waiting=waiting,
            queued=0,
            backing_off=backing_off,
            retries=retries,
            recalled=0,
            **counts,
        )

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        assert cm.statistics() == expect()
        await cm.run(fail, RetriableError("again", retry_config=soon), 1)  # runs 0-1 and 3-4
        handle = cm.run_nowait(job, 1, 10)
        assert cm.statistics() == expect(running=2, submitted=2)
        nursery.start_soon(cm.run, job, 2, 1)  # runs 1-2
        await wait_all_tasks_blocked()
        assert cm.statistics() == expect(running=2, waiting=1, submitted=2)
        await trio.sleep(1.5)
        assert cm.statistics() == expect(running=2, backing_off=1, submitted=3)
        await trio.sleep(1)
        assert cm.statistics() == expect(running=1, backing_off=1, submitted=3, succeeded=1)
        await trio.sleep(1)
        assert cm.statistics() == expect(running=2, retries=1, submitted=3, succeeded=1)
        await trio.sleep(1)
        assert cm.statistics() == expect(running=1, retries=1, submitted=3, succeeded=1, failed=1)
        handle.cancel()
        await handle.wait()
        over = expect(retries=1, submitted=3, succeeded=1, failed=2, cancelled=1)
        assert cm.statistics() == over
    assert cm.statistics() == over


async def test_each_task_is_a_trio_task_with_its_name(autojump_clock: MockClock, record: list[Any]) -> None:
    async def who() -> None:
        record.append(trio.lowlevel.current_task().name)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery) as cm:
        await cm.run(who, name="alice")
        await cm.run(who, name="bob")
        await cm.run(who)
    assert record == ["alice", "bob", who.__qualname__]


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
async def test_each_attempt_sees_the_context_of_its_submission(
    given: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    var: ContextVar[str] = ContextVar("var", default="unset")
    config = RetryConfig(initial_delay=4, max_delay=4, max_attempts=2, jitter=False)

    async def look(name: str) -> None:
        record.append((trio.current_time(), name, var.get()))
        var.set(f"leaked from {name}")
        await trio.sleep(1)
        raise RetriableError("again", retry_config=config)

    async def submit(cm: ConMan[None], name: str) -> None:
        var.set(f"context of {name}")
        await cm.run(look, name)
        var.set("too late")

    limit = trio.CapacityLimiter(2) if given else 2
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit) as cm:
        await submit(cm, "a")
        await cm.run(trio.sleep, 1)
        await submit(cm, "b")  # waits in line
        assert var.get() == "too late"
        var.set("body")
    assert record == [
        (seconds, name, f"context of {name}")
        for seconds, name in [(0, "a"), (1, "b"), (5, "a"), (6, "b"), (10, "a"), (11, "b")]
    ]
    assert var.get() == "body"


async def test_a_year_of_virtual_time_passes_in_no_time(autojump_clock: MockClock) -> None:
    year = 365 * 86400.0
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, timeout=2 * year) as cm:
        await cm.run(job, 1, year)
        waited_for = await cm.run(job, 2, year / 2)
        queued = await cm.run(job, 3, year)
        late = await cm.run(job, 4, 10 * year)
    assert cm.outputs() == [2, 1, 3]
    assert trio.current_time() == 2 * year
    assert [h.outcome and (h.outcome.waited, h.outcome.elapsed) for h in (waited_for, queued, late)] == [
        (0, year / 2),
        (year / 2, year),
        (year / 2, year),
    ]
    assert isinstance(late.outcome, Failure)
    assert late.outcome.reason is StopReason.MANAGER_TIMEOUT
