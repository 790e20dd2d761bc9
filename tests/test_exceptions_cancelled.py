"""Tasks that are cancelled: whose a cancellation is, what it leaves of them, and scopes left open."""

import math
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import failure, manager
from tests.raised import ANYTHING, EVERY_SECOND, WAYS, Raising, stage
from trio_conman import RetriableError, RetryConfig, StopReason, Success, TaskCancelledError

# Cancelled tasks


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 9}, {"task_timeout": 9}, {"timeout": 9}])
@pytest.mark.parametrize("how", WAYS)
async def test_a_cancellation_is_never_retried(
    autojump_clock: MockClock, how: str, options: dict[str, Any], record: list[Any]
) -> None:
    async def sleeps() -> None:
        record.append(trio.current_time())
        await trio.sleep(3)

    async def turns_cancelled_into_retriable() -> None:
        record.append(trio.current_time())
        try:
            await trio.sleep(3)
        except trio.Cancelled:
            raise RetriableError("no") from None

    async with stage(retry=ANYTHING, **options) as (cm, end):
        plain = await cm.run(sleeps)
        turned = await cm.run(turns_cancelled_into_retriable)
        await trio.sleep(1)
        end(how, plain, turned)
    assert record == [0, 0]
    assert trio.current_time() == 1
    assert (type(failure(plain).error), failure(plain).reason) == (TaskCancelledError, StopReason.CANCELLED)
    assert (type(failure(turned).error), failure(turned).reason) == (RetriableError, StopReason.ERROR)


@pytest.mark.parametrize(
    "how, reason, text",
    [
        ("handle", None, "its handle was cancelled"),
        ("handle", "too old", "its handle was cancelled: too old"),
        ("manager", None, "'pool' was cancelled"),
        ("manager", "going home", "'pool' was cancelled: going home"),
        ("scope", None, "'pool' was cancelled"),
        ("outer", None, "a cancel scope around 'pool' was cancelled"),
        ("nursery", None, "a cancel scope around 'pool' was cancelled"),
        ("body", None, "the block of 'pool' was left by LeavesTheBlockError"),
    ],
)
async def test_the_error_of_a_cancelled_task_says_who_cancelled_it_and_why(
    autojump_clock: MockClock, how: str, reason: str | None, text: str
) -> None:
    async with stage(name="pool") as (cm, end):
        handle = await cm.run(trio.sleep_forever, name="job")
        await wait_all_tasks_blocked()
        end(how, handle, reason=reason)
    assert type(failure(handle).error) is TaskCancelledError
    assert str(failure(handle).error) == f"task 'job' (index 0) was cancelled: {text}"


async def test_a_cancelled_that_a_task_has_kept_from_elsewhere_ends_it_and_its_manager(
    autojump_clock: MockClock,
) -> None:
    async def stray() -> None:
        kept: list[trio.Cancelled] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                kept.append(exc)
        raise kept[0]

    async with manager(name="pool") as cm:
        handles = [await cm.run(task, name="job") for task in (stray, trio.sleep_forever)]
    assert [str(failure(handle).error) for handle in handles] == [
        "task 'job' (index 0) was cancelled: a cancel scope around it was cancelled",
        "task 'job' (index 1) was cancelled: a cancel scope around 'pool' was cancelled",
    ]


@pytest.mark.parametrize("how", ["handle", "manager"])
async def test_of_two_reasons_the_first_counts(autojump_clock: MockClock, how: str) -> None:
    async with stage() as (cm, end):
        handle = await cm.run(trio.sleep_forever)
        end(how, handle, reason="first")
        end(how, handle, reason="second")
    assert str(failure(handle).error).endswith(" was cancelled: first")


