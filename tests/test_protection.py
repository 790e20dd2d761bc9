"""Ctrl-C cannot hit what keeps the books: seen by watching each call, in a program that uses all of it."""

import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import trio
from trio.lowlevel import currently_ki_protected
from trio.testing import MockClock

import trio_conman
from tests.journaled import Memory
from trio_conman import (
    AdaptiveLimit,
    ConMan,
    ConManClosedError,
    Instrument,
    KeyedLimit,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    as_completed,
)
from trio_conman.batches import in_batches
from trio_conman.signals import shutdown_on_signal
from trio_conman.testing import RecordingInstrument

HOME = Path(trio_conman.__file__).parent
# By module, what an interrupt may hit: it runs the user's code, or changes nothing that is kept in step.
MAY_BE_INTERRUPTED = {
    "block": {
        "Block.cancel",
        "Block.is_idle",
        "Block.wait_idle",
    },
    "collector": {"Collector.__init__"},
    "execution": {
        "Runner._back_off",
        "Runner._begin_attempt",
        "Runner._decide",
        "Runner._live",
        "Runner._prepare_retry",
        "Runner._wait_to_begin",
    },
    "endings": {
        "Endings._failure",
        "Endings._success",
        "own",
    },
    "drawn": set[str](),
    "fed": set[str](),
    "feeder": {
        "Feeder._close",
        "Feeder._draw_all",
        "Feeder._may_go_on",
        "Feeder.draw",
        "Feeder.has_item",
        "_ended",
    },
    "adaptive": {
        "AdaptiveLimit.__init__",
        "AdaptiveLimit._failed",
        "AdaptiveLimit._is_overload",
        "AdaptiveLimit._slots",
        "Controller.__attrs_post_init__",
        "Controller._hold",
        "_is_overload",
    },
    "asking": {"ask"},
    "batches": {"Batches.__aiter__", "Batches.__init__", "in_batches"},
    "completed": {"_Completed.__init__", "_Followed.__init__", "_Followed.follow", "as_completed"},
    "envoy": set[str](),
    "callables": {"callable_of", "name_of"},
    "handles": {
        "Ending.__init__",
        "TaskHandle._failures",
        "TaskHandle.priority",
        "TaskHandle.retries",
        "new_handle",
    },
    "hall": {"Hall._handle", "terms_over"},
    "inside": {"Inside._own_task", "Inside.refuse"},
    "keyed": {
        "KeyedLimit.__init__",
        "KeyedLimit.__repr__",
        "KeyedLimit._check_run",
        "KeyedLimit._describe",
        "KeyedLimit.limits",
        "KeyedLimit.statistics",
        "_Limits.__init__",
        "_checked",
    },
    "keyring": set[str](),
    "keys": set[str](),
    "lanes": set[str](),
    "ranked": {"Ranked.__attrs_post_init__"},
    "ledger": {"Ledger.attempts"},
    "line": set[str](),
    "tokens": {"Tokens.__attrs_post_init__", "Tokens.limit"},
    "map_block": {"MapBlock.__init__"},
    "mapping": {"Mapping.__init__", "Mapping._look_at_limit", "Mapping._room", "most_in_memory"},
    "opening": {"Opening.__init__"},
    "outlast": {"check_in_trio"},
    "permits": {"Permits.__attrs_post_init__", "Permits.pause_for"},
    "pool": {"Worker.renew", "Worker.set_deadline"},
    "recalls": {"Recalls._wait_for_value", "deadline_of"},
    "rate": {
        "RateLimiter.__init__",
        "RateLimiter._make",
        "RateLimiter._time",
        "RateLimiter.statistics",
    },
    "signals": {"_Listening.__init__", "_checked", "shutdown_on_signal"},
    "source": {
        "SyncSource.__init__",
        "SyncSource._close_generator",
        "SyncSource.draw",
        "_special",
        "check_items",
        "close",
        "is_async",
    },
    "stream": {"Stream.__aiter__", "Stream._add_consumer"},
}


async def noop(*_: object) -> None:
    await trio.lowlevel.checkpoint()


async def fail(*_: object) -> None:
    raise RetriableError("again", retry_after=0.1)


async def items() -> AsyncIterator[int]:
    for n in range(5):
        yield n


async def use_all(nursery: trio.Nursery, limit: int | trio.CapacityLimiter) -> None:
    rate = RateLimiter(10, burst=2)
    async with ConMan[Any].open(
        nursery,
        limit,
        retry=RetryConfig(initial_delay=1, max_attempts=2),
        rate=rate,
        instruments=[Instrument(), RecordingInstrument()],
        retry_budget=RetryBudget(),
        max_errors=100,
    ) as cm:
        await cm.run(noop)
        await cm.run(fail)
        forever = cm.start_soon(trio.sleep_forever)
        for _ in range(5):
            cm.start_soon(trio.sleep, 5)
        cm.start_soon(noop).cancel()
        for _ in range(3):
            await cm.run(noop, task_timeout=1)
        cm.pause()
        await trio.sleep(1)
        cm.resume()
        forever.cancel()
        await cm.run(trio.sleep_forever, attempt_timeout=1)
        await cm.run(trio.sleep_forever, task_timeout=1)
        for ordered in (False, True):
            async with cm.map(noop, range(10), ordered=ordered, task_timeout=5) as outcomes:
                async for _ in outcomes:
                    pass
        async with cm.map(trio.sleep, items()) as outcomes:
            await anext(outcomes)
        async with cm.map(fail, items()) as outcomes:
            async for _ in outcomes:
                pass
        if isinstance(limit, int):
            cm.limit = limit + 1
        rate.pause_for(1)
        rate.burst = 3
        cm.start_soon(noop)
        await cm.wait()
        assert rate.statistics().tasks_waiting == cm.statistics().queued == 0
        assert len(cm.outputs() + cm.errors()) == len(cm.outcomes()) == len(cm.pop_outcomes())
        cm.start_soon(trio.sleep_forever)
        await cm.shutdown(grace=1)
        with pytest.raises(ConManClosedError):
            cm.start_soon(noop)


