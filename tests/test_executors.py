"""run_in_executor on pools of threads and of processes, and on executors that a test moves by hand.

What goes to another process is found in the standard library: a test module cannot be imported there.
"""

import concurrent.futures
import math
import multiprocessing
import operator
import os
import signal
import statistics
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, RetryConfig, StopReason, Success, TaskCancelledError
from trio_conman.executors import run_in_executor

read_text: Callable[[Path], str] = Path.read_text
SPAWN = multiprocessing.get_context("spawn")
var: ContextVar[str] = ContextVar("var", default="unset")
of_context: ContextVar[object] = ContextVar("of_context", default=None)
# A thread that submits would be there when everybody else waits.
call_here: Any = partial(run_in_executor, submit_in_thread=False)


class Manual(concurrent.futures.Executor):
    """Takes calls, which a test starts and ends."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not kwargs
        self.calls.append((fn, args))
        self.futures.append(self.future())
        return self.futures[-1]

    def future(self) -> Future[Any]:
        return Future()


class AtOnce(Manual):
    """Has ended each call when it has taken it."""

    def future(self) -> Future[Any]:
        future: Future[Any] = Future()
        fn, args = self.calls[-1]
        try:
            future.set_result(fn(*args))
        except Exception as exc:
            future.set_exception(exc)
        return future


class EndsWhileCancelled(Future[Any]):
    """Ends in another thread in the middle of its cancellation, which is too late then."""

    def cancel(self) -> bool:
        thread = threading.Thread(target=self.set_result, args=["ended"])
        thread.start()
        thread.join()
        return super().cancel()


class Gate:
    """A call that says when it has started, and then waits to be let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, result: object) -> object:
        self.started.set()
        assert self.let_go.wait(60)
        if isinstance(result, Exception):
            raise result
        return result

    async def has_started(self) -> None:
        assert await trio.to_thread.run_sync(self.started.wait, 60)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go.set()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def thread(gate: Gate) -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread; the gate opens before it is waited for."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        gate.let_go.set()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        yield pool


def fail(error: BaseException) -> NoReturn:
    raise error


# Results and errors.


@pytest.mark.parametrize("kind", ["threads", "processes"])
async def test_all_results_arrive(kind: str, request: pytest.FixtureRequest) -> None:
    pool: concurrent.futures.Executor = request.getfixturevalue(kind)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 5) as cm:
        for n in range(30):
            await cm.run(run_in_executor, pool, math.factorial, n)
    assert sorted(cm.outputs()) == [math.factorial(n) for n in range(30)]
    assert cm.errors() == []


async def test_items_of_a_map_run_on_a_pool(processes: ProcessPoolExecutor) -> None:
    def power(n: int) -> Any:
        return run_in_executor(processes, operator.pow, n, 2)

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 3) as cm:
        async with cm.map(power, range(20), ordered=True) as outcomes:
            values = [outcome.value async for outcome in outcomes if isinstance(outcome, Success)]
    assert values == [n * n for n in range(20)]


async def test_an_error_of_a_thread_comes_back_as_it_is(threads: ThreadPoolExecutor) -> None:
    error = ValueError("no")
    with pytest.raises(ValueError, match=r"^no$") as caught:
        await run_in_executor(threads, fail, error)
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_comes_back_too(
    threads: ThreadPoolExecutor, interrupt: type[BaseException]
) -> None:
    error = interrupt("no")
    with pytest.raises(interrupt) as caught:
        await run_in_executor(threads, partial(fail, error))
    assert caught.value is error


async def test_an_error_of_a_process_keeps_its_remote_traceback(processes: ProcessPoolExecutor) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        handle = await cm.run(run_in_executor, processes, statistics.mean, [])
    match handle.outcome:
        case Failure(error=statistics.StatisticsError() as error, reason=StopReason.ERROR):
            assert type(error.__cause__).__name__ == "_RemoteTraceback"
            assert f'File "{statistics.__file__}"' in str(error.__cause__)
        case outcome:
            pytest.fail(f"{outcome!r}")


