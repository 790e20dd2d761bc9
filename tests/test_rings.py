"""What the lines of one limiter have in common: the search for rings, and who may use it."""

from __future__ import annotations

import random
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import count
from math import inf
from types import FrameType
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import each_kind
from trio_conman import ConMan, Failure, KeyedLimit, Outcome
from trio_conman._books.handles import DONE, TaskHandle, new_handle
from trio_conman._limits.line import Line
from trio_conman._limits.rings import Rings, _shared, _Wait


async def job(value: int, seconds: float = 1) -> int:
    await trio.sleep(seconds)
    return value


async def parent(cm: ConMan[Any], delay: float) -> None:
    await trio.sleep(delay)
    await cm.run(job, 0)


async def consumer(cm: ConMan[Any], delay: float) -> None:
    await trio.sleep(delay)
    async with cm.map(job, range(3)) as outcomes:
        async for _ in outcomes:
            pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[_Wait]:
    """The waits that were looked at."""
    asked: list[_Wait] = []
    counts = _Wait.counts

    def watched(self: _Wait) -> bool:
        asked.append(self)
        return counts(self)

    monkeypatch.setattr(_Wait, "counts", watched)
    return asked


@each_kind
@pytest.mark.parametrize("task", [parent, consumer])
def test_a_ring_of_many_that_a_lowered_limit_closes_is_seen_once(
    task: Callable[..., Any], limit_of: Callable[[int], int | trio.CapacityLimiter], asked: list[_Wait]
) -> None:
    async def main(tasks: int) -> int:
        asked.clear()
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(tasks + 1)) as cm:
            cm.start_soon(job, 0, 5)
            for _ in range(tasks):
                cm.start_soon(task, cm, 1)
            await trio.sleep(2)
            assert cm.statistics().failed == 0
            cm.limit = 2
            await trio.sleep(3.5)
            # All but one have gone, at once: so a slot is free for what the last one waits for.
            assert cm.statistics().failed == tasks - 1
        assert all(isinstance(error, RuntimeError) for error in cm.errors())
        assert len(cm.errors()) == tasks - 1
        return len(asked)

    few, many = (trio.run(main, tasks, clock=MockClock(autojump_threshold=0)) for tasks in (50, 200))
    assert many <= 5 * few


@each_kind
@pytest.mark.parametrize("task", [parent, consumer])
@pytest.mark.parametrize("has_keys", [False, True])
def test_as_long_as_somebody_goes_on_nobody_is_looked_at(
    has_keys: bool,
    task: Callable[..., Any],
    limit_of: Callable[[int], int | trio.CapacityLimiter],
    asked: list[_Wait],
) -> None:
    numbers = count()
    per_key = KeyedLimit(1, key=lambda *_: next(numbers)) if has_keys else None

    async def main() -> None:
        async with (
            trio.open_nursery() as nursery,
            ConMan[Any].open(nursery, limit_of(102), per_key=per_key) as cm,
        ):
            cm.start_soon(job, 0, 1000)
            cm.start_soon(job, 0, 10)
            for _ in range(100):
                cm.start_soon(task, cm, 1)
            await trio.sleep(900)
            assert len(cm.outputs()) >= 101

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert asked == []


@each_kind
async def test_the_search_begins_with_one_that_may_go_on(
    limit_of: Callable[[int], int | trio.CapacityLimiter], asked: list[_Wait], autojump_clock: MockClock
) -> None:
    async def late() -> AsyncIterator[int]:
        await trio.sleep(1000)
        yield 1

    async def wait_for_it(cm: ConMan[Any]) -> None:
        await trio.sleep(2)
        async with cm.map(job, late()) as outcomes:
            with trio.move_on_after(10):
                await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(51)) as cm:
        for _ in range(50):
            cm.start_soon(consumer, cm, 1)
        cm.start_soon(wait_for_it, cm)
        await trio.sleep(5)
        asked.clear()
        for _ in range(100):
            cm.limit = 51
        assert len(asked) == 100
    assert cm.errors() == []


@pytest.mark.parametrize("is_chain", [False, True])
def test_many_tasks_that_await_handles_look_at_few(is_chain: bool, asked: list[_Wait]) -> None:
    async def main(tasks: int) -> int:
        asked.clear()
        order = random.Random(tasks).sample(range(tasks), tasks)
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, inf) as cm:
            handles = [cm.start_soon(job, 0, 1000)]

            async def follow(at: int) -> None:
                await trio.sleep(1 + (order[at] if at > 1 else -1))
                await handles[at - 1 if is_chain or at < 2 else 1].wait()

            handles += [cm.start_soon(follow, at) for at in range(1, tasks)]
        assert cm.errors() == []
        return len(asked)

    for tasks in (50, 200):
        assert trio.run(main, tasks, clock=MockClock(autojump_threshold=0)) <= 20 * tasks


