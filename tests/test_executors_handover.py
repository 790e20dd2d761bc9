"""run_in_executor where submit may block: it is called in a thread, in order, and cancelled rightly."""

import concurrent.futures
import multiprocessing
import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_conman import ConMan
from trio_conman._leaves import handover
from trio_conman._leaves.handover import Handover
from trio_conman.executors import run_in_executor

var: ContextVar[str] = ContextVar("var", default="unset")


def tuple_of(*args: int) -> tuple[object, ...]:
    return args


class Blocks(concurrent.futures.Executor):
    """Has a submit that takes until a test lets it go on, and futures that a test ends."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.submitted: list[Any] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted.append(args)
        self.entered.release()
        assert self.let_go.acquire(timeout=60)
        self.futures.append(self.future(args))
        return self.futures[-1]

    def future(self, args: tuple[Any, ...]) -> Future[Any]:
        return Future()

    async def is_entered(self) -> None:
        assert await trio.to_thread.run_sync(partial(self.entered.acquire, timeout=60))

    async def has_submitted(self, number: int) -> None:
        """Wait until the thread has gone."""
        while len(self.futures) < number or submitting():
            await trio.sleep(0.001)


class Ends(Blocks):
    """Has ended each call when it has taken it."""

    def future(self, args: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(args)
        return future


class Starts(Blocks):
    """Has started each call when it has taken it."""

    def future(self, args: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        return future


def submitting() -> bool:
    """Whether a thread submits; those that have nothing to do bear other names."""
    return any(thread.name == "trio_conman submit" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert not submitting()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Threads that a test starts, by calling what they should."""
    threads: list[Callable[[], None]] = []

    def start(fn: Callable[[], None], deliver: Callable[[Any], None], name: str | None = None) -> None:
        threads.append(fn)

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", start)
    return threads


async def test_the_loop_goes_on_while_submit_blocks(record: list[Any]) -> None:
    executor = Ends()

    async def call() -> None:
        record.append(await run_in_executor(executor, operator.pow, 2, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await executor.is_entered()
        record.append("went on")
        executor.let_go.release()
    assert record == ["went on", (2, 3)]
    await executor.has_submitted(1)


async def test_calls_are_submitted_in_order(record: list[Any]) -> None:
    executor = Ends()

    async def call(n: int) -> None:
        record.append((n,))
        assert await run_in_executor(executor, tuple_of, n) == (n,)

    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(call, n)
            executor.let_go.release()
    assert executor.submitted == record
    assert len(record) == 50
    await executor.has_submitted(50)


async def test_what_is_quick_by_then_does_not_overtake(late: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(1) as pool:
        record: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_in_executor, submit_in_thread=True), pool, record.append, "first")
            await wait_all_tasks_blocked()
            nursery.start_soon(run_in_executor, pool, record.append, "second")
            await wait_all_tasks_blocked()
            assert record == []
            late.pop()()
    assert record == ["first", "second"]
    assert late == []


async def test_nor_does_it_where_another_executor_has_a_line_too(late: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        record: list[str] = []
        in_thread = partial(run_in_executor, submit_in_thread=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, pool, record.append, "first")
            await wait_all_tasks_blocked()
            nursery.start_soon(in_thread, other, abs, 1)
            await wait_all_tasks_blocked()
            nursery.start_soon(run_in_executor, pool, record.append, "second")
            await wait_all_tasks_blocked()
            assert record == []
            for thread in late:
                thread()
    assert record == ["first", "second"]
    assert len(late) == 2


async def test_which_are_quick(late: list[Callable[[], None]]) -> None:
    class OfUsers(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(fn, *args, **kwargs)

    async def threads_for(executor: concurrent.futures.Executor) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_in_executor, executor, operator.pow, 2, 3)
            await wait_all_tasks_blocked()
            number = len(late)
            for thread in late:
                thread()
            late.clear()
        return number

    with ThreadPoolExecutor(1) as pool:
        assert await threads_for(pool) == 0
    with OfUsers(1) as pool:
        assert await threads_for(pool) == 1
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert [await threads_for(processes), await threads_for(processes)] == [1, 0]


async def test_the_caller_may_say_which(late: list[Callable[[], None]]) -> None:
    executor = Ends()
    executor.let_go.release()
    assert await run_in_executor(executor, operator.pow, 2, 3, submit_in_thread=False) == (2, 3)
    assert late == []


@pytest.mark.parametrize("value", [0, 1, "yes"])
async def test_submit_in_thread_must_be_a_bool_or_none(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^submit_in_thread must be True or False, not "):
        await run_in_executor(Blocks(), operator.pow, 2, 3, submit_in_thread=value)


async def test_submit_sees_the_context_of_its_caller() -> None:
    class Looks(Ends):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.let_go.release()
            return super().submit(fn, var.get(), **kwargs)

    executor = Looks()
    var.set("of the caller")
    assert await run_in_executor(executor, tuple_of) == ("of the caller",)
    await executor.has_submitted(1)


# Cancellation.


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_call_before_its_turn_is_never_submitted(
    abandon: bool, late: list[Callable[[], None]], record: list[Any]
) -> None:
    executor = Ends()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        call = partial(run_in_executor, executor, abandon_on_cancel=abandon)
        handles = [await cm.run(call, record.append, n) for n in range(3)]
        await wait_all_tasks_blocked()
        handles[0].cancel()
        handles[1].cancel()
        await wait_all_tasks_blocked()
        assert cm.statistics().cancelled == 2
        executor.let_go.release()
        late.pop()()
    assert (executor.submitted, cm.outputs()) == ([(2,)], [(2,)])


async def test_a_call_that_is_being_submitted_is_cancelled_when_it_can_be() -> None:
    executor = Blocks()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_in_submit, executor, scope, True)
            await run_in_executor(executor, operator.pow, 2, 3)
    assert scope.cancelled_caught
    assert [future.cancelled() for future in executor.futures] == [True]
    await executor.has_submitted(1)


async def cancel_in_submit(executor: Blocks, scope: trio.CancelScope, let_go: bool) -> None:
    await executor.is_entered()
    scope.cancel()
    await wait_all_tasks_blocked()
    assert not scope.cancelled_caught
    if let_go:
        executor.let_go.release()


async def test_one_that_has_started_by_then_is_waited_for(record: list[Any]) -> None:
    executor = Starts()

    async def call() -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_in_submit, executor, scope, True)
            record.append(await run_in_executor(executor, operator.pow, 2, 3))
        record.append(scope.cancelled_caught)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await executor.has_submitted(1)
        executor.futures[0].set_result("a result")
    assert record == ["a result", False]


async def test_an_error_of_submit_comes_though_it_was_cancelled() -> None:
    class Refuses(Blocks):
        def future(self, args: tuple[Any, ...]) -> Future[Any]:
            raise OSError("no")

    executor = Refuses()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_in_submit, executor, scope, True)
            with pytest.raises(OSError, match=r"^no$"):
                await run_in_executor(executor, operator.pow, 2, 3)
    assert not scope.cancelled_caught


