"""What tasks raise: what is collected, what leaves through the nursery, and whose a cancellation is."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
    TaskHandle,
)

AT_ONCE = RetryConfig.none(max_attempts=3)
ANYTHING = RetryConfig.none(max_attempts=3, retry_on=Exception)
EVERY_SECOND = RetryConfig.linear(max_attempts=9, initial_delay=1, backoff_factor=0, retry_on=Exception)


class Interrupt(BaseException):
    """Like KeyboardInterrupt, of the user's own making."""


INTERRUPTS = [KeyboardInterrupt, SystemExit, GeneratorExit, Interrupt]


@asynccontextmanager
async def manager(limit: int = 2, **options: Any) -> AsyncIterator[ConMan[Any]]:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit, **options) as cm:
        yield cm


class LeavesTheBlockError(Exception):
    """What the body of a block is left by."""


WAYS = ["handle", "manager", "scope", "outer", "nursery", "body"]


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[tuple[ConMan[Any], Callable[..., None]]]:
    """A manager, and a function that cancels its tasks in one of the ways there are."""
    with trio.CancelScope() as outer:
        async with trio.open_nursery() as nursery:
            with suppress(LeavesTheBlockError):
                async with ConMan[Any].open(nursery, **options) as cm:

                    def end(how: str, *handles: TaskHandle[Any], reason: str | None = None) -> None:
                        match how:
                            case "handle":
                                for handle in handles:
                                    handle.cancel(reason)
                            case "manager":
                                cm.cancel(reason)
                            case "scope":
                                cm.cancel_scope.cancel()
                            case "outer":
                                outer.cancel()
                            case "nursery":
                                nursery.cancel_scope.cancel()
                            case "body":
                                raise LeavesTheBlockError

                    yield cm, end
    assert outer.cancelled_caught == outer.cancel_called


def failure(handle: TaskHandle[Any]) -> Failure:
    assert isinstance(handle.outcome, Failure)
    return handle.outcome


