"""A `map` among others: its place in the line, maps inside of maps, the limit, a pause, and `wait`."""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import each_kind
from trio_conman import ConMan, Failure, Outcome, Success

variable: ContextVar[int] = ContextVar("variable")


async def second(value: int) -> int:
    await trio.sleep(1)
    return value


async def ready_items(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


each_source = pytest.mark.parametrize("source", [range, ready_items])


class Log:
    """Which item started when: all those of one second as one string."""

    def __init__(self) -> None:
        self.started: dict[float, list[str]] = {}

    def item(self, name: str, seconds: float = 1) -> Callable[[int], Any]:
        async def run(_: int) -> None:
            self.started.setdefault(trio.current_time(), []).append(name)
            await trio.sleep(seconds)

        return run

    def starts(self) -> dict[float, str]:
        return {when: "".join(sorted(names)) for when, names in self.started.items()}


async def drain(cm: ConMan[Any], fn: Callable[[int], Any], items: Any) -> list[Outcome[Any]]:
    async with cm.map(fn, items) as outcomes:
        return [outcome async for outcome in outcomes]


# The line


async def test_two_maps_and_a_feeding_loop_share_the_slots(autojump_clock: MockClock) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, 2) as cm,
        trio.open_nursery() as consumers,
    ):
        consumers.start_soon(drain, cm, log.item("a"), range(7))
        await wait_all_tasks_blocked()
        consumers.start_soon(drain, cm, log.item("b"), range(5))
        await wait_all_tasks_blocked()
        for number in range(4):
            await cm.run(log.item("r"), number)
    # A map is in the line again as soon as its item starts, the loop only when it calls again.
    assert log.starts() == {0: "aa", 1: "ab", 2: "ar", 3: "ab", 4: "br", 5: "ab", 6: "ar", 7: "br"}


@each_source
async def test_no_map_waits_long_for_its_turn(source: Any, autojump_clock: MockClock) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, 2) as cm,
        trio.open_nursery() as consumers,
    ):
        for name in "abcd":
            consumers.start_soon(drain, cm, log.item(name), source(10))
            await wait_all_tasks_blocked()
    starts = log.starts()
    for turn in range(1, 17, 2):
        # Each of the four has one of the four slots of two seconds.
        assert sorted(starts[turn] + starts[turn + 1]) == list("abcd")


@each_kind
async def test_queued_tasks_and_a_map_start_in_the_order_of_submission(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    log = Log()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        async with cm.map(log.item("m"), range(6)) as outcomes:
            await wait_all_tasks_blocked()
            for number in range(4):
                cm.start_soon(log.item("s"), number)
            assert len([outcome async for outcome in outcomes]) == 6
    assert log.starts() == {0: "mm", 1: "ms", 2: "ss", 3: "ms", 4: "mm"}


async def test_run_nowait_overtakes_no_map_that_waits(autojump_clock: MockClock) -> None:
    log = Log()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        async with cm.map(log.item("m"), range(6)) as outcomes:
            async for _ in outcomes:
                if trio.current_time() < 3:
                    with pytest.raises(trio.WouldBlock):
                        cm.run_nowait(log.item("r"), 0)
            cm.run_nowait(log.item("r"), 0)
    assert log.starts() == {0: "mm", 1: "mm", 2: "mm", 3: "r"}


@each_source
async def test_managers_that_share_a_limiter_take_turns(source: Any, autojump_clock: MockClock) -> None:
    log = Log()
    limiter = trio.CapacityLimiter(2)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limiter) as one, ConMan[None].open(nursery, limiter) as two:
            async with trio.open_nursery() as consumers:
                consumers.start_soon(drain, one, log.item("a"), source(6))
                await wait_all_tasks_blocked()
                consumers.start_soon(drain, two, log.item("b"), source(4))
                await wait_all_tasks_blocked()
                assert limiter.borrowed_tokens == 2
    assert log.starts() == {0: "aa", 1: "ab", 2: "ab", 3: "ab", 4: "ab"}
    assert limiter.borrowed_tokens == 0


