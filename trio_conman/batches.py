"""Batches: outcomes by the hundred, for what is dear by the piece, such as a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ._base.checks import check_count, check_number, check_type
from ._base.outlast import check_in_trio
from ._engine.stream import Stream

T = TypeVar("T")

__all__ = ["Batches", "in_batches"]


def in_batches(
    outcomes: AsyncIterable[T], size: int | float, *, seconds: float = inf
) -> AbstractAsyncContextManager[Batches[T]]:
    """Take outcomes, or anything that comes one by one, in lists that are full or in time.

    A reader whose wait for a batch is cancelled, by a timeout perhaps, loses nothing: the next one gets it.
    While the reader is busy with a batch, up to `size` for the next one are taken.

    When the block is left early, a map has back what was taken from it and not handed over, and what its
    source has raised behind that: the outcomes are in `~trio_conman.ConMan.outcomes` where the manager, or
    something around it, has ended the block. What was taken from anything else, or from a map that was left
    before, is in `Batches.rest`. What anything else raises when it is cancelled then is raised by the block,
    unless that was left by an exception of its own, which a cancellation is not.

    Args:
        outcomes: an async iterable, such as what a map yields, or the receiving end of a ``send_to``. It is
            iterated in a trio task of its own, and is not closed.
        size: how many at most in a list; an int of at least 1, or `math.inf`.
        seconds: how long a list waits to be full, from the arrival of its first. Default: no limit.

    Returns:
        an async context manager, to be entered once; it yields an async iterator of lists, none of them
        empty. What `outcomes` raises is raised by that, after the last list.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
        RuntimeError: called outside of a trio run.
    """
    check_type("outcomes", outcomes, AsyncIterable, "an async iterable")
    check_count("size", size, minimum=1)
    seconds = check_number("seconds", seconds)
    check_in_trio("in_batches()")
    return Batches(outcomes, size, seconds)


@final
class Batches(AsyncIterator[list[T]]):
    """The batches of `in_batches`, which is the way to get them."""

    __slots__ = (
        "__weakref__",
        "_due",
        "_ended",
        "_error",
        "_nursery",
        "_nursery_manager",
        "_readers",
        "_room",
        "_seconds",
        "_size",
        "_source",
        "rest",
    )

    rest: list[T]
    """What was taken and not handed over yet."""

    def __init__(self, source: AsyncIterable[T], size: int | float, seconds: float) -> None:
        self.rest = []
        self._source = source
        self._size = size
        self._seconds = seconds
        self._due = inf  # when what is there is handed over though it is not full
        self._ended = False
        self._error: Exception | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._nursery_manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    @enable_ki_protection
    async def __aenter__(self) -> Batches[T]:
        if self._nursery is not None:
            raise RuntimeError("in_batches() was entered twice; every 'async with' needs a call of its own")
        aiter(self)
        self._nursery = await self._nursery_manager.__aenter__()
        self._nursery.start_soon(self._fill, name="in_batches")
        return self

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._nursery is not None
        # Nothing but an interrupt leaves this nursery: what the block raised goes on as it is.
        self._nursery.cancel_scope.shield = True
        self._nursery.cancel_scope.cancel(reason="the block of in_batches() was left")
        failure = None
        try:
            await self._nursery_manager.__aexit__(None, None, None)
            if not isinstance(self._source, Stream):
                failure, self._error = self._error, None
            if failure is not None and (error is None or _is_cancellation(error)):
                raise failure
        finally:
            if isinstance(self._source, Stream) and not self._source.is_dropped:
                rest: list[Any] = self.rest
                self._source.put_back(rest, self._error)
                rest.clear()
                self._error = None
            self._end()
            del self, error, failure  # what the source raised may lead to this frame

    def _end(self) -> None:
        """Nothing more is taken; a reader may be another trio task than the one that leaves the block."""
        self._ended = True
        self._readers.unpark_all()

    @enable_ki_protection
    async def _fill(self) -> None:
        is_own = isinstance(self._source, Stream)
        try:
            source = aiter(self._source)
            while True:
                each = await (anext(source) if is_own else _draw(source))
                self.rest.append(each)
                if len(self.rest) == 1:
                    self._due = trio.current_time() + self._seconds
                    self._readers.unpark_all()
                while len(self.rest) == self._size:
                    self._readers.unpark_all()
                    await self._room.park()
        except StopAsyncIteration:
            pass
        except BaseException as error:
            self._error = _errors_of(error)
            if self._error is None:
                raise
        self._end()

    def __aiter__(self) -> Self:
        """Who reads is a consumer of the map, and may call `ConMan.wait`, which waits for the others."""
        if isinstance(self._source, (Stream, Batches)):
            aiter(self._source)
        return self

    @enable_ki_protection
    async def __anext__(self) -> list[T]:
        """Wait for the next batch; always a checkpoint."""
        if self._nursery is None:
            raise RuntimeError("in_batches() was not entered: use 'async with in_batches(...) as batches:'")
        aiter(self)
        await trio.lowlevel.checkpoint()
        while not self._is_ready():
            with trio.move_on_at(self._due):
                await self._readers.park()
        batch, self.rest, self._due = self.rest, [], inf
        self._room.unpark_all()
        if batch:
            return batch
        error, self._error = self._error, None
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error

    def _is_ready(self) -> bool:
        full = len(self.rest) == self._size
        return full or self._ended or (bool(self.rest) and trio.current_time() >= self._due)


def _errors_of(error: BaseException) -> Exception | None:
    """What of an error is not its own cancellation: that comes in a group where a nursery was cancelled."""
    if isinstance(error, BaseExceptionGroup):
        error = error.split(trio.Cancelled)[1] or error
    return error if isinstance(error, Exception) else None


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


@disable_ki_protection
async def _draw(source: AsyncIterator[T]) -> T:
    """The next one of a source that is the user's: a Ctrl-C may interrupt it."""
    return await anext(source)
