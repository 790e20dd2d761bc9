"""What tasks raise: what is collected, what leaves through the nursery, and what handles pass on."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import failure, manager
from tests.raised import ANYTHING, EVERY_SECOND, WAYS, Raising, stage
from trio_conman import (
    ConMan,
    ConManClosedError,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskCancelledError,
)

AT_ONCE = RetryConfig.none(max_attempts=3)


class Interrupt(BaseException):
    """Like KeyboardInterrupt, of the user's own making."""


INTERRUPTS = [KeyboardInterrupt, SystemExit, GeneratorExit, Interrupt]


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
