"""What the doors of a manager have in common: how a handle is made, and starts or joins the line."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import check_int, check_number, check_text, check_type
from trio_conman._base.stack import need_stack
from trio_conman._books.callables import callable_of, name_of
from trio_conman._books.handles import Slot, TaskHandle, Terms, new_handle
from trio_conman._books.records import Recorder, records_of
from trio_conman._engine.block import Block
from trio_conman._engine.execution import Runner
from trio_conman._limits.keys import forget
from trio_conman._limits.line import Line
from trio_conman._policy.retry import RetryConfig

from .mistakes import queue_full

DEFAULT = 0  # priority


class Hall:
    """The part of a manager behind its doors."""

    __slots__ = ()

    _terms: Terms
    _line: Line
    _runner: Runner
    _block: Block
    # Made once: a bound method of its own for each queued task would cost memory.
    _granted: Callable[[TaskHandle[Any], Slot | None], bool]
    _max_queued: int | float
    _thread: int

    def _handle(
        self,
        task: Any,
        args: tuple[Any, ...],
        name: str | None,
        retry: RetryConfig | None,
        attempt_timeout: float | None,
        task_timeout: float | None,
        priority: int,
        journal: Recorder[Any] | None,
    ) -> TaskHandle[Any]:
        call, terms = callable_of(task), self._terms
        if not (retry is None and attempt_timeout is None and task_timeout is None and journal is None):
            terms = terms_over(terms, retry, attempt_timeout, task_timeout, journal)
        name = name_of(task) if name is None else check_text("name", name)
        handle = new_handle(name, args, call, terms, self._runner.now())
        if priority is not DEFAULT:
            handle._priority = check_int("priority", priority)
        return handle

    @enable_ki_protection
    def _start(self, handle: TaskHandle[Any]) -> bool:
        """Start a task if it need not wait; whether it was started, or has failed for want of a key."""
        if self._block.closed:
            raise self._block.closed_error()
        need_stack()
        line = self._line
        if line.keyring is None:
            slot = line.take()
        else:
            try:
                line.keyring.enlist(handle)
            except Exception as error:
                self._runner.refuse(handle, error)
                del self, handle  # the error may lead to this frame
                return True
            if self._block.closed:  # by the key
                forget(handle._keys)
                raise self._block.closed_error()
            slot = line.take(handle._keys)
        if slot is None:
            return False
        self._runner.start(handle, slot, handle._submitted)
        return True

    @enable_ki_protection
    def _queue(self, handle: TaskHandle[Any]) -> None:
        if self._runner.queued >= self._max_queued:
            forget(handle._keys)
            raise queue_full(self._line.name, self._runner.queued, self._max_queued)
        handle._context = copy_context()
        self._line.join(handle, self._granted)
        self._runner.queued += 1
        self._runner.accept(handle)

    @enable_ki_protection
    async def _sleep_in_line(self, handle: TaskHandle[Any]) -> None:
        handle._context = copy_context()
        self._runner.coming += 1
        try:
            await self._line.sleep(handle, self._start_from_line, self._block.inside.holder())
        finally:
            self._runner.coming -= 1
            self._runner.tell_if_idle()
        if handle._index < 0:  # it was not accepted
            # What closed the manager may have cancelled the caller too: then that comes first.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise self._block.closed_error()

    def _start_from_line(self, handle: TaskHandle[Any], slot: Slot) -> None:
        self._runner.start(handle, slot, self._runner.now())


def terms_over(
    base: Terms,
    retry: RetryConfig | None,
    attempt_timeout: float | None,
    task_timeout: float | None,
    journal: Recorder[Any] | None,
) -> Terms:
    """The options given, checked, over those of `base`."""
    if retry is None:
        retry = base.retry
    else:
        check_type("retry", retry, RetryConfig, "a RetryConfig or None")
    return Terms(
        retry,
        base.attempt_timeout if attempt_timeout is None else check_number("attempt_timeout", attempt_timeout),
        base.task_timeout if task_timeout is None else check_number("task_timeout", task_timeout),
        base.thread,
        base.deliver,
        base.cancel,
        base.reorder,
        base.attend,
        base.records if journal is None else records_of(journal),
    )
