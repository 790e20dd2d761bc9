"""The manager: its opening, and the means to control it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, Never, final

import trio

from trio_conman._base.checks import (
    check_choice,
    check_count,
    check_limit,
    check_number,
    check_several,
    check_text,
    check_type,
    wrong_thread,
)
from trio_conman._base.explained import explained
from trio_conman._base.hidden import made_by
from trio_conman._base.outcomes import Outcome
from trio_conman._base.stack import need_more_stack
from trio_conman._books.collector import Collector
from trio_conman._books.handles import Terms
from trio_conman._books.instruments import Instrument, Instruments
from trio_conman._books.records import Recorder, records_of
from trio_conman._books.unseen import Unseen
from trio_conman._engine.block import Block
from trio_conman._engine.execution import Runner
from trio_conman._engine.pool import Pool
from trio_conman._limits.adaptive import AdaptiveLimit
from trio_conman._limits.keyed import KeyedLimit
from trio_conman._limits.keyring import Keyring
from trio_conman._limits.line import Line
from trio_conman._limits.permits import Permits
from trio_conman._limits.rate import RateLimiter
from trio_conman._policy.budget import RetryBudget
from trio_conman._policy.retry import RetryConfig

from .doors import ConMan as Doors
from .mistakes import INSTEAD
from .opening import Opening
from .views import ConMan as Views

if TYPE_CHECKING:
    # A default (PEP 696), so that ConMan.open(nursery) passes strict checkers without a parameter.
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")


@final
@made_by("ConMan.open")
class ConMan(Doors[R], Views[R]):
    """A concurrency manager: runs tasks under a limit, retries them, and keeps what became of each.

    There is no public constructor; `open` makes one::

        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, limit=20) as cm:
                await cm.run(fetch, url)
        print(cm.outputs(), cm.errors())

    - To hand in tasks: `run`, `start_soon`, `map`; `run_nowait`.
    - To wait for them: `wait`, or leave the block; `wait_running`.
    - To see how they ended: `outputs`, `errors`, `raise_errors`, `outcomes`, `pop_outcomes`; `statistics`.
    - To end them: `shutdown`, `cancel`; `cancel_scope`, `timed_out`.
    - To slow them down: `limit`, `pause`, `resume`; `paused`.
    - In messages: `name`.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_granted",
        "_line",
        "_max_queued",
        "_runner",
        "_terms",
        "_thread",
        "_unseen",
    )
    _unseen: Unseen

    def __init__(self, *_: Never, **__: Never) -> None:
        raise TypeError("ConMan has no public constructor; use 'async with ConMan.open(nursery) as cm:'")

    @classmethod
    @explained(INSTEAD.get)
    def open(
        cls,
        nursery: trio.Nursery,
        limit: int | float | trio.CapacityLimiter | AdaptiveLimit = 10,
        *,
        name: str | None = None,
        retry: RetryConfig | None = None,
        rate: RateLimiter | Iterable[RateLimiter] | None = None,
        per_key: KeyedLimit | Iterable[KeyedLimit] | None = None,
        journal: Recorder[R] | None = None,
        max_queued: int | float = inf,
        attempt_timeout: float = inf,
        task_timeout: float = inf,
        timeout: float = inf,
        max_errors: int | None = None,
        retry_budget: RetryBudget | None = None,
        send_to: trio.MemorySendChannel[Outcome[R]] | None = None,
        instruments: Iterable[Instrument] = (),
        rng: random.Random | None = None,
    ) -> AbstractAsyncContextManager[ConMan[R]]:
        """Open a manager whose tasks live in `nursery`.

        Leaving the block resumes a paused manager and waits for all tasks. Leaving it by an exception cancels
        them first. When the manager is cancelled, or its deadline passes, the block ends quietly, as with
        `trio.move_on_after`. All results so far are kept in each case, those of a `map` included that its
        consumer had not taken.

        Args:
            nursery: what cancels it cancels the tasks; the manager never cancels it.
            limit: how many tasks run at once: an int of at least 2, `math.inf`, a `trio.CapacityLimiter`
                that may be shared with others, or an `AdaptiveLimit`, which finds out how many the service
                bears; ``trio.CapacityLimiter(1)`` runs one at a time. Default: 10.
            name: for messages. Default: "conman".
            retry: how tasks are retried that say nothing else themselves. Default: only `RetriableError` is
                retried, by ``RetryConfig.exponential()``.
            rate: a rate limiter that every attempt takes permits of, when it has its slot; may be shared
                between managers of one trio run. Or several: an attempt starts when all of them allow it, and
                takes from all in that instant. Default: none.
            per_key: how many tasks of one key run at once, beside `limit`; may be shared between managers of
                one trio run. Or several: a task starts when all of them allow it. Default: no such limit.
            journal: what may know the values of tasks, so that they do not run, and keeps those of the
                others: what `open_journal` yields, or a section of it. Default: none.
            max_queued: how many tasks may be queued, as `ConManStatistics.queued` counts them, before
                `start_soon` raises `trio.WouldBlock` for one that cannot start at once: an int of at least 0,
                or `math.inf`. `run` and maps wait instead. Default: no bound.
            attempt_timeout: seconds for each attempt of a task. Default: no limit.
            task_timeout: seconds for a task from its slot to its end, all attempts and delays together.
                Default: no limit.
            timeout: seconds for the whole block. Default: no limit.
            max_errors: how many tasks may fail, the cancelled ones aside, before the rest is cancelled and
                leaving the block raises an `ExceptionGroup` of the errors; 0 is fail-fast. Default: all
                failures are collected.
            retry_budget: a budget that every retry takes a token of; may be shared. Default: none.
            send_to: a channel that outcomes go to, instead of being kept. A task keeps its slot until the
                channel has taken its outcome. What it does not take is kept. Closed with the manager.
                Default: none, all are kept.
            instruments: what follows the tasks. Default: nothing.
            rng: the source of jitter. Default: a private `random.Random`.

        Returns:
            an async context manager for the block; it yields the manager.

        Raises:
            JournalError: `journal` is closed, or its disk has failed.
            RuntimeError: `journal` was opened in another trio run. On entry: it was entered before, `nursery`
                has ended, another manager uses the `AdaptiveLimit`, or one of another trio run uses `limit`,
                `rate` or `per_key` just now.
            ExceptionGroup: on leaving, when more tasks have failed than `max_errors` allows.
            TypeError: a parameter is of the wrong kind.
            ValueError: a parameter is out of its range.
        """
        check_type("nursery", nursery, trio.Nursery, "a trio.Nursery, in a program that trio.run() runs")
        wanted = "an int of at least 2, or math.inf, or a trio.CapacityLimiter, or an AdaptiveLimit"
        check_type("limit", limit, (int, float, trio.CapacityLimiter, AdaptiveLimit), wanted)
        if isinstance(limit, (int, float)):
            check_limit(limit)
        name = "conman" if name is None else check_text("name", name)
        check_type("retry", retry, RetryConfig | None, "a RetryConfig or None")
        check_count("max_queued", max_queued, minimum=0)
        attempt_timeout = check_number("attempt_timeout", attempt_timeout)
        task_timeout = check_number("task_timeout", task_timeout)
        timeout = check_number("timeout", timeout)
        if max_errors is not None:
            check_count("max_errors", max_errors, minimum=0)
        check_type("send_to", send_to, trio.MemorySendChannel | None, "a trio.MemorySendChannel or None")
        limiters = check_several("rate", rate, RateLimiter, "a RateLimiter")
        keyed = check_several("per_key", per_key, KeyedLimit, "a KeyedLimit")
        check_type("retry_budget", retry_budget, RetryBudget | None, "a RetryBudget or None")
        watching = Instruments(instruments) or None
        records = None if journal is None else records_of(journal)
        check_type("rng", rng, random.Random | None, "a random.Random or None")

        self: ConMan[R] = object.__new__(cls)
        self._thread = get_ident()
        self._max_queued = max_queued
        scope = trio.CancelScope(relative_deadline=timeout)
        adaptive = None
        if isinstance(limit, AdaptiveLimit):
            adaptive, limit = limit, limit._slots()
        limiter = limit if isinstance(limit, trio.CapacityLimiter) else trio.CapacityLimiter(limit)
        line = self._line = Line(name, limiter, limiter is limit, Keyring(keyed) if keyed else None)
        runner = self._runner = Runner(
            line,
            None if max_errors == inf else max_errors,  # or all errors would be kept for nothing
            retry_budget,
            watching,
            Permits(limiters) if limiters else None,
            Pool(f"idle worker of {name}"),
            random.Random() if rng is None else rng,
            adaptive,
        )
        collector: Collector[R] = Collector(send_to, runner.settle, watching)
        self._granted = runner.granted
        self._block = Block(name, nursery, scope, line, runner, collector, self._thread)
        ways = collector.put, runner.cancel, line.reorder, self._block.inside.attend
        self._terms = Terms(retry, attempt_timeout, task_timeout, self._thread, *ways, records)
        self._unseen = Unseen(name, runner, collector)
        return Opening(self, self._block)

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around all tasks. Its ``deadline`` is that of the manager, and may be moved."""
        return self._block.cancel_scope

    def _check_thread(self, method: str, call: str) -> None:
        if get_ident() != self._thread:
            raise wrong_thread(f"ConMan.{method}", call)

    async def wait(self) -> None:
        """Wait until no task is queued, waiting to be retried, or running; always a checkpoint.

        Tasks may add tasks meanwhile. Calls of `run` in other trio tasks that wait for a slot are waited for
        too, and so are the consumers of maps in other trio tasks, until they have taken all that they will
        get. When there is nothing to wait for it returns at once.

        Raises:
            RuntimeError: called from one of the manager's own tasks, or a child of one, or from the source of
                one of its maps: it could never end. Or called in another thread than that of the trio run.
        """
        self._check_thread("wait", "run(cm.wait)")
        self._block.inside.refuse("wait", "await the handles of the tasks you mean")
        if self._block.is_idle:
            await trio.lowlevel.checkpoint()
        else:
            await self._block.wait_idle()

    @property
    def limit(self) -> int | float:
        """How many tasks may run at once. Assign an int of at least 2, or `math.inf`, to change it.

        Raising it starts at once as many tasks as fit; lowering it ends none. The limit of a shared limiter
        changes for all who share it. An `AdaptiveLimit` goes on from what is assigned.

        Raises:
            RuntimeError: assigned in another thread than that of the trio run; nothing has changed then.
            TypeError: assigned what is neither an int nor `math.inf`.
            ValueError: assigned an int below 2; a manager opened with ``trio.CapacityLimiter(1)`` runs one
                at a time. Or what is out of the range of its `AdaptiveLimit`.
        """
        return self._line.limit

    @limit.setter
    def limit(self, limit: int | float) -> None:
        self._check_thread("limit", "run_sync(setattr, cm, 'limit', ...)")
        check_limit(limit)
        need_more_stack()
        if self._runner.adaptive is None:
            self._line.limit = limit
        else:
            self._runner.adaptive._assign(self._line, limit)

    @property
    def timed_out(self) -> bool:
        """Whether the manager's deadline ended its tasks."""
        return self._block.timed_out

    def cancel(self, reason: str | None = None) -> None:
        """Cancel all tasks and the body of the block, which then ends quietly.

        Args:
            reason: why, for the text of the tasks' errors. Default: not said.

        Raises:
            RuntimeError: called in another thread than that of the trio run; nothing has changed then. So do
                `pause` and `resume`.
            TypeError: `reason` is neither a str nor None.
        """
        self._check_thread("cancel", "run_sync(cm.cancel)")
        if reason is not None:
            reason = check_text("reason", reason)
        need_more_stack()
        try:
            self._block.cancel(reason)
        finally:
            del self  # see TaskHandle.cancel()

    def pause(self) -> None:
        """Start nothing until `resume`, retries that gave their slot back included.

        With a rate, no attempt has a permit meanwhile, and those who wait for one leave its queue until
        `resume`, to stand there in their order behind those of other managers. What runs goes on, and
        `wait_running` waits for its end. `shutdown` and leaving the block resume.
        """
        self._check_thread("pause", "run_sync(cm.pause)")
        need_more_stack()
        self._block.pause()

    def resume(self) -> None:
        """Start tasks again after `pause`."""
        self._check_thread("resume", "run_sync(cm.resume)")
        need_more_stack()
        self._block.resume()

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._line.paused

    async def wait_running(self) -> None:
        """Wait until no attempt runs, paused or not; always a checkpoint.

        A task that backs off, or waits for a permit of the rate, or for its outcome to be sent, runs no
        attempt. So after `pause` all that was running has ended then. Nothing starts before `resume`, but a
        retry that kept its slot, where there is no rate.

        Raises:
            RuntimeError: called from one of the manager's own tasks, or a child of one: it could never end.
                Or called in another thread than that of the trio run.
        """
        self._check_thread("wait_running", "run(cm.wait_running)")
        beside = "call it from the block, or from a task beside it"
        self._block.inside.refuse("wait_running", beside, source_may=True)
        if self._runner.attempts():
            await self._runner.wait_calm()
        else:
            await trio.lowlevel.checkpoint()

    async def shutdown(self, grace: float = inf, *, queued: Literal["run", "drop"] = "run") -> None:
        """Accept no more tasks, and let those accepted finish; always a checkpoint.

        A paused manager is resumed. Calls of `run` that wait raise `ConManClosedError`, and so does an open
        map, after what it started; when that ends a loop in the body, the block is left as if the body had
        returned. What `start_soon` has queued was accepted, so it still starts, unless it is dropped. This
        returns when all tasks have ended. Cancelling it ends the grace at once: the tasks are cancelled, and
        not waited for here.

        Args:
            grace: seconds until the tasks that have not ended are cancelled. Default: no limit.
            queued: what becomes of the tasks that are queued, as `ConManStatistics.queued` counts them: "run"
                lets them start in their turn, "drop" cancels them at once. Those that back off go on.
                Default: "run".

        Raises:
            RuntimeError: called from one of the manager's own tasks, or a child of one: it could never end.
                Or from the source of one of its maps, which it ends. Or in another thread than that of the
                trio run.
            TypeError: a parameter is of the wrong kind.
            ValueError: a parameter is out of its range.
        """
        self._check_thread("shutdown", "run(cm.shutdown, ...)")
        grace = check_number("grace", grace)
        drop = check_choice("queued", queued, "run", "drop") == "drop"
        need_more_stack()
        self._block.inside.refuse("shutdown", "call it from the block, or from a task beside it")
        try:
            await self._block.shutdown(grace, drop=drop)
        finally:
            del self  # see TaskHandle.cancel()

    def __repr__(self) -> str:
        state = "closed" if self._block.closed else "open"
        return f"<ConMan {self.name!r} {state}, {self._runner.unfinished} unfinished>"