@pytest.mark.parametrize(
    "how, text",
    [
        ("timeout", "was ended: the deadline of 'conman' passed"),
        ("manager", "was cancelled: 'conman' was cancelled: first"),
        ("nursery", "was cancelled: a cancel scope around 'conman' was cancelled"),
        ("body", "was cancelled: the block of 'conman' was left by LeavesTheBlockError"),
    ],
)
async def test_a_handle_that_is_cancelled_after_its_manager_is_not_the_reason(
    autojump_clock: MockClock, how: str, text: str
) -> None:
    async def cleans_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            handle.cancel("second")

    async with stage(timeout=1 if how == "timeout" else math.inf) as (cm, end):
        handle = await cm.run(cleans_up)
        await trio.sleep(1)
        end(how, handle, reason="first")
    assert str(failure(handle).error).endswith(text)
    is_late = failure(handle).reason is StopReason.MANAGER_TIMEOUT
    assert is_late is cm.timed_out is (how == "timeout")


@pytest.mark.parametrize("reason", [b"bytes", 1, ValueError("why")])
async def test_a_reason_is_a_text(autojump_clock: MockClock, reason: Any) -> None:
    async with manager() as cm:
        handle = await cm.run(trio.sleep, 1)
        for cancel in (handle.cancel, cm.cancel):
            with pytest.raises(TypeError, match=r"^reason must be a str or None, not "):
                cancel(reason)
    assert cm.statistics().succeeded == 1


@pytest.mark.parametrize("how", WAYS)
async def test_a_task_cancelled_while_backing_off_keeps_its_last_real_error(
    autojump_clock: MockClock, how: str
) -> None:
    last = ValueError("real")
    slow = RetryConfig.linear(initial_delay=30, max_delay=30)
    task = Raising(lambda: RetriableError(last, retry_config=slow))
    async with stage() as (cm, end):
        handle = await cm.run(task)
        await trio.sleep(2)
        assert handle.state == "backing_off"
        end(how, handle)
    assert trio.current_time() == 2
    assert task.calls == 1
    assert failure(handle).error is last
    assert failure(handle).reason is StopReason.CANCELLED
    assert (failure(handle).retries, failure(handle).history, failure(handle).elapsed) == (0, (), 2)
    assert cm.statistics().cancelled == 1


@pytest.mark.parametrize("how", WAYS)
async def test_a_task_that_finishes_in_the_tick_of_a_cancellation_keeps_its_result(
    autojump_clock: MockClock, how: str
) -> None:
    event = trio.Event()

    async def task() -> str:
        await event.wait()
        return "done"

    async with stage() as (cm, end):
        handle = await cm.run(task)
        timed = await cm.run(task, attempt_timeout=9, task_timeout=9)
        await wait_all_tasks_blocked()
        event.set()
        end(how, handle, timed)
    assert cm.outputs() == ["done", "done"]
    assert cm.statistics().cancelled == 0


async def test_an_error_in_the_tick_of_a_cancellation_is_the_tasks_and_not_retried(
    autojump_clock: MockClock,
) -> None:
    event = trio.Event()
    real = RetriableError("real")

    async def task() -> None:
        await event.wait()
        raise real

    async with manager(retry=EVERY_SECOND) as cm:
        handle = await cm.run(task)
        await wait_all_tasks_blocked()
        event.set()
        handle.cancel()
    assert failure(handle).error is real
    assert failure(handle).reason is StopReason.ERROR
    assert trio.current_time() == 0