async def test_two_tasks_that_consume_one_map_are_two_in_a_ring(
    autojump_clock: MockClock,
) -> None:
    limiter = trio.CapacityLimiter(3)
    streams: list[AsyncIterator[Outcome[Any]]] = []

    async def first(cm: ConMan[Any]) -> None:
        async with cm.map(job, range(3)) as outcomes:
            streams.append(outcomes)
            await anext(outcomes)

    async def second() -> None:
        await wait_all_tasks_blocked()
        await anext(streams[0])

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter) as cm:
        cm.start_soon(job, 0, 5)
        handles = [cm.start_soon(first, cm), cm.start_soon(second)]
        await wait_all_tasks_blocked()
        limiter.total_tokens = 1
        with trio.fail_after(6):
            ends = [await handle.wait() for handle in handles]
    assert [type(end) for end in ends] == [Failure, Failure]
    assert trio.current_time() == 5


@each_kind
async def test_deadlines_make_no_difference(
    limit_of: Callable[[int], int | trio.CapacityLimiter], autojump_clock: MockClock
) -> None:
    async def impatient(cm: ConMan[Any], delay: float) -> float:
        await trio.sleep(delay)
        with trio.move_on_after(10):
            await cm.run(job, 0)
        return trio.current_time()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:
        first, second = cm.start_soon(impatient, cm, 1), cm.start_soon(impatient, cm, 2)
        assert await first.result() == 2
        assert isinstance(second.outcome, Failure)
    assert str(second.outcome.error) == (
        "run() was called inside a task of 'conman' while every slot is held by a task that itself waits for "
        "one, so that one gets free only when one of them gives up: use start_soon(), which does not wait "
        '(see "What goes wrong" in the docs)'
    )


def test_what_the_lines_of_a_limiter_have_in_common_goes_with_them(no_collector: None) -> None:
    before = len(_shared)

    async def main() -> weakref.ref[trio.CapacityLimiter]:
        limiter = trio.CapacityLimiter(2)
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, limiter), ConMan[Any].open(nursery, limiter):
                assert len(_shared) == before + 1
        return weakref.ref(limiter)

    limiter = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert limiter() is None
    assert len(_shared) == before


async def test_a_manager_that_ends_takes_no_waits_of_others_with_it(autojump_clock: MockClock) -> None:
    async def waits(seconds: float) -> None:
        await trio.sleep(seconds)
        await cm.run(trio.sleep, 1)

    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter) as cm:
        async with ConMan[Any].open(nursery, limiter):
            handles = [cm.start_soon(waits, seconds) for seconds in (1, 3)]
            await trio.sleep(2)
        with trio.fail_after(9):
            for handle in handles:
                await handle.wait()
        assert trio.current_time() == 3
    assert [type(error) for error in cm.errors()] == [RuntimeError]


def test_what_a_run_has_left_that_is_over_is_forgotten(record: list[Any]) -> None:
    rings = Rings(trio.CapacityLimiter(2))

    @attrs.define(eq=False)
    class Line:
        name: str
        nursery: trio.Nursery = attrs.field(init=False)
        beside: set[TaskHandle[Any]] = attrs.Factory(set)

        def grants(self) -> bool:
            return True

        def resized(self) -> None:
            record.append(self.name)

    lost, here = Line("lost"), Line("here")

    async def leave_it() -> None:
        rings.enter(lost)
        assert rings.block(
            lost,
            "key",
            new_handle("task", (), trio.sleep_forever, DONE, 0.0),
            lambda: record.append("told"),
            lambda: True,
            lambda: [()],
        )
        rings._is_told = True

    async def use() -> None:
        rings.enter(here)
        assert not rings._is_told
        rings.limiter.total_tokens = 1
        rings.limiter.acquire_on_behalf_of_nowait("slot")  # as many as had waited
        rings.break_rings()
        rings.tell_resized()

    trio.run(leave_it)
    trio.run(use)
    assert record == ["here"]


CRASH = """
import gc
import trio
import trio.testing
from trio_conman import ConMan

limiter = trio.CapacityLimiter(4)

async def consume(cm):
    async with cm.map(trio.sleep, [1000]) as outcomes:
        await anext(outcomes)

async def crash():
    async with trio.open_nursery() as nursery, ConMan.open(nursery, limiter) as cm:
        cm.start_soon(consume, cm)
        await trio.testing.wait_all_tasks_blocked()
        print(len(cm._line.rings._waits))
        with trio.move_on_after(0):
            await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)

async def use():
    async with trio.open_nursery() as nursery, ConMan.open(nursery, limiter) as cm:
        print(len(cm._line.rings._waits))
        cm.start_soon(trio.sleep, 0)
    print(len(cm.outputs()))

gc.disable()
try:
    trio.run(crash)
except trio.TrioInternalError:
    print("crashed")
trio.run(use)
"""