@each_kind
async def test_a_map_that_may_not_draw_holds_no_slot(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        async with cm.map(second, range(10)) as outcomes:
            await trio.sleep(5)
            now = cm.statistics()
            assert (now.running, now.submitted) == (0, 4)
            handles = [await cm.run(second, number) for number in range(2)]
            assert [(await handle.wait()).waited for handle in handles] == [0, 0]
            assert len([outcome async for outcome in outcomes]) == 10


async def keep_busy(cm: ConMan[Any], seconds: float) -> None:
    """Have other tasks in all slots, and in the line."""
    for _ in range(4):
        cm.start_soon(trio.sleep, seconds)
    await wait_all_tasks_blocked()


each_list = pytest.mark.parametrize("items", [[1, 2], (1, 2), range(1, 3)], ids=["list", "tuple", "range"])


@each_list
@pytest.mark.parametrize("busy", ["line", "pause"])
async def test_a_map_needs_no_slot_to_see_that_a_list_has_ended(
    busy: str, items: Any, autojump_clock: MockClock
) -> None:
    got: list[tuple[float, int]] = []
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, trio.CapacityLimiter(1)) as cm:
        with trio.fail_after(99):
            async with cm.map(second, items) as outcomes:
                async for outcome in outcomes:
                    assert isinstance(outcome, Success)
                    got.append((trio.current_time(), outcome.value))
                    if outcome.value == 2 and busy == "pause":
                        cm.pause()
                    elif outcome.value == 1 and busy == "line":
                        await keep_busy(cm, 10)
        assert (got, trio.current_time()) == ([(1, 1), (2, 2)], 2)
        cm.cancel()


@pytest.mark.usefixtures("order")
@each_kind
@pytest.mark.parametrize("busy", ["line", "pause"])
async def test_a_map_whose_worker_has_a_slot_sees_without_it_that_a_list_has_ended(
    busy: str, limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:
        cm.start_soon(trio.sleep, 99)
        with trio.fail_after(9):
            async with cm.map(second, [1], lookahead=1) as outcomes:
                async for _ in outcomes:
                    if busy == "pause":
                        cm.pause()
                    else:
                        await keep_busy(cm, 99)
        assert trio.current_time() == 1
        cm.cancel()


async def test_a_map_over_an_empty_list_waits_for_nobody(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        await keep_busy(cm, 10)
        assert await drain(cm, second, []) == []
        assert trio.current_time() == 0


async def test_a_list_that_has_grown_has_not_ended(autojump_clock: MockClock) -> None:
    items = [1]
    got: list[int] = []
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, trio.CapacityLimiter(1)) as cm:
        await keep_busy(cm, 1)
        async with cm.map(second, items) as outcomes:
            async for outcome in outcomes:
                got.append(outcome.args[0])
                if len(items) < 3:
                    items.append(len(items) + 1)
    assert got == [1, 2, 3]


# Inside


@each_kind
@each_source
async def test_maps_inside_of_the_items_of_a_map(
    limit_of: Callable[[int], Any], source: Any, autojump_clock: MockClock
) -> None:
    async def outer(value: int) -> int:
        return len([each for each in await drain(cm, second, source(3)) if isinstance(each, Success)])

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(3)) as cm:
        outcomes = await drain(cm, outer, range(2))
        # The inner items run one after the other, on the slot that the outer ones leave. A source that has
        # the next item at once may ask for its second slot before the other one asks for its first.
        assert trio.current_time() in ([5, 6] if source is ready_items else [6])
    assert [outcome.value for outcome in outcomes if isinstance(outcome, Success)] == [3, 3]
    assert cm.statistics().succeeded == 8


