"""run_in_executor with futures, and with a submit, that do other than they should: they harm nobody."""

import concurrent.futures
import operator
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, TaskCancelledError
from trio_conman.executors import run_in_executor

# A thread that submits would be there when everybody else waits.
call_here: Any = partial(run_in_executor, submit_in_thread=False)


class Gives(concurrent.futures.Executor):
    """Gives one future, which a test ends; some of its methods are replaced."""

    def __init__(self, **methods: Any) -> None:
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()
        for name, method in methods.items():
            setattr(self.future, name, method)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.future


class CallsBack(Gives):
    """Calls back when a test says so."""

    def __init__(self) -> None:
        super().__init__(add_done_callback=self.add, result=self.result)
        self.callback: Callable[[Any], None]

    def add(self, callback: Callable[[Any], None]) -> None:
        self.callback = callback

    def result(self) -> object:
        assert self.future.done()  # else it would hold up everybody
        return Future.result(self.future)


class NeitherError(Exception):
    """There is no answer."""


class Neither:
    """Neither true nor false, like an array."""

    def __repr__(self) -> str:
        return "Neither()"

    def __bool__(self) -> NoReturn:
        raise NeitherError


def answers(answer: object) -> Callable[[], object]:
    """Make a method that gives this answer, or raises it."""

    def method() -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return method


RAISED = [NotImplementedError("no"), RecursionError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]
ODD = [*RAISED, None, 1, "yes", Neither()]


WAITED_FOR = ["ends", "result"]
LEFT = ["cancelled", "ends"]


async def call(executor: Gives, record: list[Any], abandon: bool = False) -> None:
    """Cancel a call when it waits, and end it when everybody waits again; record what is seen of it."""

    async def cancel_and_end() -> None:
        await wait_all_tasks_blocked()
        try:
            scope.cancel()
            await wait_all_tasks_blocked()
            record.append("ends")
        finally:  # whatever fails, no test may hang
            if not Future.done(executor.future):
                executor.future.set_result("result")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_and_end)
        with trio.CancelScope() as scope:
            record.append(await call_here(executor, operator.pow, 2, 3, abandon_on_cancel=abandon))
        if scope.cancelled_caught:
            record.append("cancelled")


# cancel()


@pytest.mark.parametrize("answer", [*ODD, True], ids=repr)  # True is a lie: the future is not cancelled
@pytest.mark.parametrize("abandon", [False, True])
async def test_a_cancel_that_raises_or_lies_or_is_unclear_came_too_late(
    answer: object, abandon: bool, record: list[Any]
) -> None:
    await call(Gives(cancel=answers(answer)), record, abandon)
    assert record == (LEFT if abandon else WAITED_FOR)


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_result_is_kept_though_the_cancel_raised(abandon: bool, record: list[Any]) -> None:
    executor = Gives()

    def cancel() -> NoReturn:
        executor.future.set_result("result")
        raise NotImplementedError  # as parsl does

    executor.future.cancel = cancel  # type: ignore[method-assign]  # of this one
    await call(executor, record, abandon)
    assert record == ["result", "ends"]


@pytest.mark.parametrize("answer", [*ODD, False], ids=repr)
async def test_a_cancel_that_cancelled_all_the_same_counts(answer: object, record: list[Any]) -> None:
    # As when it cannot tell others, because the stack is too deep.
    await call(Gives(cancel=answers(answer), cancelled=answers(True)), record)
    assert record == LEFT


@pytest.mark.parametrize("answer", ODD, ids=repr)
async def test_cancelled_may_be_as_odd(answer: object, record: list[Any]) -> None:
    await call(Gives(cancel=answers(False), cancelled=answers(answer)), record)
    assert record == WAITED_FOR


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_cancelled_manager_whose_futures_raise_loses_nothing(abandon: bool) -> None:
    run = partial(call_here, abandon_on_cancel=abandon)
    executors = [Gives(cancel=answers(NotImplementedError())) for _ in range(3)]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4) as cm:
        for executor in executors:
            await cm.run(run, executor, operator.pow, 2, 3)
        other = await cm.run(trio.sleep_forever)
        await wait_all_tasks_blocked()
        try:
            cm.cancel()
            with trio.CancelScope(shield=True):
                assert isinstance(await other.wait(), Failure)
                await wait_all_tasks_blocked()
                assert cm.statistics().cancelled == (4 if abandon else 1)
        finally:
            for executor in executors:
                executor.future.set_result("ended")
    assert cm.outputs() == ([] if abandon else ["ended"] * 3)
    assert len(cm.outcomes()) == 4
    assert all(isinstance(error, TaskCancelledError) for error in cm.errors())


@pytest.mark.parametrize("end", ["result", "error", "none"])
async def test_a_call_that_was_left_though_it_said_that_it_was_cancelled_disturbs_nobody(
    end: str, autojump_clock: MockClock
) -> None:
    executor = CallsBack()
    executor.future.cancel = answers(True)  # type: ignore[method-assign,assignment]  # of this one
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(call_here, abandon_on_cancel=True), executor, operator.pow, 2, 3)
            await wait_all_tasks_blocked()
            scope.cancel()
    match end:
        case "result":
            executor.future.set_result("ended")
        case "error":
            executor.future.set_exception(OSError("no"))
    for _ in range(2):
        executor.callback(executor.future)
    with trio.move_on_after(1) as asleep:
        await trio.sleep_forever()
    assert asleep.cancelled_caught


