"""One task's life: attempts, deadlines and backoff, from its slot to its outcome.

**Theory of operation.** A task is started with a slot by `Runner.start`, in a trio task of its own, and
passes through these states:

    queued ──start──▶ running ◀──────▶ backing_off ──┐
       │                 └───────────────────────────┴──finish──▶ done
       └──finish (its manager ended first)──────────────────────▶ done

`Endings._finish` is the only way to *done*. It is sync, so that no cancellation comes between a task's end
and its record. Whatever happens, an accepted task gets there exactly once. When its outcome has arrived, at
once or when a slow consumer has taken it, `Ledger.settle` passes the slot on and wakes who waits for all
tasks.

Who ended a task is decided from the inside out, each time after the scope in question has exited: where an
attempt's scope caught the `Cancelled` it was that attempt's timeout; where the task's scope did, its handle,
or else its timeout; what passes both comes from the manager's scope or from further out, and then
`Runner.stopped` tells, which is set in the instant the tasks are cancelled. That `Cancelled` travels on.

No frame of this module may be found from an outcome. A traceback leads to the frames that the error passed,
and from CPython 3.13 on also to those that awaited them. So the traceback entries are cut off, and the
coroutines here drop what they hold before they end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import Context, copy_context
from math import inf
from types import CoroutineType
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outcomes import Failure, Outcome, StopReason, remember
from trio_conman._books.handles import Slot, TaskHandle, is_awaitable
from trio_conman._policy.decision import Retry, asked_to_wait, decide, real_error
from trio_conman._policy.retry import made_of

from .endings import Endings, own
from .worker import Worker, is_same, is_spent


@final
@attrs.define(eq=False, repr=False)
class Runner(Endings):
    """Starts the tasks of one manager, and sees each of them to its outcome."""

    rng: random.Random
    # Called when all tasks are, or will be, cancelled.
    tasks_cancelled: Callable[[], None] = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)  # known only inside the trio run

    def start(self, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        """Start a task, in the context of its submitter, and accept it, if that was not done before."""
        handle._scope = trio.CancelScope(deadline=now + handle._terms.task_timeout)
        if handle._context is None:
            self._spawn(handle, None, handle._name)
        else:
            handle._context.run(self._spawn, handle, None, handle._name)
        if handle._index < 0:
            self.accept(handle)
        self.begin(handle, slot, now)
        if self.permits is not None:
            self.permits.join(handle)

    def granted(self, handle: TaskHandle[Any], slot: Slot | None) -> bool:
        """The end of a queued task's wait: with a slot, or without one because its manager ends."""
        self.queued -= 1
        if slot is None:
            self._finish(handle, None)
        else:
            self.start(handle, slot, self.now())
        return True

    @enable_ki_protection
    def withdraw(self, handle: TaskHandle[Any]) -> None:
        """End a task that was cancelled in the queue. One that is not there looks at that itself."""
        if self.slots.leave(handle):
            self.queued -= 1
            self._finish(handle, None)

    def _spawn(self, handle: TaskHandle[Any] | None, worker: Worker | None, name: str) -> None:
        self.nursery.start_soon(self._live, handle, worker, name=name)

    def start_worker(self, worker: Worker, context: Context) -> None:
        """Start a worker in a copy of `context`."""
        context.run(self._spawn, None, worker, worker.name)

    async def _live(self, handle: TaskHandle[Any] | None, worker: Worker | None) -> None:
        """The trio task of one task, or of all those that a worker runs one after another."""
        outcome: Outcome[Any] | None = None
        travels: BaseException | None = None
        error: Exception | None = None
        value = None
        task = trio.lowlevel.current_task()
        scope = worker.scope if worker is not None else handle._scope  # type: ignore[union-attr]  # one is given
        assert scope is not None
        try:
            with scope:
                # Private, because nothing public shows a scope that was left open, which would govern the
                # backoff, or a worker's next item. Guarded by
                # test_a_scope_left_open_by_an_attempt_does_not_govern_the_backoff.
                status = task._cancel_status
                renewed = False  # whether the worker has another context than at its last schedule point
                while True:
                    if worker is not None:
                        while (handle := worker.relay.next(worker)) is None:
                            if worker.slot is not None:
                                await trio.lowlevel.cancel_shielded_checkpoint()
                            elif not await worker.relay.rest(worker):
                                return
                        if renewed:
                            await trio.lowlevel.cancel_shielded_checkpoint()  # makes the context take effect
                        handle._scope = scope
                        if handle._terms.task_timeout != inf:
                            scope.deadline = self.now() + handle._terms.task_timeout
                    assert handle is not None
                    if handle._context is None:
                        handle._context = copy_context()
                    if handle._cancelled is not None:
                        break  # before its first step: nothing of it shall run
                    if self.permits is not None:
                        now = self.now()
                        if not self.permits.take(handle, now):
                            outcome = await self._wait_for_permit(handle)
                            now = self.now()
                        handle._attempted = now
                    if outcome is None and self.instruments is not None:
                        self.instruments.tell("attempt_started", handle, 1)
                        if handle._cancelled is not None:
                            break
                    if outcome is None and handle._terms.attempt_timeout == inf:
                        # The first attempt of _attempts() without its coroutine and its scope, which cost a
                        # quarter of the whole.
                        try:
                            value = handle._call(*handle._args)  # type: ignore[misc]  # not None until it is done
                            if type(value) is CoroutineType or is_awaitable(value):
                                value = await value
                                outcome = self._success(handle, value)
                            else:
                                outcome = self._not_awaitable(handle, value)
                        except Exception as exc:
                            error = own(exc)
                    if outcome is None and task._cancel_status is status:
                        outcome = await self._attempts(handle, error)
                    if worker is None or task._cancel_status is not status or handle._cancelled is not None:
                        break
                    if handle._terms.task_timeout != inf and is_spent(scope):
                        break
                    renewed = not is_same(task.context, handle._context)
                    if renewed:
                        task.context = handle._context.copy()
                    self._finish(handle, outcome)
                    handle = outcome = error = value = None
        except BaseException as exc:
            # That of a spoiled one is the source's fault, and told.
            if worker is None or not worker.is_spoiled:
                outcome, travels = self._ended_by(handle, exc)
        finally:
            # One call, since a Ctrl-C may come between two.
            self._end_life(handle, worker, outcome, travels)
            del self, worker, handle, outcome, error, value
        if travels is not None:
            try:
                raise travels
            finally:
                del travels

    @enable_ki_protection
    def _end_life(
        self,
        handle: TaskHandle[Any] | None,
        worker: Worker | None,
        outcome: Outcome[Any] | None,
        travels: BaseException | None,
    ) -> None:
        """The last step of a trio task."""
        if travels is not None:
            # Now, not when it has left: the slot that is given back shall start nothing.
            self.tasks_cancelled()
        if handle is not None:
            self._finish(handle, outcome)
        if worker is not None:
            worker.relay.gone(worker)
        del handle, outcome, travels  # see _finish

    async def _attempts(self, handle: TaskHandle[Any], error: Exception | None) -> Outcome[Any]:
        """Attempts and the delays between them, until an outcome.

        `error` is that of the first attempt, when it was already made.
        """
        terms = handle._terms
        timed_out = False
        value = None
        try:
            while True:
                if error is not None:
                    verdict = self._decide(handle, error, timed_out)
                    if isinstance(verdict, StopReason):
                        return self._failure(handle, real_error(error), verdict)
                    await self._back_off(handle, error, verdict)
                    if self.permits is not None and not self.permits.take(handle, self.now()):
                        value = await self._wait_for_permit(handle, verdict.latest)
                        if value is not None:
                            return value
                    self._count_retry(handle, error, verdict)
                    if self.instruments is not None:
                        self.instruments.tell("attempt_started", handle, handle._retries + 1)
                    error = None
                timed_out = False
                try:
                    with trio.CancelScope(deadline=self.now() + terms.attempt_timeout) as scope:
                        value = handle._call(*handle._args)  # type: ignore[misc]  # not None until it is done
                        if not is_awaitable(value):
                            return self._not_awaitable(handle, value)
                        value = await value
                        return self._success(handle, value)
                except Exception as exc:
                    error = own(exc)
                else:
                    timed_out = scope.cancelled_caught
                    limit = terms.attempt_timeout
                    error = trio.TooSlowError(
                        f"an attempt of task {handle._name!r} took longer than attempt_timeout={limit:g} s"
                    )
        finally:
            del self, handle, terms, error, value

    def _decide(self, handle: TaskHandle[Any], error: Exception, timed_out: bool) -> Retry | StopReason:
        deadline = trio.current_effective_deadline()
        if deadline == -inf:
            return StopReason.ERROR  # it was being cancelled when it raised
        config = handle._terms.retry
        permit = -inf
        if self.permits is not None:
            # The service has asked everybody to wait, not only this task.
            self.permits.pause_for(asked_to_wait(error, config))
            permit = self.permits.earliest()
        started = handle._started if handle._attempted is None else handle._attempted
        assert started is not None
        return decide(
            error,
            config=config,
            timed_out=timed_out,
            retries=handle._retries,
            first_attempt=started,
            now=self.now(),
            deadline=deadline,
            permit=permit,
            rng=self.rng,
            budget=self.budget,
        )

    @enable_ki_protection
    async def _wait_for_permit(self, handle: TaskHandle[Any], latest: float = inf) -> Failure | None:
        """Wait until the rate lets an attempt start; a failure when that will not be in time."""
        assert self.permits is not None
        self.without_permit += 1
        self.tell_if_calm()
        try:
            due = await self.permits.acquire(handle, latest)
            return None if due is None else self._too_late(handle, due, latest)
        finally:
            self.without_permit -= 1
            del self, handle

    async def _back_off(self, handle: TaskHandle[Any], error: Exception, retry: Retry) -> None:
        """Wait for the next attempt, without a slot where that is allowed."""
        handle._error = real_error(error)
        if self.instruments is not None:
            self.instruments.tell("retry_scheduled", handle, handle._error, retry.delay)
        # The next attempt sees the submitter's context as it was, from the next schedule point on.
        assert handle._context is not None
        trio.lowlevel.current_task().context = handle._context.copy()
        try:
            if retry.delay == 0:
                await trio.lowlevel.checkpoint()
            else:
                wake = self.now() + retry.delay
                lent = self._step_aside(handle, retry)
                try:
                    await trio.sleep_until(wake)
                    if lent:
                        await self.slots.reenter(handle)
                finally:
                    self._step_back(handle, lent)
        finally:
            del handle, error

    @enable_ki_protection
    def _step_aside(self, handle: TaskHandle[Any], retry: Retry) -> bool:
        """Start to back off; whether the slot was given back."""
        handle._state = "backing_off"
        self.backing_off += 1
        self.tell_if_calm()
        slot = handle._slot
        if retry.hold_slot or self.without_slot >= self.slots.limit or slot is None:
            return False
        self.without_slot += 1
        handle._lent = True
        handle._slot = None
        self.slots.release(slot)
        return True

    @enable_ki_protection
    def _step_back(self, handle: TaskHandle[Any], lent: bool) -> None:
        handle._state = "running"
        self.backing_off -= 1
        if lent and handle._slot is not None:
            handle._lent = False
            self.without_slot -= 1

    @enable_ki_protection
    def _count_retry(self, handle: TaskHandle[Any], error: Exception, retry: Retry) -> None:
        """The next attempt begins: what is left of the last one is a text."""
        real = handle._error
        assert real is not None
        handle._error = None
        handle._retries += 1
        self.retries += 1
        handle._history = remember(handle._history, real, retry.delay)
        # One exception that is raised again and again would collect the frames of all attempts.
        # The method of Exception, since an exception may be frozen, or have one of its own.
        for each in made_of(error):
            Exception.with_traceback(each, None)
