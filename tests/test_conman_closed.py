"""A manager that accepts nothing more, and one whose nursery ends it."""

# ruff: noqa: PT012
# What raises in these tests is a whole block, at its end.

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, ConManClosedError, Failure, StopReason, TaskCancelledError


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt and its like."""


INTERRUPTS = [Interrupt(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()]
each_interrupt = pytest.mark.parametrize("interrupt", INTERRUPTS, ids=lambda each: type(each).__name__)


async def job(value: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return value


async def refused(cm: ConMan[int], record: list[Any]) -> None:
    """Wait for a slot until the manager refuses; record when it does."""
    with pytest.raises(ConManClosedError):
        await cm.run(job, 9, 1)
    record.append(trio.current_time())


async def leave(cm: ConMan[int]) -> None:
    """End the block by doing nothing more."""


async def shut_down(cm: ConMan[int]) -> None:
    await cm.shutdown()


async def raise_something(cm: ConMan[int]) -> None:
    raise KeyError


async def cancel(cm: ConMan[int]) -> None:
    cm.cancel()
    await trio.sleep_forever()


async def time_out(cm: ConMan[int]) -> None:
    cm.cancel_scope.deadline = trio.current_time()
    await trio.sleep_forever()


End = Callable[[ConMan[int]], Awaitable[None]]


@asynccontextmanager
async def nursery_elsewhere() -> AsyncIterator[tuple[trio.Nursery, list[BaseException]]]:
    """A nursery that belongs to another trio task than the body's; and what leaves it."""
    left: list[BaseException] = []

    async def hold(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await trio.sleep_forever()
        except BaseException as error:
            left.append(error)
            if isinstance(error, trio.Cancelled):
                raise

    async with trio.open_nursery() as outer:
        yield await outer.start(hold), left
        outer.cancel_scope.cancel()


@pytest.mark.parametrize(
    "end, why",
    [
        (leave, "its block has ended"),
        (shut_down, "it was shut down"),
        (raise_something, "the block of 'pages' was left by KeyError"),
        (cancel, "'pages' was cancelled"),
        (time_out, "the deadline of 'pages' passed"),
    ],
)
async def test_after_the_block_nothing_is_accepted_and_all_else_works(
    end: End, why: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with suppress(KeyError):
            async with ConMan[int].open(nursery, 2, name="pages") as cm:
                await cm.run(job, 1, 1)
                await trio.sleep(2)
                await end(cm)
        refusal = rf"^'pages' is closed and accepts no more tasks: {why} \(see"
        with pytest.raises(ConManClosedError, match=refusal):
            await cm.run(job, 2, 1)
        with pytest.raises(ConManClosedError, match=refusal):
            cm.run_nowait(job, 2, 1)
        with assert_checkpoints():
            await cm.wait()
        await cm.shutdown()
        cm.cancel()
        with pytest.raises(ConManClosedError, match=refusal):
            cm.start_soon(job, 2, 1)
        cm.limit = 5
        assert cm.limit == 5
        assert cm.timed_out == (end is time_out)
        assert (cm.outputs(), cm.errors()) == ([1], [])
        assert cm.statistics().submitted == 1
        cm.raise_errors()
        assert [outcome.index for outcome in cm.pop_outcomes()] == [0]
        assert cm.outcomes() == []
        assert trio.current_time() == 2


async def test_a_wrong_task_is_refused_as_such_by_a_closed_manager_too() -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        pass
    with pytest.raises(TypeError, match=r"pass fn, \*args, not fn\(\*args\)$"):
        cm.run_nowait(job(1, 1))  # type: ignore[call-overload]  # the mistake to be told


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize("end", [raise_something, cancel, time_out])
async def test_a_run_that_waits_elsewhere_is_refused_when_the_manager_ends(
    end: End, given: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    limit = trio.CapacityLimiter(2) if given else 2
    async with trio.open_nursery() as nursery:
        with suppress(KeyError):
            async with ConMan[int].open(nursery, limit) as cm:
                await cm.run(job, 1, 10)
                await cm.run(job, 2, 10)
                for _ in range(3):
                    nursery.start_soon(refused, cm, record)
                await trio.sleep(1)
                await end(cm)
    assert record == [1, 1, 1]
    assert cm.statistics().submitted == 2


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
async def test_a_run_that_waits_elsewhere_gets_a_slot_that_the_last_tasks_free(
    given: bool, autojump_clock: MockClock
) -> None:
    # The body has ended, but the manager does not become idle before that task is done.
    limit = trio.CapacityLimiter(2) if given else 2
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limit) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 1)
            nursery.start_soon(cm.run, job, 3, 1)
            await wait_all_tasks_blocked()
        assert trio.current_time() == 2
        assert sorted(cm.outputs()) == [1, 2, 3]


async def test_leaving_waits_for_those_who_wait_in_run(autojump_clock: MockClock) -> None:
    # Nothing runs, but somebody wants to run something and waits for slots that others hold.
    limiter = trio.CapacityLimiter(2)

    async def foreigner() -> None:
        async with limiter:
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(foreigner)
        nursery.start_soon(foreigner)
        await wait_all_tasks_blocked()
        async with ConMan[int].open(nursery, limiter) as cm:
            nursery.start_soon(cm.run, job, 7, 1)
            await trio.sleep(1)
        assert trio.current_time() == 11
    assert cm.outputs() == [7]
    assert limiter.borrowed_tokens == 0


async def test_a_body_that_meets_the_end_of_its_manager_ends_quietly(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery) as cm:
            await cm.run(job, 1, 1)
            cm.cancel()
            cm.run_nowait(job, 2, 1)
            raise AssertionError
        assert cm.statistics().submitted == 1


async def test_a_body_whose_children_meet_the_end_of_its_manager_ends_quietly(
    autojump_clock: MockClock,
) -> None:
    async def feed(cm: ConMan[int]) -> None:
        with trio.CancelScope(shield=True):
            while True:
                await cm.run(job, 1, 1)

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm, trio.open_nursery() as feeders:
            feeders.start_soon(feed, cm)
            feeders.start_soon(feed, cm)
            await trio.sleep(2.5)
            cm.cancel()
        assert trio.current_time() == 2.5
        assert cm.statistics().submitted == 6


async def test_a_body_of_a_cancelled_manager_may_still_fail(autojump_clock: MockClock) -> None:
    # Its own error in a group with the manager's: nothing that the body raised is lost.
    error = KeyError("mine")

    def feed_and_fail(cm: ConMan[int]) -> None:
        try:
            cm.run_nowait(job, 1, 1)
        except ConManClosedError as closed:
            raise ExceptionGroup("both", [closed, error]) from None

    async with trio.open_nursery() as nursery:
        with pytest.raises(ExceptionGroup) as caught:
            async with ConMan[int].open(nursery, 2) as cm:
                cm.cancel()
                feed_and_fail(cm)
    assert caught.value.subgroup(lambda each: each is error)


async def test_the_end_of_another_manager_is_an_error_like_any_other(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, name="other") as other:
            pass
        with pytest.raises(ConManClosedError, match=r"^'other' is closed"):
            async with ConMan[int].open(nursery) as cm:
                cm.cancel()
                other.run_nowait(job, 1, 1)


async def test_in_a_cancelled_world_the_body_never_begins(record: list[Any]) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2):
            record.append("begun")
    assert scope.cancelled_caught
    assert record == []