@pytest.mark.parametrize("kind", [Blocks, Starts])
async def test_one_that_is_abandoned_is_cancelled_when_submit_returns(kind: type[Blocks]) -> None:
    executor = kind()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_and_go, executor, scope)
            await run_in_executor(executor, operator.pow, 2, 3, abandon_on_cancel=True)
        assert scope.cancelled_caught
        assert executor.futures == []
        executor.let_go.release()
        await executor.has_submitted(1)
    (future,) = executor.futures
    assert future.cancelled() is (kind is Blocks)
    if kind is Starts:
        future.set_result("dropped")
    await wait_all_tasks_blocked()


async def cancel_and_go(executor: Blocks, scope: trio.CancelScope) -> None:
    await executor.is_entered()
    scope.cancel()


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_thread_never_makes_one_that_is_abandoned_and_makes_any_other(
    abandon: bool, record: list[Any]
) -> None:
    class Bounded(ThreadPoolExecutor):
        entered = threading.Event()
        let_go = threading.Event()

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.entered.set()
            assert self.let_go.wait(60)
            future = super().submit(fn, *args, **kwargs)
            concurrent.futures.wait([future])  # it is too late to cancel
            return future

    async def call() -> None:
        with scope:
            await run_in_executor(pool, record.append, "made", abandon_on_cancel=abandon)

    scope = trio.CancelScope()
    with Bounded(1) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            assert await trio.to_thread.run_sync(pool.entered.wait, 60)
            scope.cancel()
            await wait_all_tasks_blocked()
            pool.let_go.set()
        await run_in_executor(pool, record.append, "after it")
        while submitting():
            await trio.sleep(0.001)
    assert record == (["after it"] if abandon else ["made", "after it"])


def test_an_abandoned_submit_may_outlive_the_run(caplog: pytest.LogCaptureFixture) -> None:
    executor = Ends()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_and_go, executor, scope)
                await run_in_executor(executor, operator.pow, 2, 3, abandon_on_cancel=True)

    trio.run(main)
    executor.let_go.release()
    trio.run(executor.has_submitted, 1)
    assert caplog.records == []


