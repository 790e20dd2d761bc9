"""The workers of a manager: trio tasks that run one task after another.

**Theory of operation.** A worker is *hired*, for a task that has its slot, or with a slot for which it is to
draw a task from a source. When it has nothing to do it is *idle*: it stands on a stack, from which the next
one is hired, the last one first.

The whole trick is the order at a task's end. The worker joins the idle ones first; then the task is recorded,
and its slot given back. So when somebody waits for that slot, this very worker is hired for him, and goes on
without a sleep. Only when it was not hired by then it rests, and whoever hires it wakes it.

A worker that was woken begins in the next turn of trio's loop, and until then it is *called*. One that goes
on is called too, and has a turn first, where others were hired before it; where its last task passed no
checkpoint, lest such tasks keep everybody else waiting; and where it needs another context, since trio makes
that effective at the next schedule point. What a task leaves in its trio task's `custom_sleep_data` shows
whether it has passed a checkpoint: trio clears that when it reschedules a task.

In which order trio runs those that it wakes together is chance. So a called worker that has its turn takes
the first task of those that were called, and leaves its own to the worker of that one. Tasks of different
contexts cannot be changed for each other so late: then it is *late*, and sleeps until all who come before it
have begun, or are called as well. The first one of those that are called is never late.

A worker that rests cannot be cancelled. Whatever cancels the tasks closes the pool in that instant, and that
dismisses who rests.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._base.outlast import stay
from trio_conman._books.handles import Slot, TaskHandle

MAX_IDLE = 1000  # workers
# How many tasks, or outcomes, may follow each other before other trio tasks have a turn.
AT_ONCE = 100
NO_TURN: Any = object()


class Source(Protocol):
    """What workers draw tasks from."""

    def draw(self, worker: Worker) -> TaskHandle[Any] | None:
        """Draw a task, in the worker's trio task, and begin it with the slot that the worker was hired with.

        None where there is none: then the slot was given back, and the worker is idle; or where the worker,
        which is still hired, shall ask again in its next turn.
        """
        ...

    def go_on(self, worker: Worker, slot: Slot) -> None:
        """The same for a worker that has ended a task of this source, and has its slot.

        Where others wait for that, it is given back.
        """
        ...

    def missed(self, slot: Slot) -> None:
        """The worker that was hired to draw has ended before it could."""
        ...


@final
@attrs.define(eq=False, repr=False)
class Worker:
    """A trio task that runs tasks one after another."""

    # What it was hired for: a task, until that has its outcome, or a source, with a slot for what it draws.
    handle: TaskHandle[Any] | None = None
    source: Source | None = None
    slot: Slot | None = None
    # Its trio task, and the scope of its task, from its first step on.
    task: trio.lowlevel.Task = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)
    # That of trio inside of the scope. Private, because nothing public shows that a scope was left open,
    # which would govern the backoff, or the next task. Guarded by
    # test_a_scope_left_open_by_an_attempt_does_not_govern_the_backoff.
    status: Any = None
    # Whether the source has left a scope open in it.
    is_spoiled: bool = False
    is_resting: bool = False
    # Whether it had a turn since it was hired, and whether it needs one.
    is_ready: bool = True
    is_called: bool = False
    is_late: bool = False
    # Whether the source keeps it, and its slot, for its next turn.
    kept: bool = False
    # Whether its scope has a deadline.
    is_timed: bool = False
    # What the last attempt of its task failed with, until that is decided on, and whether it timed out.
    error: Exception | None = None
    timed_out: bool = False
    # The key of its task, for who asks again for its value.
    key: str | None = None
    # When its attempt began, where that is asked for.
    began: float = 0.0

    def renew(self) -> trio.CancelScope:
        """A new scope, to be entered."""
        self.scope = trio.CancelScope()
        self.is_timed = False
        return self.scope

    def set_deadline(self, deadline: float) -> None:
        """Move the deadline of its scope; inf lifts it."""
        if self.is_timed or deadline != math.inf:
            self.is_timed = deadline != math.inf
            self.scope.deadline = deadline


# All workers of a trio run.
WORKERS: trio.lowlevel.RunVar[dict[trio.lowlevel.Task, Worker]] = trio.lowlevel.RunVar("trio_conman workers")


@final
@attrs.define(eq=False, repr=False)
class Pool:
    """Hires workers, lets them rest, and dismisses them."""

    # Of the trio tasks of those who rest.
    _idle_name: str
    # Known from `open` on: where the workers live, and, until `close`, the trio task of each.
    nursery: trio.Nursery = attrs.field(init=False)
    _live: Callable[[Worker], Any] | None = attrs.field(default=None, init=False)
    workers: set[Worker] = attrs.field(factory=set, init=False)
    # Those of all pools of the trio run.
    _all: dict[trio.lowlevel.Task, Worker] = attrs.field(init=False)
    _idle: list[Worker] = attrs.field(factory=list, init=False)
    # Those that are called, by their tasks, in the order in which these are to begin.
    _called: OrderedDict[TaskHandle[Any], Worker] = attrs.field(factory=OrderedDict, init=False)
    _late: int = attrs.field(default=0, init=False)  # how many of them are
    # Of who rests: nothing of a task.
    _blank: Context = attrs.field(factory=Context, init=False)

    def open(self, nursery: trio.Nursery, live: Callable[[Worker], Any]) -> None:
        """Begin to hire."""
        self.nursery = nursery
        try:
            self._all = WORKERS.get()
        except LookupError:
            self._all = {}
            WORKERS.set(self._all)
        self._live = live

    def hire(self, handle: TaskHandle[Any]) -> None:
        """Have a task run that has its slot, or will have it before the next schedule point."""
        context = handle._context
        assert context is not None
        if self._idle:
            worker = self._idle.pop()
            worker.handle = handle
            if worker.is_resting:
                self._wake(worker, context)
            elif not self._called:
                return
        else:
            worker = Worker(handle)
            self._add(worker, handle._name, context)
        worker.is_called = True
        self._called[handle] = worker

    def hire_to_draw(self, source: Source, slot: Slot, name: str, context: Context) -> None:
        """Have a task drawn for a slot, and run."""
        if self._idle:
            worker = self._idle.pop()
            worker.source = source
            worker.slot = slot
            if worker.is_resting:
                self._wake(worker, context)
        else:
            self._add(Worker(None, source, slot), name, context)

    def _add(self, worker: Worker, name: str, context: Context) -> None:
        live = self._live
        assert live is not None  # nobody is hired before and after
        context.run(lambda: self.nursery.start_soon(live, worker, name=name))
        self.workers.add(worker)

    def _wake(self, worker: Worker, context: Context) -> None:
        trio.lowlevel.reschedule(worker.task)
        worker.is_resting = False
        worker.is_ready = True
        worker.task.context = context.copy()

    def let_go(self, worker: Worker) -> None:
        """A worker has nothing to do, for all it knows."""
        worker.is_ready = False
        if self._live is not None:
            self._idle.append(worker)

    @enable_ki_protection
    def next(self, worker: Worker) -> TaskHandle[Any] | None:
        """The task that a worker is to begin now; None while it has none, or others come first."""
        handle = worker.handle
        if handle is None:
            if worker.source is None:
                return None
            handle = worker.source.draw(worker)
            if handle is None:
                return None
        elif worker.is_called and worker.is_ready:
            worker.is_called = False
            first, other = self._called.popitem(last=False)
            handle = first if other is worker else self._change(worker, handle, first, other)
            if self._late:
                self._call_late()
        task = worker.task
        context: Context = handle._context  # type: ignore[assignment]  # not None until it is done
        if not is_same(task.context, context):
            task.context = context.copy()
        elif worker.is_ready or not (worker.is_called or task.custom_sleep_data is NO_TURN):
            worker.is_ready = False
            handle._scope = worker.scope
            task.name = handle._name
            task.custom_sleep_data = NO_TURN
            return handle
        if not worker.is_called:
            worker.is_called = True
            self._called[handle] = worker
            if handle._terms.source is None:  # it was hired when nobody was called
                self._called.move_to_end(handle, last=False)
        return None

    def _change(
        self, worker: Worker, own: TaskHandle[Any], first: TaskHandle[Any], other: Worker
    ) -> TaskHandle[Any]:
        """Give a worker that begins the first task, and the worker of that one its own, if it can be.

        Else it keeps its own, and needs another turn.
        """
        assert own._context is not None
        assert first._context is not None
        if is_same(own._context, first._context):
            worker.handle, other.handle = first, own
            self._called[own] = other  # it keeps its place
            return first
        self._called[first] = other
        self._called.move_to_end(first, last=False)
        if self._live is None:  # the other one may have ended before it could begin, by a Ctrl-C
            del self._called[own]
        else:
            worker.is_called = worker.is_late = True
            worker.is_ready = False
            self._late += 1
        return own

    def _call_late(self) -> None:
        """Call those of the late ones before which nobody is left who is not called."""
        for worker in self._called.values():
            if not worker.is_late:
                break
            self._rouse(worker)

    def _rouse(self, worker: Worker) -> None:
        trio.lowlevel.reschedule(worker.task)
        worker.is_late = False
        self._late -= 1

    @enable_ki_protection
    async def wait(self, worker: Worker) -> bool:
        """Let others have a turn, where the worker has something to do; else rest until it has.

        Returns whether it has; else it is dismissed.
        """
        if worker.is_timed:  # by its last task
            worker.set_deadline(math.inf)
        if worker.handle is not None or worker.source is not None:
            if worker.is_late:
                await trio.lowlevel.wait_task_rescheduled(stay)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            worker.is_ready = True
            return True
        if self._live is None or worker.is_spoiled:
            return False
        if len(self._idle) > MAX_IDLE:
            self._idle.pop()  # this one: since it joined them it was not hired
            return False
        worker.task.name = self._idle_name
        worker.task.context = self._blank
        worker.is_resting = True
        await trio.lowlevel.wait_task_rescheduled(stay)
        return not worker.is_resting  # else it was woken by close()

    @enable_ki_protection
    def begin(self, worker: Worker) -> None:
        """A new worker's first step."""
        worker.task = trio.lowlevel.current_task()
        self._all[worker.task] = worker

    def handle_of(self, task: trio.lowlevel.Task) -> TaskHandle[Any] | None:
        """The task that runs in a trio task."""
        worker = self._all.get(task)
        return None if worker is None else worker.handle

    @enable_ki_protection
    async def outlive(self, task: trio.lowlevel.Task) -> BaseExceptionGroup | None:
        """Wait for the nurseries that the last task of a worker has left open; no checkpoint without one.

        It has failed for them, and trio has cancelled them. Private, because nothing public closes a nursery,
        and trio would raise once more for an open one, in the nursery of all workers. Guarded by
        test_a_task_that_leaves_a_nursery_open_fails_alone. Returns what those have raised who ran there, side
        by side: one group in another, for each nursery, may be too deep to be split.
        """
        left: list[BaseException] = []
        while task._child_nurseries:
            error = await task._child_nurseries[-1]._nested_child_finished(None)
            if error is not None:
                left.append(error)
        return BaseExceptionGroup("Exceptions from nurseries that were left open", left) if left else None

    def gone(self, worker: Worker, handle: TaskHandle[Any] | None) -> None:
        """A worker has ended, with this task in hand."""
        task = trio.lowlevel.current_task()
        self._all.pop(task, None)  # where an interrupt hit it first it is not there
        self.forget(worker, handle)

    def forget(self, worker: Worker, handle: TaskHandle[Any] | None) -> None:
        """The rest of that, which its trio task does not take part in."""
        # It is not idle: who is idle was dismissed first, if an interrupt hit it.
        self.workers.discard(worker)
        if handle is not None and worker.is_called:
            del self._called[handle]
            self._call_late()
        source, slot = worker.source, worker.slot
        if source is not None and slot is not None:
            worker.source = worker.slot = None
            source.missed(slot)

    def close(self) -> None:
        """Dismiss who is idle now, or will be."""
        self._live = None  # it leads to who holds the pool, too
        for worker in self._idle:
            if worker.is_resting:
                trio.lowlevel.reschedule(worker.task)
        self._idle.clear()
        for worker in self._called.values():
            if worker.is_late:
                self._rouse(worker)


def is_same(context: Context, base: Context) -> bool:
    """Whether every variable holds the very object that it holds in `base`.

    Comparing the contexts would compare the objects, which may raise, and be true for equal ones.
    """
    if not base:
        return not context  # to iterate over none costs more than all the rest
    if len(context) != len(base):
        return False
    for variable in base:  # noqa: SIM110  # a generator for all() costs more than the whole, once for each task
        if context.get(variable) is not base[variable]:
            return False
    return True
