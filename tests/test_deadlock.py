"""What could never end is told: run, a map, wait and shutdown inside of the manager's own tasks."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from trio_conman import (
    ConMan,
    Failure,
    Instrument,
    KeyedLimit,
    Outcome,
    RetriableError,
    RetryConfig,
    Success,
    TaskHandle,
)

SEE = r" \(see .What goes wrong. in the docs\)$"
NEVER = r"^run\(\) was called inside a task of 'conman' .*: use start_soon\(\), which does not wait" + SEE
OWN = r": give the inner work a manager of its own" + SEE
MAP_NEVER = r"^a map was consumed inside a task of 'conman' while every slot is held .*" + OWN
HANDLE_NEVER = (
    r"^a handle was awaited inside a task of 'conman' for which its own task waits in turn, .*: await it "
    r"outside of the tasks, or give the inner work a manager of its own" + SEE
)


async def child(seconds: float = 1) -> str:
    await trio.sleep(seconds)
    return "child"


async def parent(cm: ConMan[str], delay: float = 0) -> str:
    """Hand in a task after `delay` seconds, and wait until that has started."""
    await trio.sleep(delay)
    await cm.run(child)
    return f"parent {delay:g}"


def error_of(handle: TaskHandle[Any]) -> Exception:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome.error


@each_kind
@pytest.mark.parametrize("limit", [2, 3])
async def test_the_last_of_those_who_hold_all_slots_and_wait_is_told(
    limit: int, limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(limit)) as cm:
        handles = [await cm.run(parent, cm, delay) for delay in range(1, limit + 1)]
        await handles[-1].wait()
        assert trio.current_time() == limit
        with pytest.raises(RuntimeError, match=NEVER):
            raise error_of(handles[-1])
    # What it wanted to hand in was never accepted.
    assert cm.statistics().submitted == limit + limit - 1
    # Its slot let the others go on.
    assert sorted(cm.outputs()) == ["child"] * (limit - 1) + [f"parent {n}" for n in range(1, limit)]
    assert cm.statistics().failed == 1
    assert trio.current_time() == limit + 1


async def test_the_only_slot_of_a_given_limiter_is_such_a_ring(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, trio.CapacityLimiter(1)) as cm:
        handle = await cm.run(parent, cm)
    with pytest.raises(RuntimeError, match=NEVER):
        raise error_of(handle)


@each_kind
async def test_with_a_slot_free_it_works(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async def family() -> str:
        for _ in range(2):
            await parent(cm, 1)
        return "family"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(3)) as cm:
        for _ in range(2):
            await cm.run(family)
    assert sorted(cm.outputs()) == ["child"] * 4 + ["family"] * 2


@each_kind
async def test_a_slot_that_others_use_is_waited_for(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async def patient() -> str:
        return await (await cm.run(child)).result()

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        await cm.run(child, 5)
        handle = await cm.run(patient)
        assert await handle.result() == "child"
        assert trio.current_time() == 6


async def test_who_does_not_wait_closes_no_ring(autojump_clock: MockClock, record: list[Any]) -> None:
    async def tries() -> str:
        await trio.sleep(1)
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(child)
        cm.start_soon(child)
        return "tried"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(tries)
    assert sorted(cm.outputs()) == ["child", "child", "tried", "tried"]


async def test_who_was_told_may_use_start_soon_instead(autojump_clock: MockClock) -> None:
    async def flexible(delay: float) -> str:
        await trio.sleep(delay)
        try:
            await cm.run(child)
        except RuntimeError:
            cm.start_soon(child)
        return "parent"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        for delay in (1, 2):
            await cm.run(flexible, delay)
    assert cm.outputs().count("child") == cm.outputs().count("parent") == 2
    assert trio.current_time() == 4 or trio.current_time() == 3


@each_kind
async def test_who_has_given_up_waiting_is_in_no_ring(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async def impatient() -> str:
        await trio.sleep(0.5)
        with trio.move_on_after(1):
            await cm.run(child)
        await trio.sleep(3)
        return "impatient"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        await cm.run(impatient)
        handle = await cm.run(parent, cm, 2)
        assert isinstance(await handle.wait(), Success)
        assert trio.current_time() == 4.5


async def test_a_task_that_backs_off_with_its_slot_is_in_no_ring(autojump_clock: MockClock) -> None:
    calls: list[float] = []

    async def flaky() -> str:
        calls.append(trio.current_time())
        if len(calls) < 2:
            config = RetryConfig.linear(initial_delay=3, max_delay=3, hold_slot=True)
            raise RetriableError("again", retry_config=config)
        return "flaky"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        await cm.run(flaky)
        handle = await cm.run(parent, cm, 1)
        assert isinstance(await handle.wait(), Success)
        assert trio.current_time() == 3
    assert calls == [0, 3]


@each_kind
async def test_children_of_a_task_count_as_the_task(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async def grandparent(delay: float) -> str:
        await trio.sleep(delay)
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            inner.start_soon(parent, cm)
            outer.start_soon(parent, cm)
        return "grandparent"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(grandparent, delay) for delay in (1, 2)]
        # One of its children is told, or both, as it comes.
        outcome = await handles[1].wait()
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, ExceptionGroup)
        assert outcome.error.split(RuntimeError)[1] is None
        assert trio.current_time() == 2
    assert isinstance(handles[0].outcome, Success)


async def test_tasks_of_a_manager_inside_of_a_task_count_as_the_task(autojump_clock: MockClock) -> None:
    async def opens(delay: float) -> str:
        await trio.sleep(delay)
        async with trio.open_nursery() as inner, ConMan[str].open(inner, 2, name="inner") as cm_inner:
            handle = await cm_inner.run(parent, cm)
            # To wait for the tasks of another manager is nothing to refuse.
            await cm_inner.wait()
        return await handle.result()

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        handles = [await cm.run(opens, delay) for delay in (1, 2)]
        await cm.wait()
    assert cm.outputs().count("parent 0") == 1
    with pytest.raises(RuntimeError, match=NEVER):
        raise error_of(handles[1])


@each_kind
async def test_it_is_looked_at_again_when_the_limit_is_lowered(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(4)) as cm:
        await cm.run(child, 5)
        handles = [await cm.run(parent, cm, 0.5) for _ in range(3)]
        await trio.sleep(1)
        assert [handle.state for handle in handles] == ["running"] * 3
        cm.limit = 2
        with trio.fail_after(6):
            await cm.wait()
    # Two had to go before a slot was free.
    assert sorted(type(handle.outcome).__name__ for handle in handles) == ["Failure", "Failure", "Success"]
    for handle in handles:
        if isinstance(handle.outcome, Failure):
            with pytest.raises(RuntimeError, match=NEVER):
                raise handle.outcome.error


@each_kind
async def test_a_limit_raised_in_time_prevents_it(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(parent, cm, delay) for delay in (1, 2)]
        await trio.sleep(1.5)
        cm.limit = 3
    assert all(isinstance(handle.outcome, Success) for handle in handles)


@each_kind
async def test_it_is_looked_at_when_a_pause_ends(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(parent, cm, delay) for delay in (1, 2)]
        cm.pause()
        await trio.sleep(5)
        assert [handle.state for handle in handles] == ["running", "running"]
        cm.resume()
        await cm.wait()
        assert trio.current_time() == 6
    with pytest.raises(RuntimeError, match=NEVER):
        raise error_of(handles[1])
    assert isinstance(handles[0].outcome, Success)


@pytest.mark.parametrize("limit", [5, 9])
async def test_who_waits_for_those_in_a_ring_is_not_told(limit: int, autojump_clock: MockClock) -> None:
    async def follow(other: int, delay: float) -> str:
        await trio.sleep(delay)
        return str(await handles[other].wait())

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit) as cm:
        handles = [cm.start_soon(follow, other, at) for at, other in enumerate([1, 0, 0, 2, 3], 1)]
        await trio.sleep(0.5)
        cm.pause()
        await trio.sleep(9)
        cm.resume()
        await cm.wait()
    assert [type(handle.outcome) for handle in handles] == [Success, Failure, Success, Success, Success]
    with pytest.raises(RuntimeError, match=HANDLE_NEVER):
        raise error_of(handles[1])


@each_kind
@pytest.mark.parametrize("delay", [0, 1.5])
async def test_who_waits_for_those_that_are_told_of_a_lowered_limit_is_not(
    delay: float, limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def item(_: object) -> str:
        return await parent(cm, 1)

    async def consume() -> bool:
        async with cm.map(item, [1]) as outcomes:
            return isinstance(await anext(outcomes), Failure)

    async def follow() -> bool:
        await trio.sleep(delay)  # who begins to wait after the item does is not the last one of the ring
        return isinstance(await consumer.wait(), Success)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(5)) as cm:
        consumer = cm.start_soon(consume)
        followers = [cm.start_soon(follow) for _ in range(2)]
        await cm.run(child, 5)
        await trio.sleep(2)
        cm.limit = 2
        # That the item is told is enough: the consumer has its outcome then, and who waits for that has his.
        assert [await handle.result() for handle in (consumer, *followers)] == [True] * 3
        assert trio.current_time() == 5


@each_kind
async def test_who_goes_on_when_one_is_told_counts_as_one_that_goes(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def follow() -> bool:
        return isinstance(await last.wait(), Failure)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(4)) as cm:
        first, last = [cm.start_soon(parent, cm, delay) for delay in (1, 2)]
        follower = cm.start_soon(follow)
        await cm.run(child, 5)
        await trio.sleep(4)
        cm.limit = 2
        # Two slots must be given back, and are: the follower has no reason to stay.
        assert await first.result() == "parent 1"
        assert trio.current_time() == 5
    assert await follower.result()
    with pytest.raises(RuntimeError, match=NEVER):
        raise error_of(last)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
@each_kind
async def test_an_item_that_awaits_the_consumer_of_its_map(
    is_late: bool, ordered: bool, is_async: bool, limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def item(number: int) -> str:
        await trio.sleep(1)
        if number == 1:
            await consumer.wait()
        return "item"

    async def as_async() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await trio.sleep(5)

    async def consume() -> int:
        async with cm.map(item, as_async() if is_async else range(3), ordered=ordered) as outcomes:
            taken = 0
            async for outcome in outcomes:
                taken += isinstance(outcome, Success)
                await trio.sleep(2 * is_late)
        return taken

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(9)) as cm:
        consumer = cm.start_soon(consume)
        with trio.fail_after(9):
            outcome = await consumer.wait()
    if isinstance(outcome, Success):  # the item was told
        assert outcome.value == 2
    else:  # it is the consumer that closes the ring, where slots are free
        with pytest.raises(
            RuntimeError, match=r"' for which its items wait in turn, so that neither .*" + OWN
        ):
            raise outcome.error


async def test_tokens_that_others_hold_may_come_back(autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limiter) as cm:

        async def foreigner() -> None:
            async with limiter:
                await trio.sleep(5)

        nursery.start_soon(foreigner)
        await wait_all_tasks_blocked()
        handles = [await cm.run(parent, cm, 0.5) for _ in range(2)]
        await cm.wait()
        # One after the other: the foreigner's token served both.
        assert trio.current_time() == 6
    assert all(isinstance(handle.outcome, Success) for handle in handles)


@each_kind
async def test_maps_that_are_consumed_in_all_tasks_are_told_too(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def consumer(delay: float) -> str:
        await trio.sleep(delay)
        async with cm.map(child, [1, 2]) as outcomes:
            return " ".join([outcome.value async for outcome in outcomes if isinstance(outcome, Success)])

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(consumer, delay) for delay in (1, 2)]
    with pytest.raises(RuntimeError, match=MAP_NEVER):
        raise error_of(handles[1])
    assert cm.outputs() == ["child child"]
    # From t=2 on its items ran on the slot of the one that was told.
    assert trio.current_time() == 5


@each_kind
async def test_items_of_a_map_are_tasks_like_others(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:

        async def item(delay: float) -> str:
            return await parent(cm, delay)

        async with cm.map(item, [1, 2]) as outcomes:
            errors += [outcome.error async for outcome in outcomes if isinstance(outcome, Failure)]
    (error,) = errors
    with pytest.raises(RuntimeError, match=NEVER):
        raise error


@each_kind
async def test_who_consumes_a_map_of_a_list_that_has_ended_waits_for_no_slot(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:

        async def consumer() -> list[float]:
            async with cm.map(child, [1]) as outcomes:
                ended = [trio.current_time() async for _ in outcomes]
            return [*ended, trio.current_time()]

        await cm.run(trio.sleep, 0.5)
        handle = await cm.run(consumer)
        await wait_all_tasks_blocked()
        cm.start_soon(parent, cm, 5)
    assert await handle.result() == [1.5, 1.5]
    assert cm.errors() == []


@each_kind
async def test_the_source_of_a_map_holds_no_slot(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:

        async def source() -> AsyncIterator[float]:
            await trio.sleep(2)
            await cm.run(child)
            yield 1

        await cm.run(child, 5)
        handle = await cm.run(parent, cm, 1)
        # Two wait in run, but one of the two slots is held by somebody else, and comes back.
        async with cm.map(child, source()) as outcomes:
            assert [type(outcome) async for outcome in outcomes] == [Success]
    assert isinstance(handle.outcome, Success)


@each_kind
async def test_the_source_of_a_map_in_a_task_counts_as_the_task(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def source() -> AsyncIterator[float]:
        await cm.run(child)
        yield 1

    async def consumer(delay: float) -> str:
        await trio.sleep(delay)
        async with cm.map(child, source()) as outcomes:
            return " ".join([outcome.value async for outcome in outcomes if isinstance(outcome, Success)])

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(consumer, delay) for delay in (1, 2)]
        with trio.fail_after(9):
            await cm.wait()
    with pytest.raises(RuntimeError, match=NEVER):
        raise error_of(handles[1])
    assert isinstance(handles[0].outcome, Success)


@pytest.mark.parametrize(
    "method, instead",
    [
        ("wait", "await the handles of the tasks you mean"),
        ("shutdown", "call it from the block, or from a task beside it"),
    ],
)
async def test_what_waits_for_all_tasks_is_refused_inside_one(
    method: str, instead: str, autojump_clock: MockClock
) -> None:
    message = (
        rf"^{method}\(\) was called from inside a task of 'conman', which would wait for itself: {instead}$"
    )
    outcomes_of_map: list[Any] = []
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:

        async def directly(_: object = None) -> None:
            await getattr(cm, method)()

        async def in_a_child() -> None:
            async with trio.open_nursery() as inner:
                inner.start_soon(getattr(cm, method))

        first, second = await cm.run(directly), await cm.run(in_a_child)
        async with cm.map(directly, [1]) as outcomes:
            outcomes_of_map += [outcome async for outcome in outcomes]
        # Nothing came of it.
        assert (await cm.run(trio.sleep, 1)).outcome is None
    with pytest.raises(RuntimeError, match=message):
        raise error_of(first)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match=message)):
        raise error_of(second)
    with pytest.raises(RuntimeError, match=message):
        raise outcomes_of_map[0].error


@pytest.mark.parametrize("method", ["wait", "shutdown"])
async def test_what_waits_for_all_tasks_is_refused_inside_what_a_map_draws_from(
    method: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cm.wait_running)
        await getattr(cm, method)()

    message = rf"^{method}\(\) was called from inside the source of a map of 'conman', which would "
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        handle = await cm.run(child, 3)
        async with cm.map(child, items()) as outcomes:
            record.append((await anext(outcomes)).args)
            with pytest.raises(RuntimeError, match=message):
                await anext(outcomes)
        # Nothing was ended.
        assert (await cm.run(child)).outcome is None
    assert record == [(1,)]
    assert isinstance(handle.outcome, Success)


async def test_a_token_that_comes_too_late_for_a_lowered_limit_leaves_a_ring(
    autojump_clock: MockClock,
) -> None:
    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery:
        # Somebody else's token might free those who wait: so far there is no ring.
        await limiter.acquire_on_behalf_of("somebody else")
        async with ConMan[str].open(nursery, limiter) as cm:
            handles = [await cm.run(parent, cm) for _ in range(2)]
            await wait_all_tasks_blocked()
            assert [handle.state for handle in handles] == ["running"] * 2
            limiter.release_on_behalf_of("somebody else")
            limiter.total_tokens = 2  # while the token is on its way
            with trio.fail_after(1):
                outcomes = [await handle.wait() for handle in handles]
    (told,) = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
    with pytest.raises(RuntimeError, match=NEVER):
        raise told
    assert limiter.borrowed_tokens == 0


@each_kind
async def test_an_item_that_comes_late_may_close_the_ring(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async def late() -> AsyncIterator[float]:
        await trio.sleep(5)
        yield 1

    async def consume(cm: ConMan[Any]) -> Exception:
        async with cm.map(lambda delay: parent(cm, delay), late()) as outcomes:
            (failure,) = [outcome async for outcome in outcomes if isinstance(outcome, Failure)]
        return failure.error

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:
        handle = cm.start_soon(consume, cm)
        error = await handle.result()
        assert trio.current_time() == 6
    with pytest.raises(RuntimeError, match=NEVER):
        raise error


# What a consumer waits for may change while it sleeps, in each tick in another order: for trio to choose.


@pytest.fixture
def each_order(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        for seed in range(20):
            monkeypatch.setattr("trio._core._run._r", random.Random(seed))
            trio.run(main, clock=MockClock(autojump_threshold=0))

    return run


EachOrder: TypeAlias = Callable[[Callable[[], Awaitable[None]]], None]


async def in_turn(waits: Sequence[float | trio.Event]) -> AsyncIterator[float]:
    """An item of one second after each wait."""
    for each in waits:
        await (each.wait() if isinstance(each, trio.Event) else trio.sleep(each))
        yield 1


async def consume(cm: ConMan[Any], waits: Sequence[float | trio.Event]) -> int:
    async with cm.map(child, in_turn(waits)) as outcomes:
        return len([outcome async for outcome in outcomes if isinstance(outcome, Success)])


def test_consumers_that_wait_for_a_source_are_in_no_ring(each_order: EachOrder) -> None:
    async def later(cm: ConMan[Any]) -> int:
        await trio.sleep(2)
        return await consume(cm, [0, 10])

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
            handles = [cm.start_soon(consume, cm, [0, 10]), cm.start_soon(later, cm)]
            await trio.sleep(6)
            cm.pause()
            cm.resume()
            assert [await handle.result() for handle in handles] == [2, 2]

    each_order(main)


def test_a_place_in_the_line_that_is_needed_no_more_is_in_no_ring(each_order: EachOrder) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            handle = cm.start_soon(consume, cm, [0, 0, 50])
            await trio.sleep(1.5)
            cm.pause()
            await trio.sleep(1.5)
            cm.resume()
            assert await handle.result() == 3

    each_order(main)


def test_a_limit_that_is_lowered_while_a_worker_has_no_item_closes_no_ring(each_order: EachOrder) -> None:
    async def main() -> None:
        ended = trio.Event()

        class Ended(Instrument):
            def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
                ended.set()

        async def one() -> AsyncIterator[float]:
            yield 1
            await trio.sleep(5)

        async def lowering(cm: ConMan[Any]) -> None:
            async with cm.map(child, one()) as outcomes:
                async for _ in outcomes:
                    cm.limit = 2

        async def ask(cm: ConMan[Any]) -> None:
            await ended.wait()
            await cm.run(child)

        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 3, instruments=[Ended()]) as cm:
                cm.start_soon(lowering, cm)
                handle = cm.start_soon(ask, cm)
                await handle.result()

    each_order(main)


def test_a_consumer_that_has_an_outcome_is_in_no_ring(each_order: EachOrder) -> None:
    async def main() -> None:
        ended = trio.Event()

        class Ended(Instrument):
            def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
                ended.set()

        async def ask(cm: ConMan[Any]) -> None:
            await cm.run(child)

        async def first_of(cm: ConMan[Any]) -> object:
            async with cm.map(child, in_turn([0, ended])) as outcomes:
                return await anext(outcomes)

        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2, instruments=[Ended()]) as cm:
                handle = cm.start_soon(first_of, cm)
                await trio.sleep(0.5)
                cm.start_soon(ask, cm)
                assert isinstance(await handle.result(), Success)

    each_order(main)


def test_a_consumer_whose_wait_was_cancelled_is_in_no_ring(each_order: EachOrder) -> None:
    async def main() -> None:
        scope = trio.CancelScope()
        more = trio.Event()

        async def until_cancelled(cm: ConMan[Any]) -> list[object]:
            taken: list[object] = []
            async with cm.map(child, in_turn([0, more])) as outcomes:
                with scope:
                    while True:
                        taken.append(await anext(outcomes))
                await trio.sleep(0.5)
                taken.append(await anext(outcomes))
            return taken

        async def ask(cm: ConMan[Any]) -> None:
            await trio.sleep(3)
            more.set()
            scope.cancel()
            with trio.move_on_after(0.1):
                await cm.run(child)

        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            handle = cm.start_soon(until_cancelled, cm)
            await trio.sleep(0.5)
            cm.start_soon(ask, cm)
            assert [type(each) for each in await handle.result()] == [Success, Success]

    each_order(main)


async def test_one_of_two_consumers_gives_up_and_the_other_stays_in_the_ring(
    autojump_clock: MockClock,
) -> None:
    async def both(cm: ConMan[Any]) -> None:
        await trio.sleep(0.1)
        async with cm.map(child, [1, 1, 1]) as outcomes, trio.open_nursery() as nursery:

            async def drain() -> None:
                async for _ in outcomes:
                    pass

            nursery.start_soon(drain)
            await trio.sleep(0.1)
            with trio.move_on_after(0.2):
                await anext(outcomes)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        cm.start_soon(both, cm)
        # Its run() waits for the slot of the item, which goes to the next one.
        handle = cm.start_soon(parent, cm, 0.5)
        with trio.fail_after(20):
            await handle.wait()
    assert cm.statistics().failed >= 1


# Handles that are awaited


async def awaiting(cm: ConMan[str], delay: float = 0) -> str:
    """Queue a task after `delay` seconds, and wait until it has ended."""
    await trio.sleep(delay)
    return await cm.start_soon(child).result()


@each_kind
@pytest.mark.parametrize("limit", [2, 3])
async def test_the_last_of_those_who_hold_all_slots_and_await_handles_is_told(
    limit: int, limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(limit)) as cm:
        handles = [await cm.run(awaiting, cm, delay) for delay in range(1, limit + 1)]
        await handles[-1].wait()
        assert trio.current_time() == limit
        with pytest.raises(RuntimeError, match=HANDLE_NEVER):
            raise error_of(handles[-1])
    # What they have queued was accepted.
    assert cm.outputs() == ["child"] * (2 * limit - 1)
    assert cm.statistics().failed == 1


async def test_a_task_that_awaits_one_that_waits_for_a_slot_waits_for_it_too(
    autojump_clock: MockClock,
) -> None:
    async def tower(height: int) -> int:
        return 1 + await (await cm.run(tower, height - 1)).result() if height else 0

    for limit in (2, 3, 4, 5):
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit) as cm:
            handle = await cm.run(tower, 4)
        if limit < 5:
            with pytest.raises(RuntimeError, match=f"{NEVER}|{HANDLE_NEVER}"):  # who is last is chance
                raise error_of(handle)
        else:
            assert await handle.result() == 4
    assert trio.current_time() == 0


@each_kind
async def test_a_handle_is_awaited_where_a_slot_can_get_free(
    limit_of: MakeLimit, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit_of(2)) as cm:
        await cm.run(child, 5)
        handle = await cm.run(awaiting, cm)
        with trio.move_on_after(2):
            await handle.wait()  # from outside it is no wait for a slot
        assert await handle.result() == "child"
        assert trio.current_time() == 6


async def test_a_wait_for_a_handle_that_is_cancelled_is_forgotten(autojump_clock: MockClock) -> None:
    async def impatient() -> str:
        queued = cm.start_soon(child)
        with trio.move_on_after(1):
            await queued.wait()
        await trio.sleep(1)
        return "impatient"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        for delay in (0, 1):
            await cm.run(impatient)
            await trio.sleep(1.5 - delay)
    assert cm.errors() == []
    assert sorted(cm.outputs()) == ["child", "child", "impatient", "impatient"]


async def fail() -> str:
    raise RetriableError("busy", retry_config=RetryConfig.linear(initial_delay=9, max_delay=9))


@pytest.mark.parametrize("has_key", [False, True])
async def test_who_awaits_one_that_he_has_cancelled_in_its_backoff_is_in_no_ring(
    has_key: bool, autojump_clock: MockClock
) -> None:
    async def impatient() -> str:
        await trio.sleep(1)
        handle.cancel()
        return type(await handle.wait()).__name__

    per_key = KeyedLimit(1, key=lambda: "one") if has_key else None
    limiter = trio.CapacityLimiter(2 if has_key else 1)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limiter, per_key=per_key) as cm:
        handle = cm.start_soon(fail)
        cm.start_soon(impatient)
    assert trio.current_time() == 1
    assert cm.outputs() == ["Failure"]


async def test_who_awaits_one_that_is_cancelled_in_this_very_instant_is_in_no_ring(
    autojump_clock: MockClock,
) -> None:
    async def awaits_the_other() -> str:
        return str(await handles[1].wait())

    async def cancels_the_other() -> str:
        await trio.sleep(1)
        handles[0].cancel()
        return type(await handles[0].wait()).__name__

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        handles = [cm.start_soon(awaits_the_other), cm.start_soon(cancels_the_other)]
    assert trio.current_time() == 1
    assert cm.outputs() == ["Failure"]


@pytest.mark.parametrize("is_map", [False, True])
async def test_who_waits_for_a_retry_that_was_cancelled_in_this_very_instant_is_in_no_ring(
    is_map: bool, autojump_clock: MockClock
) -> None:
    class Watch(Instrument):
        def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
            backing_off.append(handle)

    async def waits_for_it() -> str:
        if not is_map:
            return type(await cm.start_soon(fail).wait()).__name__
        async with cm.map(lambda _: fail(), [None]) as outcomes:
            return type(await anext(outcomes)).__name__

    async def cancels_it() -> str:
        await trio.sleep(1)
        backing_off[0].cancel()
        return await (await cm.run(child)).result()

    backing_off: list[TaskHandle[Any]] = []
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 3, instruments=[Watch()]) as cm:
            cm.start_soon(waits_for_it)
            cm.start_soon(cancels_it)
            await trio.sleep(0.5)
            cm.limit = 2
    assert trio.current_time() == 2
    assert cm.outputs() == ["Failure", "child", "child"]


async def test_a_wait_for_a_handle_in_a_cancelled_scope_is_in_no_ring(autojump_clock: MockClock) -> None:
    async def looks_at_itself() -> str:
        with trio.move_on_after(0) as scope:
            await handles[0].wait()
        return f"cancelled: {scope.cancelled_caught}"

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        handles = [cm.start_soon(looks_at_itself)]
    assert cm.outputs() == ["cancelled: True"]


async def test_what_waits_for_handles_while_paused_is_told_at_the_end_of_the_pause(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:
        handles = [await cm.run(awaiting, cm) for _ in range(2)]
        cm.pause()
        await trio.sleep(3)
        assert [handle.state for handle in handles] == ["running", "running"]
        cm.resume()
        await trio.sleep(0)
        await wait_all_tasks_blocked()
        assert [handle.state for handle in handles] == ["running", "done"]
        with pytest.raises(RuntimeError, match=HANDLE_NEVER):
            raise error_of(handles[1])


async def test_a_handle_of_another_manager_is_no_slot_of_ones_own(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, 2) as other, ConMan[str].open(nursery, 2) as cm:
            for _ in range(2):
                await cm.run(awaiting, other, 1)
    assert cm.outputs() == ["child", "child"]


async def test_who_awaits_a_task_that_lacks_the_key_of_who_awaits_it_is_told(
    autojump_clock: MockClock,
) -> None:
    async def of(key: str) -> str:
        return key

    async def waits(key: str) -> str:
        return await cm.start_soon(of, key).result()

    keys = KeyedLimit(1, key=lambda key: key)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 5, per_key=keys) as cm:
        handle = await cm.run(waits, "a")
        await cm.run(waits, "b")
    with pytest.raises(RuntimeError, match=HANDLE_NEVER):
        raise error_of(handle)
    assert len(cm.errors()) == 2
    assert sorted(cm.outputs()) == ["a", "b"]


async def test_who_was_cancelled_and_waits_on_behind_a_shield_is_in_a_ring(autojump_clock: MockClock) -> None:
    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await handles[1].wait()

    async def other() -> None:
        await trio.sleep(2)
        await handles[0].wait()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 9) as cm:
        handles: list[TaskHandle[Any]] = [cm.start_soon(shielded), cm.start_soon(other)]
        await trio.sleep(1)
        handles[0].cancel()
        with trio.fail_after(2):
            outcome = await handles[1].wait()
    assert isinstance(outcome, Failure)
    assert str(outcome.error).startswith(
        "a handle was awaited inside a task of 'conman' for which its own task"
    )