async def test_a_task_cancelled_before_its_first_step_does_not_run(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def task() -> None:
        record.append("ran")

    async with manager() as cm:
        handle = cm.run_nowait(task)
        handle.cancel("changed my mind")
    assert record == []
    assert str(failure(handle).error).endswith("its handle was cancelled: changed my mind")


async def test_a_task_that_cancels_itself_is_cancelled_at_its_next_checkpoint(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def task() -> None:
        handle.cancel()
        record.append("goes on")
        await trio.lowlevel.checkpoint()
        record.append("not reached")

    async with manager() as cm:
        handle = cm.run_nowait(task)
    assert record == ["goes on"]
    assert failure(handle).reason is StopReason.CANCELLED


async def test_a_task_that_cancels_its_manager_keeps_the_result_it_then_returns(
    autojump_clock: MockClock,
) -> None:
    async def task() -> str:
        cm.cancel()
        return "last words"

    async with manager() as cm:
        await cm.run(task)
        await trio.sleep_forever()
    assert cm.outputs() == ["last words"]


@pytest.mark.parametrize("how", WAYS)
async def test_a_task_that_swallows_its_cancellation_and_returns_has_succeeded(
    autojump_clock: MockClock, how: str
) -> None:
    async def stubborn() -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "done"

    async with stage() as (cm, end):
        handle = await cm.run(stubborn)
        await wait_all_tasks_blocked()
        end(how, handle)
    assert cm.outputs() == ["done"]


async def test_cancelled_that_a_task_raises_on_behalf_of_its_own_scope_is_its_own_affair(
    autojump_clock: MockClock,
) -> None:
    async def task() -> str:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep_forever()
        return "done"

    async with manager(retry=ANYTHING) as cm:
        await cm.run(task)
    assert cm.outputs() == ["done"]


async def test_an_error_of_a_task_disturbs_nobody(autojump_clock: MockClock, record: list[Any]) -> None:
    errors = [ValueError("one"), KeyError("two")]

    async def job(number: int) -> int:
        record.append(number)
        if number % 2:
            raise errors[number // 2]
        await trio.sleep(number)
        return number

    async with manager(9) as cm:
        for number in range(5):
            await cm.run(job, number)
            await wait_all_tasks_blocked()
    assert record == [0, 1, 2, 3, 4]
    assert cm.outputs() == [0, 2, 4]
    assert cm.errors() == errors


# Scopes left open


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 5}, {"task_timeout": 5}, {"timeout": 5}])
@pytest.mark.parametrize("retry", [None, ANYTHING])
@pytest.mark.parametrize("raises", [False, True])
async def test_a_task_that_leaves_a_cancel_scope_open_fails_and_says_so(
    autojump_clock: MockClock, options: dict[str, Any], retry: RetryConfig | None, raises: bool
) -> None:
    scopes = []

    async def untidy() -> str:
        scopes.append(trio.CancelScope().__enter__())
        if raises:
            raise ValueError("and an error")
        return "not reached"

    async with manager(retry=retry, **options) as cm:
        handle = await cm.run(untidy)
        await handle.wait()
        assert isinstance((await (await cm.run(trio.sleep, 1)).wait()), Success)
    error = failure(handle).error
    assert type(error) is RuntimeError
    assert str(error).startswith("Cancel scope stack corrupted: attempted to exit ")
    assert failure(handle).reason in {StopReason.ERROR, StopReason.RETRIES_EXHAUSTED}
    assert cm.outputs() == [None]


@pytest.mark.parametrize("how", [*WAYS, "own"])
async def test_a_scope_left_open_by_a_task_that_is_cancelled_leaves_nothing_behind(
    autojump_clock: MockClock, how: str
) -> None:
    scopes = []

    async def untidy() -> None:
        scopes.append(trio.CancelScope().__enter__())
        await trio.sleep_forever()

    async with stage() as (cm, end):
        handle = await cm.run(untidy)
        await wait_all_tasks_blocked()
        if how == "own":
            scopes[0].cancel()
        end(how, handle)
    assert type(failure(handle).error) is RuntimeError
    assert failure(handle).reason is StopReason.ERROR


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 99}])
async def test_a_scope_left_open_by_an_attempt_does_not_govern_the_backoff(
    autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    scopes = []
    slow = RetryConfig.linear(initial_delay=30, max_delay=30, retry_on=Exception)

    async def untidy() -> None:
        scopes.append(trio.CancelScope(shield=True).__enter__())
        raise ValueError("and an error")

    async with manager(retry=slow, **options) as cm:
        handle = await cm.run(untidy)
        await trio.sleep(2)
        handle.cancel()
    assert trio.current_time() == 2
    assert type(failure(handle).error) is RuntimeError
