"""run_in_executor on pools of threads and of processes, and on executors that a test moves by hand.

What goes to another process is found in the standard library: a test module cannot be imported there.
"""

import concurrent.futures
import math
import operator
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.called import SPAWN, Manual
from trio_conman import ConMan, Failure, RetryConfig, StopReason, Success
from trio_conman.executors import run_in_executor

read_text: Callable[[Path], str] = Path.read_text
var: ContextVar[str] = ContextVar("var", default="unset")


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


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """What they call is of the standard library: where the wheel is tested they cannot import the tests."""
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


@pytest.mark.parametrize(
    "call, interrupt",
    [(partial(signal.default_int_handler, signal.SIGINT, None), KeyboardInterrupt), (sys.exit, SystemExit)],
    ids=["KeyboardInterrupt", "SystemExit"],
)
async def test_what_is_no_exception_comes_from_a_process_too_and_ends_the_manager(
    processes: ProcessPoolExecutor, call: Callable[[], object], interrupt: type[BaseException]
) -> None:
    with pytest.RaisesGroup(interrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
            other = await cm.run(trio.sleep_forever)
            handle = await cm.run(run_in_executor, processes, call)
            pytest.fail(f"it has ended alone: {await handle.wait()}")
    assert isinstance(other.outcome, Failure)
    assert other.outcome.reason is StopReason.CANCELLED


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

    module = ModuleType("concurrent.futures.interpreter")
    monkeypatch.setattr(module, "InterpreterPoolExecutor", Pool, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
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