class OfUsers(ThreadPoolExecutor):
    """Nobody knows that it is quick."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(fn, *args, **kwargs)


async def test_a_submit_that_is_no_method_of_a_class_is_called_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        submit, in_main = pool.submit, []

        def noted(fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
            in_main.append(threading.current_thread() is threading.main_thread())
            return submit(fn, *args)

        monkeypatch.setattr(pool, "submit", noted)
        assert await run_in_executor(pool, abs, -1) == 1
    assert in_main == [False]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, OfUsers])
async def test_calls_that_are_submitted_end_and_are_cancelled_at_all_moments_are_never_lost(
    kind: type[ThreadPoolExecutor], record: list[Any]
) -> None:
    async def call(n: int) -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope, n % 7)
            record.append(await run_in_executor(pool, abs, n, abandon_on_cancel=n % 2 == 0))
        if scope.cancelled_caught:
            record.append(n)

    async def cancel(scope: trio.CancelScope, ticks: int) -> None:
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    with kind(2) as pool:
        async with trio.open_nursery() as nursery:
            for n in range(500):
                nursery.start_soon(call, n)
        assert await run_in_executor(pool, abs, -1) == 1
        while submitting():
            await trio.sleep(0.001)
    assert sorted(record) == list(range(500))


class Late(Future[Any]):
    """Its thread comes to cancel it when the caller has been woken, and is done before that goes on."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.set_result(value)
        self.is_taken = threading.Event()

    def cancel(self) -> bool:
        return not self.is_taken.wait(60)

    def cancelled(self) -> bool:
        self.is_taken.set()
        while submitting():
            time.sleep(0.001)
        return False


async def test_a_result_that_is_taken_while_its_thread_sees_the_cancellation_is_there() -> None:
    class Lates(Blocks):
        def future(self, args: tuple[Any, ...]) -> Future[Any]:
            return Late(args)

    executor = Lates()

    async def cancel() -> None:
        await executor.is_entered()
        scope.cancel()
        executor.let_go.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            result = await run_in_executor(executor, operator.pow, 2, 3)
        assert result == (2, 3)


# What fails, and what is held.


async def test_no_thread_to_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    executor = Ends()
    executor.let_go.release()
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", refuse)
        with (
            trio.testing.assert_checkpoints(),
            pytest.raises(RuntimeError, match=r"^can't start new thread$"),
        ):
            await run_in_executor(executor, operator.pow, 2, 3)
    assert await run_in_executor(executor, operator.pow, 3, 2) == (3, 2)
    assert executor.submitted == [(3, 2)]
    await executor.has_submitted(1)


@pytest.mark.usefixtures("no_collector")
async def test_an_executor_is_held_no_longer_than_its_calls() -> None:
    executor = Ends()
    executor.let_go.release()
    await run_in_executor(executor, operator.pow, 2, 3)
    while submitting():
        # Not has_submitted(): from CPython 3.13 on, the Cancelled that ends its sleep leads to its frame.
        await trio.lowlevel.checkpoint()
    held = weakref.ref(executor)
    del executor
    assert held() is None


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_was_abandoned_is_freed_when_it_is_submitted() -> None:
    executor = Starts()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_and_go, executor, scope)
            await run_in_executor(executor, operator.pow, 2, 3, abandon_on_cancel=True)
    executor.let_go.release()
    await executor.has_submitted(1)
    held = weakref.ref(executor.futures.pop())
    assert held() is None


@dataclass
class Equal(Blocks):
    """Has no hash, and is equal to all of its type."""

    def __post_init__(self) -> None:
        super().__init__()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        super().submit(fn, *args, **kwargs)
        self.futures[-1].set_result(fn(*args, **kwargs))
        return self.futures[-1]


async def test_executors_are_told_apart_though_they_are_equal() -> None:
    blocked, free = Equal(), Equal()
    free.let_go.release()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_executor, blocked, abs, -1)
        await blocked.is_entered()
        assert await run_in_executor(free, abs, -2) == 2  # it does not wait for the other one
        blocked.let_go.release()


async def test_an_executor_has_no_part_in_what_one_of_its_id_has_left() -> None:
    """CPython gives an id to one object after another."""
    gone, executor = Handover(Blocks()), Ends()
    handover._handovers.set({id(executor): gone})
    executor.let_go.release()
    assert await run_in_executor(executor, tuple_of, 1) == (1,)
    left = handover._handovers.get()
    assert left is not None
    assert [each.executor() for each in left.values()] == [executor]


async def test_executors_that_are_gone_leave_nothing(no_collector: None) -> None:
    for number in range(5):
        executor = Ends()
        executor.let_go.release()
        assert await run_in_executor(executor, tuple_of, number) == (number,)
        while submitting():
            await trio.lowlevel.checkpoint()  # as above
    left = handover._handovers.get()
    assert left is not None
    assert len(left) == 1