def test_a_run_that_has_crashed_blocks_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["1", "crashed", "0", "1"]


def test_a_manager_that_could_not_be_opened_does_not_use_its_limiter() -> None:
    limiter = trio.CapacityLimiter(2)

    async def use() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter) as cm:
            await cm.run(job, 0, 0)

    async def main() -> None:
        async with trio.open_nursery() as closed:
            pass
        opening = ConMan[Any].open(closed, limiter)
        with pytest.raises(RuntimeError, match="closed"):
            await opening.__aenter__()
        await trio.to_thread.run_sync(trio.run, use)

    trio.run(main)


@pytest.mark.parametrize("tokens, told", [(3, 1), (2, 2), (1, 3), (0, 3)])
async def test_as_many_are_told_as_must_go_until_a_token_is_free(
    tokens: int, told: int, limit_of_0: None, autojump_clock: MockClock
) -> None:
    async def twice(cm: ConMan[Any], delay: float) -> None:
        await trio.sleep(delay)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(parent, cm, 0)

    limiter = trio.CapacityLimiter(4)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter) as cm:
        cm.start_soon(job, 0, 5)
        handles = [cm.start_soon(task, cm, at) for at, task in enumerate([parent, parent, twice], 1)]
        await trio.sleep(4)
        limiter.total_tokens = tokens
        with trio.fail_after(2):
            await handles[-1].wait()
        await wait_all_tasks_blocked()
        # The last ones, at once, and of each task one wait. At 0 that helps nobody, but they hold no token.
        assert trio.current_time() == 5
        assert [isinstance(handle.outcome, Failure) for handle in handles] == [
            number >= 3 - told for number in range(3)
        ]


async def test_a_line_that_is_closed_hears_of_no_limit(autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter) as cm:
        async with ConMan[Any].open(nursery, limiter) as other:
            pass
        cm.limit = 3
        assert [list(lines) for lines in cm._line.rings._lines.values()] == [[cm._line]]
        other._line.resized()


async def test_a_line_enters_without_a_look_at_the_others(no_collector: None) -> None:
    rings = Rings(trio.CapacityLimiter(2))

    def calls_to_enter() -> int:
        """How many calls one more takes."""
        line, calls, before = Line("one", rings.limiter, shared=True), [0], sys.getprofile()
        lines.append(line)

        def count(frame: object, event: str, arg: object) -> None:
            calls[0] += event == "call"

        sys.setprofile(count)
        try:
            rings.enter(line)
        finally:
            sys.setprofile(before)
        return calls[0]

    lines: list[Line] = []
    calls_to_enter()  # the first of a run
    assert len({calls_to_enter() for _ in range(50)}) == 1


def test_a_run_that_is_over_leaves_nothing_to_the_next_one() -> None:
    rings = Rings(trio.CapacityLimiter(2))

    async def use(leaves: bool) -> None:
        line = Line("one", rings.limiter, shared=True)
        rings.enter(line)
        lines.append(line)
        if leaves:
            rings.leave(line)

    lines: list[Line] = []  # so that those of a run that has crashed are there
    for leaves in (True, False, False):
        trio.run(use, leaves)
        assert [list(each) for each in rings._lines.values()] == [[] if leaves else [lines[-1]]]


async def test_who_nobody_waits_for_is_noted_in_as_many_steps_however_many_wait_in_a_chain() -> None:
    """He can be in no ring, so those that he waits for are not looked at."""

    async def wait_for(handle: TaskHandle[None] | None) -> None:
        await (trio.sleep_forever() if handle is None else handle.wait())

    def calls_to_look_at(seen: Counter[str], frame: FrameType, event: str, _: Any) -> None:
        seen[f"{event} {frame.f_code.co_name}"] += 1

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, inf) as cm:
            last, counts = None, set()
            for _ in range(50):
                last = cm.start_soon(wait_for, last)
                seen = Counter[str]()
                before = sys.getprofile()
                sys.setprofile(partial(calls_to_look_at, seen))
                try:
                    await wait_all_tasks_blocked()
                finally:
                    sys.setprofile(before)
                counts.add(seen["call lacks"] + seen["call counts"] + seen["call awaited"])
            cm.cancel()
    assert counts == {0}
