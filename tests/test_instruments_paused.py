"""pause_changed: instruments hear of pauses, by hand and by limiters."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    Instrument,
    LoggingInstrument,
    RateLimiter,
    RetriableError,
    RetryConfig,
    TaskHandle,
)

from .managed import manager


class Pauses(Instrument):
    """Notes what it is told of pauses."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, float]] = []

    def pause_changed(self, manager: str, seconds: float) -> None:
        self.told.append((trio.current_time(), manager, seconds))


async def job() -> None:
    await trio.sleep(1)


async def test_by_hand(autojump_clock: MockClock) -> None:
    hears = Pauses()
    async with manager(2, name="pages", instruments=[hears]) as cm:
        cm.resume()  # it was not paused
        await trio.sleep(1)
        cm.pause()
        await trio.sleep(2)
        cm.resume()
        cm.resume()
        await cm.run(job)
    assert hears.told == [(1, "pages", inf), (3, "pages", 0)]


async def end(cm: ConMan[Any], way: str) -> None:
    cm.pause()
    if way == "shutdown":
        await cm.shutdown()
    elif way == "cancel":
        cm.cancel()
    elif way == "error":
        raise KeyError


@pytest.mark.parametrize("way", ["end", "shutdown", "cancel", "error", "timeout"])
async def test_a_manager_that_ends_is_not_paused_any_more(way: str, autojump_clock: MockClock) -> None:
    hears = Pauses()
    managers: list[ConMan[Any]] = []
    try:
        async with manager(2, timeout=0 if way == "timeout" else inf, instruments=[hears]) as cm:
            managers.append(cm)
            await end(cm, way)
    except* KeyError:
        pass
    assert hears.told == [(0, "conman", inf), (0, "conman", 0)]
    assert not managers[0].paused


async def test_by_a_limiter_when_it_begins_or_gets_longer(autojump_clock: MockClock) -> None:
    hears, limiter = Pauses(), RateLimiter.unlimited()
    limiter.pause_for(0)
    async with manager(2, rate=limiter, instruments=[hears]):
        limiter.pause_for(5)
        await trio.sleep(2)
        limiter.pause_for(1)  # the longer one stays
        limiter.pause_for(3)
        limiter.pause_for(4)
        await trio.sleep(10)
        limiter.pause_for(2)
    limiter.pause_for(30)
    assert hears.told == [(0, "conman", 5), (2, "conman", 4), (12, "conman", 2)]


async def test_a_pause_that_is_there_is_told_at_the_opening(autojump_clock: MockClock) -> None:
    hears = Pauses()
    slow, quick = RateLimiter.unlimited(), RateLimiter.unlimited()
    slow.pause_for(9)
    quick.pause_for(3)
    await trio.sleep(1)
    async with manager(2, rate=[quick, slow], instruments=[hears]):
        quick.pause_for(3)  # the other one pauses longer
    assert hears.told == [(1, "conman", 8), (1, "conman", 8)]


async def test_a_pause_by_hand_counts_first_and_what_is_left_is_told_then(autojump_clock: MockClock) -> None:
    hears, limiter = Pauses(), RateLimiter.unlimited()
    async with manager(2, rate=limiter, instruments=[hears]) as cm:
        cm.pause()
        limiter.pause_for(9)
        await trio.sleep(2)
        cm.resume()
        await trio.sleep(10)
        cm.pause()
        cm.resume()
    assert hears.told == [
        (0, "conman", inf),
        (0, "conman", inf),
        (2, "conman", 7),
        (12, "conman", inf),
        (12, "conman", 0),
    ]


async def test_all_who_share_the_limiter_hear_of_it_while_they_are_open(autojump_clock: MockClock) -> None:
    async def refused() -> None:
        raise RetriableError("busy", retry_after=10)

    hears, others, limiter = Pauses(), Pauses(), RateLimiter(100)
    async with manager(2, name="one", rate=limiter, instruments=[hears]) as one:
        async with manager(2, name="two", rate=limiter, instruments=[hears, others]):
            await one.run(refused, retry=RetryConfig(max_attempts=1))
            await trio.sleep(1)
        await one.wait()
    # The last attempt was refused too, when the other manager had ended.
    assert sorted(hears.told) == [(0, "one", 10), (0, "two", 10), (10, "one", 10)]
    assert others.told == [(0, "two", 10)]


