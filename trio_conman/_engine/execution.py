"""A task's life: attempts, deadlines and backoff, from its slot to its outcome.

**Theory of operation.** A task is started with a slot by `Runner.start`, which hires a worker of the pool,
and passes through these states:

    queued ──start──▶ running ◀──────▶ backing_off ──┐
       │                 └───────────────────────────┴──finish──▶ done
       └──finish (its manager ended first)──────────────────────▶ done

`Endings._finish` is the only way to *done*. It is sync, so that no cancellation comes between a task's end
and its record. Whatever happens, an accepted task gets there exactly once. When its outcome has arrived, at
once or when a slow consumer has taken it, `Ledger.settle` passes the slot on and wakes who waits for all
tasks.

A worker has one scope for all that it runs, with the deadline of the attempt, or of the task, whichever is
first: to move a deadline costs less than a scope. A scope that was cancelled is spent, and the worker goes on
in a new one: with the next attempt, if only the attempt's time was over, else with its next task.

Who ended a task is decided from the inside out, after the worker's scope has exited: where that caught the
`Cancelled` it was the task's handle, or its timeout, or else the attempt's; what passes it comes from the
manager's scope or from further out, and then `Runner.stopped` tells, which is set in the instant the tasks
are cancelled. That `Cancelled` travels on, and the worker ends with it.

No frame of this module may be found from an outcome. A traceback leads to the frames that the error passed,
and from CPython 3.13 on also to those that awaited them. So the traceback entries are cut off, and the
coroutines here drop what they hold before they end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import copy_context
from inspect import isawaitable
from math import inf
from types import CoroutineType
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outcomes import Failure, Outcome, StopReason, Success
from trio_conman._books.handles import Slot, TaskHandle
from trio_conman._books.records import Answer
from trio_conman._limits.adaptive import AdaptiveLimit
from trio_conman._limits.keys import keep, let_go
from trio_conman._policy.decision import Retry, asked_to_wait, decide, real_error
from trio_conman._policy.retry import made_of

from .endings import own
from .pool import Worker
from .recalls import Recalls, deadline_of


@final
@attrs.define(eq=False, repr=False)
class Runner(Recalls):
    """Starts the tasks of one manager, and sees each of them to its outcome."""

    rng: random.Random
    adaptive: AdaptiveLimit | None
    # Called when all tasks are, or will be, cancelled.
    tasks_cancelled: Callable[[], None] = attrs.field(init=False)
    # Whether an attempt without a timeout needs no preparation.
    is_plain: bool = attrs.field(init=False)

    def open(self, nursery: trio.Nursery) -> None:
        """Begin: the workers live in `nursery`."""
        self.pool.open(nursery, self._live)
        self.is_plain = self.permits is None and self.instruments is None and self.adaptive is None
        self.now = trio.lowlevel.current_clock().current_time

    def start(self, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        """Accept a task and start it, in the context of its submitter."""
        if handle._context is None:
            handle._context = copy_context()
        self.pool.hire(handle)
        if self.permits is not None:  # first, as a hook may hand in others
            self.permits.join(handle)
        self.begin_new(handle, slot, now)

    def granted(self, handle: TaskHandle[Any], slot: Slot | None) -> bool:
        """The end of a queued task's wait: with a slot, or without one because its manager ends."""
        self.queued -= 1
        if slot is None:
            self._finish(handle, None)
        else:
            self.pool.hire(handle)
            self.begin(handle, slot, self.now())
            if self.permits is not None:
                self.permits.join(handle)
        return True

    async def _live(self, worker: Worker) -> None:
        """The trio task of a worker: attempt after attempt, and task after task, until it is dismissed."""
        handle = outcome = value = travels = None
        task, pool = trio.lowlevel.current_task(), self.pool
        try:
            pool.begin(worker)
            while True:
                with worker.renew() as scope:
                    worker.status = task._cancel_status
                    while True:
                        if handle is None:
                            while (handle := pool.next(worker)) is None:
                                if not await pool.wait(worker):
                                    return
                            if not (self.is_plain and handle._terms.is_plain) or worker.is_timed:
                                ready = self._prepare(worker, handle)
                                if ready is not None:
                                    if isinstance(ready, Answer):
                                        ready = await self._wait_to_begin(worker, handle, ready)
                                        if isinstance(ready, Answer):  # it waits for another one
                                            handle = None
                                            continue
                                    outcome, ready = ready, None
                        else:
                            outcome = await self._prepare_retry(worker, handle)
                        if handle._cancelled is not None:
                            break  # before its attempt's first step: nothing of that shall run
                        if outcome is None:
                            try:
                                value = handle._call(*handle._args)  # type: ignore[misc]  # not None until it is done
                                if type(value) is CoroutineType or isawaitable(value):
                                    outcome = self._success(handle, await value)
                                else:
                                    outcome = self._not_awaitable(handle, value)
                            except Exception as exc:
                                worker.error = own(exc)
                            if handle._claimed is not None:
                                outcome = await self._store(worker, handle, outcome)
                        is_left_open = task._cancel_status is not worker.status
                        if is_left_open or (worker.is_timed and scope.cancel_called):
                            break
                        if outcome is not None:
                            if handle._cancelled is not None:
                                break
                            self._end(worker, outcome)
                            handle = outcome = value = None
                worker.status, value = task._cancel_status, None
                if outcome is None:
                    outcome = self._interrupted(worker, handle)
                if outcome is not None:
                    self._end(worker, outcome)
                    handle = outcome = None
        except BaseException as exc:
            outcome, travels = self._ended_by(worker, exc, await pool.outlive(task))
        finally:
            self._end_life(worker, outcome, travels)  # one call, since a Ctrl-C may come between two
            del self, worker, handle, outcome, value, pool
        if travels is not None:
            try:
                raise own(travels)
            finally:
                del travels

    @enable_ki_protection
    def _prepare(self, worker: Worker, handle: TaskHandle[Any]) -> Outcome[Any] | Answer | None:
        """Begin the first attempt, if it is wanted; else the outcome, or what is to be waited for first.

        That is a value; or a permit, where the task is only to run.
        """
        if handle._cancelled is not None:
            return None
        ready: Outcome[Any] | Answer | None = None
        try:
            if (records := handle._terms.records) is not None:
                ready = self._recall(worker, handle, records)
            if ready is None or ready is Answer.RUN:
                ready = None if self.permits is None else self._take_permit(handle)
                if ready is None:
                    self._begin_attempt(worker, handle)
            return ready
        finally:
            del self, worker, handle, ready

    async def _wait_to_begin(
        self, worker: Worker, handle: TaskHandle[Any], answer: Outcome[Any] | Answer
    ) -> Outcome[Any] | Answer | None:
        """Begin the first attempt when what it waits for is there; or the outcome.

        Or an answer: the task waits for another one of its key, and is not this worker's any more.
        """
        try:
            if answer is not Answer.RUN:
                answer = await self._wait_for_value(worker, handle, answer)
                if answer is not Answer.RUN:
                    return answer
            failure = None if self.permits is None else await self._wait_for_permit(worker, handle, inf)
            if failure is None:
                self._begin_attempt(worker, handle)
            return failure
        finally:
            del self, worker, handle, answer

    def _begin_attempt(self, worker: Worker, handle: TaskHandle[Any]) -> None:
        """Set the deadline of an attempt, and tell of it."""
        terms = handle._terms
        if terms.is_timed:
            worker.set_deadline(min(deadline_of(handle), self.now() + terms.attempt_timeout))
        elif worker.is_timed:
            worker.set_deadline(inf)
        if self.instruments is not None:
            self.instruments.tell("attempt_started", handle, handle.retries + 1)
        if self.adaptive is not None:
            worker.began = self.now()

    @enable_ki_protection
    def _end(self, worker: Worker, outcome: Outcome[Any]) -> None:
        """Record the outcome of a worker's task, and find it another one for the same slot."""
        handle, worker.handle = worker.handle, None
        assert handle is not None
        adaptive, in_use = self.adaptive, 0
        if adaptive is not None and isinstance(outcome, Success) and not outcome.recalled:
            in_use = self.attempts()  # told of when the task is settled, since that may start others
        source, slot = handle._terms.source, handle._slot
        if source is None or slot is None:
            self.pool.let_go(worker)  # first: when the slot goes to another task, this worker is hired for it
            self._finish(handle, outcome)
        else:
            handle._slot = None
            worker.source, worker.slot = source, slot
            self._finish(handle, outcome)
            del handle, outcome  # an error of the source may lead to this frame
            source.go_on(worker, slot)
        if adaptive is not None and in_use:
            adaptive._ended(worker.began, self.now(), in_use)
        del self, worker  # see _finish

    @enable_ki_protection
    def _interrupted(self, worker: Worker, handle: TaskHandle[Any] | None) -> Failure | None:
        """The outcome of a task whose worker's scope is spent; None where only an attempt has timed out."""
        assert handle is not None
        if handle._cancelled is not None or self.now() >= deadline_of(handle):
            error, worker.error = worker.error, None
            if error is None:
                return self._cut_short(handle)
            return self._failure(handle, real_error(error), StopReason.ERROR)  # it was being cancelled then
        if worker.error is None:
            worker.timed_out = True
            limit = handle._terms.attempt_timeout
            worker.error = trio.TooSlowError(
                f"an attempt of task {handle._name!r} took longer than attempt_timeout={limit:g} s"
            )
        return None

    @enable_ki_protection
    def _end_life(self, worker: Worker, outcome: Outcome[Any] | None, travels: BaseException | None) -> None:
        """The last step of a trio task."""
        if travels is not None:
            # Now, not when it has left: the slot that is given back shall start nothing.
            self.tasks_cancelled()
        handle, worker.handle, worker.error = worker.handle, None, None
        if handle is not None:
            self._finish(handle, outcome)
        self.pool.gone(worker, handle)
        del handle, outcome, travels  # see _finish

    def bury(self) -> None:
        """All workers have ended: see to those that a Ctrl-C hit before their first step."""
        for worker in list(self.pool.workers):
            handle, worker.handle = worker.handle, None
            if handle is not None:
                self._finish(handle, None)
            self.pool.forget(worker, handle)

    async def _prepare_retry(self, worker: Worker, handle: TaskHandle[Any]) -> Outcome[Any] | None:
        """What comes between two attempts: a decision, a delay, a permit; or the outcome."""
        error, worker.error = worker.error, None
        timed_out, worker.timed_out = worker.timed_out, False
        assert error is not None
        outcome = None
        try:
            handle._scope = worker.scope  # it may be a new one
            worker.set_deadline(deadline_of(handle))
            if self.adaptive is not None and trio.current_effective_deadline() > -inf:
                self.adaptive._failed(error, worker.began, self.now(), self.attempts())
            verdict = self._decide(handle, error, timed_out)
            if isinstance(verdict, StopReason):
                return self._failure(handle, real_error(error), verdict)
            await self._back_off(handle, error, verdict)
            if handle._cancelled is not None:
                return None  # it ends as if it backed off yet, and takes no permit
            if self.permits is not None:
                outcome = await self._wait_for_permit(worker, handle, verdict.latest)
                if outcome is not None:
                    return outcome
            self._count_retry(handle, error, verdict)
            self._begin_attempt(worker, handle)
            return None
        finally:
            del self, worker, handle, error, outcome

    def _decide(self, handle: TaskHandle[Any], error: Exception, timed_out: bool) -> Retry | StopReason:
        deadline = trio.current_effective_deadline()
        if deadline == -inf:
            return StopReason.ERROR  # it was being cancelled when it raised
        config = handle._terms.retry
        if self.permits is not None:
            # The service has asked everybody to wait, not only this task.
            self.permits.pause_for(asked_to_wait(error, config))
        started = handle._started if handle._attempted is None else handle._attempted
        assert started is not None
        return decide(
            error,
            config=config,
            timed_out=timed_out,
            retries=handle.retries,
            first_attempt=started,
            now=self.now(),
            deadline=deadline,
            permit=None if self.permits is None else self.permits.earliest,
            rng=self.rng,
            budget=self.budget,
        )

    def _take_permit(self, handle: TaskHandle[Any]) -> Failure | Answer | None:
        """Take what the rate asks for, unless that is to be waited for, or its cost cannot be told."""
        assert self.permits is not None
        try:
            if not self.permits.take(handle, now := self.now()):
                return Answer.RUN
            if handle._attempted is None:
                handle._attempted = now
            return None
        except Exception as exc:
            return self._failure(handle, own(exc), StopReason.ERROR)
        finally:
            del self, handle

    @enable_ki_protection
    async def _wait_for_permit(
        self, worker: Worker, handle: TaskHandle[Any], latest: float
    ) -> Failure | None:
        """Wait until the rate lets an attempt start; a failure when it never will, or too late."""
        assert self.permits is not None
        try:
            if (now := self.now()) > latest:  # it has waited for its slot
                return self._too_late(handle, now, latest)
            lacking = self._take_permit(handle)
            if not isinstance(lacking, Answer):
                return lacking
            worker.set_deadline(deadline_of(handle))
            self.without_permit += 1
            self.tell_if_calm()
            try:
                due = await self.permits.acquire(handle, latest)
            finally:
                self.without_permit -= 1
            if due is not None:
                return self._too_late(handle, due, latest)
            if handle._attempted is None:
                handle._attempted = self.now()
            return None
        finally:
            del self, worker, handle

    async def _back_off(self, handle: TaskHandle[Any], error: Exception, retry: Retry) -> None:
        """Wait for the next attempt, without a slot where that is allowed."""
        handle._failures().error = real = real_error(error)
        if self.instruments is not None:
            self.instruments.tell("retry_scheduled", handle, real, retry.delay)
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
                        await self.slots.reenter(handle, self.permits and self.permits.join)
                finally:
                    self._step_back(handle, lent)
        finally:
            del handle, error, real

    @enable_ki_protection
    def _step_aside(self, handle: TaskHandle[Any], retry: Retry) -> bool:
        """Start to back off; whether the slot was given back."""
        handle._backs_off = True
        self.backing_off += 1
        self.tell_if_calm()
        slot = handle._slot
        if retry.hold_slot or len(self.without_slot) >= self.slots.limit or slot is None:
            return False
        self.without_slot.add(handle)
        handle._slot = None
        keep(slot.keys)
        self.slots.release(slot)
        return True

    @enable_ki_protection
    def _step_back(self, handle: TaskHandle[Any], lent: bool) -> None:
        handle._backs_off = False
        self.backing_off -= 1
        if lent:
            let_go(handle._keys)
            if handle._slot is not None:
                self.without_slot.discard(handle)

    @enable_ki_protection
    def _count_retry(self, handle: TaskHandle[Any], error: Exception, retry: Retry) -> None:
        """The next attempt begins: what is left of the last one is a text."""
        handle._failures().retry(retry.delay)
        self.retries += 1
        # One exception that is raised again and again would collect the frames of all attempts.
        # The method of Exception, since an exception may be frozen, or have one of its own.
        for each in made_of(error):
            Exception.with_traceback(each, None)
