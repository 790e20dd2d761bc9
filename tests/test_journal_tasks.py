"""Managers with a journal: which tasks run, what they wait for, and what is kept of those cut short."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Instrument,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
    TaskHandle,
)
from trio_conman.testing import RecordingInstrument

DOORS = ["run", "run_nowait", "start_soon", "map"]


async def one_by(
    door: str, cm: ConMan[Any], fn: Callable[..., Any], arg: object, **options: Any
) -> Outcome[Any]:
    """What a task that goes through this door comes to."""
    if door == "map":
        async with cm.map(fn, [arg], **options) as outcomes:
            return await anext(outcomes)
    handle = getattr(cm, door)(fn, arg, **options)
    if door == "run":
        handle = await handle
    outcome: Outcome[Any] = await handle.wait()
    return outcome


async def double(number: int) -> int:
    await trio.sleep(1)
    return 2 * number


def value_of(outcome: Outcome[Any] | None) -> tuple[Any, bool]:
    assert isinstance(outcome, Success)
    return outcome.value, outcome.recalled


def error_of(outcome: Outcome[Any] | None) -> tuple[Exception, StopReason]:
    assert isinstance(outcome, Failure)
    return outcome.error, outcome.reason


def free(journal: Memory) -> bool:
    """Whether every claim was given back."""
    return journal.records.claims == {}


# Doors


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("own", [False, True])
async def test_a_value_is_kept_and_recalled(door: str, own: bool, autojump_clock: MockClock) -> None:
    journal = Memory()
    options: dict[str, Any] = {"journal": journal}
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, **({} if own else options)) as cm:
            for expected in [(14, False), (14, True)]:
                outcome = await one_by(door, cm, double, 7, **(options if own else {}))
                assert value_of(outcome) == expected
            assert trio.current_time() == 1
            assert (cm.statistics().succeeded, cm.statistics().recalled) == (2, 1)
    assert journal.records.values == {"7": 14}
    assert free(journal)


@pytest.mark.parametrize("door", DOORS)
async def test_a_journal_of_a_task_goes_before_that_of_the_manager(door: str) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=Memory({"7": "of all"})) as cm:
            outcome = await one_by(door, cm, double, 7, journal=Memory({"7": "its own"}))
            assert value_of(outcome) == ("its own", True)
            assert value_of(await one_by(door, cm, double, 7, task_timeout=1)) == ("of all", True)


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_no_journal_is_refused_by_the_door(door: str) -> None:
    wanted = (
        r"^journal must be what 'async with open_journal\(path\) as journal:' yields, .*, not 'a\.journal'$"
    )
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=wanted):
            ConMan[Any].open(nursery, 2, journal="a.journal")  # type: ignore[arg-type]  # what is tested
        closed = Memory()
        closed.records.wrong["enter"] = RuntimeError("closed")
        with pytest.raises(RuntimeError, match=r"^closed$"):
            ConMan[Any].open(nursery, 2, journal=closed)
        async with ConMan[Any].open(nursery, 2) as cm:
            with pytest.raises(TypeError, match=wanted):
                await one_by(door, cm, double, 7, journal="a.journal")
            with pytest.raises(RuntimeError, match=r"^closed$"):
                await one_by(door, cm, double, 7, journal=closed)
            assert cm.statistics().submitted == 0


async def test_a_map_recalls_items_in_their_place_or_at_once(autojump_clock: MockClock) -> None:
    journal = Memory({"1": "one", "3": "three"})
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        for ordered, expected in [
            (True, [0, "one", 4, "three", 8]),
            (False, ["one", "three", 0, 4, 8]),
        ]:
            for key in ("0", "2", "4"):
                journal.records.values.pop(key, None)
            async with cm.map(double, range(5), ordered=ordered) as outcomes:
                found = [value_of(outcome)[0] async for outcome in outcomes]
                assert found[: 2 if ordered else 1] == expected[: 2 if ordered else 1]
                assert sorted(map(str, found)) == sorted(map(str, expected))
                assert not ordered or found == expected


async def items(numbers: range) -> AsyncIterator[int]:
    for number in numbers:
        yield number


async def test_items_of_an_async_iterable_are_recalled_too() -> None:
    journal = Memory({"0": "zero", "1": "one"})
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        async with cm.map(double, items(range(2)), ordered=True) as outcomes:
            assert [value_of(outcome) async for outcome in outcomes] == [("zero", True), ("one", True)]


# What a recalled task does without


async def test_who_is_recalled_takes_no_permit(autojump_clock: MockClock) -> None:
    journal = Memory({str(n): n for n in range(50)})
    rate = RateLimiter(1)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3, rate=rate, journal=journal) as cm:
        first = [cm.start_soon(double, n) for n in (100, 101)]
        handles = [cm.start_soon(double, n) for n in range(50)]
        last = cm.start_soon(double, 102)
        for handle in handles:
            assert (await handle.wait()).retries == 0
        assert trio.current_time() == 0
        await cm.wait()
    ends = [(outcome.index, outcome.waited + outcome.elapsed) for outcome in cm.outcomes()[50:]]
    assert ends == [(0, 1), (1, 2), (52, 3)]
    assert [handle.index for handle in (*first, last)] == [0, 1, 52]


async def test_instruments_hear_of_the_end_only() -> None:
    instrument = RecordingInstrument()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=Memory({"7": 14}), instruments=[instrument]) as cm:
            await cm.run(double, 7)
    assert [event.hook for event in instrument.events] == ["task_submitted", "task_finished"]


async def test_a_recalled_value_is_no_success_that_pays_for_retries(autojump_clock: MockClock) -> None:
    budget = RetryBudget(2, ratio=0.5)
    budget._spend()
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=Memory({"7": 14}), retry_budget=budget) as cm:
            await cm.run(double, 7)
            await cm.wait()
            assert budget.statistics().remaining == 1
            await cm.run(double, 8)
    assert budget.statistics().remaining == 1.5


@pytest.mark.parametrize("door", ["map", "start_soon"])
async def test_many_recalled_in_a_row_give_others_their_turn(door: str) -> None:
    journal = Memory({str(n): n for n in range(5000)})
    turns = 0

    async def other(cancel_scope: trio.CancelScope) -> None:
        nonlocal turns
        with cancel_scope:
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(other, scope)
        async with ConMan[Any].open(nursery, 4, journal=journal) as cm:
            if door == "map":
                async with cm.map(double, range(5000)) as outcomes:
                    async for _ in outcomes:
                        pass
            else:
                for n in range(5000):
                    cm.start_soon(double, n)
            await cm.wait()
            assert cm.statistics().recalled == 5000
        scope.cancel()
    assert turns >= 50


# Two of one key


async def test_a_second_one_of_a_key_waits_without_a_slot_and_takes_the_value(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    journal = Memory()

    async def note(name: str, seconds: float) -> str:
        await trio.sleep(seconds)
        record.append((trio.current_time(), name))
        return name

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        first = await cm.run(note, "a", 5)
        again = [await cm.run(note, "a", 5) for _ in range(3)]
        await cm.run(note, "b", 1)
        await wait_all_tasks_blocked()
        assert [handle.state for handle in (first, *again)] == ["running", *3 * ["queued"]]
        assert (cm.statistics().running, cm.statistics().queued) == (2, 3)
        await cm.run(note, "c", 1)
        await cm.wait()
        assert record == [(1, "b"), (2, "c"), (5, "a")]
        assert [value_of(handle.outcome) for handle in again] == 3 * [("a", True)]
        assert [handle.outcome.waited for handle in again if handle.outcome] == [5, 5, 5]
    assert free(journal)


@pytest.mark.usefixtures("order")
async def test_the_first_one_of_a_key_runs() -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 5, journal=Memory()) as cm:
        handles = [cm.start_soon(trio.sleep, 0) for _ in range(3)]
        await cm.wait()
        assert [value_of(handle.outcome) for handle in handles] == [(None, False), (None, True), (None, True)]


async def test_one_that_waited_for_its_slot_in_run_waits_for_a_key(autojump_clock: MockClock) -> None:
    async def work(_: str, seconds: float) -> None:
        await trio.sleep(seconds)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=Memory()) as cm:
        # Whether its caller or its worker is first when it gets its slot is a matter of chance.
        for turn in range(10):
            cm.start_soon(work, f"a{turn}", 5)
            cm.start_soon(work, f"b{turn}", 1)
            again = await cm.run(work, f"a{turn}", 5)
            await cm.wait()
            assert value_of(again.outcome) == (None, True)
    assert cm.statistics().recalled == 10


@pytest.mark.parametrize("limit_of", [int, trio.CapacityLimiter])
async def test_one_that_waits_for_its_key_as_soon_as_it_has_its_slot_was_accepted_all_the_same(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async def job(name: str, seconds: float) -> str:
        await trio.sleep(seconds)
        return name

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2), journal=Memory()) as cm:
        for name, seconds in (("long", 4), ("b", 1), ("long", 4), ("c", 1), ("d", 1)):
            await cm.run(job, name, seconds)
        assert (trio.current_time(), cm.statistics().queued) == (2, 1)
    assert sorted(cm.outputs()) == ["b", "c", "d", "long", "long"]
    assert cm.statistics().recalled == 1
    assert trio.current_time() == 4


async def test_a_second_one_runs_when_the_first_has_failed(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    journal = Memory()

    async def fail_first(_: str) -> str:
        record.append(trio.current_time())
        await trio.sleep(1)
        if len(record) == 1:
            raise ValueError("first")
        return "value"

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=journal, task_timeout=1.5) as cm:
            handles = [cm.start_soon(fail_first, "a")]
            await wait_all_tasks_blocked()
            handles += [cm.start_soon(fail_first, "a") for _ in range(3)]
        outcomes = [handle.outcome for handle in handles]
        assert [isinstance(outcome, Success) for outcome in outcomes] == [False, True, True, True]
        assert [value_of(outcome)[1] for outcome in outcomes[1:]].count(True) == 2
    assert record == [0, 1]
    assert free(journal)


async def test_who_waits_for_a_key_holds_up_nobody_who_returns(autojump_clock: MockClock) -> None:
    journal = Memory()
    config = RetryConfig.none(max_attempts=1)
    tries = 0

    async def retried(_: str) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RetriableError("again", retry_config=config, retry_after=2)
        return "value"

    limiter = trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limiter, journal=journal) as cm:
        handles = [cm.start_soon(retried, "a") for _ in range(5)]
        await cm.wait()
        assert [value_of(handle.outcome)[1] for handle in handles] == [False, True, True, True, True]
    assert trio.current_time() == 2


async def test_who_has_waited_for_a_key_does_not_begin_at_the_tail(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=Memory()) as cm:
        cm.start_soon(double, 7)
        await wait_all_tasks_blocked()
        second, *_ = [cm.start_soon(double, n) for n in (7, *range(10, 20))]
        await cm.wait()
        assert value_of(second.outcome) == (14, True)
        assert second.outcome is not None
        assert second.outcome.waited == 1


async def test_two_managers_with_one_journal_share_what_runs(autojump_clock: MockClock) -> None:
    journal = Memory()
    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, 2, journal=journal) as one,
        ConMan[Any].open(nursery, 2, journal=journal) as other,
    ):
        await one.run(double, 7)
        await wait_all_tasks_blocked()
        handle = await other.run(double, 7)
        await other.wait()
        assert value_of(handle.outcome) == (14, True)
        assert trio.current_time() == 1


async def test_who_waits_for_a_key_can_be_cancelled(autojump_clock: MockClock) -> None:
    journal = Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        first = await cm.run(double, 7)
        await wait_all_tasks_blocked()
        second, third = [cm.start_soon(double, 7) for _ in range(2)]
        await trio.sleep(0.5)
        second.cancel("no more")
        error, reason = error_of(second.outcome)
        assert type(error) is TaskCancelledError
        assert reason is StopReason.CANCELLED
        await cm.wait()
        assert [value_of(each.outcome) for each in (first, third)] == [(14, False), (14, True)]


async def test_who_waits_for_a_key_can_be_cancelled_when_it_has_come_back_to_the_line(
    autojump_clock: MockClock,
) -> None:
    journal = Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        await cm.run(double, 7)
        await wait_all_tasks_blocked()
        handle = cm.start_soon(double, 7)
        await trio.sleep(0.5)
        cm.pause()
        await trio.sleep(1)
        assert (handle.state, cm.statistics().queued) == ("queued", 1)
        handle.cancel()
        assert error_of(handle.outcome)[1] is StopReason.CANCELLED
        cm.resume()
        await cm.wait()


@pytest.mark.usefixtures("no_collector")
async def test_who_was_cancelled_while_it_waited_for_a_key_is_forgotten(autojump_clock: MockClock) -> None:
    class Name(str):
        __slots__ = ("__weakref__",)

    async def job(name: str) -> None:
        await trio.sleep(1)

    name = Name("a")
    gone, journal = weakref.ref(name), Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        await cm.run(job, "a")
        await wait_all_tasks_blocked()
        handle = cm.start_soon(job, name)
        await trio.sleep(0.5)
        assert handle.state == "queued"
        handle.cancel()
        del handle, name
        await cm.wait()
        cm.pop_outcomes()
        assert gone() is None


@pytest.mark.parametrize("how", ["cancel", "deadline", "shutdown", "error"])
async def test_who_waits_for_a_key_ends_with_its_manager(how: str, autojump_clock: MockClock) -> None:
    journal = Memory()
    handles: list[TaskHandle[Any]] = []
    with pytest.RaisesGroup(ValueError) if how == "error" else trio.CancelScope():
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2, journal=journal) as cm:
                handles += [cm.start_soon(double, 7) for _ in range(3)]
                await trio.sleep(0.5)
                if how == "cancel":
                    cm.cancel()
                elif how == "deadline":
                    cm.cancel_scope.deadline = 0.75
                elif how == "shutdown":
                    await cm.shutdown(grace=0.25)
                else:
                    raise ValueError
    reason = StopReason.MANAGER_TIMEOUT if how == "deadline" else StopReason.CANCELLED
    assert [error_of(handle.outcome)[1] for handle in handles] == 3 * [reason]
    assert free(journal)


@pytest.mark.parametrize("is_async", [False, True])
async def test_items_that_wait_for_a_key_end_with_their_map(
    is_async: bool, autojump_clock: MockClock
) -> None:
    journal = Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3, journal=journal) as cm:
        other = cm.start_soon(double, 7)
        await wait_all_tasks_blocked()
        waiting = cm.start_soon(double, 7)
        source = items(range(7, 8)) if is_async else [7, 7]
        with trio.move_on_after(0.5):
            async with cm.map(double, source) as outcomes:
                async for _ in outcomes:
                    pass
        assert trio.current_time() == 0.5
        assert cm.statistics().cancelled == (1 if is_async else 2)
        await cm.wait()
        assert [value_of(each.outcome) for each in (other, waiting)] == [(14, False), (14, True)]


async def test_a_map_with_one_key_takes_what_its_first_item_has_made(autojump_clock: MockClock) -> None:
    journal = Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3, journal=journal) as cm:
        async with cm.map(double, 20 * [7], ordered=True) as outcomes:
            found = [value_of(outcome) async for outcome in outcomes]
        assert found == [(14, False), *19 * [(14, True)]]
        assert trio.current_time() == 1


async def test_a_task_cancelled_while_its_key_is_made_is_not_parked(autojump_clock: MockClock) -> None:
    journal = Memory()

    class Canceller(Instrument):
        def task_submitted(self, handle: TaskHandle[Any]) -> None:
            if handle.index == 1:
                handles.append(handle)

    handles: list[TaskHandle[Any]] = []

    class Arg:
        def __str__(self) -> str:
            for handle in handles:
                handle.cancel()
            return "7"

    async def slow(_: object) -> None:
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=journal, instruments=[Canceller()]) as cm:
            cm.start_soon(slow, 7)
            await wait_all_tasks_blocked()
            cm.start_soon(slow, Arg())
            await wait_all_tasks_blocked()
            assert error_of(handles[0].outcome)[1] is StopReason.CANCELLED
            assert cm.statistics().queued == 0


# What fails


async def test_a_task_without_a_key_fails_and_is_not_tried() -> None:
    journal = Memory()
    journal.records.wrong["key_of"] = TypeError("no key")
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=journal, retry=RetryConfig(retry_on=TypeError)) as cm:
            await cm.run(double, 7)
    assert [error_of(outcome) for outcome in cm.outcomes()] == [
        (journal.records.wrong["key_of"], StopReason.ERROR)
    ]
    assert journal.records.calls == [("enter", "")]


@pytest.mark.parametrize("what", ["claim", "keep", "committed"])
async def test_a_journal_that_fails_fails_the_task_once(what: str, autojump_clock: MockClock) -> None:
    journal = Memory()
    journal.records.commit = 1
    journal.records.wrong[what] = error = OSError("disk")
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=journal, retry=RetryConfig(retry_on=OSError)) as cm:
            handle = await cm.run(double, 7)
            assert error_of(await handle.wait()) == (error, StopReason.ERROR)
            with pytest.raises(OSError, match=r"^disk$"):
                await handle.result()
    expected = {
        "claim": ["claim"],
        "keep": ["claim", "keep", "release"],
        "committed": ["claim", "keep", "committed"],
    }
    assert [call for call, _ in journal.records.calls[1:]] == expected[what]
    assert free(journal)


async def test_who_returns_nothing_awaitable_gives_its_key_back() -> None:
    journal = Memory()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        await cm.run(str, 7)  # type: ignore[arg-type]  # what is tested
        await cm.wait()
        assert type(cm.errors()[0]) is TypeError
    assert [call for call, _ in journal.records.calls] == ["enter", "claim", "release"]


async def test_who_leaves_a_scope_open_is_not_kept() -> None:
    journal = Memory()

    async def leave_open(_: int) -> None:
        trio.CancelScope().__enter__()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        await cm.run(leave_open, 7)
        await cm.wait()
        assert type(cm.errors()[0]) is RuntimeError
    assert [call for call, _ in journal.records.calls] == ["enter", "claim", "release"]


async def test_retries_keep_the_claim_and_timeouts_give_it_back(autojump_clock: MockClock) -> None:
    journal = Memory()

    async def forever(_: int) -> None:
        await trio.sleep_forever()

    retry = RetryConfig.none(max_attempts=1)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        await cm.run(forever, 1, attempt_timeout=1, retry=retry)
        await cm.run(forever, 2, task_timeout=1)
        (await cm.run(forever, 3)).cancel()
        await cm.wait()
    assert [each for each in journal.records.calls if each[0] != "enter"] == [
        *[("claim", str(n)) for n in (1, 2)],
        ("release", "2"),
        ("claim", "3"),
        ("release", "3"),
        ("release", "1"),
    ]


async def test_a_value_returned_in_spite_of_a_cancellation_is_kept(autojump_clock: MockClock) -> None:
    journal = Memory()

    async def stubborn(_: int) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        return "value"

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        handle = await cm.run(stubborn, 1)
        late = await cm.run(stubborn, 2, task_timeout=1)
        await trio.sleep(1)
        handle.cancel()
        await cm.wait()
        assert [value_of(each.outcome) for each in (handle, late)] == 2 * [("value", False)]
    assert journal.records.values == {"1": "value", "2": "value"}


# The disk


@pytest.mark.parametrize("door", DOORS)
async def test_an_outcome_is_published_when_it_is_committed(door: str, autojump_clock: MockClock) -> None:
    journal = Memory()
    journal.records.commit = 3
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        outcome = await one_by(door, cm, double, 7)
        assert (value_of(outcome), outcome.elapsed) == ((14, False), 1)
        assert trio.current_time() == 4


async def test_who_is_committed_is_not_cancelled_any_more(autojump_clock: MockClock) -> None:
    journal = Memory()
    journal.records.commit = 3
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        handle = await cm.run(double, 7)
        late = await cm.run(double, 8, task_timeout=2)
        await trio.sleep(1.5)
        handle.cancel()
        cm.cancel()
    assert trio.current_time() == 4
    assert [value_of(each.outcome) for each in (handle, late)] == [(14, False), (16, False)]


async def test_a_value_that_is_read_is_waited_for_with_a_slot(autojump_clock: MockClock) -> None:
    journal = Memory({"7": "seven"})
    journal.records.reading = {"7": 2, "8": 2}
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        seven, eight = await cm.run(double, 7), await cm.run(double, 8)
        await wait_all_tasks_blocked()
        assert cm.statistics().running == 2
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(double, 9)
        assert value_of(await seven.wait()) == ("seven", True)
        assert trio.current_time() == 2
        assert value_of(await eight.wait()) == (16, False)


async def test_who_reads_holds_up_nobody_who_has_a_permit(autojump_clock: MockClock) -> None:
    journal = Memory({"7": "seven"})
    journal.records.reading = {"7": 2, "8": 2}
    rate = RateLimiter(10, burst=10)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3, rate=rate, journal=journal) as cm:
        handles = [cm.start_soon(double, n) for n in (7, 8, 9)]
        assert value_of(await handles[2].wait()) == (18, False)
        assert trio.current_time() == 1
        await cm.wait()
        assert trio.current_time() == 3
        assert rate.statistics().tasks_waiting == 0


async def test_who_waits_for_a_key_holds_up_nobody_who_has_a_permit(autojump_clock: MockClock) -> None:
    rate = RateLimiter(10, burst=10)
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, rate=rate, journal=Memory()) as cm:
            handles = [cm.start_soon(double, n) for n in (7, 7, 8)]
            await trio.sleep(0.5)
            assert rate.statistics().tasks_waiting == 0
            assert value_of(await handles[2].wait()) == (16, False)
            assert trio.current_time() == 1


@pytest.mark.parametrize("how", ["cancel", "timeout", "manager"])
async def test_who_reads_can_be_cancelled(how: str, autojump_clock: MockClock) -> None:
    journal = Memory({"7": "seven"})
    journal.records.reading = {"7": 2}
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        handle = await cm.run(double, 7, task_timeout=1 if how == "timeout" else None)
        await trio.sleep(0.5)
        if how == "cancel":
            handle.cancel()
        elif how == "manager":
            cm.cancel()
        reason = StopReason.TASK_TIMEOUT if how == "timeout" else StopReason.CANCELLED
        with trio.CancelScope(shield=True):
            assert error_of(await handle.wait())[1] is reason


async def test_a_key_that_somebody_claims_while_it_is_read_is_waited_for(autojump_clock: MockClock) -> None:
    journal = Memory()
    journal.records.reading = {"7": 2}
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        handles = [await cm.run(double, 7, task_timeout=10) for _ in range(2)]
        await cm.wait()
        assert sorted(value_of(handle.outcome) for handle in handles) == [(14, False), (14, True)]
        assert trio.current_time() == 3


async def test_a_key_is_made_once_whatever_is_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function that makes it may make another one each time, or fail."""
    journal = Memory()
    journal.records.reading = {"7": 2}
    keys = iter(["7", "7", "7"])
    monkeypatch.setattr(journal.records, "key_of", lambda _: next(keys))
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, journal=journal) as cm:
        handles = [await cm.run(double, 7) for _ in range(2)]
        await cm.wait()
        # The second one is taken up twice: when it has waited for the first one it begins anew.
        assert sorted(value_of(handle.outcome) for handle in handles) == [(14, False), (14, True)]
        assert trio.current_time() == 3
    assert [*keys] == []


async def test_nothing_is_accepted_through_a_closed_door() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, journal=Memory({"7": 14})) as cm:
            pass
        with pytest.raises(ConManClosedError):
            cm.start_soon(double, 7)


async def test_a_task_whose_value_is_gone_when_it_was_to_be_read_begins_as_any_other(
    autojump_clock: MockClock,
) -> None:
    journal, rate, record = Memory(), RateLimiter(1, per=10), []

    class Watches(Instrument):
        def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
            record.append((trio.current_time(), *handle.args, attempt))

    journal.records.reading["2"] = 3
    async with trio.open_nursery() as nursery:
        options: dict[str, Any] = {"journal": journal, "rate": rate, "instruments": [Watches()]}
        async with ConMan[Any].open(nursery, 2, **options) as cm:
            handles = [await cm.run(double, number) for number in (1, 2)]
    assert record == [(0, 1, 1), (10, 2, 1)]
    assert [value_of(handle.outcome) for handle in handles] == [(2, False), (4, False)]