@each_kind
@each_source
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_inside_that_could_never_end_is_told_so(
    limit_of: Callable[[int], Any], source: Any, ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def outer(value: int) -> int:
        await trio.sleep(value + 1)
        async with cm.map(second, source(2), ordered=ordered) as outcomes:
            return sum([outcome.value async for outcome in outcomes if isinstance(outcome, Success)])

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        for number in range(2):
            await cm.run(outer, number)
        await cm.wait()
        # The last one that would wait is told, at t=2, and with its slot the other goes on.
        assert trio.current_time() == 4
        assert [outcome.args for outcome in cm.outcomes()] == [(1,), (0,)]
    assert cm.outputs() == [1]
    (error,) = cm.errors()
    text = "a map was consumed inside a task of 'conman' while .*: give the inner work a manager of its own "
    text += r"\(see .What goes wrong. in the docs\)"
    with pytest.raises(RuntimeError, match=f"^{text}$"):
        raise error


@each_kind
async def test_a_lower_limit_may_close_the_ring(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async def outer(value: int) -> int:
        await trio.sleep(1)
        return len(await drain(cm, second, range(2)))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(3)) as cm:
        await cm.run(outer, 0)
        await cm.run(outer, 1)
        await trio.sleep(1.5)
        cm.limit = 2
        # At t=2 the one that had the third slot would wait for another one.
        await cm.wait()
        assert trio.current_time() == 4
    assert cm.outputs() == [2]
    assert [type(error) for error in cm.errors()] == [RuntimeError]


@each_kind
async def test_the_end_of_a_pause_may_close_the_ring(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async def outer(value: int) -> int:
        await trio.sleep(1 + value)
        return len(await drain(cm, second, range(2)))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        handles = [await cm.run(outer, number) for number in range(2)]
        cm.pause()
        await trio.sleep(5)
        assert [handle.outcome for handle in handles] == [None, None]
        cm.resume()
        await cm.wait()
        assert trio.current_time() == 7
    assert cm.outputs() == [2]
    assert [(outcome.args, outcome.elapsed) for outcome in cm.outcomes()] == [((1,), 5), ((0,), 7)]
    assert [type(error) for error in cm.errors()] == [RuntimeError]


async def test_a_consumer_in_a_child_of_a_task_is_inside_too(autojump_clock: MockClock) -> None:
    async def outer(value: int) -> None:
        await trio.sleep(1)  # so that both have started
        async with trio.open_nursery() as children:
            children.start_soon(drain, cm, second, range(2))

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        await cm.run(outer, 0)
        await cm.run(outer, 1)
        await cm.wait()
    assert len(cm.outputs()) == 1
    (error,) = cm.errors()
    assert pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="^a map was consumed inside a task of 'conman' ")
    ).matches(error)


async def test_a_ring_of_maps_and_runs(autojump_clock: MockClock) -> None:
    async def runs(value: int) -> None:
        await trio.sleep(2)
        await cm.run(second, 1)

    async def maps(value: int) -> int:
        await trio.sleep(1)  # so that both have started
        return len(await drain(cm, second, range(2)))

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        await cm.run(maps, 0)
        await cm.run(runs, 0)
        await cm.wait()
        assert trio.current_time() == 4
    assert cm.outputs() == [2]
    (error,) = cm.errors()
    with pytest.raises(RuntimeError, match=r"^run\(\) was called inside a task of 'conman' "):
        raise error


async def test_a_blocking_input_inside_closes_no_ring_until_it_has_an_item(autojump_clock: MockClock) -> None:
    async def items() -> AsyncIterator[int]:
        await trio.sleep(1)
        yield 0

    async def outer(value: int) -> int:
        return len(await drain(cm, second, items()))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(outer, 0)
        await trio.sleep(0.5)
        await cm.run(outer, 1)
        await cm.wait()
        assert trio.current_time() == 2.5
    assert cm.outputs() == [1]
    assert [type(error) for error in cm.errors()] == [RuntimeError]


# The limit, and a pause


@each_kind
@each_source
async def test_a_higher_limit_starts_exactly_as_many_more(
    limit_of: Callable[[int], Any], source: Any, autojump_clock: MockClock
) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, limit_of(2)) as cm,
        trio.open_nursery() as consumers,
    ):
        consumers.start_soon(drain, cm, log.item("m", 10), source(7))
        await trio.sleep(1)
        cm.limit = 4
    assert log.starts() == {0: "mm", 1: "mm", 10: "mm", 11: "m"}


async def test_a_map_that_waits_has_all_free_slots_before_who_comes_then(
    autojump_clock: MockClock,
) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, 2) as cm,
        trio.open_nursery() as consumers,
    ):
        consumers.start_soon(drain, cm, log.item("m", 10), range(4))
        await trio.sleep(1)
        cm.pause()
        await trio.sleep(10)
        cm.resume()
        cm.start_soon(log.item("t"), 0)
    assert log.starts() == {0: "mm", 11: "mm", 21: "t"}


@each_kind
@each_source
async def test_a_lower_limit_ends_nobody_and_starts_fewer(
    limit_of: Callable[[int], Any], source: Any, autojump_clock: MockClock
) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, limit_of(4)) as cm,
        trio.open_nursery() as consumers,
    ):
        consumers.start_soon(drain, cm, log.item("m"), source(10))
        await trio.sleep(0.5)
        cm.limit = 2
    assert log.starts() == {0: "mmmm", 1: "mm", 2: "mm", 3: "mm"}


