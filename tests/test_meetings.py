"""Where features meet: keys, journals, limits that are shared, and hooks that call the manager."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.hostile import Moody
from tests.journaled import Memory
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Instrument,
    KeyedLimit,
    Outcome,
    RateLimiter,
    TaskHandle,
)
from trio_conman.journal import open_journal

Calls = list[tuple[float, str]]


async def work(name: str, seconds: float = 1) -> str:
    await trio.sleep(seconds)
    return name


async def ask(cm: ConMan[Any], name: str) -> str | None:
    """Have a task run, and wait for its slot; or what came of it."""
    try:
        await cm.run(work, name)
    except RuntimeError:
        return "told"
    return None


def initial(name: str, *_: object) -> str:
    return name[0]


async def nothing(_: object) -> None:
    pass


def ended(handle: TaskHandle[Any]) -> Any:
    """What a task has returned, or the type of its error."""
    outcome: Outcome[Any] | None = handle.outcome
    assert outcome is not None
    return type(outcome.error).__name__ if isinstance(outcome, Failure) else outcome.value


async def test_an_item_that_waits_for_its_key_and_then_for_another_task_of_its_key_in_the_journal(
    tmp_path: Path, patient_clock: MockClock
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
        return await ask(cm, "k")

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
        told = await ask(cm, key)
        calls.append((trio.current_time(), f"{key} {told}"))

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
    assert calls == [(1, "a told"), (3, "x None")]


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


@pytest.mark.parametrize("door", ["start_soon", "run"])
async def test_a_task_has_its_permit_before_those_that_its_hook_hands_in(
    door: str, autojump_clock: MockClock
) -> None:
    async def begin(name: str) -> None:
        begun.append((trio.current_time(), name))

    async def run() -> None:
        await cm.run(begin, "a", name="a")

    begun: Calls = []
    hooks = [Hooks("task_submitted", "a", lambda: cm.start_soon(begin, "b"))]
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, rate=RateLimiter(1), instruments=hooks) as cm:
            if door == "run":
                cm.pause()
                nursery.start_soon(run)
                await wait_all_tasks_blocked()
                cm.resume()
            else:
                cm.start_soon(begin, "a", name="a")
    assert begun == [(0, "a"), (1, "b")]


async def test_an_item_that_may_find_its_value_in_the_journal_waits_for_no_key(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    async def consume(_: str) -> list[Any]:
        async with cm.map(work, ["kx"], journal=same, lookahead=1) as outcomes:
            return [outcome.args[0] async for outcome in outcomes]

    async def ask(_: str) -> float:
        await cm.run(work, "k inside")
        return trio.current_time()

    async with open_journal(tmp_path / "journal") as journal, trio.open_nursery() as nursery:
        same = journal.section("s", key=lambda *_: "same")
        limit = KeyedLimit(2, key=initial)
        async with ConMan[Any].open(nursery, 9, per_key=limit) as cm, ConMan[Any].open(nursery) as other:
            other.start_soon(work, "y", 5, journal=same)
            await wait_all_tasks_blocked()
            first = cm.start_soon(work, "k")
            consumer = cm.start_soon(consume, "k")
            await first.wait()
            await trio.sleep(0.5)
            asker = cm.start_soon(ask, "k")
    assert (ended(consumer), ended(asker)) == (["kx"], 5)


async def test_a_ring_of_keys_is_seen_when_a_slot_without_keys_gets_free(
    autojump_clock: MockClock,
) -> None:
    async def outer(_: str) -> str | None:
        await trio.sleep(1)
        return await ask(cm, "k inside")

    limit, journal = KeyedLimit(3, key=initial), Memory({"x": "known"})
    send, receive = trio.open_memory_channel[Outcome[Any]](0)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, per_key=limit, send_to=send) as cm:
            cm.start_soon(lambda _: trio.sleep(0), "x", journal=journal)  # it has its slot until it is taken
            handles = [cm.start_soon(outer, f"k{number}") for number in range(2)]
            await trio.sleep(2)
            limit.limit = 2
            await trio.sleep(1)
            assert [handle.state for handle in handles] == ["running", "running"]
            assert (await receive.receive()).args == ("x",)
            with trio.move_on_after(5):
                async for _ in receive:
                    pass
            assert [handle.state for handle in handles] == ["done", "done"]
    assert sorted(str(ended(handle)) for handle in handles) == ["None", "told"]


@pytest.mark.parametrize("holder", ["one", "two"])
async def test_a_ring_of_keys_is_seen_when_the_last_one_outside_of_it_ends(
    holder: str, autojump_clock: MockClock
) -> None:
    limit = KeyedLimit(2, key=initial)

    async def outer(_: str) -> str | None:
        await trio.sleep(1)
        return await ask(one, "k inside")

    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, per_key=limit, name="one") as one,
        ConMan[Any].open(nursery, per_key=limit, name="two") as two,
    ):
        handle = one.start_soon(outer, "k")
        (one if holder == "one" else two).start_soon(work, "k", 3)
        await trio.sleep(2)
        limit.limit = 1
        await trio.sleep(2)
        assert ended(handle) == "told"


async def test_a_limit_is_raised_while_the_hash_of_one_key_fails(autojump_clock: MockClock) -> None:
    moody = Moody()
    limit = KeyedLimit(1, key=lambda name, *_: moody if name == "m" else name[0])
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        handles = [cm.start_soon(work, name) for name in ("a1", "m", "a2")]
        await wait_all_tasks_blocked()
        moody.may_be_hashed = False
        limit.limit = 2
        await handles[2].wait()
        assert trio.current_time() == 1


@pytest.mark.usefixtures("no_collector")
async def test_the_error_of_a_key_that_is_looked_up_late_keeps_nothing(autojump_clock: MockClock) -> None:
    class Argument:
        def __str__(self) -> str:
            return "x"

    def key(_: object) -> str:
        raise ValueError("no key")

    journal = Memory({"x": "known"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, per_key=KeyedLimit(1, key=key), journal=journal) as cm:
            cm.pause()
            argument = Argument()
            gone = weakref.ref(argument)
            handle = cm.start_soon(nothing, argument)
            del argument
            journal.records.values.clear()
            cm.resume()
            await handle.wait()
            assert ended(handle) == "RuntimeError"
            del handle
            cm.pop_outcomes()
    await wait_all_tasks_blocked()
    assert gone() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("door", ["run", "run_nowait", "start_soon"])
async def test_nor_does_that_of_a_key_that_is_asked_for_at_a_door(
    door: str, autojump_clock: MockClock, standing_check: dict[int, Any]
) -> None:
    class Argument:
        pass

    def key(_: object) -> str:
        raise ValueError("no key")

    gone: list[weakref.ref[Any]] = []
    held: dict[str, ConMan[Any]] = {}  # a local would be known to the error, as this frame is

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, per_key=KeyedLimit(1, key=key)) as held["cm"]:
            for is_kept in (False, True):
                argument = Argument()
                gone.append(weakref.ref(argument))
                handle: Any = getattr(held["cm"], door)(nothing, argument)
                if door == "run":
                    handle = await handle
                assert ended(handle) == "RuntimeError"
                del argument, handle
                if not is_kept:
                    held["cm"].pop_outcomes()
                await wait_all_tasks_blocked()
                assert (gone[-1]() is None) is not is_kept
    standing_check.popitem()[1].check()  # now, for it knows the manager
    held.clear()
    await wait_all_tasks_blocked()
    assert gone[-1]() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_nor_does_that_of_a_key_of_an_item(asynchronous: bool, autojump_clock: MockClock) -> None:
    class Item:
        pass

    def key(_: object) -> str:
        raise ValueError("no key")

    items = [Item()]
    gone = weakref.ref(items[0])

    def given() -> Iterator[Item]:
        while items:
            yield items.pop()

    async def given_async() -> AsyncIterator[Item]:
        while items:
            yield items.pop()

    source = given_async() if asynchronous else given()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, per_key=KeyedLimit(1, key=key)) as cm:
            async with cm.map(nothing, source) as outcomes:
                outcome = await anext(outcomes)
                assert isinstance(outcome, Failure)
                assert "has raised ValueError" in str(outcome.error)
                del outcome
                await wait_all_tasks_blocked()
            assert gone() is None


# What a key, a source or a hook does amid what called it


async def from_async(number: int) -> AsyncIterator[int]:
    for each in range(number):
        yield each


each_source = pytest.mark.parametrize("source", [range, from_async])


class Interrupt(BaseException):
    """Like a Ctrl-C."""


@each_source
@pytest.mark.parametrize("call", [1, 2, 4])
async def test_a_key_of_an_item_is_interrupted(source: Any, call: int, autojump_clock: MockClock) -> None:
    asked: list[int] = []

    def key(number: int) -> str:
        asked.append(number)
        if len(asked) == call:
            raise Interrupt
        return "k"

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 3, per_key=KeyedLimit(1, key=key)) as cm:
                managers.append(cm)
                async with cm.map(nothing, source(5)) as outcomes:
                    async for _ in outcomes:
                        pass

    managers: list[ConMan[Any]] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(Interrupt)[1] is None
    now = managers[0].statistics()
    assert (now.submitted, now.queued, now.running) == (now.succeeded + now.failed, 0, 0)


async def test_who_resumes_does_not_get_the_interrupt_of_a_key(autojump_clock: MockClock) -> None:
    def key(number: int) -> int:
        if number == 1:
            raise Interrupt
        return number

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 3, per_key=KeyedLimit(1, key=key)) as cm:
                cm.pause()
                async with cm.map(nothing, from_async(5)):
                    await trio.sleep(1)
                    cm.resume()
                    resumed.append(trio.current_time())
                    await trio.sleep_forever()

    resumed: list[float] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert resumed == [1]
    assert caught.value.split(Interrupt)[1] is None


@each_source
@pytest.mark.parametrize("way", ["manager", "nursery"])
@pytest.mark.parametrize("others_have_it", [False, True])
async def test_a_key_of_an_item_ends_the_manager(
    source: Any, way: str, others_have_it: bool, autojump_clock: MockClock
) -> None:
    def key(number: int) -> str:
        if number == 1:
            (cm.cancel if way == "manager" else nursery.cancel_scope.cancel)()
        return "k"

    limit = KeyedLimit(1, key=key)
    async with trio.open_nursery() as around, ConMan[Any].open(around, per_key=limit) as other:
        if others_have_it:
            other.start_soon(trio.sleep, 9)
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 3, per_key=limit) as cm:
                async with cm.map(nothing, source(5)) as outcomes:
                    async for _ in outcomes:
                        pass
        assert trio.current_time() == 0
        now = cm.statistics()
        assert (now.submitted, now.queued, now.running) == (now.succeeded + now.failed, 0, 0)


class Ending:
    """A source that calls something when it is asked for its iterator."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def __iter__(self) -> Iterator[int]:
        self.call()
        return iter(range(5))


