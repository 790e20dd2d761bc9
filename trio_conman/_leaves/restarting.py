"""An executor that is made anew when it has broken."""

from __future__ import annotations

import concurrent.futures
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, ParamSpec, TypeVar, final

from trio_conman._base.texts import short

T = TypeVar("T")
P = ParamSpec("P")


@final
class Restarting(concurrent.futures.Executor):
    """Hands its calls to an executor that it has made, and makes another when that is broken."""

    def __init__(
        self, factory: Callable[[], concurrent.futures.Executor], max_restarts: float, per: float
    ) -> None:
        self._factory = factory
        self._max_restarts = max_restarts
        self._per = per
        self._restarts: deque[float] = deque()  # when they were, those of the last `per` seconds
        self._lock = Lock()
        self._is_shut_down = False
        self._current = self._made()

    @property
    def current(self) -> concurrent.futures.Executor:
        """The executor that makes the calls."""
        return self._current

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        executor = self._current
        while True:
            try:
                return executor.submit(fn, *args, **kwargs)
            except concurrent.futures.BrokenExecutor as exc:
                executor = self._other_than(executor, exc)

    def shutdown(self, *args: Any, **kwargs: Any) -> None:  # those of the executor: loky and Dask have others
        with self._lock:
            self._is_shut_down = True
        self._current.shutdown(*args, **kwargs)

    def _other_than(
        self, broken: concurrent.futures.Executor, error: concurrent.futures.BrokenExecutor
    ) -> concurrent.futures.Executor:
        """The executor that has come after a broken one; the first who asks makes it, for all."""
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._current is broken:
                self._count(error)
                self._current = self._made()
                with suppress(Exception):  # it is broken, and another one there
                    broken.shutdown(wait=False)
            return self._current

    def _count(self, error: concurrent.futures.BrokenExecutor) -> None:
        now = time.monotonic()
        while self._restarts and self._restarts[0] <= now - self._per:
            self._restarts.popleft()
        if len(self._restarts) >= self._max_restarts:
            raise concurrent.futures.BrokenExecutor(
                f"the executor is broken, and was made anew {len(self._restarts)} times "
                f"in the last {self._per:g} seconds (max_restarts={self._max_restarts})"
            ) from error
        self._restarts.append(now)

    def _made(self) -> concurrent.futures.Executor:
        executor = self._factory()
        if not isinstance(executor, concurrent.futures.Executor):
            raise TypeError(f"factory must return a concurrent.futures.Executor, not {short(executor)}")
        return executor