async def test_what_cannot_be_sent_is_an_error(processes: ProcessPoolExecutor) -> None:
    with pytest.raises(Exception, match="local object"):
        await run_in_executor(processes, lambda: 1)
    assert await run_in_executor(processes, operator.pow, 2, 5) == 32


async def test_an_executor_that_is_shut_down_is_an_error() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        await run_in_executor(pool, math.factorial, 3)


async def test_an_error_of_a_call_is_retried_as_any_other(threads: ThreadPoolExecutor) -> None:
    answers = iter([OSError("one"), OSError("two"), None])

    def answer() -> str:
        if (error := next(answers)) is not None:
            raise error
        return "three"

    config = RetryConfig.none(retry_on=OSError)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, retry=config) as cm:
        handle = await cm.run(run_in_executor, threads, answer)
    assert cm.outputs() == ["three"]
    assert handle.retries == 2


# Checkpoints.


@pytest.mark.parametrize("executor", [AtOnce(), ThreadPoolExecutor(1)])
async def test_it_is_a_checkpoint(executor: concurrent.futures.Executor) -> None:
    with executor, assert_checkpoints():
        assert await run_in_executor(executor, operator.pow, 2, 3) == 8


@pytest.mark.parametrize("executor", [AtOnce(), None])
async def test_it_is_a_checkpoint_when_it_fails(executor: concurrent.futures.Executor | None) -> None:
    if executor is None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
    with assert_checkpoints(), pytest.raises((OSError, RuntimeError)):
        await run_in_executor(executor, fail, OSError("no"))


async def test_nothing_is_submitted_by_a_task_that_is_cancelled_already() -> None:
    executor = AtOnce()
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_in_executor(executor, operator.pow, 2, 3)
    assert scope.cancelled_caught
    assert executor.calls == []


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


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


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


# Processes.


needs_pipes = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes with a path")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Reading from it takes until somebody has written to it; writing, until somebody reads."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@needs_pipes
async def test_a_running_call_of_a_process_is_waited_for(
    processes: ProcessPoolExecutor, pipe: Path, record: list[Any]
) -> None:
    async def call() -> None:
        with scope:
            record.append(await run_in_executor(processes, read_text, pipe))
        record.append(scope.cancelled_caught)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with await trio.open_file(pipe, "w") as writer:
            scope.cancel()
            await wait_all_tasks_blocked()
            record.append("cancelled")
            await writer.write("a text")
    assert record == ["cancelled", "a text", False]


@needs_pipes
async def test_a_running_call_of_a_process_is_abandoned_if_so_wished(
    processes: ProcessPoolExecutor, pipe: Path, record: list[Any]
) -> None:
    async def call() -> None:
        with scope:
            await run_in_executor(processes, read_text, pipe, abandon_on_cancel=True)
        record.append(scope.cancelled_caught)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with await trio.open_file(pipe, "w") as writer:
            scope.cancel()
            await wait_all_tasks_blocked()
            assert record == [True]
            await writer.write("a text")
    assert await run_in_executor(processes, operator.pow, 2, 5) == 32


async def test_a_pool_that_has_lost_a_process_is_an_error_then_and_later() -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        with pytest.raises(BrokenExecutor, match="terminated abruptly"):
            await run_in_executor(pool, os._exit, 3)
        with pytest.raises(BrokenExecutor, match="not usable anymore"):
            await run_in_executor(pool, operator.pow, 2, 5)


async def test_a_task_may_be_retried_on_a_fresh_pool(record: list[Any]) -> None:
    pools = [ProcessPoolExecutor(1, mp_context=SPAWN)]

    async def job() -> int:
        pool = pools[-1]
        try:
            if len(pools) == 1:
                await run_in_executor(pool, os._exit, 3)
            return await run_in_executor(pool, operator.pow, 2, 5)
        except BrokenExecutor:
            # Whichever task is first gets a new one for all.
            if pool is pools[-1]:
                pools.append(ProcessPoolExecutor(1, mp_context=SPAWN))
            raise

    config = RetryConfig.none(retry_on=BrokenExecutor)
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, retry=config) as cm:
        handles = [await cm.run(job) for _ in range(4)]
    for pool in pools:
        pool.shutdown()
    assert cm.outputs() == [32] * 4
    assert [handle.retries for handle in handles] == [1] * 4
    assert len(pools) == 2