async def test_a_source_ends_the_manager_when_it_is_opened(autojump_clock: MockClock) -> None:
    async def consume() -> None:
        with pytest.raises(ConManClosedError):
            async with cm.map(nothing, Ending(cm.cancel)):
                pass

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
        nursery.start_soon(consume)
        await trio.sleep_forever()
    assert cm.statistics().submitted == 0


@pytest.mark.parametrize("way", ["pause", "lower"])
async def test_a_key_changes_the_line_and_fails(way: str, autojump_clock: MockClock) -> None:
    started: Calls = []

    def key(name: object) -> object:
        if name == 0:
            cm.pause() if way == "pause" else setattr(cm, "limit", 2)
            raise ValueError(name)
        return name

    async def queued(name: str) -> None:
        started.append((trio.current_time(), name))
        await trio.sleep(1)

    async def consume() -> None:
        async with cm.map(nothing, slow()) as outcomes:
            async for _ in outcomes:
                pass

    async def slow() -> AsyncIterator[int]:
        yield 0
        await trio.sleep(20)

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, per_key=KeyedLimit(5, key=key)) as cm:
            for seconds in (1, 9, 9):
                cm.start_soon(trio.sleep, seconds)
            nursery.start_soon(consume)
            await trio.sleep(0.5)
            for name in "abc":
                cm.start_soon(queued, name)
            await trio.sleep(5)
            assert started == []
            cm.resume()
            await trio.sleep(5)
    assert [when for when, _ in started][:2] == ([5.5, 6.5] if way == "pause" else [9, 9])