async def use_journal(nursery: trio.Nursery) -> None:
    journal = Memory({"1": "one"})
    journal.records.reading, journal.records.commit = {"1": 1}, 1
    async with ConMan[Any].open(nursery, 2, journal=journal, rate=RateLimiter(10, burst=10)) as cm:
        for number in (1, 2, 2, 2, 3, 3):
            cm.start_soon(noop, number)
        cm.start_soon(fail, 4)
        async with cm.map(noop, [5, 5, 6]) as outcomes:
            async for _ in outcomes:
                pass


async def use_keys(nursery: trio.Nursery, limit: int | trio.CapacityLimiter) -> None:
    per_key = KeyedLimit(1, key=lambda *args: args[0] % 3, limits={2: 2})
    journal = Memory({"9": "nine"})
    async with (
        ConMan[Any].open(nursery, limit, per_key=per_key, journal=journal, max_queued=20) as cm,
        ConMan[Any].open(nursery, 2, per_key=[per_key, KeyedLimit(2, key=lambda *_: "all")]) as other,
    ):
        handles = [cm.start_soon(trio.sleep, number) for number in range(1, 10)]
        handles += [other.start_soon(trio.sleep, number, priority=number) for number in range(1, 5)]
        handles[5].priority = handles[-1].priority = 7
        handles[6].cancel()
        per_key.limits[1] = 3
        per_key.limit = 2
        async for _ in as_completed(handles):
            pass
        other.start_soon(fail, "no number")
        async with cm.map(trio.sleep, range(10, 25), lookahead=4, priority=1) as outcomes:
            async for _ in outcomes:
                pass
        async with other.map(trio.sleep, items()) as outcomes:
            await anext(outcomes)
        for number in (30, 33, 36, 31):
            cm.start_soon(trio.sleep, number)
        await cm.shutdown(queued="drop")
    assert per_key.statistics() == {}
    assert cm.errors() + other.errors()


async def use_leaves(nursery: trio.Nursery) -> None:
    async with ConMan[Any].open(nursery, 2) as cm, shutdown_on_signal(cm):
        async with cm.map(noop, range(10)) as outcomes, in_batches(outcomes, 3, seconds=1) as batches:
            async for _ in batches:
                pass
        async with cm.map(noop, range(10)) as outcomes, in_batches(outcomes, 3) as batches:
            await anext(batches)


async def use_adaptive(nursery: trio.Nursery) -> None:
    async with ConMan[Any].open(nursery, AdaptiveLimit()) as cm:
        await cm.run(noop)
        await cm.run(fail)
        cm.limit = 5


async def be_ended(nursery: trio.Nursery) -> None:
    send, receive = trio.open_memory_channel[Any](0)
    async with ConMan[Any].open(nursery, 2, send_to=send) as cm:
        await cm.run(noop)
        await receive.receive()
        await cm.run(trio.sleep_forever)
        cm.cancel()
        await trio.sleep_forever()
    async with ConMan[Any].open(nursery, 2, timeout=1) as cm:
        await cm.run(trio.sleep_forever)
        async with cm.map(trio.sleep, [5, 5, 5]) as outcomes:
            await anext(outcomes)
    with pytest.raises(ExceptionGroup):
        async with ConMan[Any].open(nursery, 2, max_errors=0) as cm:
            await cm.run(fail)


async def raise_interrupt() -> None:
    raise KeyboardInterrupt


async def program() -> None:
    async with trio.open_nursery() as nursery:
        await use_all(nursery, 2)
        await use_all(nursery, trio.CapacityLimiter(2))
        await use_journal(nursery)
        await use_keys(nursery, 2)
        await use_keys(nursery, trio.CapacityLimiter(2))
        await use_leaves(nursery)
        await use_adaptive(nursery)
        await be_ended(nursery)
        async with ConMan[Any].open(nursery, 2) as cm:
            await cm.run(raise_interrupt)
            await trio.sleep_forever()


@pytest.fixture
def unprotected() -> Iterator[dict[str, set[str]]]:
    """By module, what was called while an interrupt could hit it."""
    found: dict[str, set[str]] = {module: set() for module in MAY_BE_INTERRUPTED}

    @cache
    def module_of(code: CodeType) -> str | None:
        path = Path(code.co_filename)
        is_watched = HOME in path.parents and path.stem in found and "<" not in code.co_qualname
        return path.stem if is_watched else None

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (module := module_of(frame.f_code)) and not currently_ki_protected():
            found[module].add(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(watch)
    yield found
    sys.setprofile(before)


def test_what_keeps_the_books_cannot_be_interrupted(unprotected: dict[str, set[str]]) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        trio.run(program, clock=MockClock(autojump_threshold=0))
    assert raised.value.split(KeyboardInterrupt)[1] is None
    assert unprotected == MAY_BE_INTERRUPTED