async def test_a_limiter_keeps_no_manager_that_has_ended(autojump_clock: MockClock) -> None:
    limiter = RateLimiter.unlimited()
    gc.disable()
    try:
        async with manager(2, rate=limiter, instruments=[Pauses()]) as cm:
            limiter.pause_for(1)
        gone = weakref.ref(cm._block)
        del cm
        assert gone() is None
    finally:
        gc.enable()


async def test_who_hears_may_resume(autojump_clock: MockClock) -> None:
    class Resumes(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            cm.resume()

    cm: ConMan[Any]
    async with manager(2, instruments=[Resumes()]) as cm:
        cm.pause()
        assert not cm.paused
        await cm.run(job)
    assert trio.current_time() == 1


async def numbers() -> AsyncIterator[int]:
    for number in range(5):
        yield number


async def map_jobs(cm: ConMan[Any]) -> None:
    async with cm.map(lambda _: job(), numbers()) as outcomes:
        async for _ in outcomes:
            pass


async def start_jobs(cm: ConMan[Any]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(cm.run, job)


@pytest.mark.parametrize("work", [map_jobs, start_jobs])
@pytest.mark.parametrize("change", [ConMan.resume, lambda cm: setattr(cm, "limit", 4)])
async def test_what_starts_by_it_is_told_after_it(
    change: Callable[[ConMan[Any]], None],
    work: Callable[[ConMan[Any]], Awaitable[None]],
    autojump_clock: MockClock,
) -> None:
    class Hears(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            told.append("submitted")

        def pause_changed(self, manager: str, seconds: float) -> None:
            told.append("paused" if seconds else "resumed")

        def limit_changed(self, manager: str, limit: int | float) -> None:
            told.append("limit")

    told: list[str] = []
    async with trio.open_nursery() as nursery, manager(2, instruments=[Hears()]) as cm:
        if change is ConMan.resume:
            cm.pause()
        nursery.start_soon(work, cm)
        await trio.sleep(0.5)
        told.clear()
        change(cm)
        await wait_all_tasks_blocked()
        assert told == ["resumed" if change is ConMan.resume else "limit", "submitted", "submitted"]


async def test_nothing_starts_where_who_hears_pauses_anew(autojump_clock: MockClock) -> None:
    class Pauses(Instrument):
        def pause_changed(self, manager: str, seconds: float) -> None:
            told.append(seconds)
            if told == [inf, 0]:
                cm.pause()

    told: list[float] = []
    async with manager(2, instruments=[Pauses()]) as cm:
        cm.pause()
        handle = cm.start_soon(job)
        cm.resume()
        assert (told, cm.paused, handle.state) == ([inf, 0, inf], True, "queued")
        await trio.sleep(1)
        assert handle.state == "queued"
    assert (told, trio.current_time()) == ([inf, 0, inf, 0], 2)


async def test_without_instruments_nothing_is_told(autojump_clock: MockClock) -> None:
    limiter = RateLimiter.unlimited()
    async with manager(2, rate=limiter) as cm:
        limiter.pause_for(1)
        cm.pause()
        cm.resume()
        await cm.run(job)
    assert trio.current_time() == 2


async def test_the_log_has_a_line_for_each(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_conman")
    limiter = RateLimiter.unlimited()
    async with manager(2, name="two\nlines", rate=limiter, instruments=[LoggingInstrument()]) as cm:
        cm.pause()
        cm.resume()
        limiter.pause_for(1.5)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("DEBUG", "two lines: paused"),
        ("DEBUG", "two lines: resumed"),
        ("DEBUG", "two lines: paused for 1.500 s"),
    ]
    fields: list[Any] = caplog.records
    assert [(each.manager, each.seconds) for each in fields] == [
        ("two\nlines", inf),
        ("two\nlines", 0),
        ("two\nlines", 1.5),
    ]


def test_a_manager_may_be_paused_when_its_run_is_over() -> None:
    """As ever without a limiter, or an instrument."""

    async def main() -> ConMan[Any]:
        async with manager(2, instruments=[pauses], rate=RateLimiter.unlimited()) as cm:
            await cm.run(job)
        return cm

    pauses = Pauses()
    cm = trio.run(main, clock=MockClock(autojump_threshold=0))
    cm.pause()
    cm.resume()
    assert pauses.told == []
