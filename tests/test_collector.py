"""Outcomes on their way to the readers: complete, in order, and never late."""

import math
import random
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, Failure, Outcome, RetriableError, RetryConfig, StopReason, Success, TaskHandle


async def job(value: int, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    return value


async def fail(error: Exception, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    raise error


class OddError(Exception):
    """What the tests raise; each is known by identity."""


async def test_outcomes_are_in_completion_order(autojump_clock: MockClock) -> None:
    early, late = OddError("early"), OddError("late")
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(job, 5, 5)
        await cm.run(fail, late, 4)
        await cm.run(job, 3, 3)
        await cm.run(fail, early, 2)
        await cm.run(job, 1, 1)
    assert [outcome.index for outcome in cm.outcomes()] == [4, 3, 2, 1, 0]
    assert cm.outputs() == [1, 3, 5]
    assert cm.errors() == [early, late]


async def test_every_error_is_kept_and_no_error_ends_the_others(autojump_clock: MockClock) -> None:
    errors = [OddError(2), OddError(4)]
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 1)
        await cm.wait()
        await cm.run(fail, errors[0], 1)
        await cm.wait()
        await cm.run(job, 3, 1)
        await cm.run(fail, errors[1], 2)
        await cm.run(job, 5, 2)
    assert cm.outputs() == [1, 3, 5]
    assert len(cm.errors()) == 2
    assert all(kept is raised for kept, raised in zip(cm.errors(), errors, strict=True))
    assert all(isinstance(o, Success) or o.reason is StopReason.ERROR for o in cm.outcomes())


async def test_what_fails_before_its_first_await_is_kept_too(autojump_clock: MockClock) -> None:
    error = OddError("at once")

    async def at_once() -> int:
        raise error

    def not_even_async() -> Any:
        raise error

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        await cm.run(job, 1, 1)
        for bad in (at_once, not_even_async, partial(at_once)):
            await cm.run(bad)
        cm.run_nowait(at_once)
        await cm.run(job, 2, 1)
        assert trio.current_time() == 0
    assert cm.errors() == [error] * 4
    assert sorted(cm.outputs()) == [1, 2]


async def test_an_error_of_a_retriable_error_is_kept_unwrapped(autojump_clock: MockClock) -> None:
    inside, bare = OddError("inside"), RetriableError("bare")
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, retry=RetryConfig.none()) as cm:
        await cm.run(fail, RetriableError(inside), 1)
        await cm.run(fail, bare, 2)
    assert cm.errors() == [inside, bare]


async def test_nothing_is_lost_when_nobody_reads(autojump_clock: MockClock) -> None:
    async def third_fails(number: int) -> int:
        if number % 3 == 0:
            raise OddError(number)
        return number

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for number in range(1000):
            await cm.run(third_fails, number)
        await cm.wait()
        assert sorted(outcome.index for outcome in cm.outcomes()) == list(range(1000))
        assert sorted(cm.outputs()) == [number for number in range(1000) if number % 3]
        assert sorted(error.args[0] for error in cm.errors()) == list(range(0, 1000, 3))
    assert len(cm.outcomes()) == len({id(outcome) for outcome in cm.outcomes()}) == 1000
    assert trio.current_time() == 0


async def test_readers_get_new_lists_each_time(autojump_clock: MockClock) -> None:
    error = OddError("kept")
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(job, 1, 1)
        await cm.run(fail, error, 2)
        await cm.wait()
        for read in (cm.outcomes, cm.outputs, cm.errors):
            first: list[Any] = list(read())
            handed_out: list[Any] = read()
            handed_out.clear()
            handed_out.append("spoiled")
            assert read() == first
            assert read() is not read()
        before = cm.outcomes()
        await cm.run(job, 2, 1)
        await cm.wait()
        assert len(before) == 2
    assert (cm.outputs(), cm.errors()) == ([1, 2], [error])


async def test_a_reader_is_never_behind_the_outcome_of_a_handle(autojump_clock: MockClock) -> None:
    handles: list[TaskHandle[int]] = []

    def check(cm: ConMan[int]) -> None:
        done = {id(handle.outcome) for handle in handles if handle.outcome is not None}
        assert {id(outcome) for outcome in cm.outcomes()} == done
        assert len(cm.outputs()) + len(cm.errors()) == len(done)

    async def watched(cm: ConMan[int], ticks: int) -> int:
        for _ in range(ticks):
            check(cm)
            await trio.lowlevel.checkpoint()
        if ticks % 3 == 0:
            raise OddError(ticks)
        return ticks

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, math.inf) as cm:
        for ticks in range(30):
            handles.append(cm.run_nowait(watched, cm, ticks % 10))
            check(cm)
            await trio.lowlevel.checkpoint()
            check(cm)
        handles.append(cm.run_nowait(job, 99))
        assert await handles[-1].wait() in cm.outcomes()
        await cm.wait()
        check(cm)
        assert {type(error) for error in cm.errors()} == {OddError}
    check(cm)