# Contexts.


async def test_a_thread_sees_the_context_of_its_caller_and_changes_none(threads: ThreadPoolExecutor) -> None:
    def look_and_set() -> str:
        seen = var.get()
        var.set("of the thread")
        return seen

    var.set("of the caller")
    assert await run_in_executor(threads, look_and_set) == "of the caller"
    assert var.get() == "of the caller"
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery) as cm:
        var.set("of the submitter")
        await cm.run(run_in_executor, threads, look_and_set)
        var.set("later")
    assert cm.outputs() == ["of the submitter"]


async def test_other_executors_get_the_function_as_it_is() -> None:
    executor = AtOnce()
    assert await run_in_executor(executor, operator.pow, 2, 3) == 8
    assert executor.calls == [(operator.pow, (2, 3))]


async def test_a_pool_of_interpreters_gets_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(ThreadPoolExecutor):
        """Stands for the one of Python 3.14 and later."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            assert (fn, args) == (operator.pow, (2, 3))
            return super().submit(fn, *args, **kwargs)

    monkeypatch.setattr(concurrent.futures, "InterpreterPoolExecutor", Pool, raising=False)
    with Pool(1) as pool:
        assert await run_in_executor(pool, operator.pow, 2, 3) == 8


# What is refused.


async def coroutine_function() -> None:
    raise AssertionError


async def async_generator() -> Any:
    yield 1


class AsyncCallable:
    async def __call__(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("executor", [None, 1, object(), ThreadPoolExecutor, pow])
async def test_an_executor_must_have_submit(executor: Any) -> None:
    with pytest.raises(TypeError, match=r"^executor must be a concurrent\.futures\.Executor, not "):
        await run_in_executor(executor, operator.pow, 2, 3)


@pytest.mark.parametrize("fn", [None, 8, "pow"])
async def test_the_function_must_be_callable(fn: Any) -> None:
    with pytest.raises(TypeError, match=r"^fn must be a sync callable, not .*: pass fn, \*args, not fn\("):
        await run_in_executor(Manual(), fn)


@pytest.mark.parametrize(
    "fn", [coroutine_function, partial(coroutine_function), async_generator, AsyncCallable()]
)
async def test_the_function_must_be_sync(fn: Any) -> None:
    executor = Manual()
    with pytest.raises(TypeError, match=r"^fn must be a sync callable, but .* is async: the manager runs"):
        await run_in_executor(executor, fn)
    assert executor.calls == []


@pytest.mark.parametrize("abandon", [None, 1, "yes"])
async def test_abandon_on_cancel_must_be_a_bool(abandon: Any) -> None:
    with pytest.raises(TypeError, match=r"^abandon_on_cancel must be True or False, not "):
        await run_in_executor(Manual(), operator.pow, 2, 3, abandon_on_cancel=abandon)


# What it holds. The garbage collector is off: what goes, goes by its last reference.


class FreedError(Exception):
    """Can be seen to be freed."""


class Job:
    """A call that can be seen to be freed."""

    def __init__(self, ending: str = "result") -> None:
        self.ending = ending
        self.error: Exception | None = None

    def __call__(self) -> object:
        if self.ending == "error":
            raise FreedError
        return object()


@pytest.mark.usefixtures("no_collector")
async def test_an_error_makes_no_cycle(record: list[Any]) -> None:
    async def call() -> None:
        with suppress(FreedError):
            await call_here(executor, operator.pow, 2, 3)

    executor = Manual()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        error = FreedError()
        record.append(weakref.ref(error))
        executor.futures.pop().set_exception(error)
        del error
    assert record[0]() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ending", ["result", "error", "cancelled", "abandoned"])
async def test_a_dropped_outcome_frees_the_call_and_its_future(ending: str) -> None:
    executor = Manual()
    job = Job(ending)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
        call = partial(call_here, executor, abandon_on_cancel=ending == "abandoned")
        handle = await cm.run(call, job)
        await wait_all_tasks_blocked()
        future = executor.futures.pop()
        executor.calls.clear()
        if ending != "cancelled":
            future.set_running_or_notify_cancel()
        if ending in {"cancelled", "abandoned"}:
            handle.cancel()
            await handle.wait()
        if ending == "error":
            try:
                job()
            except FreedError as exc:
                future.set_exception(exc)
        elif ending != "cancelled":
            future.set_result(job())
    await wait_all_tasks_blocked()
    outcomes = cm.pop_outcomes()
    refs: list[weakref.ref[Any]] = [weakref.ref(job), weakref.ref(future)]
    assert None not in [ref() for ref in refs]
    del job, future, handle, outcomes
    assert [ref() for ref in refs] == [None, None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("given", ["argument", "context", "too late"])
async def test_the_traceback_of_an_error_does_not_lead_to_what_was_given(
    given: str, record: list[Any]
) -> None:
    def fail_without_a_trace(job: object) -> NoReturn:
        del job
        raise FreedError

    job = Job()
    in_context = of_context.set(job if given == "context" else None)
    pool = ThreadPoolExecutor(1)
    if given == "too late":
        pool.shutdown()
    with pool:
        try:
            await run_in_executor(pool, fail_without_a_trace, None if given == "context" else job)
        except (FreedError, RuntimeError) as exc:
            job.error = exc
    of_context.reset(in_context)
    assert isinstance(job.error, RuntimeError if given == "too late" else FreedError)
    record.append(weakref.ref(job))
    del job, pool
    assert record[0]() is None


@pytest.mark.usefixtures("no_collector")
async def test_nor_does_that_of_an_error_of_a_process(
    processes: ProcessPoolExecutor, record: list[Any]
) -> None:
    argument = frozenset([1, 2])
    with pytest.raises(TypeError, match=r"^unsupported operand") as caught:
        await run_in_executor(processes, operator.truediv, argument, 2)
    record.append(weakref.ref(argument))
    del argument
    assert caught.value.__traceback__ is not None
    # The threads of the pool may still have it at hand; with another call, they have another.
    await run_in_executor(processes, operator.pow, 2, 3)
    assert record[0]() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ending", ["cancelled", "abandoned"])
async def test_a_call_that_is_left_is_freed_though_its_pool_is_busy(
    thread: ThreadPoolExecutor, gate: Gate, record: list[Any], ending: str
) -> None:
    job = Job()
    record.append(weakref.ref(job))

    def call(job: Job) -> None:
        del job
        gate(None)

    async with trio.open_nursery() as nursery:
        if ending == "cancelled":
            nursery.start_soon(run_in_executor, thread, gate, None)
            await gate.has_started()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await run_in_executor(thread, call, job, abandon_on_cancel=True)
        del job
        held = [record[0]() is not None]
        if ending == "abandoned":
            gate.let_go.set()
            await run_in_executor(thread, operator.pow, 2, 3)
            held.append(record[0]() is not None)
        gate.let_go.set()
    assert scope.cancelled_caught
    assert held == ([True, False] if ending == "abandoned" else [False])


async def test_a_pool_of_a_kind_that_repeats_calls_may_do_so(record: list[Any]) -> None:
    class Repeats(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            def repeat() -> Any:
                with suppress(OSError):
                    return fn(*args, **kwargs)
                return fn(*args, **kwargs)

            return super().submit(repeat)

    def fail_once() -> int:
        record.append("called")
        if len(record) == 1:
            raise OSError
        return len(record)

    with Repeats(1) as pool:
        assert await run_in_executor(pool, fail_once) == 2


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