@each_source
async def test_a_higher_limit_lets_more_be_drawn_at_once(source: Any, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        async with cm.map(second, source(20)):
            await trio.sleep(5)
            assert cm.statistics().submitted == 4
            cm.limit = 4
            await trio.sleep(0.5)
            assert cm.statistics().running == 4


@each_kind
@each_source
async def test_a_pause_holds_back_the_items(
    limit_of: Callable[[int], Any], source: Any, autojump_clock: MockClock
) -> None:
    log = Log()
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(2)) as cm:
        async with cm.map(log.item("m"), source(6)) as outcomes:
            await trio.sleep(0.5)
            cm.pause()
            assert [(await anext(outcomes)).elapsed for _ in range(2)] == [1, 1]
            await trio.sleep(4)
            cm.resume()
            assert len([outcome async for outcome in outcomes]) == 4
    assert log.starts() == {0: "mm", 5: "mm", 6: "mm"}


@each_source
async def test_a_map_that_is_entered_during_a_pause(source: Any, autojump_clock: MockClock) -> None:
    log = Log()
    async with (
        trio.open_nursery() as nursery,
        ConMan[None].open(nursery, 2) as cm,
        trio.open_nursery() as consumers,
    ):
        cm.pause()
        consumers.start_soon(drain, cm, log.item("m"), source(3))
        await trio.sleep(5)
        cm.resume()
    assert log.starts() == {5: "mm", 6: "m"}


async def test_items_may_pause_and_resize_their_manager(autojump_clock: MockClock) -> None:
    log = Log()

    async def item(value: int) -> None:
        if value == 1:
            cm.limit = 3
        if value == 2:
            cm.pause()
        await log.item(str(value))(value)
        if value == 2:
            cm.resume()

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        assert len(await drain(cm, item, range(5))) == 5
    assert log.starts() == {0: "012", 1: "34"}


# Waiting until idle