class Raising:
    """Raises what `error` makes, in each call, and counts the calls."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self.error = error
        self.calls = 0

    async def __call__(self) -> NoReturn:
        self.calls += 1
        await trio.lowlevel.checkpoint()
        raise self.error()


async def clean_up_raising(error: BaseException) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


# What is no Exception


@pytest.mark.parametrize("kind", INTERRUPTS)
async def test_what_is_no_exception_leaves_through_the_nursery_after_one_call(
    autojump_clock: MockClock, kind: type[BaseException], record: list[Any]
) -> None:
    async def sibling() -> None:
        try:
            await trio.sleep_forever()
        finally:
            record.append("sibling")

    interrupt = kind()
    task = Raising(lambda: interrupt)
    cm: ConMan[Any] | None = None
    with pytest.RaisesGroup(kind, flatten_subgroups=True) as caught:
        async with manager(retry=ANYTHING) as cm:
            other = await cm.run(sibling)
            handle = await cm.run(task)
            try:
                await trio.sleep_forever()
            finally:
                record.append("body")
    assert leaves(caught.value) == [interrupt]
    assert sorted(record) == ["body", "sibling"]
    assert task.calls == 1
    assert cm is not None
    assert {type(error) for error in cm.errors()} == {TaskCancelledError}
    assert [failure(each).reason for each in (handle, other)] == [StopReason.CANCELLED] * 2
    assert (cm.statistics().failed, cm.statistics().cancelled) == (2, 2)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


@pytest.mark.parametrize("kind", INTERRUPTS)
async def test_what_is_no_exception_is_not_retried_after_a_retry_either(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    task = Raising(lambda: kind() if task.calls == 2 else ValueError("first"))
    with pytest.RaisesGroup(kind, flatten_subgroups=True):
        async with manager() as cm:
            handle = await cm.run(task, retry=EVERY_SECOND, attempt_timeout=5, task_timeout=9)
    assert task.calls == 2
    assert isinstance(failure(handle).error, TaskCancelledError)
    assert [each.message for each in failure(handle).history] == ["first"]


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 5}, {"task_timeout": 5}])
@pytest.mark.parametrize("kind", INTERRUPTS)
async def test_what_is_no_exception_may_come_before_the_first_await(
    autojump_clock: MockClock, kind: type[BaseException], options: dict[str, Any]
) -> None:
    def at_once() -> NoReturn:
        raise kind

    with pytest.RaisesGroup(kind, flatten_subgroups=True):
        async with manager() as cm:
            handle = await cm.run(at_once, **options)
    assert isinstance(failure(handle).error, TaskCancelledError)


async def test_the_outcome_of_a_task_that_raised_an_interrupt_says_so(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with manager() as cm:
            handle = await cm.run(Raising(KeyboardInterrupt), name="rude")
    assert str(failure(handle).error) == "task 'rude' (index 0) was cancelled: it raised KeyboardInterrupt"


async def test_an_interrupt_while_being_cancelled_leaves_too(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(Interrupt, flatten_subgroups=True):
        async with manager() as cm:
            handle = await cm.run(clean_up_raising, Interrupt())
            await wait_all_tasks_blocked()
            cm.cancel()
    assert failure(handle).reason is StopReason.CANCELLED


async def test_of_a_group_with_an_interrupt_nothing_is_lost_on_the_way_out(autojump_clock: MockClock) -> None:
    def mixed() -> BaseExceptionGroup[BaseException]:
        return BaseExceptionGroup("mixed", [Interrupt(), ValueError("real")])

    task = Raising(mixed)
    with pytest.RaisesGroup(Interrupt, ValueError, flatten_subgroups=True):
        async with manager(retry=ANYTHING) as cm:
            handle = await cm.run(task)
    assert task.calls == 1
    assert isinstance(failure(handle).error, TaskCancelledError)


async def test_two_interrupts_both_leave(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(Interrupt, SystemExit, flatten_subgroups=True):
        async with manager() as cm:
            await cm.run(clean_up_raising, Interrupt())
            await wait_all_tasks_blocked()
            await cm.run(Raising(SystemExit))


async def test_a_block_that_nothing_cancels_ends_with_closed_error_when_its_host_has_died(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def block(nursery: trio.Nursery) -> None:
        async with ConMan[Any].open(nursery) as cm:
            await cm.run(Raising(Interrupt))
            await trio.sleep_forever()

    async def body(nursery: trio.Nursery) -> None:
        with pytest.raises(ConManClosedError, match=r"^'conman' is closed and accepts no more tasks"):
            await block(nursery)
        record.append("body")

    async with trio.open_nursery() as outer:
        with pytest.RaisesGroup(Interrupt, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                outer.start_soon(body, nursery)
                await trio.sleep_forever()
        record.append("nursery")
    assert sorted(record) == ["body", "nursery"]


# StopIteration and its like


def stops() -> Iterator[None]:
    yield from ()


async def test_a_stop_iteration_becomes_the_runtime_error_that_python_makes_of_it(
    autojump_clock: MockClock,
) -> None:
    stop = StopIteration("mine")
    async with manager() as cm:
        handle = await cm.run(Raising(lambda: stop))
    assert type(failure(handle).error) is RuntimeError
    assert failure(handle).error.__cause__ is stop
    assert failure(handle).reason is StopReason.ERROR


async def test_a_stop_iteration_of_a_plain_function_is_stored_as_it_is(autojump_clock: MockClock) -> None:
    def next_of_nothing() -> Any:
        return next(stops())

    async with manager() as cm:
        handle = await cm.run(next_of_nothing)
        again = await cm.run(trio.sleep, 0)
    assert type(failure(handle).error) is StopIteration
    assert isinstance(again.outcome, Success)
    with pytest.raises(RuntimeError, match=r"^coroutine raised StopIteration$") as caught:
        await handle.result()
    assert caught.value.__cause__ is failure(handle).error


async def test_a_stop_async_iteration_is_stored_as_it_is_and_ends_nobodys_iteration(
    autojump_clock: MockClock,
) -> None:
    stop = StopAsyncIteration()
    async with manager() as cm:
        handles = [await cm.run(Raising(lambda: stop)), await cm.run(trio.sleep, 1)]

    async def results() -> AsyncIterator[object]:
        for handle in handles:
            yield await handle.result()

    assert failure(handles[0]).error is stop
    with pytest.raises(RuntimeError, match=r"^async generator raised StopAsyncIteration$"):
        async for _ in results():
            pass
    with pytest.RaisesGroup(StopAsyncIteration):
        cm.raise_errors()
    assert cm.errors() == [stop]


# Groups


@pytest.mark.parametrize(
    "errors, calls, reason",
    [
        ([RetriableError("a"), RetriableError("b")], 4, StopReason.RETRIES_EXHAUSTED),
        ([RetriableError("a"), ValueError("b")], 1, StopReason.ERROR),
        ([ValueError("b")], 1, StopReason.ERROR),
        (
            [RetriableError("a"), ExceptionGroup("inner", [RetriableError("b")])],
            4,
            StopReason.RETRIES_EXHAUSTED,
        ),
        ([RetriableError("a"), ExceptionGroup("inner", [ValueError("b")])], 1, StopReason.ERROR),
    ],
)
async def test_a_group_is_retried_when_all_its_leaves_are_retriable(
    autojump_clock: MockClock, errors: list[Exception], calls: int, reason: StopReason
) -> None:
    group = ExceptionGroup("several", errors)
    task = Raising(lambda: group)
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(task)
    assert task.calls == calls
    assert failure(handle).error is group
    assert failure(handle).reason is reason


async def test_a_group_raised_by_a_nursery_in_the_task_is_its_error_as_it_is(
    autojump_clock: MockClock,
) -> None:
    async def child(message: str) -> NoReturn:
        raise RetriableError(message, retry_config=AT_ONCE)

    async def task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "a")
            nursery.start_soon(child, "b")

    async with manager() as cm:
        handle = await cm.run(task)
    assert pytest.RaisesGroup(RetriableError, RetriableError).matches(failure(handle).error)
    assert failure(handle).retries == 3


async def mixes(error: Exception) -> None:
    """Raises a group of Cancelled and `error` when it is cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(clean_up_raising, error)


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 9}, {"task_timeout": 9}])
@pytest.mark.parametrize("how", WAYS)
async def test_of_a_group_that_mixes_cancelled_with_errors_the_errors_are_the_tasks(
    autojump_clock: MockClock, how: str, options: dict[str, Any]
) -> None:
    real = RetriableError(ValueError("real"))
    async with stage(retry=ANYTHING, **options) as (cm, end):
        handle = await cm.run(mixes, real)
        await trio.sleep(1)
        end(how, handle)
    assert pytest.RaisesGroup(RetriableError).matches(failure(handle).error)
    assert leaves(failure(handle).error) == [real]
    assert failure(handle).reason is StopReason.ERROR
    assert (handle.retries, trio.current_time()) == (0, 1)