async def test_a_key_lowers_the_limit_and_fails_where_nobody_else_waits(
    autojump_clock: MockClock,
) -> None:
    def key(seconds: float) -> float:
        if seconds == 0:
            cm.limit = 2
            raise ValueError(seconds)
        return seconds

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 4, per_key=KeyedLimit(5, key=key)) as cm:
            for seconds in (1, 9, 9, 9):
                cm.start_soon(trio.sleep, seconds)
            async with cm.map(trio.sleep, from_async(1)) as outcomes:
                async for _ in outcomes:
                    pass
            assert trio.current_time() == 1
            late = cm.start_soon(trio.sleep, 1)
            assert (late.state, cm.statistics().running) == ("queued", 3)


async def test_a_hook_lets_an_item_in_that_waits_for_its_slot_while_its_map_is_left(
    autojump_clock: MockClock,
) -> None:
    ran: list[str] = []

    async def item(name: str) -> None:
        if name == "same":
            ran.append(name)
        else:
            async with trio.open_nursery() as nursery:
                hooks = [Hooks("task_finished", "inner", lambda: setattr(cm, "limit", 10))]
                async with ConMan[None].open(nursery, 2, instruments=hooks) as inner:
                    for _ in range(8):
                        inner.start_soon(trio.sleep_forever, name="inner")

    async def fail(_: str) -> None:
        await trio.sleep(1)
        raise ValueError

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4, journal=Memory()) as cm:
        cm.start_soon(fail, "same")
        async with cm.map(item, ["a", "b", "same"]):
            await trio.sleep(0.5)
            for seconds in (9, 9.5):
                cm.start_soon(trio.sleep, seconds, priority=5)
            await trio.sleep(1)
        assert (trio.current_time(), ran) == (1.5, [])


