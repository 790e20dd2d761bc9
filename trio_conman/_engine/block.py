"""The block of a manager: its scopes, its host, and how it ends.

**Theory of operation.** Two scopes and three trio tasks make a block:

- The *host* is a trio task in the user's nursery. It enters ``cancel_scope`` and sleeps there until the block
  ends. What cancels it has cancelled the manager; then it cancels the body.
- The *keeper* is its child. It opens the nursery of the tasks and of the *collector*, and sleeps there. What
  cancels it cancels the tasks; then it closes the line, so that a slot which a dying task gives back starts
  nothing. The tasks can be cancelled without the host: by a shutdown, after which the body goes on.
- The *body* of the user's ``async with`` runs in the user's task, in a scope of its own. When it ends, it
  waits for the tasks.

Both sleepers learn of a cancellation at once: trio calls the abort function in the instant of it, before any
task has run.

The block is left when the host has ended, and not before: that wait is shielded, and ends in any case,
because to say so is the host's last act.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from threading import get_ident
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.checks import wrong_thread
from trio_conman._base.errors import ConManClosedError
from trio_conman._base.outcomes import StopReason
from trio_conman._base.outlast import outlast
from trio_conman._base.stack import need_more_stack
from trio_conman._base.texts import SEE
from trio_conman._books.collector import Collector
from trio_conman._limits.line import Line

from .endings import Stop
from .execution import Runner
from .inside import Inside
from .maps import Map


@final
@attrs.define(eq=False, repr=False)
class Block:
    """From the opening of a manager to its end."""

    name: str
    parent: trio.Nursery
    cancel_scope: trio.CancelScope
    line: Line
    runner: Runner
    collector: Collector[Any]
    # That of the trio run, by `threading.get_ident`.
    thread: int

    closed: bool = attrs.field(default=False, init=False)
    timed_out: bool = attrs.field(default=False, init=False)
    # The open ones.
    maps: dict[Map, None] = attrs.field(factory=dict, init=False)
    inside: Inside = attrs.field(
        init=False, default=attrs.Factory(lambda self: Inside(self.line, self.runner.pool), takes_self=True)
    )
    _entered: bool = attrs.field(default=False, init=False)
    _body_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _body_ended: bool = attrs.field(default=False, init=False)
    _cancel_text: str | None = attrs.field(default=None, init=False)
    # Why it is closed, where nothing has cancelled the tasks.
    _end_text: str = attrs.field(default="its block has ended", init=False)
    # The host and the keeper of the tasks.
    _sleepers: list[trio.lowlevel.Task] = attrs.field(factory=list, init=False)
    _host_ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    # Whether a BaseException ended the host.
    _interrupted: bool = attrs.field(default=False, init=False)
    _too_many_errors: bool = attrs.field(default=False, init=False)
    # What its errors know it by. An error that is kept shall not keep the manager.
    _identity: object = attrs.field(factory=object, init=False)

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self._host_ended.is_set()

    async def enter(self) -> None:
        """Start the host, and enter the body's scope."""
        if get_ident() != self.thread:
            raise wrong_thread("ConMan.open", "run(...) with an async function that opens the manager")
        if self._entered:
            raise RuntimeError(
                "ConMan.open() was entered twice; every 'async with' needs an open() of its own"
            )
        need_more_stack()  # for leaving, which is done from here too
        self._entered = True
        try:
            self.line.rings.enter(self.line)
            self.line.resized = self.tell_resized
            # Of a Ctrl-C and a cancellation that wait together, start() would make an error of its own.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self.parent.start(self._host, name=f"host of {self.name}")
        except BaseException:
            self._close()
            self.collector.close_channel()
            raise
        self._body_scope.__enter__()

    async def exit(self, error: BaseException | None) -> bool:
        """Wait for the tasks, or, when the body was left by an `error`, cancel them first.

        Returns whether the block ends quietly in spite of the error.
        """
        self._body_ended = True
        try:
            rest = self._after_body(error)
            if rest is None:
                self.resume()
                await self.wait_idle()
            else:
                self._abandon(rest)
        except BaseException as exc:
            self._abandon(exc)
            raise
        finally:
            self._end()
            await outlast(self._host_ended.wait)
            errors, self.runner.errors = self.runner.errors, []
        if rest is not None:
            if rest is error:
                return False
            try:
                raise rest
            finally:
                del rest, error, errors
        if self._interrupted:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._too_many_errors:
            self.collector.look()
            raise self.runner.error_group(errors, self.name)
        if self._interrupted:
            raise self.closed_error()
        return True

    def _after_body(self, error: BaseException | None) -> BaseException | None:
        """What of the error that left the body has to travel on."""
        try:
            if self._body_scope.__exit__(None if error is None else type(error), error, None):
                return None
        except BaseException as other:
            # A part of a group, or what the scope says of one that was left open inside of it.
            error = other
        # A loop in the body that fed the manager may have met its end.
        return self.without_own_end(error)

    def _abandon(self, error: BaseException) -> None:
        self._cancel_tasks(f"the block of {self.name!r} was left by {type(error).__qualname__}")

    @enable_ki_protection
    async def _host(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Outlives the tasks, for the body's sake: it notices what happens to ``cancel_scope``."""
        uses = ExitStack()
        # They lead back here until it ends: a dropped manager goes at once, also one that was never opened.
        self.runner.too_many_errors, self.runner.tasks_cancelled = self.give_up, self.tasks_cancelled
        try:
            try:
                if (adaptive := self.runner.adaptive) is not None:
                    adaptive._open(self.line)
                    uses.callback(adaptive._close, self.line)
                    self.line.limit = adaptive._slots()
                if self.runner.permits is not None:
                    self.runner.permits.open(uses, self.tell_paused)
                if self.line.keyring is not None:
                    self.line.keyring.open(uses)
                with self.cancel_scope:
                    async with trio.open_nursery() as nursery:
                        with trio.CancelScope(shield=True):  # also where there is no time at all
                            await nursery.start(self._keep_tasks, name=f"keeper of {self.name}")
                        task_status.started()
                        await self._sleep(self._manager_cancelled)
            finally:
                self.collector.close_channel()
                uses.close()
                self.resume()
                if self.runner.instruments is not None:
                    self.runner.instruments.catch_up()
        except BaseException:
            self._interrupted = True
            raise
        finally:
            del self.runner.too_many_errors, self.runner.tasks_cancelled
            self._host_ended.set()

    @enable_ki_protection
    async def _keep_tasks(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self.runner.open(nursery)
                self.line.nursery = nursery
                nursery.start_soon(self.collector.collect, name=f"collector of {self.name}")
                task_status.started()
                await self._sleep(self.tasks_cancelled)
                self.collector.close()
        finally:
            self.runner.bury()

    async def _sleep(self, cancelled: Callable[[], None]) -> None:
        """Sleep until the block ends; `cancelled` is called in the very instant of a cancellation."""
        task = trio.lowlevel.current_task()
        is_late = False

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            nonlocal is_late
            self._sleepers.remove(task)
            try:
                need_more_stack()
                cancelled()
            except RecursionError:
                is_late = True  # who cancels is deep in a recursion
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleepers.append(task)
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            if is_late:
                cancelled()

    def _end(self) -> None:
        """The body has ended, and so have the tasks, or they are cancelled."""
        self._close()
        for task in self._sleepers:
            trio.lowlevel.reschedule(task)
        self._sleepers.clear()

    def _close(self) -> None:
        """Let nobody in any more."""
        self.line.closed = True  # first: what is cancelled below may call hooks
        self._refuse()
        self.line.close()
        self.runner.pool.close()

    def _refuse(self) -> None:
        self.closed = True
        for each in list(self.maps):
            each.refuse()
        self.runner.idle.unpark_all()  # what a map has left does not count any more

    @property
    def is_idle(self) -> bool:
        """Whether all tasks have ended, and all outcomes of maps were taken, but by the current trio task.

        When nothing new is accepted a map has drawn all that it will, and what is left can be taken later.
        """
        if self.runner.unfinished or self.runner.coming or any(each.is_coming for each in self.maps):
            return False
        task = trio.lowlevel.current_task()
        return self.closed or not any(each.holds_up(task) for each in self.maps)

    async def wait_idle(self) -> None:
        """Wait until that is so; no checkpoint when it is."""
        try:
            while not self.is_idle:
                await self.runner.idle.park()
        finally:
            del self  # see TaskHandle.cancel()

    @enable_ki_protection
    def pause(self) -> None:
        """Start nothing, and let no attempt have a permit, until `resume`."""
        if self.runner.permits is not None:
            self.runner.permits.hold()
        self.line.pause()
        self.tell_paused()

    @enable_ki_protection
    def resume(self) -> None:
        """Go on: first those who wait for a permit, as they have their slots."""
        if self.runner.permits is not None:
            self.runner.permits.resume()
        self.line.resume(self.tell_paused)

    def tell_paused(self) -> None:
        """It starts nothing for a while, or goes on; of one that has ended there is nothing to tell."""
        runner = self.runner
        if runner.instruments is not None and not self.ended:
            due = 0.0 if runner.permits is None else runner.permits.paused_for()
            runner.instruments.tell("pause_changed", self.name, inf if self.line.paused else due)

    def tell_resized(self) -> None:
        """The limit has changed: that is told before what it lets maps start."""
        if self.runner.instruments is not None:
            self.runner.instruments.tell("limit_changed", self.name, self.line.limit)
        for each in list(self.maps):
            each.resized()

    def _manager_cancelled(self) -> None:
        """Called in the instant in which the host is cancelled, whoever did it."""
        cause = self._cause()
        is_ending = self._body_ended or self._body_scope.cancel_called
        first = (is_ending and self.runner.stopped) or cause  # what has ended the tasks, or ends them now
        self.timed_out = first.reason is StopReason.MANAGER_TIMEOUT
        self._body_scope.cancel(reason=cause.text)
        self.tasks_cancelled()

    @enable_ki_protection
    def tasks_cancelled(self) -> None:
        """Called in the instant in which the tasks are cancelled, whoever did it."""
        if self.runner.stopped is None:
            # Not by us: with the manager, or because one of them raised an interrupt.
            self.runner.stopped = self._cause()
            self._body_scope.cancel(reason=self.runner.stopped.text)
        self._close()

    def _cause(self) -> Stop:
        scope, now = self.cancel_scope, trio.current_time()
        if self._cancel_text is not None:
            return Stop(StopReason.CANCELLED, self._cancel_text)
        # Private: nothing public tells it here. Guarded by test_an_outer_deadline_wins_over_the_managers.
        if not scope.cancel_called or self.parent._cancel_status.effective_deadline() <= now:
            return Stop(StopReason.CANCELLED, f"a cancel scope around {self.name!r} was cancelled")
        if now >= scope.deadline:
            return Stop(StopReason.MANAGER_TIMEOUT, f"the deadline of {self.name!r} passed")
        return Stop(StopReason.CANCELLED, f"{self.name!r} was cancelled")

    def _cancel_tasks(self, text: str) -> None:
        """Cancel the tasks, without touching the user's scope."""
        if self.runner.stopped is None:
            self.runner.stopped = Stop(StopReason.CANCELLED, text)
        nursery, text = self.runner.pool.nursery, self.runner.stopped.text
        del self  # see TaskHandle.cancel()
        nursery.cancel_scope.cancel(reason=text)

    def give_up(self) -> None:
        """More tasks have failed than were allowed."""
        if self._body_scope.cancel_called:
            return  # it ends already
        self._too_many_errors = True
        text = f"more than {self.runner.max_errors} tasks of {self.name!r} failed"
        self._body_scope.cancel(reason=text)
        self._cancel_tasks(text)
        del self  # see TaskHandle.cancel()

    @enable_ki_protection
    async def shutdown(self, grace: float, *, drop: bool) -> None:
        """Accept nothing new, and let what was accepted finish; after `grace` seconds, cancel it.

        What is queued is cancelled at once, if it is to be dropped.
        """
        if not self.closed:
            self._end_text = "it was shut down"
        self._refuse()
        self.line.refuse_sleepers()  # before the line starts anybody again
        if drop:
            self.runner.drop(self.line.queued(), f"it was queued when {self.name!r} was shut down")
        self.resume()
        try:
            try:
                await trio.lowlevel.checkpoint()
                with trio.move_on_after(grace):
                    await self.wait_idle()
            finally:
                if self.runner.unfinished:
                    self._cancel_tasks(f"{self.name!r} was shut down")
            # Not shielded: they are cancelled, and one may wait for the caller. The block waits for them.
            await self.wait_idle()
        finally:
            del self  # see TaskHandle.cancel()

    def cancel(self, reason: str | None) -> None:
        """Cancel the tasks and the body; the block ends quietly."""
        if self._cancel_text is None:
            self._cancel_text = f"{self.name!r} was cancelled" + (f": {reason}" if reason else "")
        scope = self.cancel_scope
        del self  # see TaskHandle.cancel()
        scope.cancel(reason=reason)

    def closed_error(self) -> ConManClosedError:
        """What is raised where somebody still hands in work."""
        why = self._end_text if self.runner.stopped is None else self.runner.stopped.text
        error = ConManClosedError(f"{self.name!r} is closed and accepts no more tasks: {why} {SEE}")
        error._owner = self._identity
        return error

    def without_own_end(self, error: BaseException | None) -> BaseException | None:
        """What is to travel on when `error` left the body.

        Nothing, where it says only that this manager is closed, which it is; where it says that of some
        children of the body, and of the others that they were cancelled, the latter; else `error` itself.
        """
        if error is None or not self.closed:
            return error
        is_own, others = False, []
        parts = [error]
        while parts:  # of any depth: each nursery around another one makes a group
            part = parts.pop()
            if isinstance(part, BaseExceptionGroup):
                parts += part.exceptions
            elif isinstance(part, ConManClosedError) and getattr(part, "_owner", None) is self._identity:
                is_own = True
            else:
                others.append(part)
        if not others:
            return None
        if is_own and all(isinstance(each, trio.Cancelled) for each in others):
            assert isinstance(error, BaseExceptionGroup)
            return error.split(trio.Cancelled)[0]
        return error
