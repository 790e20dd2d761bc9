"""run_in_executor where its caller is cancelled, or interrupted by Ctrl-C."""

import concurrent.futures
import operator
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.called import Gate, Manual, call_here, cancel_when_blocked
from trio_conman import ConMan, Failure, StopReason, TaskCancelledError
from trio_conman.executors import run_in_executor


class EndsWhileCancelled(Future[Any]):
    """Ends in another thread in the middle of its cancellation, which is too late then."""

    def cancel(self) -> bool:
        thread = threading.Thread(target=self.set_result, args=["ended"])
        thread.start()
        thread.join()
        return super().cancel()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go.set()


@pytest.fixture
def thread(gate: Gate) -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread; the gate opens before it is waited for."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        gate.let_go.set()


# Cancellation.


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_call_that_has_not_started_is_cancelled(
    thread: ThreadPoolExecutor, gate: Gate, record: list[Any], abandon: bool
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_executor, thread, gate, None)
        await gate.has_started()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await run_in_executor(thread, record.append, "ran", abandon_on_cancel=abandon)
        assert scope.cancelled_caught
        gate.let_go.set()
    await run_in_executor(thread, record.append, "after it")
    assert record == ["after it"]


@pytest.mark.parametrize("result", ["a result", OSError("an error")])
async def test_a_running_call_is_waited_for(
    thread: ThreadPoolExecutor, gate: Gate, record: list[Any], result: object
) -> None:
    async def call() -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            try:
                record.append(await run_in_executor(thread, gate, result))
            except OSError as exc:
                record.append(exc)
        record.append(scope.cancelled_caught)

    async def cancel(scope: trio.CancelScope) -> None:
        await gate.has_started()
        scope.cancel()
        await wait_all_tasks_blocked()
        record.append("cancelled")
        gate.let_go.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
    assert record == ["cancelled", result, False]


async def test_a_running_call_is_abandoned_if_so_wished(
    thread: ThreadPoolExecutor, gate: Gate, record: list[Any]
) -> None:
    async def cancel(scope: trio.CancelScope) -> None:
        await gate.has_started()
        scope.cancel()

    def call() -> None:
        gate(None)
        record.append("finished")

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            await run_in_executor(thread, call, abandon_on_cancel=True)
    assert scope.cancelled_caught
    assert record == []
    gate.let_go.set()
    # Its end is dropped, and disturbs no later wait.
    assert await run_in_executor(thread, operator.pow, 2, 3) == 8
    await wait_all_tasks_blocked()
    assert record == ["finished"]


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_result_that_is_there_when_the_cancellation_comes_is_kept(abandon: bool) -> None:
    executor = Manual()

    async def end() -> None:
        await wait_all_tasks_blocked()
        executor.futures[0].set_result("ended")
        scope.cancel()  # before what the future has sent can have arrived

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            result: object = await call_here(executor, operator.pow, 2, 3, abandon_on_cancel=abandon)
    assert result == "ended"


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_result_that_comes_in_the_middle_of_the_cancellation_is_kept(abandon: bool) -> None:
    class Executor(Manual):
        def future(self) -> Future[Any]:
            return EndsWhileCancelled()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_blocked, scope)
            result: object = await call_here(Executor(), operator.pow, 2, 3, abandon_on_cancel=abandon)
    assert result == "ended"


async def test_an_abandoned_call_that_ends_in_the_same_tick_wakes_nobody(autojump_clock: MockClock) -> None:
    executor = Manual()

    async def cancel() -> None:
        await wait_all_tasks_blocked()
        executor.futures[0].set_running_or_notify_cancel()
        scope.cancel()
        executor.futures[0].set_result("too late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            await call_here(executor, operator.pow, 2, 3, abandon_on_cancel=True)
        with trio.move_on_after(1) as asleep:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert asleep.cancelled_caught


async def test_a_call_that_somebody_else_cancels_is_an_ordinary_error(
    thread: ThreadPoolExecutor, gate: Gate
) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        first = await cm.run(run_in_executor, thread, gate, "first")
        await gate.has_started()
        second = await cm.run(run_in_executor, thread, operator.pow, 2, 3)
        await wait_all_tasks_blocked()
        thread.shutdown(wait=False, cancel_futures=True)
        outcome = await second.wait()
        gate.let_go.set()
        assert await first.result() == "first"
    assert isinstance(outcome, Failure)
    assert type(outcome.error) is concurrent.futures.CancelledError
    assert outcome.reason is StopReason.ERROR


async def test_a_call_that_is_cancelled_from_both_sides_is_cancelled() -> None:
    executor = Manual()

    async def cancel() -> None:
        await wait_all_tasks_blocked()
        executor.futures[0].cancel()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            await call_here(executor, operator.pow, 2, 3)
    assert scope.cancelled_caught


async def test_a_cancelled_task_takes_its_call_back(thread: ThreadPoolExecutor, gate: Gate) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        first = await cm.run(run_in_executor, thread, gate, "first")
        await gate.has_started()
        second = await cm.run(run_in_executor, thread, gate, "second")
        await wait_all_tasks_blocked()
        first.cancel()
        second.cancel()
        outcome = await second.wait()
        gate.let_go.set()
        assert await first.result() == "first"  # it ran, and so it has a result
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, TaskCancelledError)


def test_an_abandoned_call_may_outlive_the_run(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    async def call() -> None:
        await run_in_executor(pool, gate, "late", abandon_on_cancel=True)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await gate.has_started()
            nursery.cancel_scope.cancel()

    with ThreadPoolExecutor(1) as pool:
        trio.run(main)
        gate.let_go.set()
    assert caplog.records == []


# Ctrl-C.


def test_ctrl_c_in_the_middle_of_a_submission_comes_when_the_call_is_known(record: list[Any]) -> None:
    class Executor(Manual):
        def future(self) -> Future[Any]:
            signal.raise_signal(signal.SIGINT)
            record.append("submitted")
            return super().future()

    async def main() -> None:
        await call_here(executor, operator.pow, 2, 3)

    executor = Executor()
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert record == ["submitted"]
    assert [future.cancelled() for future in executor.futures] == [True]


def test_ctrl_c_waits_for_a_running_call(record: list[Any]) -> None:
    executor = Manual()

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        await wait_all_tasks_blocked()
        (future,) = executor.futures
        future.set_running_or_notify_cancel()
        signal.raise_signal(signal.SIGINT)
        await wait_all_tasks_blocked()
        future.set_result("ended")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            record.append(await call_here(executor, operator.pow, 2, 3))
            await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main)
    assert record == ["ended"]
