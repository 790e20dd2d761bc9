"""Where features meet: keys, journals, limits that are shared, and hooks that call the manager."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory
from trio_conman import ConMan, Failure, Instrument, KeyedLimit, Outcome, TaskHandle
from trio_conman.journal import open_journal

Calls = list[tuple[float, str]]


async def work(name: str, seconds: float = 1) -> str:
    await trio.sleep(seconds)
    return name


def initial(name: str, *_: object) -> str:
    return name[0]


def ended(handle: TaskHandle[Any]) -> Any:
    """What a task has returned, or the type of its error."""
    outcome: Outcome[Any] | None = handle.outcome
    assert outcome is not None
    return type(outcome.error).__name__ if isinstance(outcome, Failure) else outcome.value


async def test_an_item_that_waits_for_its_key_and_then_for_another_task_of_its_key_in_the_journal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def outer(_: str) -> list[Any]:
        async with cm.map(work, ["ax"], lookahead=1) as outcomes:
            return [outcome.args[0] async for outcome in outcomes]

    async with open_journal(tmp_path / "journal") as journal, trio.open_nursery() as nursery:
        by_second = journal.section("s", key=lambda name, *_: name[1])
        limit = KeyedLimit(1, key=initial)
        async with ConMan[Any].open(nursery, 5, journal=by_second, per_key=limit) as cm:
            handles = [cm.start_soon(work, "az"), cm.start_soon(work, "bx", 3)]
            handles += [cm.start_soon(outer, "cy"), cm.start_soon(work, "dq", 9)]
            await trio.sleep(0.5)
            handles += [cm.start_soon(work, name, 9) for name in ("er", "fs")]  # all slots are busy
    assert [ended(handle) for handle in handles] == ["az", "bx", ["ax"], "dq", "er", "fs"]
    assert limit.statistics() == {}


async def test_a_limiter_is_lowered_while_two_managers_wait_for_the_same_key(
    autojump_clock: MockClock,
) -> None:
    limiter, limit = trio.CapacityLimiter(3), KeyedLimit(1, key=initial)

    async def asks(_: str, cm: ConMan[Any]) -> str | None:
        try:
            await cm.run(work, "k")
        except RuntimeError:
            return "told"
        return None

    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, limiter, per_key=limit) as one,
        ConMan[Any].open(nursery, limiter, per_key=limit) as two,
    ):
        handles = [
            one.start_soon(work, "k", 2),
            one.start_soon(asks, "a", one),
            two.start_soon(asks, "b", two),
        ]
        await trio.sleep(1)
        one.limit = 2
    assert sorted(str(ended(handle)) for handle in handles) == ["None", "k", "told"]
    assert limiter.borrowed_tokens == 0
    assert limit.statistics() == {}


async def test_of_two_waits_of_one_task_the_one_that_can_end_is_not_told_of_a_deadlock(
    autojump_clock: MockClock,
) -> None:
    calls: Calls = []

    async def child(key: str) -> None:
        try:
            await cm.run(work, key)
        except RuntimeError:
            key = f"{key} told"
        calls.append((trio.current_time(), key))

    async def parent(_: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "a")
            await trio.sleep(0.1)
            nursery.start_soon(child, "x")

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, per_key=KeyedLimit(1, key=initial)) as cm:
            cm.start_soon(parent, "a")
            cm.start_soon(work, "c", 3)
            await trio.sleep(0)
            cm.pause()
            await trio.sleep(1)
            cm.resume()
    assert calls == [(1, "a told"), (3, "x")]


class Hooks(Instrument):
    """Calls a function for the tasks of some names."""

    def __init__(self, hook: str, name: str, call: Callable[[], object]) -> None:
        def told(handle: TaskHandle[Any], *_: object) -> None:
            if handle.name == name:
                call()

        setattr(self, hook, told)


@pytest.mark.parametrize("way", ["handle", "scope", "manager"])
async def test_a_hook_cancels_the_caller_of_run_whose_task_it_is_told_of(
    way: str, autojump_clock: MockClock
) -> None:
    scope = trio.CancelScope()

    async def outer() -> None:
        with scope:
            await cm.run(work, "inner", name="inner")

    def cancel() -> None:
        {"handle": handles[1].cancel, "scope": scope.cancel, "manager": cm.cancel}[way]()

    hooks = [Hooks("task_submitted", "inner", cancel)]
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=hooks) as cm:
            handles = [cm.start_soon(trio.sleep, 1), cm.start_soon(outer)]
    assert trio.current_time() == (1 if way == "manager" else 2)
    now = cm.statistics()
    assert (now.submitted, now.succeeded + now.failed, now.running) == (3, 3, 0)


async def test_a_hook_cancels_who_waits_beside_the_line_while_the_manager_ends(
    autojump_clock: MockClock,
) -> None:
    handles: list[TaskHandle[Any]] = []
    finished: list[str] = []

    def cancel(name: str) -> None:
        finished.append(name)
        for handle in handles:
            handle.cancel()

    hooks = [Hooks("task_finished", name, partial(cancel, name)) for name in "abc"]
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, journal=Memory(), instruments=hooks) as cm:
            handles += [cm.start_soon(work, "same", name=name) for name in "abc"]
            await trio.sleep(0.5)
            cm.cancel()
    assert sorted(finished) == ["a", "b", "c"]
    now = cm.statistics()
    assert (now.submitted, now.failed, now.queued, len(cm.outcomes())) == (3, 3, 0, 3)


async def test_a_hook_hands_in_work_while_a_map_is_left(autojump_clock: MockClock) -> None:
    async def item(number: int) -> int:
        if number:
            async with trio.open_nursery() as nursery:
                async with ConMan[None].open(nursery, 2, instruments=hooks) as inner:
                    for _ in range(5):
                        inner.start_soon(trio.sleep_forever, name="inner")
        return number

    def hand_in() -> None:
        for _ in range(4):
            cm.start_soon(trio.sleep, 0)

    hooks = [Hooks("task_finished", "inner", hand_in)]

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 20) as cm:
        async with cm.map(item, range(5)) as outcomes:
            assert (await anext(outcomes)).args == (0,)
            await wait_all_tasks_blocked()
    now = cm.statistics()
    assert (now.submitted, now.succeeded, now.cancelled) == (85, 81, 4)


async def test_a_hook_hands_in_a_task_while_another_one_is_let_in(autojump_clock: MockClock) -> None:
    followers: list[TaskHandle[Any]] = []
    hooks = [Hooks("task_submitted", "a2", lambda: followers.append(cm.start_soon(work, "b")))]
    limit = KeyedLimit(1, key=initial)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 3, per_key=limit, instruments=hooks) as cm:
            cm.start_soon(work, "z", 9)
            cm.start_soon(work, "c", 1)
            await trio.sleep(0.5)
            cm.start_soon(work, "a1", 1)
            async with trio.open_nursery() as callers:
                for name in ("a2", "a3"):
                    callers.start_soon(lambda name: cm.run(work, name, name=name), name)
                    await wait_all_tasks_blocked()
            (follower,) = followers
            assert follower.state == "done"
    assert follower.outcome is not None
    assert follower.outcome.waited == 0
