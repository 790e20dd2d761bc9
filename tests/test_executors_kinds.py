"""What is known of executors by their kind: what is refused, and what their failures are."""

import concurrent.futures
import operator
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from trio_conman.executors import broken_worker_errors, restarting, run_in_executor


def ended(fn: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(fn(*args))
    return future


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Stand-ins for what is not installed, in modules of the same names."""

    def foreign(module: str, *members: type) -> ModuleType:
        stand_in = ModuleType(module)
        for member in members:
            monkeypatch.setattr(member, "__module__", module)
            setattr(stand_in, member.__name__, member)
        monkeypatch.setitem(sys.modules, module, stand_in)
        return stand_in

    return foreign


# What is refused.


class Client:
    """Takes calls, but is no executor."""

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        raise AssertionError("nothing should be submitted")

    def __repr__(self) -> str:
        return "a client"


INSTEAD = {
    "distributed.client": ": pass client.get_executor(pure=False)",
    "parsl.executors.threads": ": pass a parsl.concurrent.ParslPoolExecutor",
    "ray.util.actor_pool": ": pass an Executor of your own, whose submit returns "
    "remote_function.remote(*args).future()",
    "unknown": "",
}


@pytest.mark.parametrize("module, instead", INSTEAD.items())
async def test_what_is_no_executor_is_refused_before_it_is_called(
    module: str, instead: str, foreign: Callable[..., ModuleType]
) -> None:
    foreign(module, Client)
    client: Any = Client()
    with pytest.raises(TypeError) as caught:
        await run_in_executor(client, operator.pow, 2, 3)
    assert str(caught.value) == f"executor must be a concurrent.futures.Executor, not a client{instead}"


class Proxy:
    """Gives what a future gives, but somewhere else."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> bool:
        self.cancelled = True
        return True

    def __repr__(self) -> str:
        return "a proxy"


class Greenlets(ThreadPoolExecutor):
    """An executor whose futures are none."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[Any] = []
        self.fns: list[Callable[..., Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.fns.append(fn)
        self.given.append(Proxy())
        return self.given[-1]

    def __repr__(self) -> str:
        return "greenlets"


async def test_a_future_that_is_none_is_refused_and_the_call_taken_back(
    foreign: Callable[..., ModuleType], record: list[Any]
) -> None:
    foreign("ipyparallel", Greenlets)
    executor = Greenlets()
    with pytest.raises(TypeError) as caught:
        await run_in_executor(executor, record.append, "made")
    assert str(caught.value) == (
        "executor must be one whose submit returns a concurrent.futures.Future, "
        "but that of greenlets returned a proxy: pass client.load_balanced_view().executor"
    )
    assert [each.cancelled for each in executor.given] == [True]
    # Even if it could not be cancelled.
    with pytest.raises(concurrent.futures.CancelledError):
        executor.fns[0]()
    assert record == []


async def test_that_of_gevent_is_refused_before_it_is_called(
    foreign: Callable[..., ModuleType],
) -> None:
    kind: Any = type("ThreadPoolExecutor", (Greenlets,), {})
    foreign("gevent.threadpool", kind)
    executor = kind()
    with pytest.raises(TypeError, match=r"not greenlets: pass a concurrent\.futures\.ThreadPoolExecutor$"):
        await run_in_executor(executor, operator.pow, 2, 3)
    assert executor.given == []


async def test_submit_that_returns_nothing_is_refused() -> None:
    class Nothing(concurrent.futures.Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return None

        def __repr__(self) -> str:
            return "an executor"

    with pytest.raises(TypeError, match=r"but that of an executor returned None$"):
        await run_in_executor(Nothing(), operator.pow, 2, 3)


# What takes its calls in another way.


class ProcessPool:
    """As that of pebble: the second argument is a timeout."""

    def submit(self, function: Callable[..., Any], timeout: float | None, /, *args: Any) -> Future[Any]:
        assert timeout is None
        return ended(function, args)


async def test_the_timeout_of_pebble_is_no_argument(foreign: Callable[..., ModuleType]) -> None:
    foreign("pebble", ProcessPool)
    pool: Any = ProcessPool()
    assert await run_in_executor(pool, pow, 2, 3, 5) == 3


# What their failures are.


class DiedError(Exception):
    """Its worker has died."""


class OfDask(ThreadPoolExecutor):
    """An executor with errors of its own."""


async def test_standard_executors_raise_broken_executor() -> None:
    for executor in (ThreadPoolExecutor(1), ProcessPoolExecutor(1)):
        with executor:
            assert broken_worker_errors(executor) == (BrokenExecutor,)


async def test_others_have_errors_of_their_own(foreign: Callable[..., ModuleType]) -> None:
    DiedError.__name__ = "KilledWorker"
    foreign("distributed.scheduler", DiedError)
    foreign("distributed.cfexecutor", OfDask)
    assert broken_worker_errors(OfDask(1)) == (BrokenExecutor, DiedError)
    with restarting(lambda: OfDask(1)) as executor:
        assert broken_worker_errors(executor) == (BrokenExecutor, DiedError)


async def test_what_is_not_there_is_not_imported(
    foreign: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign("parsl.concurrent", OfDask)
    monkeypatch.setitem(sys.modules, "parsl.executors.high_throughput.errors", ModuleType("empty"))
    assert broken_worker_errors(OfDask(1)) == (BrokenExecutor,)
    monkeypatch.delitem(sys.modules, "parsl.executors.high_throughput.errors")
    assert broken_worker_errors(OfDask(1)) == (BrokenExecutor,)


async def test_broken_worker_errors_refuses_what_is_no_executor() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match=r"^executor must be a concurrent\.futures\.Executor, not None$"):
        broken_worker_errors(nothing)
