"""Handles in the order in which their tasks end."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from threading import get_ident
from typing import Any, Generic, TypeVar, final
from weakref import ref

import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_type, wrong_thread

from .handles import Ending, TaskHandle

T = TypeVar("T")


def as_completed(handles: Iterable[TaskHandle[T]]) -> AsyncIterator[TaskHandle[T]]:
    """Iterate over handles in the order in which their tasks end, first over those that have ended.

    Each step is a checkpoint. One that is cancelled loses no handle: the next step gives it. The tasks are
    left alone, also where the iteration ends early.

    Args:
        handles: of one manager or of several; one that is there twice comes once.

    Returns:
        an async iterator; the ``outcome`` of each handle that it gives is there.

    Raises:
        RuntimeError: called, or iterated over, in another thread than that of the trio run, while a task
            has not ended.
        TypeError: `handles` is no iterable of handles.
    """
    check_type("handles", handles, Iterable, "an iterable of TaskHandle")
    given, thread = list(handles), get_ident()
    for handle in given:
        check_type("each of handles", handle, TaskHandle, "a TaskHandle")
        if handle._outcome is None and handle._terms.thread != thread:
            raise _wrong_thread()
    return _Completed(dict.fromkeys(given))


def _wrong_thread() -> RuntimeError:
    return wrong_thread("as_completed", "run(...) with an async function that iterates")


@final
class _Completed(AsyncIterator[TaskHandle[T]], Generic[T]):
    """No generator: one that is not used up would need to be closed."""

    __slots__ = ("__weakref__", "_ended", "_sleepers", "_thread", "_unended")

    def __init__(self, handles: Iterable[TaskHandle[T]]) -> None:
        self._ended: deque[TaskHandle[T]] = deque()
        self._thread = get_ident()
        self._unended = 0
        self._sleepers = trio.lowlevel.ParkingLot()
        for handle in handles:
            if handle._outcome is not None:
                self._ended.append(handle)
            else:
                self._unended += 1
                if not isinstance(handle._done, _Followed):
                    handle._done = _Followed(handle)
                handle._done.follow(self)

    @enable_ki_protection
    async def __anext__(self) -> TaskHandle[T]:
        if self._ended or not self._unended:
            await trio.lowlevel.checkpoint()
        while not self._ended:
            if not self._unended:
                raise StopAsyncIteration
            if get_ident() != self._thread:
                raise _wrong_thread()
            await self._sleepers.park()
        return self._ended.popleft()

    def add(self, handle: TaskHandle[T]) -> None:
        """The task of a handle has ended."""
        self._unended -= 1
        self._ended.append(handle)
        self._sleepers.unpark(count=1 if self._unended else len(self._sleepers))


@final
class _Followed(Ending):
    """Tells those who iterate too, as long as they do."""

    __slots__ = ("_followers", "_handle", "_most")

    def __init__(self, handle: TaskHandle[Any]) -> None:
        super().__init__()
        if handle._done is not None:  # who sleeps there leaves it there
            self.sleepers = handle._done.sleepers
        self._handle: TaskHandle[Any] | None = handle
        self._followers: list[ref[_Completed[Any]]] = []
        self._most = 1  # followers, before it is looked who of them is left

    def follow(self, follower: _Completed[Any]) -> None:
        """Tell it too."""
        if len(self._followers) == self._most:
            self._followers = [each for each in self._followers if each() is not None]
            self._most = 2 * len(self._followers) + 1
        self._followers.append(ref(follower))

    def set(self) -> None:
        """The task has ended."""
        handle, self._handle = self._handle, None  # no cycle
        super().set()
        for each in self._followers:
            if (follower := each()) is not None and handle is not None:
                follower.add(handle)