async def test_a_manager_does_not_open_in_a_nursery_that_is_closed(record: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        pass
    with pytest.raises(RuntimeError, match="Nursery is closed"):
        async with ConMan[int].open(nursery, 2):
            record.append("begun")
    assert record == []


async def test_a_nursery_elsewhere_serves_as_well(autojump_clock: MockClock) -> None:
    async with nursery_elsewhere() as (nursery, left):
        async with ConMan[int].open(nursery, 2) as cm:
            for number in range(4):
                await cm.run(job, number, 1)
        assert trio.current_time() == 2
        async with ConMan[int].open(nursery, 2, timeout=1) as timed:
            await timed.run(job, 1, 5)
        assert trio.current_time() == 3
        assert timed.timed_out
        assert left == []
    assert sorted(cm.outputs()) == [0, 1, 2, 3]


@pytest.mark.parametrize("body_ends_at", [1, 5])
async def test_a_block_whose_nursery_elsewhere_is_cancelled_says_so(
    body_ends_at: float, autojump_clock: MockClock, record: list[Any]
) -> None:
    # Nothing cancels the body's own surroundings, so that the end cannot be a quiet one.
    async with nursery_elsewhere() as (nursery, _), trio.open_nursery() as here:
        with pytest.raises(ConManClosedError, match=r"^'conman' is closed .* was cancelled \(see"):
            async with ConMan[int].open(nursery, 2) as cm:
                nursery.cancel_scope.deadline = 2
                await cm.run(job, 1, 1)
                await cm.run(job, 2, 10)
                here.start_soon(cm.wait)
                await trio.sleep(body_ends_at)
                record.append(trio.current_time())
        assert trio.current_time() == 2
        assert record == ([1] if body_ends_at == 1 else [])
        assert cm.outputs() == [1]
        assert [type(error) for error in cm.errors()] == [TaskCancelledError]
        assert not cm.timed_out


async def test_what_the_body_raises_goes_before_the_end_of_its_nursery(autojump_clock: MockClock) -> None:
    error = KeyError("mine")
    async with nursery_elsewhere() as (nursery, _):
        with pytest.raises(KeyError) as caught:
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(job, 1, 10)
                nursery.cancel_scope.cancel()
                raise error
    assert caught.value is error


async def test_a_nursery_elsewhere_that_is_cancelled_already_ends_the_block_at_once(
    record: list[Any],
) -> None:
    async with nursery_elsewhere() as (nursery, _):
        nursery.cancel_scope.cancel()
        with pytest.raises(ConManClosedError):
            async with ConMan[int].open(nursery, 2) as cm:
                await cm.run(job, 1, 1)
                record.append("accepted")
    assert record == []


@each_interrupt
async def test_an_interrupt_leaves_through_the_nursery(
    interrupt: BaseException, autojump_clock: MockClock, record: list[Any]
) -> None:
    async def interrupted() -> int:
        record.append("called")
        await trio.sleep(1)
        raise interrupt

    async def sibling() -> int:
        try:
            await trio.sleep_forever()
        finally:
            record.append("cleaned up")
        raise AssertionError

    the_interrupt = pytest.RaisesExc(type(interrupt), check=lambda caught: caught is interrupt)
    with pytest.RaisesGroup(the_interrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sibling)
            async with ConMan[int].open(nursery) as cm:
                await cm.run(sibling)
                await cm.run(interrupted)
                await trio.sleep_forever()
    assert trio.current_time() == 1
    assert record == ["called", "cleaned up", "cleaned up"]
    assert len(cm.outcomes()) == 2
    for outcome in cm.outcomes():
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.CANCELLED
        assert type(outcome.error) is TaskCancelledError


@each_interrupt
async def test_a_block_that_an_interrupt_ended_elsewhere_says_so(
    interrupt: BaseException, autojump_clock: MockClock
) -> None:
    async def interrupted() -> int:
        await trio.sleep(1)
        raise interrupt

    async with nursery_elsewhere() as (nursery, left):
        with pytest.raises(ConManClosedError, match=r"^'conman' is closed"):
            async with ConMan[int].open(nursery) as cm:
                await cm.run(interrupted)
                await trio.sleep_forever()
        assert trio.current_time() == 1
        await wait_all_tasks_blocked()
        assert [type(error) for error in left] == [BaseExceptionGroup]
    assert cm.statistics().cancelled == 1


async def test_where_the_blocks_surroundings_are_cancelled_too_that_goes_first(
    autojump_clock: MockClock,
) -> None:
    with trio.CancelScope() as outer:
        async with nursery_elsewhere() as (nursery, _):
            async with ConMan[int].open(nursery) as cm:
                await cm.run(job, 1, 10)
                nursery.cancel_scope.cancel()
                outer.cancel()
                await trio.sleep_forever()
    assert outer.cancelled_caught
    assert cm.statistics().cancelled == 1


async def test_a_body_that_is_interrupted_lets_that_out(autojump_clock: MockClock) -> None:
    interrupt = Interrupt()
    async with nursery_elsewhere() as (nursery, left):
        with pytest.raises(Interrupt) as caught:
            async with ConMan[int].open(nursery) as cm:
                await cm.run(job, 1, 10)
                raise interrupt
        assert caught.value is interrupt
        assert sys.exception() is None
        assert left == []
    assert cm.statistics().cancelled == 1


@pytest.mark.parametrize("how", ["run", "map"])
async def test_who_is_cancelled_with_the_manager_meets_that_and_not_its_end(
    autojump_clock: MockClock, how: str
) -> None:
    # In scopes of their own: trio reaches them later than the manager.
    async def feed(cm: ConMan[None]) -> None:
        with trio.CancelScope(), trio.CancelScope():
            if how == "run":
                while True:
                    await cm.run(trio.sleep, 100)
            async with cm.map(trio.sleep, [100] * 100) as outcomes:
                async for _ in outcomes:
                    pass

    with trio.move_on_after(3) as around:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2) as cm:
                for _ in range(3):
                    nursery.start_soon(feed, cm)
                await trio.sleep_forever()
    assert around.cancelled_caught
    assert trio.current_time() == 3
