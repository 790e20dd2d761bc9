"""restarting: an executor that is made anew when it is broken, once for all who wait, and not too often."""

import concurrent.futures
import math
import multiprocessing
import operator
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_conman import ConMan, RetryConfig
from trio_conman.executors import broken_worker_errors, restarting, run_in_executor

SPAWN = multiprocessing.get_context("spawn")
var: ContextVar[str] = ContextVar("var", default="unset")


class Fragile(concurrent.futures.Executor):
    """Makes its calls at once, and breaks when it is told to."""

    def __init__(self) -> None:
        self.broken = False
        self.shutdowns: list[tuple[bool, bool]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("broken")
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.shutdowns.append((wait, cancel_futures))


class Factory:
    """Makes executors, and keeps them."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.made: list[Fragile] = []

    def __call__(self) -> Fragile:
        self.made.append(Fragile())
        self.made[-1].broken = self.broken
        return self.made[-1]


class Clock:
    """Stands for `time.monotonic`."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_a_broken_executor_is_replaced_and_shut_down() -> None:
    factory = Factory()
    executor = restarting(factory)
    assert executor.submit(operator.pow, 2, 3).result() == 8
    assert len(factory.made) == 1
    factory.made[0].broken = True
    assert executor.submit(operator.pow, 2, 4).result() == 16
    assert executor.submit(int, "11", base=2).result() == 3
    assert [each.shutdowns for each in factory.made] == [[(False, False)], []]
    executor.shutdown(wait=False, cancel_futures=True)
    assert [each.shutdowns for each in factory.made] == [[(False, False)], [(False, True)]]


def test_one_that_is_too_broken_to_be_shut_down_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()
    executor = restarting(factory)
    factory.made[0].broken = True
    monkeypatch.setattr(factory.made[0], "shutdown", lambda **_: 1 // 0)
    assert executor.submit(operator.pow, 2, 4).result() == 16


def test_it_is_replaced_once_for_all() -> None:
    together = threading.Barrier(4)

    class Late(Fragile):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.broken:
                together.wait(60)  # all have found it broken before one replaces it
            return super().submit(fn, *args, **kwargs)

    made: list[Late] = []

    def factory() -> Late:
        made.append(Late())
        return made[-1]

    executor = restarting(factory, max_restarts=1)
    made[0].broken = True
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(executor.submit, operator.pow, n, 2) for n in range(4)]
        assert [future.result().result() for future in futures] == [0, 1, 4, 9]
    assert len(made) == 2


def test_not_too_often(clock: Clock) -> None:
    factory = Factory()
    executor = restarting(factory, max_restarts=2, per=10)
    for _ in range(2):
        factory.made[-1].broken = True
        assert executor.submit(operator.pow, 2, 3).result() == 8
        clock.now += 4
    factory.made[-1].broken = True
    for _ in range(2):
        with pytest.raises(BrokenExecutor) as caught:
            executor.submit(operator.pow, 2, 3)
        assert str(caught.value) == (
            "the executor is broken, and was made anew 2 times in the last 10 seconds (max_restarts=2)"
        )
        assert str(caught.value.__cause__) == "broken"
    assert len(factory.made) == 3
    clock.now += 2  # the first restart was 10 seconds ago
    assert executor.submit(operator.pow, 2, 3).result() == 8
    assert len(factory.made) == 4


def test_one_that_is_made_broken_uses_up_the_restarts(clock: Clock) -> None:
    factory = Factory(broken=True)
    with pytest.raises(BrokenExecutor, match=r"made anew 3 times in the last 60 seconds \(max_restarts=3\)$"):
        restarting(factory).submit(operator.pow, 2, 3)
    assert len(factory.made) == 4


def test_no_restart_at_all() -> None:
    factory = Factory(broken=True)
    with pytest.raises(BrokenExecutor, match=r"made anew 0 times"):
        restarting(factory, max_restarts=0).submit(operator.pow, 2, 3)
    assert len(factory.made) == 1


def test_what_is_shut_down_is_not_made_anew() -> None:
    factory = Factory()
    with restarting(factory) as executor:
        pass
    factory.made[0].broken = True
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit(operator.pow, 2, 3)
    assert len(factory.made) == 1


@pytest.mark.parametrize("call", [{}, {"wait": False}, {"wait": True, "kill_workers": True}])
def test_it_is_shut_down_by_what_its_executor_takes(call: dict[str, bool]) -> None:
    """That of loky takes no `cancel_futures`, but `kill_workers`; that of Dask takes neither."""
    given: list[dict[str, bool]] = []

    class Loky(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, kill_workers: bool = False) -> None:  # type: ignore[override]  # see above
            given.append({"wait": wait, "kill_workers": kill_workers})
            super().shutdown(wait)

    executor: Any = restarting(partial(Loky, 1))
    executor.shutdown(**call)
    with restarting(partial(Loky, 1)):
        pass
    assert given == [{"wait": True, "kill_workers": False} | call, {"wait": True, "kill_workers": False}]


async def test_retries_arrive_when_a_process_has_died(tmp_path: Path) -> None:
    with restarting(partial(ProcessPoolExecutor, 2, mp_context=SPAWN)) as pool:

        async def job(n: int) -> int:
            if n == 3 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                await run_in_executor(pool, os._exit, 3)
            return await run_in_executor(pool, operator.pow, n, 2)

        config = RetryConfig.none(retry_on=broken_worker_errors(pool))
        async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 4, retry=config) as cm:
            for n in range(12):
                await cm.run(job, n)
    assert sorted(cm.outputs()) == [n * n for n in range(12)]
    assert cm.errors() == []


async def test_threads_see_the_context_of_their_caller() -> None:
    var.set("of the caller")
    with restarting(partial(ThreadPoolExecutor, 1)) as pool:
        assert await run_in_executor(pool, var.get) == "of the caller"


# What is refused.


async def coroutine_function() -> Any:
    raise AssertionError


@pytest.mark.parametrize("factory", [None, 1, coroutine_function])
def test_the_factory_must_be_callable(factory: Any) -> None:
    with pytest.raises(TypeError, match=r"^factory must be a sync callable that returns an executor, not "):
        restarting(factory)


def test_the_factory_must_return_an_executor() -> None:
    nothing: Any = int
    with pytest.raises(TypeError, match=r"^factory must return a concurrent\.futures\.Executor, not 0$"):
        restarting(nothing)


@pytest.mark.parametrize(
    "options, kind",
    [
        ({"max_restarts": -1}, ValueError),
        ({"max_restarts": 1.5}, TypeError),
        ({"max_restarts": True}, TypeError),
        ({"per": -1}, ValueError),
        ({"per": math.inf}, ValueError),
        ({"per": "60"}, TypeError),
    ],
)
def test_the_limits_are_checked_before_anything_is_made(options: Any, kind: type[Exception]) -> None:
    factory = Factory()
    with pytest.raises(kind, match=rf"^{next(iter(options))} must be "):
        restarting(factory, **options)
    assert factory.made == []


def test_there_may_be_no_limit() -> None:
    factory = Factory()
    executor = restarting(factory, max_restarts=math.inf)
    for _ in range(20):
        factory.made[-1].broken = True
        assert executor.submit(operator.pow, 2, 3).result() == 8
    assert len(factory.made) == 21