async def test_a_task_sees_the_outcomes_of_those_that_ended_before(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    # All in one tick: the collector has had no turn.
    async def see(cm: ConMan[int], number: int) -> int:
        record.append((number, list(cm.outputs())))
        return number

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        for number in range(5):
            cm.run_nowait(see, cm, number)
    order = [number for number, _ in record]
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert cm.outputs() == order
    assert [seen for _, seen in record] == [order[:n] for n in range(5)]


async def test_popped_outcomes_are_forgotten(autojump_clock: MockClock) -> None:
    error = OddError("popped")
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(job, 1, 1)
        await cm.run(fail, error, 2)
        await cm.run(job, 3, 3)
        assert cm.pop_outcomes() == []
        await trio.sleep(2.5)
        first, second = cm.pop_outcomes()
        assert isinstance(first, Success)
        assert first.value == 1
        assert isinstance(second, Failure)
        assert second.error is error
        assert (cm.pop_outcomes(), cm.outcomes(), cm.outputs(), cm.errors()) == ([], [], [], [])
        cm.raise_errors()
        # They were counted, though.
        assert (cm.statistics().succeeded, cm.statistics().failed) == (1, 1)
    assert cm.outputs() == [3]
    assert [outcome.index for outcome in cm.pop_outcomes()] == [2]
    assert cm.outcomes() == []


@pytest.mark.parametrize("seed", range(10))
async def test_popping_at_any_time_gives_every_outcome_once_and_in_order(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    popped: list[Outcome[int]] = []
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:

        async def pop_along(number: int) -> int:
            for _ in range(number % 4):
                await trio.lowlevel.checkpoint()
            if number % 5 == 0:
                popped.extend(cm.pop_outcomes())
            ended.append(number)
            return number

        ended: list[int] = []
        for number in range(100):
            await cm.run(pop_along, number)
            if rng.random() < 0.3:
                popped.extend(cm.pop_outcomes())
            if rng.random() < 0.3:
                # A list that was handed over is the reader's: nothing more comes into it.
                handed_over = cm.pop_outcomes()
                popped.extend(handed_over)
                length = len(handed_over)
                await trio.lowlevel.checkpoint()
                assert len(handed_over) == length
    popped += cm.pop_outcomes()
    assert [outcome.index for outcome in popped] == ended
    assert sorted(ended) == list(range(100))


async def test_raise_errors_raises_them_all_in_completion_order(autojump_clock: MockClock) -> None:
    errors = [OddError("a"), OddError("b"), KeyError("c")]
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        cm.raise_errors()
        await cm.run(job, 1)
        await cm.wait()
        cm.raise_errors()
        for seconds, error in enumerate(errors, 1):
            await cm.run(fail, error, seconds)
        await cm.wait()
        with pytest.RaisesGroup(OddError, OddError, KeyError, match=r"^3 of 4 ") as caught:
            cm.raise_errors()
        assert all(kept is raised for kept, raised in zip(caught.value.exceptions, errors, strict=True))
        assert type(caught.value) is ExceptionGroup
    # It may be asked again, and after the block.
    with pytest.RaisesGroup(OddError, OddError, KeyError):
        cm.raise_errors()
    cm.pop_outcomes()
    cm.raise_errors()


async def test_the_errors_of_cancelled_tasks_are_errors_too(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        await cm.run(job, 1, 5)
        (await cm.run(job, 2, 5)).cancel("enough")
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match=r"enough$"), match=r"^1 of 2 "):
        cm.raise_errors()


@pytest.mark.parametrize("ending", [KeyError, KeyboardInterrupt, None])
async def test_what_was_kept_outlives_the_manager(
    ending: type[BaseException] | None, autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(ending) if ending else nullcontext():
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 9)
            await trio.sleep(2)
            # These end in the last tick: no collector takes their outcomes in.
            cm.run_nowait(job, 3)
            if ending is not None:
                raise ending
            nursery.cancel_scope.cancel()
    assert cm.outputs() == [1]
    assert [outcome.index for outcome in cm.outcomes()] in ([0, 1, 2], [0, 2, 1])
    assert len(cm.errors()) == 2
    assert len(cm.pop_outcomes()) == 3