@each_source
async def test_wait_waits_for_the_items(source: Any, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(drain, cm, second, source(6))
        await wait_all_tasks_blocked()
        await cm.wait()
        assert trio.current_time() == 3
        assert cm.statistics().succeeded == 6


async def test_wait_waits_for_items_that_change_their_context(autojump_clock: MockClock) -> None:
    async def item(value: int) -> None:
        variable.set(value)
        await trio.sleep(1)

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        nursery.start_soon(drain, cm, item, range(40))
        await wait_all_tasks_blocked()
        await cm.wait()
        assert trio.current_time() == 20


@each_kind
async def test_wait_waits_for_a_map_that_waits_for_its_slots(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    # Wherever a slot passes from a task to a map there might be a moment in which nothing is running.
    for _ in range(20):
        start = trio.current_time()
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
            for number in range(2):
                await cm.run(second, number)
            nursery.start_soon(drain, cm, second, range(2))
            await wait_all_tasks_blocked()
            await cm.wait()
            assert trio.current_time() == start + 2


@each_kind
async def test_leaving_the_block_waits_for_a_map_that_waits_for_its_slots(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    for _ in range(20):
        start = trio.current_time()
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
            for number in range(2):
                await cm.run(second, number)
            nursery.start_soon(drain, cm, second, range(2))
            await wait_all_tasks_blocked()
        assert trio.current_time() == start + 2


async def test_a_paused_map_is_resumed_by_leaving_the_block(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def read() -> None:
        record.extend(isinstance(outcome, Failure) for outcome in await drain(cm, second, range(4)))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        nursery.start_soon(read)
        await trio.sleep(0.5)
        cm.pause()
        await trio.sleep(5)
    assert record == [False] * 4


@each_kind
async def test_a_pause_holds_the_items_back_that_were_about_to_be_drawn(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    drawn: list[float] = []

    def items() -> Iterator[float]:
        for _ in range(3):
            drawn.append(trio.current_time())
            yield 1

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(3)) as cm:
        async with cm.map(trio.sleep, items()) as outcomes:
            cm.pause()
            await trio.sleep(5)
            assert drawn == []
            cm.resume()
            assert [type(outcome) async for outcome in outcomes] == [Success] * 3
    assert drawn == [5, 5, 5]


@each_kind
async def test_a_lower_limit_holds_the_item_back_that_was_about_to_be_drawn(
    limit_of: Callable[[int], Any], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limit_of(3)) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 2)
        async with cm.map(trio.sleep, [1]) as outcomes:
            cm.limit = 2
            assert [outcome.index async for outcome in outcomes] == [0]
            assert trio.current_time() == 3


@each_kind
def test_who_comes_while_there_is_no_room_has_the_slot(
    limit_of: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def note(started: list[float]) -> None:
        started.append(trio.current_time())

    async def main() -> None:
        started: list[float] = []
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit_of(2)) as cm:
            async with cm.map(second, range(8)) as outcomes:
                await trio.sleep(2)
                # Four outcomes are there, or will be in this tick, and so there is no room.
                cm.start_soon(note, started)
                for _ in range(4):
                    await anext(outcomes)
                await trio.sleep(0.5)
                assert started == [2]
                async for _ in outcomes:
                    pass

    # Whether the workers have their turn before is for trio to choose.
    for seed in range(20):
        monkeypatch.setattr("trio._core._run._r", random.Random(seed))
        trio.run(main, clock=MockClock(autojump_threshold=0))


# A shared limiter that is at 0


@pytest.mark.usefixtures("limit_of_0")
@each_source
@pytest.mark.parametrize("ordered", [False, True])
async def test_a_map_on_a_limiter_at_0_goes_on_when_anybody_raises_it(
    source: Any, ordered: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(0)

    async def raise_it() -> None:
        await trio.sleep(3)
        limiter.total_tokens = 2

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        nursery.start_soon(raise_it)
        with trio.fail_after(60):
            async with cm.map(second, source(8), ordered=ordered) as outcomes:
                record.extend([trio.current_time() async for _ in outcomes])
    assert record == [4, 4, 5, 5, 6, 6, 7, 7]


@pytest.mark.usefixtures("limit_of_0")
@each_source
@pytest.mark.parametrize("pace", [0, 0.25, 2])
async def test_a_running_map_goes_on_after_its_limiter_was_at_0(
    source: Any, pace: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    limiter = trio.CapacityLimiter(2)

    async def set_it() -> None:
        await trio.sleep(1.5)
        limiter.total_tokens = 0
        await trio.sleep(20)
        # Its consumer has caught up, and nothing runs.
        assert limiter.statistics().tasks_waiting == 1
        assert not list(limiter.statistics().borrowers)
        limiter.total_tokens = 2

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        nursery.start_soon(set_it)
        with trio.fail_after(60):
            async with cm.map(second, source(10)) as outcomes:
                async for outcome in outcomes:
                    record.append((trio.current_time(), outcome.index))
                    await trio.sleep(pace)
    assert sorted(index for _, index in record) == list(range(10))
    assert len([None for when, _ in record if when > 21]) >= 5


@pytest.mark.usefixtures("limit_of_0")
async def test_at_0_an_async_source_is_asked_for_one_item_and_no_more(autojump_clock: MockClock) -> None:
    drawn: list[float] = []

    async def items() -> AsyncIterator[int]:
        for number in range(10):
            drawn.append(trio.current_time())
            yield number

    limiter = trio.CapacityLimiter(0)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        async with cm.map(second, items()):
            await trio.sleep(10)
        assert drawn == [0]
        limiter.total_tokens = 1
        async with cm.map(second, items()) as outcomes:
            await trio.sleep(5)
            limiter.total_tokens = 0
            await anext(outcomes)  # another one is there
            await trio.sleep(5)
            assert drawn == [0, 10, 10]


@pytest.mark.usefixtures("limit_of_0")
@each_source
async def test_maps_of_two_managers_go_on_after_0(source: Any, autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(0)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limiter) as one, ConMan[int].open(nursery, limiter) as two:
            with trio.fail_after(60):
                async with trio.open_nursery() as consumers:
                    consumers.start_soon(drain, one, second, source(4))
                    consumers.start_soon(drain, two, second, source(4))
                    await trio.sleep(5)
                    one.limit = 2
    assert trio.current_time() == 9
    assert one.statistics().succeeded == two.statistics().succeeded == 4


async def test_a_map_draws_no_more_than_a_limiter_that_was_lowered_without_a_word_allows(
    autojump_clock: MockClock,
) -> None:
    limiter, numbers = trio.CapacityLimiter(4), iter(range(20))
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limiter) as cm:
        async with cm.map(second, numbers) as outcomes:
            await trio.sleep(0.5)
            limiter.total_tokens = 1
            await trio.sleep(10)
            assert cm.statistics().submitted == 4
            for _ in range(3):
                await anext(outcomes)
            await trio.sleep(10)
    assert cm.statistics().submitted == next(numbers) == 5
