"""The doors of a manager, through which work comes in."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from threading import get_ident
from typing import Any, Generic, TypeVar, TypeVarTuple, overload

import trio

from trio_conman._base.checks import check_bool, check_int, check_text, wrong_thread
from trio_conman._base.explained import explained
from trio_conman._base.outcomes import Outcome
from trio_conman._books.callables import callable_of, name_of
from trio_conman._books.handles import Task, TaskHandle
from trio_conman._books.records import Recorder
from trio_conman._engine.drawn import DrawnMap
from trio_conman._engine.fed import FedMap
from trio_conman._engine.source import check_items, is_async
from trio_conman._limits.keys import forget
from trio_conman._policy.retry import RetryConfig

from .hall import Hall, terms_over
from .map_block import MapBlock
from .mistakes import unexpected, way_to_pass

R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")
Ts = TypeVarTuple("Ts")


class ConMan(Hall, Generic[R]):
    """The part of a manager that takes tasks; named as in the messages of Python and of type checkers."""

    __slots__ = ()

    @overload
    async def run(
        self,
        task: Task[R],
        /,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    @overload
    async def run(
        self,
        task: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    async def run(  # type: ignore[misc]  # mypy does not see that *args: Any takes *args: *Ts
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
        **_unknown: Any,
    ) -> TaskHandle[R]:
        """Wait for a slot, first come first served, then start a task; always a checkpoint.

        The caller's cancel scopes govern the wait only. A wait that is cancelled leaves nothing behind; once
        started, the task belongs to the manager.

        Tasks run in trio tasks that are used again and again. Each has the context variables of who hands it
        in, and what it sets is undone, but other state bound to a trio task, such as a `trio.Lock` left held,
        is the task's to clean up. One that leaves a cancel scope or a nursery open fails with a RuntimeError.

        Args:
            task: an async callable, or an object with ``async def execute(self)``; what has both is called.
            args: what to call it with; for keyword arguments use `functools.partial`.
            name: the task's name. Default: the ``__qualname__`` of the function, also of one inside of a
                ``partial``, or of the type of another object.
            retry: how it is retried. Default: as the manager says.
            attempt_timeout: seconds for each attempt. Default: as the manager says.
            task_timeout: seconds from its slot to its end. Default: as the manager says.
            priority: among those who wait for a slot, the highest has it first. Default: 0.
            journal: what may know its value, and keeps it: what `trio_conman.journal.open_journal` yields, or
                a section of it. While another task of its key runs it is queued again. Default: as the
                manager says.

        Returns:
            the handle of the task, which has started.

        Raises:
            ConManClosedError: the manager is closed, or was closed or cancelled meanwhile.
            RuntimeError: called inside a task of the manager while every slot is held by a task that itself
                waits in `run`, so that it could never end but by a deadline; use `start_soon` there. Or
                called in another thread than that of the trio run; nothing has changed then.
            JournalError: `journal` is closed, or its disk has failed.
            TypeError: `task` is no async callable, or an option is of the wrong kind.
            ValueError: an option is out of its range.
        """
        if _unknown:
            raise unexpected("run", _unknown)
        if get_ident() != self._thread:
            raise wrong_thread("ConMan.run", "run(cm.run, ...)")
        handle = self._handle(task, args, name, retry, attempt_timeout, task_timeout, priority, journal)
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            if self._start(handle):
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                await self._sleep_in_line(handle)
            return handle
        finally:
            del self, handle  # the error of a key may lead to this frame

    @overload
    def run_nowait(
        self,
        task: Task[R],
        /,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    @overload
    def run_nowait(
        self,
        task: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    def run_nowait(  # type: ignore[misc]  # as for run
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
        **_unknown: Any,
    ) -> TaskHandle[R]:
        """Start a task now, as `run` does, or not at all; no checkpoint.

        Args:
            task: as for `run`, and so are the others.
            args: what to call it with.
            name: the task's name.
            retry: how it is retried.
            attempt_timeout: seconds for each attempt.
            task_timeout: seconds from its slot to its end.
            priority: its place in the line, also when it is retried.
            journal: what may know its value, and keeps it.

        Returns:
            the handle of the task, which has started.

        Raises:
            trio.WouldBlock: no slot is free, or others wait for one, or a key of the task is at its limit, or
                the manager is paused.
            ConManClosedError: the manager is closed.
            RuntimeError: called in another thread than that of the trio run; nothing has changed then.
            JournalError: `journal` is closed, or its disk has failed.
            TypeError: `task` is no async callable, or an option is of the wrong kind.
            ValueError: an option is out of its range.
        """
        if _unknown:
            raise unexpected("run_nowait", _unknown)
        if get_ident() != self._thread:
            raise wrong_thread("ConMan.run_nowait", "run_sync(cm.run_nowait, ...)")
        handle = self._handle(task, args, name, retry, attempt_timeout, task_timeout, priority, journal)
        try:
            if not self._start(handle):
                forget(handle._keys)
                raise trio.WouldBlock
            return handle
        finally:
            del self, handle  # as in run()

    @overload
    def start_soon(
        self,
        task: Task[R],
        /,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    @overload
    def start_soon(
        self,
        task: Callable[[*Ts], Awaitable[R]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
    ) -> TaskHandle[R]: ...
    def start_soon(  # type: ignore[misc]  # as for run
        self,
        task: Any,
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        journal: Recorder[R] | None = None,
        **_unknown: Any,
    ) -> TaskHandle[R]:
        """Accept a task, to be started when a slot is free; never blocks, no checkpoint.

        The way for a task to add tasks. While queued it costs a handle, not a trio task. It starts in its
        turn among the calls of `run`.

        Args:
            task: as for `run`, and so are the others.
            args: what to call it with.
            name: the task's name.
            retry: how it is retried.
            attempt_timeout: seconds for each attempt.
            task_timeout: seconds from its slot to its end.
            priority: its place in the line, also when it is retried.
            journal: what may know its value, and keeps it.

        Returns:
            the handle of the task.

        Raises:
            trio.WouldBlock: it cannot start at once, and as many tasks are queued as the manager's
                `max_queued` says. Default: no bound.
            ConManClosedError: the manager is closed.
            RuntimeError: called in another thread than that of the trio run; nothing has changed then.
            JournalError: `journal` is closed, or its disk has failed.
            TypeError: `task` is no async callable, or an option is of the wrong kind.
            ValueError: an option is out of its range.
        """
        if _unknown:
            raise unexpected("start_soon", _unknown)
        if get_ident() != self._thread:
            raise wrong_thread("ConMan.start_soon", "run_sync(cm.start_soon, ...)")
        handle = self._handle(task, args, name, retry, attempt_timeout, task_timeout, priority, journal)
        try:
            if not self._start(handle):
                self._queue(handle)
            return handle
        finally:
            del self, handle  # as in run()

    @explained(way_to_pass)
    def map(
        self,
        fn: Callable[[Item], Awaitable[T_co]],
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        ordered: bool = False,
        name: str | None = None,
        retry: RetryConfig | None = None,
        attempt_timeout: float | None = None,
        task_timeout: float | None = None,
        priority: int = 0,
        lookahead: int | None = None,
        journal: Recorder[T_co] | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Outcome[T_co]]]:
        """Call `fn` with each of `items`, and stream the outcomes; bounded in memory, whatever the length.

        Leaving the block early cancels the items that have not ended and waits for them. It closes the
        iterator drawn from if that is a generator, and `items` if it has ``aclose``; a file is left alone.
        The outcomes go to the consumer and are not kept by the manager, but they are in its statistics. Those
        that it leaves, by a break or an exception of its own, are dropped. Those that it could not take,
        because the map was ended by something else (the manager's deadline or cancellation, a shutdown, a
        scope around it, a Ctrl-C), are in `ConMan.outcomes`.

        At most ``limit`` items run at once, and at most `lookahead` are drawn whose outcomes were not taken.
        Each sees the context variables as they were when the block was entered; for the rest see `run`.

        An iterable is drawn from in the trio tasks that run the items, now in one and now in another: a
        generator that yields inside of a cancel scope cannot be told whom to cancel, and the iterator raises
        a RuntimeError that says so. An async generator has a trio task of its own and may do so, though it is
        better off with `trio.as_safe_channel`.

        Args:
            fn: an async callable that takes one item.
            items: an iterable or an async iterable, of any length; drawn from as slots get free, with the
                context variables of the caller. Of an async one an item may be drawn before there is a slot
                for it, and is dropped where the map ends first; an outcome of another map goes back to that.
            ordered: whether the outcomes come in the order of `items` instead of that of completion. Default:
                False.
            name: the items' name. Default: as for `run`.
            retry: how an item is retried. Default: as the manager says.
            attempt_timeout: seconds for each attempt. Default: as the manager says.
            task_timeout: seconds for each item from its slot to its end. Default: as the manager says.
            priority: that of each item, as for `run`. Default: 0.
            lookahead: how many items may be drawn whose outcomes were not taken, at least 1: those that run,
                and those that wait for their keys, amid which it finds items of other keys. Default:
                ``2 * limit``, or 1,000 when the limit is infinite.
            journal: what may know the value of an item, and keeps it. Default: as the manager says.

        Returns:
            an async context manager for the block, to be entered once; it yields an async iterator of
            outcomes. Their ``index`` is the position in `items`. What `items` itself raises is raised by the
            iterator, after the outcomes of what had started.

        Raises:
            ConManClosedError: on entry, when the manager is closed; by the iterator when it closes meanwhile,
                after the outcomes of what had started.
            RuntimeError: by the iterator, inside of a task of the manager, when it could never end because
                every slot is held by a task that itself waits for one; give the inner map a manager of its
                own. Or called, or iterated over, in another thread than that of the trio run.
            JournalError: `journal` is closed, or its disk has failed.
            TypeError: a parameter is of the wrong kind.
            ValueError: a parameter is out of its range.
        """
        if get_ident() != self._thread:
            raise wrong_thread("ConMan.map", "run(...) with an async function that opens the map")
        call = callable_of(fn, "fn")
        check_items(items)
        check_bool("ordered", ordered)
        priority = check_int("priority", priority)
        if lookahead is not None:
            lookahead = check_int("lookahead", lookahead, minimum=1)
        terms = terms_over(self._terms, retry, attempt_timeout, task_timeout, journal)
        kind = FedMap[T_co] if is_async(items) else DrawnMap[T_co]
        mapping = kind(
            self._block,
            call,
            items,
            name=name_of(fn) if name is None else check_text("name", name),
            terms=terms,
            ordered=ordered,
            priority=priority,
            lookahead=lookahead,
        )
        return MapBlock(self._block, mapping)