@pytest.mark.parametrize("option", ["attempt_timeout", "task_timeout", "timeout"])
async def test_of_a_group_that_mixes_a_timeout_with_errors_the_errors_are_the_tasks(
    autojump_clock: MockClock, option: str
) -> None:
    real = ValueError("real")
    async with manager(retry=AT_ONCE, **{option: 1}) as cm:
        handle = await cm.run(mixes, real)
    assert pytest.RaisesGroup(ValueError).matches(failure(handle).error)
    assert failure(handle).reason is StopReason.ERROR
    assert cm.timed_out == (option == "timeout")


# Errors that change, causes


async def test_a_plain_error_after_retriable_ones_ends_the_task(autojump_clock: MockClock) -> None:
    last = ValueError("opaque")
    task = Raising(lambda: last if task.calls == 3 else RetriableError("again"))
    async with manager(retry=AT_ONCE) as cm:
        handle = await cm.run(task)
    assert task.calls == 3
    assert cm.errors() == [last]
    assert failure(handle).reason is StopReason.ERROR
    assert [each.message for each in failure(handle).history] == ["again", "again"]


async def test_the_cause_given_by_the_user_stays(autojump_clock: MockClock) -> None:
    cause = OSError("disk")

    async def task() -> NoReturn:
        raise RetriableError("no", retry_config=AT_ONCE) from cause

    async def task_with_error() -> NoReturn:
        raise RetriableError(error, retry_config=AT_ONCE) from cause

    error = ValueError("real")
    error.__cause__ = inner = KeyError("inner")
    async with manager() as cm:
        from_message = await cm.run(task)
        from_error = await cm.run(task_with_error)
    assert type(failure(from_message).error) is RetriableError
    assert failure(from_message).error.__cause__ is cause
    assert failure(from_error).error is error
    assert error.__cause__ is inner


async def test_an_error_keeps_its_traceback_to_the_line_that_raised_it(autojump_clock: MockClock) -> None:
    async with manager() as cm:
        first = await cm.run(Raising(lambda: ValueError("one")))
        later = await cm.run(Raising(lambda: RetriableError("two", retry_config=AT_ONCE)), attempt_timeout=9)
    for handle in (first, later):
        traceback = failure(handle).error.__traceback__
        names = []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_qualname)
            traceback = traceback.tb_next
        assert names == ["Raising.__call__"]


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


@pytest.mark.parametrize("how", ["handle", "manager"])
async def test_of_two_reasons_the_first_counts(autojump_clock: MockClock, how: str) -> None:
    async with stage() as (cm, end):
        handle = await cm.run(trio.sleep_forever)
        end(how, handle, reason="first")
        end(how, handle, reason="second")
    assert str(failure(handle).error).endswith(" was cancelled: first")


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


# Handles pass errors on


async def test_a_handles_result_raises_the_error_itself_each_time(autojump_clock: MockClock) -> None:
    real = ValueError("real")
    async with manager() as cm:
        handle = await cm.run(Raising(lambda: RetriableError(real, retry_config=AT_ONCE)))
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^real$") as caught:
                await handle.result()
            assert caught.value is real


async def test_a_task_that_fails_with_the_error_of_another_has_that_error(autojump_clock: MockClock) -> None:
    real = ValueError("real")
    async with manager() as cm:
        first = await cm.run(Raising(lambda: real))
        second = await cm.run(first.result)
    assert failure(first).error is failure(second).error is real


async def test_the_error_of_a_cancelled_task_does_not_cancel_who_asks_for_its_result(
    autojump_clock: MockClock,
) -> None:
    async with manager() as cm:
        handle = await cm.run(trio.sleep_forever, name="job")
        handle.cancel()
        with pytest.raises(TaskCancelledError, match=r"^task 'job' \(index 0\) was cancelled: "):
            await handle.result()
        await trio.sleep(1)
    assert trio.current_time() == 1
