"""What the tests of run_in_executor share: executors and calls that a test moves by hand."""

import concurrent.futures
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from trio_conman.executors import run_in_executor

SPAWN = multiprocessing.get_context("spawn")
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


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()