# done(), and callbacks that come at odd times.


@pytest.mark.parametrize("answer", ODD, ids=repr)
@pytest.mark.parametrize("abandon", [False, True])
async def test_done_may_be_as_odd(answer: object, abandon: bool, record: list[Any]) -> None:
    await call(Gives(done=answers(answer)), record, abandon)
    assert record == (LEFT if abandon else WAITED_FOR)


async def test_a_callback_that_comes_too_early_is_no_end(record: list[Any]) -> None:
    executor = CallsBack()

    async def run() -> None:
        record.append(await call_here(executor, operator.pow, 2, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for _ in range(2):
            await wait_all_tasks_blocked()
            executor.callback(executor.future)
        await wait_all_tasks_blocked()
        assert record == []
        executor.future.set_result("ended")
        executor.callback(executor.future)
    assert record == ["ended"]


async def test_a_call_may_be_abandoned_after_a_callback_that_came_too_early() -> None:
    executor = CallsBack()

    async def cancel() -> None:
        for _ in range(2):
            await wait_all_tasks_blocked()
            executor.callback(executor.future)
        await wait_all_tasks_blocked()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            await call_here(executor, operator.pow, 2, 3, abandon_on_cancel=True)
    assert scope.cancelled_caught


async def test_an_end_may_be_told_at_once_and_again_from_any_thread(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    class ToldAtOnce(CallsBack):
        def add(self, callback: Callable[[Any], None]) -> None:
            super().add(callback)
            self.future.set_result("ended")
            self.tell()

        def tell(self) -> None:
            self.callback(self.future)
            threads = [threading.Thread(target=self.callback, args=[self.future]) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    executor = ToldAtOnce()
    record.append(await call_here(executor, operator.pow, 2, 3))
    executor.tell()
    with trio.move_on_after(1) as asleep:
        await trio.sleep_forever()
    assert asleep.cancelled_caught
    assert record == ["ended"]


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("kept", [False, True])
async def test_a_future_that_refuses_the_callback_is_an_error_and_its_call_is_cancelled(
    error: BaseException, kept: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    class Refuses(CallsBack):
        def add(self, callback: Callable[[Any], None]) -> None:
            super().add(callback)
            raise error

    executor = Refuses()
    executor.future.cancel = lambda: record.append("cancelled")  # type: ignore[method-assign,assignment,return-value]  # of this one
    with pytest.raises(type(error)) as caught:
        await call_here(executor, operator.pow, 2, 3)
    assert caught.value is error
    assert record == ["cancelled"]
    if kept:
        executor.future.set_result("ended")
        executor.callback(executor.future)
    with trio.move_on_after(1) as asleep:
        await trio.sleep_forever()
    assert asleep.cancelled_caught


# result()


@pytest.mark.parametrize("error", [*RAISED, NeitherError()], ids=repr)
async def test_what_result_raises_is_the_error(error: BaseException) -> None:
    executor = Gives(result=answers(error))
    executor.future.set_result("ended")
    with pytest.raises(type(error)) as caught:
        await call_here(executor, operator.pow, 2, 3)
    assert caught.value is error


@pytest.mark.parametrize("result", [None, Neither(), NeitherError()], ids=repr)
async def test_what_result_returns_is_the_result(result: object) -> None:
    executor = Gives(result=lambda: result)
    executor.future.set_result("ended")
    assert await call_here(executor, operator.pow, 2, 3) is result


# submit()


@pytest.mark.parametrize("error", RAISED, ids=repr)
async def test_what_submit_raises_is_the_error_and_nothing_else(error: BaseException) -> None:
    executor = Gives()
    executor.submit = lambda *_: answers(error)()  # type: ignore[method-assign,assignment]  # of this one
    with pytest.raises(type(error)) as caught:
        await call_here(executor, operator.pow, 2, 3)
    assert caught.value is error


@pytest.mark.parametrize("abandon", [False, True])
async def test_an_error_of_submit_comes_though_it_is_cancelled_meanwhile(abandon: bool) -> None:
    def submit(*_: object) -> NoReturn:
        scope.cancel()
        raise OSError("no")

    executor = Gives()
    executor.submit = submit  # type: ignore[method-assign]  # of this one
    with trio.CancelScope() as scope:
        with pytest.raises(OSError, match=r"^no$"):
            await call_here(executor, operator.pow, 2, 3, abandon_on_cancel=abandon)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()], ids=repr)
async def test_a_call_whose_submit_failed_is_never_made(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, record: list[Any]
) -> None:
    let_go = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(let_go.wait, 60)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", lambda _: answers(error)())
            with pytest.raises(type(error)) as caught:
                await run_in_executor(pool, record.append, "made")
        let_go.set()
        assert caught.value is error
        assert busy.result()
        # It was in the queue, and its turn has been.
        await run_in_executor(pool, record.append, "after it")
    assert record == ["after it"]