async def test_an_instrument_that_failed_inside_of_a_call_is_not_called_again() -> None:
    calls: list[str] = []

    class Broken(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            calls.append(handle.name)
            raise ValueError

    follow = Hooks("task_submitted", "one", lambda: cm.start_soon(trio.sleep, 0, name="two"))
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, instruments=[follow, Broken()]) as cm:
            cm.start_soon(trio.sleep, 0, name="one")
    assert calls == ["one"]


async def test_the_hash_of_a_key_hands_in_another_task_of_that_key(autojump_clock: MockClock) -> None:
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            hashes.append(self)
            if len(hashes) == 2:
                cm.start_soon(trio.sleep, 1)
            return 1

    hashes: list[str] = []
    limit = KeyedLimit(1, key=lambda _: Key("k"), limits={"other": 3})
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        cm.start_soon(trio.sleep, 1)
        cm.start_soon(trio.sleep, 1)
    assert trio.current_time() == 3
    assert limit._keys == {}


async def test_so_it_does_while_the_keys_are_told(autojump_clock: MockClock) -> None:
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            if is_told:
                is_told.pop()
                cm.start_soon(trio.sleep, 2)
            return 1

    is_told: list[bool] = []
    limit = KeyedLimit(1, key=Key)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9, per_key=limit) as cm:
        cm.start_soon(trio.sleep, 1)
        is_told.append(True)
        assert [*limit.statistics()] == ["1"]
        assert [*limit.statistics()] == ["1", "2"]


async def test_a_hook_raises_the_limit_while_the_manager_ends(autojump_clock: MockClock) -> None:
    async def source() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            hooks = [Hooks("task_finished", "inner", lambda: setattr(managers[0], "limit", 20))]
            async with ConMan[None].open(nursery, 2, instruments=hooks) as inner:
                for _ in range(4):
                    inner.start_soon(trio.sleep_forever, name="inner")
                yield 1
                await trio.sleep_forever()

    async def fail() -> None:
        await trio.sleep(3)
        raise ValueError

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, max_errors=0) as cm:
            managers.append(cm)
            async with cm.map(nothing_for, source()) as outcomes:
                await trio.sleep(1)
                cm.start_soon(fail)
                await trio.sleep(1)
                for number in range(10):
                    cm.start_soon(nothing_for, number)
                async for _ in outcomes:
                    pass

    managers: list[ConMan[Any]] = []
    with pytest.raises(BaseExceptionGroup):
        await main()
    now = managers[0].statistics()
    assert (now.submitted, now.queued, now.running) == (now.succeeded + now.failed, 0, 0)


async def nothing_for(_: object) -> None:
    await trio.sleep(5)
