"""Handles: who a task is, where it stands, how to wait for it, and how to end it."""

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    Failure,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
    TaskHandle,
)


async def job(value: int, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    return value


async def fail(error: Exception, seconds: float = 0) -> int:
    await trio.sleep(seconds)
    raise error


def backs_off(delay: float, retries: int = 1) -> RetryConfig:
    return RetryConfig(initial_delay=delay, max_delay=delay, max_attempts=retries, jitter=False)


class Page:
    """Does its work in `execute`."""

    async def execute(self) -> int:
        return 1


class Called:
    """Does its work when called."""

    async def __call__(self, *args: int) -> int:
        return 1

    async def method(self) -> int:
        return 1

    @classmethod
    async def of_the_class(cls) -> int:
        return 1

    @staticmethod
    async def static() -> int:
        return 1


def decorated(fn: Callable[[int], Any]) -> Callable[[int], Any]:
    @wraps(fn)
    async def wrapper(value: int) -> Any:
        return await fn(value)

    return wrapper


@pytest.mark.parametrize(
    "task, args, name",
    [
        (job, (1,), "job"),
        (partial(job, 1), (), "job"),
        (partial(partial(job, seconds=0), 1), (), "job"),
        (decorated(job), (1,), "job"),
        (Page(), (), "Page"),
        (Called(), (), "Called"),
        (partial(Called(), 1), (2, 3), "Called"),
        (Called().method, (), "Called.method"),
        (Called.of_the_class, (), "Called.of_the_class"),
        (Called.static, (), "Called.static"),
        (Page().execute, (), "Page.execute"),
        (lambda: job(1), (), "<lambda>"),
    ],
)
async def test_a_task_is_named_after_what_is_called(task: Any, args: tuple[Any, ...], name: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handle = await cm.run(task, *args)
        other = cm.run_nowait(task, *args, name="given")
        # The partial's arguments are the partial's.
        assert (handle.name, handle.args) == (name, args)
        assert (other.name, other.args) == ("given", args)
    assert {(o.name, o.args) for o in cm.outcomes()} == {(name, args), ("given", args)}
    assert cm.outputs() == [1, 1]


async def test_indices_count_what_was_accepted_in_order(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handles = [await cm.run(job, 10, 3), cm.run_nowait(job, 11, 2)]
        with pytest.raises(trio.WouldBlock):
            cm.run_nowait(job, 12)
        with trio.move_on_after(1):
            await cm.run(job, 13)
        handles += [await cm.run(job, 14, 2), await cm.run(job, 15)]
    assert [handle.index for handle in handles] == [0, 1, 2, 3]
    assert sorted((o.index, o.args[0]) for o in cm.outcomes()) == [(0, 10), (1, 11), (2, 14), (3, 15)]


async def test_a_handle_tells_its_state_over_time(autojump_clock: MockClock, record: list[Any]) -> None:
    calls = 0

    async def flaky() -> int:
        nonlocal calls
        calls += 1
        await trio.sleep(2)
        if calls < 3:
            raise RetriableError(f"failure {calls}", retry_config=backs_off(3, retries=5))
        return calls

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handle = cm.run_nowait(flaky, name="f")
        for second in range(14):
            await trio.sleep_until(second + 0.5)
            record.append((handle.state, handle.retries, handle.outcome is None))
            assert repr(handle) == f"<TaskHandle 'f' index=0 {handle.state}>"
            if second == 3:
                # Both slots until 6: at 5 the task is due, and there is none for it.
                await cm.run(job, 1, 2.5)
                await cm.run(job, 2, 2.5)
    assert record == [
        *[("running", 0, True)] * 2,
        *[("backing_off", 0, True)] * 4,
        *[("running", 1, True)] * 2,
        *[("backing_off", 1, True)] * 3,
        *[("running", 2, True)] * 2,
        ("done", 2, False),
    ]


async def test_an_outcome_tells_how_long_its_task_waited_and_took(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        await cm.run(job, 1, 3)
        await cm.run(job, 2, 100)
        await trio.sleep(1)
        value = await cm.run(job, 3, 4)
        error = await cm.run(fail, RetriableError("twice", retry_config=backs_off(10)), 5)
        cut = await cm.run(job, 4, 100)
        await trio.sleep(1)
        cut.cancel()
    times = [(o.waited, o.elapsed) for h in (value, error, cut) if (o := h.outcome)]
    # The second waits from 3 to 7 and runs 7-12 and 22-27, the third runs from 12 to 13.
    assert times == [(2, 4), (4, 20), (5, 1)]


async def test_wait_gives_the_outcome_to_any_number_of_waiters(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def waiter(handle: TaskHandle[int], patience: float) -> None:
        with trio.move_on_after(patience) as scope:
            record.append((await handle.wait(), trio.current_time()))
        if scope.cancelled_caught:
            record.append(("gave up", trio.current_time()))

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handle = await cm.run(job, 7, 3)
        for patience in (math.inf, 1, math.inf):
            nursery.start_soon(waiter, handle, patience)
        with assert_checkpoints():
            outcome = await handle.wait()
        await wait_all_tasks_blocked()
        assert record == [("gave up", 1), (outcome, 3), (outcome, 3)]
        with assert_checkpoints():
            assert await handle.wait() is outcome
        with assert_checkpoints():
            assert await handle.result() == 7
    assert outcome is handle.outcome is cm.outcomes()[0]
    assert isinstance(outcome, Success)
    # Also when the manager is long gone.
    assert await handle.wait() is outcome


async def test_result_gives_the_value_or_raises_the_error_itself(autojump_clock: MockClock) -> None:
    error = KeyError("mine")
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        value = await cm.run(job, 7, 1)
        assert await value.result() == 7
        assert trio.current_time() == 1
        for failed in (await cm.run(fail, error, 1), await cm.run(fail, RetriableError(error), 1)):
            for _ in range(2):
                with assert_checkpoints(), pytest.raises(KeyError) as caught:
                    await failed.result()
                assert caught.value is error
        cancelled = await cm.run(job, 8, 1)
        cancelled.cancel("enough")
        with pytest.raises(TaskCancelledError, match=r"^task 'job' \(index 3\) was cancelled: .*enough$"):
            await cancelled.result()


async def test_a_task_may_wait_for_another_through_its_handle(autojump_clock: MockClock) -> None:
    async def sums(parts: list[TaskHandle[int]]) -> int:
        return sum([await part.result() for part in parts])

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        parts = [await cm.run(job, number, number) for number in (3, 1, 2)]
        total = await cm.run(sums, parts)
        assert await total.result() == 6
        assert trio.current_time() == 3


@pytest.mark.parametrize("reason", [3, b"x", True])
async def test_the_reason_of_a_cancellation_is_a_text(reason: Any, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handle = await cm.run(job, 7, 1)
        with pytest.raises(TypeError, match=rf"^reason must be a str or None, not {reason!r}$"):
            handle.cancel(reason)
    assert cm.outputs() == [7]


def assert_cancelled(handle: TaskHandle[Any], text: str, elapsed: float) -> None:
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert (outcome.reason, type(outcome.error)) == (StopReason.CANCELLED, TaskCancelledError)
    assert str(outcome.error).endswith(text)
    assert (outcome.elapsed, handle.state) == (elapsed, "done")


async def test_a_task_cancelled_before_its_first_step_never_runs(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def step() -> None:
        record.append("ran")

    def call() -> Any:
        record.append("called")
        return step()

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery) as cm:
        handles = [cm.run_nowait(step), cm.run_nowait(call), cm.run_nowait(step, attempt_timeout=1)]
        for handle in handles:
            handle.cancel("too early")
            assert handle.state == "running"
        await cm.wait()
    for handle in handles:
        assert_cancelled(handle, "too early", 0)
    assert record == []


async def test_a_task_whose_slot_was_granted_in_the_tick_can_be_cancelled_too(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def step() -> int:
        record.append(trio.current_time())
        return 1

    # run() returns in the tick after the start, in random order with the task's first step.
    for _ in range(30):
        record.clear()
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
            await cm.run(job, 1, 1)
            await cm.run(job, 2, 2)
            handle = await cm.run(step)
            handle.cancel("at once")
            outcome = await handle.wait()
        if record:
            assert isinstance(outcome, Success)
        else:
            assert_cancelled(handle, "at once", 0)
        assert cm.outputs()[0] == 1


async def test_a_running_task_is_cancelled_alone(autojump_clock: MockClock, record: list[Any]) -> None:
    async def cleans_up() -> int:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            record.append(trio.current_time())
        raise AssertionError

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handle = await cm.run(cleans_up)
        await cm.run(job, 1, 4)
        await trio.sleep(1)
        handle.cancel("first")
        handle.cancel("second")
        assert (handle.state, handle.outcome) == ("running", None)
        # The slot is free only when the task has cleaned up.
        await cm.run(job, 2, 1)
        assert trio.current_time() == 2
    assert_cancelled(handle, "first", 2)
    assert record == [2]
    assert cm.outputs() == [2, 1]
    assert trio.current_time() == 4


async def test_a_task_cancelled_without_a_reason_says_who_did_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handle = await cm.run(job, 1, 1)
        handle.cancel()
    assert_cancelled(handle, "its handle was cancelled", 0)


async def test_a_task_may_cancel_itself(autojump_clock: MockClock) -> None:
    handles: list[TaskHandle[int]] = []

    async def gives_up() -> int:
        await trio.sleep(1)
        handles[0].cancel("myself")
        await trio.sleep(1)
        raise AssertionError

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handles.append(await cm.run(gives_up))
    assert_cancelled(handles[0], "myself", 1)


@pytest.mark.parametrize("hold_slot", [False, True])
async def test_a_task_that_backs_off_is_cancelled_at_once_with_its_last_error(
    hold_slot: bool, autojump_clock: MockClock
) -> None:
    error = OSError("real")
    config = RetryConfig(initial_delay=30, max_delay=30, jitter=False, hold_slot=hold_slot)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2) as cm:
            handle = await cm.run(fail, RetriableError(error, retry_config=config))
            await trio.sleep(2)
            assert handle.state == "backing_off"
            handle.cancel("enough")
        assert trio.current_time() == 2
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert (outcome.error, outcome.reason) == (error, StopReason.CANCELLED)
    assert (outcome.retries, outcome.history, outcome.elapsed) == (0, (), 2)
    assert cm.statistics().cancelled == 1


async def test_cancelling_what_is_done_changes_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        handles = [await cm.run(job, 1), await cm.run(fail, KeyError())]
        await cm.wait()
        outcomes = [handle.outcome for handle in handles]
        for handle in handles:
            handle.cancel("too late")
            handle.cancel()
        await trio.sleep(1)
    assert [handle.outcome for handle in handles] == outcomes
    assert cm.statistics().cancelled == 0
    for handle in handles:
        handle.cancel("much too late")


async def test_what_a_cancelled_task_raises_or_returns_is_its_own(autojump_clock: MockClock) -> None:
    error = OSError("while cleaning up")

    async def raises() -> int:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def returns() -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        return 7

    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, retry=RetryConfig.none(retry_on=Exception)) as cm:
            raising, returning = await cm.run(raises), await cm.run(returns)
            await trio.sleep(1)
            raising.cancel()
            returning.cancel()
            assert await returning.result() == 7
        assert trio.current_time() == 3
    outcome = raising.outcome
    assert isinstance(outcome, Failure)
    assert (outcome.error, outcome.reason, outcome.retries) == (error, StopReason.ERROR, 0)
