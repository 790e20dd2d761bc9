"""What run_in_executor keeps alive. The collector is off: what goes, goes by its last reference."""

import operator
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from threading import Event
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.called import SPAWN, Gate, Manual, call_here, cancel_when_blocked
from trio_conman import ConMan
from trio_conman.executors import run_in_executor

of_context: ContextVar[object] = ContextVar("of_context", default=None)


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


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        yield pool


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
@pytest.mark.parametrize("submit_in_thread", [False, True])
async def test_a_call_keeps_nothing_of_its_callers_context(submit_in_thread: bool) -> None:
    async def call() -> weakref.ref[FreedError]:
        value = FreedError()
        of_context.set(value)
        await run_in_executor(pool, operator.pow, 2, 3, submit_in_thread=submit_in_thread)
        return weakref.ref(value)

    with ThreadPoolExecutor(1) as pool:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery) as cm:
            for _ in range(5):
                await cm.run(call)
    assert [ref() for ref in cm.outputs()] == [None] * 5


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


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_is_left_and_cannot_be_submitted_is_freed(gate: Gate) -> None:
    class Full(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> NoReturn:
            begun.set()
            gate.let_go.wait()
            raise RuntimeError("full")

    begun = Event()
    job = Job()
    gone = weakref.ref(job)
    with trio.move_on_after(60) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_in_executor, Full(), job, abandon_on_cancel=True))
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
    del job
    gate.let_go.set()
    with trio.fail_after(60):
        while gone() is not None:
            await trio.sleep(0.01)
    assert not scope.cancelled_caught
