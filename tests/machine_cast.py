"""Who acts on a manager in a random program: its body, its callers, its tasks, and who reads its outcomes."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from trio_conman import (
    AdaptiveLimit,
    ConMan,
    ConManClosedError,
    Instrument,
    Outcome,
    RetriableError,
    TaskHandle,
)

from .machine_program import BodyError, Entry, Options, Plan, Source, SourceError, Step, Wandering
from .machine_witness import Witness

# What code that hands in a task has set, and tasks set anew for nobody.
MARK: ContextVar[object] = ContextVar("MARK")


def broken(hook: str) -> Instrument:
    """An instrument that raises from one of its hooks."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    kind: type[Instrument] = type("Broken", (Instrument,), {hook: fail})
    return kind()


@attrs.define(eq=False, repr=False)
class Cast(Witness, Instrument):
    """One manager in a program, and all that is done with it."""

    async def play(self) -> None:
        stage, manager, options = self.stage, self.manager, self.manager.options
        self.endangered = min(stage.outer, manager.timeout) < math.inf
        self.measure()
        send, receive = None, None
        if manager.send_to is not None:
            send, receive = trio.open_memory_channel[Outcome[Any]](manager.send_to)
            stage.nursery.start_soon(self.read, receive)
        error: Exception | None = None
        try:
            async with ConMan[Any].open(
                stage.nursery,
                self.opening_limit(),
                retry=options.retry,
                attempt_timeout=math.inf if options.attempt_timeout is None else options.attempt_timeout,
                task_timeout=math.inf if options.task_timeout is None else options.task_timeout,
                timeout=manager.timeout,
                max_errors=manager.max_errors,
                send_to=send,
                rng=random.Random(stage.seed),
                rate=self.rate,
                per_key=self.per_key,
                retry_budget=self.budget,
                instruments=[self, *map(broken, filter(None, [manager.broken]))],
            ) as self.cm:
                self.limit = manager.limit if stage.shared is None else stage.limiter.total_tokens
                self.high = self.highest = self.limit
                stage.nursery.start_soon(self.resume_now_and_then)
                try:
                    await self.perform()
                finally:
                    self.goes_on()  # the end of the block resumes
        except (BodyError, ExceptionGroup) as exc:
            error = exc
        finally:
            self.ended = True
            if self.highest:  # it was opened
                self.check_end(error)
        now = trio.current_time()
        await self.cm.wait()
        if trio.current_time() != now:
            stage.fault("wait() took time after the block")
        await self.expect(ConManClosedError, self.cm.run, self.execute)

    def opening_limit(self) -> int | float | trio.CapacityLimiter | AdaptiveLimit:
        limit = self.manager.limit
        if self.adapts:
            adaptive = AdaptiveLimit(1, 5, overloaded=lambda error: True)
            controller: Any = Wandering(float(limit), random.Random(self.stage.seed))
            adaptive._controller = controller
            return adaptive
        return limit if self.stage.shared is None else self.stage.limiter

    def limit_changed(self, manager: str, limit: int | float) -> None:
        """One that adapts itself has changed; of others this is known."""
        if self.highest:  # it is open
            self.note_limit(limit)

    async def perform(self) -> None:
        for step in self.steps:
            await trio.sleep(step.delay)
            if step.aside:
                self.stage.nursery.start_soon(self.perform_aside, step)
            else:
                await step.do(self)
            if step.settle:
                await wait_all_tasks_blocked()
            self.look(settled=step.settle)
        self.refusing = True  # from here on the manager closes as soon as it is idle

    async def perform_aside(self, step: Step) -> None:
        try:
            with trio.move_on_after(step.patience):
                await step.do(self)
        except ConManClosedError:
            if not (self.refusing or self.may_be_cancelled):
                self.stage.fault("refused, though nothing has closed the manager")

    async def resume_now_and_then(self) -> None:
        """Nobody else may, and a paused manager waits for ever."""
        while not self.ended:
            await trio.sleep(7)
            self.resume()

    async def read(self, receive: trio.MemoryReceiveChannel[Outcome[Any]]) -> None:
        with receive:
            try:
                while len(self.sent) < self.manager.reads:
                    self.sent.append(await receive.receive())
                    await trio.sleep(self.manager.pace)
            except trio.EndOfChannel:
                return
            finally:
                try:
                    while True:
                        self.sent.append(receive.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    pass

    # Deeds

    def entry(self, plan: Plan, options: Options, item: int | None = None) -> Entry:
        mine = self.manager.options
        retry = options.retry or mine.retry
        attempt = mine.attempt_timeout if options.attempt_timeout is None else options.attempt_timeout
        task = mine.task_timeout if options.task_timeout is None else options.task_timeout
        merged = Options(retry, attempt, task, options.priority)
        entry = Entry(self, plan, merged, trio.current_time(), item)
        self.entries.append(entry)
        if item is None:
            MARK.set(entry.mark)
        return entry

    async def run(self, plan: Plan, options: Options) -> None:
        entry = self.entry(plan, options)
        entry.waits = True
        self.line.append(entry)
        self.waiting += 1
        try:
            entry.handle = await self.cm.run(self.execute, entry, **attrs.asdict(options, recurse=False))
        finally:
            self.waiting -= 1
            self.refuse(entry)

    def run_nowait(self, plan: Plan, options: Options) -> None:
        entry = self.entry(plan, options)
        self.line.append(entry)
        try:
            entry.handle = self.cm.run_nowait(self.execute, entry, **attrs.asdict(options, recurse=False))
        except trio.WouldBlock:
            pass
        finally:
            self.refuse(entry)

    def start_soon(self, plan: Plan, options: Options) -> Entry:
        entry = self.entry(plan, options)
        self.line.append(entry)
        try:
            entry.handle = self.cm.start_soon(self.execute, entry, **attrs.asdict(options, recurse=False))
        finally:
            self.refuse(entry)
        return entry

    async def map(
        self,
        source: Source,
        options: Options,
        *,
        ordered: bool,
        leave_after: float,
        pace: float,
        lookahead: int | None = None,
    ) -> None:
        entries = [self.entry(plan, options, item) for item, plan in enumerate(source.plans)]
        self.maps.append(entries)
        mark = object()
        MARK.set(mark)
        for entry in entries:
            entry.mark = mark
        drawn: list[Entry] = []
        seen: list[int] = []

        def draw(entry: Entry) -> Entry:
            drawn.append(entry)
            # An async source has asked for room some time ago.
            limit = self.limit_now() if source.kind == "generator" else self.highest
            if len(drawn) - len(seen) > (lookahead or (2 * limit if limit < math.inf else 1000)):
                self.stage.fault(f"{len(drawn)} drawn, {len(seen)} taken, limit {limit}")
            return entry

        def generator() -> Generator[Entry]:
            for entry in entries:
                yield draw(entry)
            if source.raises:
                raise SourceError

        async def async_generator() -> AsyncGenerator[Entry]:
            for entry in entries:
                await trio.sleep(source.pause)
                yield draw(entry)
            if source.raises:
                raise SourceError

        items: Any = {"list": lambda: entries, "generator": generator, "async": async_generator}[
            source.kind
        ]()
        entered, complete, error = False, False, False
        self.open_maps += 1
        try:
            async with self.cm.map(
                self.execute,
                items,
                ordered=ordered,
                lookahead=lookahead,
                **attrs.asdict(options, recurse=False),
            ) as outcomes:
                entered = True
                async for outcome in outcomes:
                    seen.append(outcome.index)
                    self.taken.append(outcome)
                    self.judge(entries[outcome.index], outcome)
                    if len(seen) >= leave_after:
                        break
                    await trio.sleep(pace)
                else:
                    complete = True
        except SourceError:
            complete = error = True
        except ConManClosedError:
            missing = [each for each in entries if each.started and each.item not in seen]
            if missing:
                self.stage.fault(f"the map was closed, and has not given {missing}")
            raise
        except BaseException:
            self.cut_off.append(entries)
            for entry in entries:
                entry.cancelled = True
            raise
        finally:
            self.open_maps -= 1
            if entered and (getattr(items, "gi_frame", None) or getattr(items, "ag_frame", None)):
                self.stage.fault("a map was left and its source not closed")
            self.check_map(source, entries, seen, ordered=ordered, complete=complete, error=error)

    def cancel_handle(self, which: int) -> None:
        handles = [each for each in self.entries if each.handle is not None]
        if handles:
            entry = handles[-1 - which % len(handles)]  # the last ones are likely to be queued
            entry.cancelled = True
            assert entry.handle is not None
            queued = entry.handle.state == "queued"
            entry.handle.cancel("by the program")
            if queued and entry.handle.outcome is None:
                self.stage.fault(f"cancelling the queued {entry.handle} did not end it at once")

    def set_priority(self, which: int, priority: int) -> None:
        handles = [each for each in self.entries if each.told is not None]
        if handles:
            entry = handles[-1 - which % len(handles)]
            assert entry.told is not None
            if entry.told.outcome is None and entry.told.priority != priority:
                entry.reordered = True
                if entry.told.state == "queued":
                    entry.since = trio.current_time()
                    entry.options = attrs.evolve(entry.options, priority=priority)
                entry.told.priority = priority
                if entry.told.priority != priority:
                    self.stage.fault(f"{entry.told} has priority {entry.told.priority}, not {priority}")

    def set_key_limit(self, key: int, limit: int) -> None:
        stage = self.stage
        if stage.keyed is not None:
            stage.key_meter.set(key % len(stage.keys), limit, trio.current_time())
            stage.keyed.limits[key % len(stage.keys)] = limit

    async def await_handle(self, which: int) -> None:
        handles = [each.handle for each in self.entries if each.handle is not None]
        if handles:
            handle = handles[which % len(handles)]
            if await handle.wait() is not handle.outcome or handle.state != "done":
                self.stage.fault(f"waited for {handle}")

    async def wait(self) -> None:
        idle = self.is_idle()
        async with self.idler():
            await self.cm.wait()
        if not (idle or self.is_idle()):
            self.stage.fault(f"wait() has returned: {self!r}")

    async def shutdown(self, grace: float) -> None:
        self.refusing = True
        self.shut_since = min(self.shut_since, trio.current_time())
        self.goes_on()
        self.endangered |= grace < math.inf
        async with self.idler():
            try:
                await self.cm.shutdown(grace)
            except trio.Cancelled:
                self.endangered = True
                raise
        if not self.is_idle():
            self.stage.fault(f"shutdown() has returned: {self!r}")

    @asynccontextmanager
    async def idler(self) -> AsyncIterator[None]:
        self.idlers += 1
        try:
            yield
        finally:
            self.idlers -= 1

    def set_limit(self, limit: int | float) -> None:
        if self.adapts and limit == math.inf:
            return
        for cast in self.sharing():
            cast.note_limit(limit)
        self.cm.limit = limit

    def pause(self) -> None:
        if not self.paused:
            self.paused, self.paused_since = True, trio.current_time()
        self.cm.pause()

    def resume(self) -> None:
        self.goes_on()
        self.cm.resume()

    async def wait_running(self) -> None:
        calm = not self.executing
        self.calmers += 1
        try:
            await self.cm.wait_running()
            if self.executing and not calm:
                self.stage.fault(f"wait_running() has returned: {self.executing} run, {self!r}")
        finally:
            self.calmers -= 1

    def slow(self, seconds: float) -> None:
        """The service asks for a pause."""
        if self.rate is not None and self.meter is not None:
            self.meter.pause_for(seconds, trio.current_time())
            self.rate.pause_for(seconds)

    def pop(self) -> None:
        kept = self.cm.outcomes()
        popped = self.cm.pop_outcomes()
        if popped != kept or self.cm.outcomes():
            self.stage.fault(f"popped {popped} of {kept}")
        self.popped += popped

    def cancel(self) -> None:
        self.endangered = True
        self.cm.cancel("by the program")

    def fail(self) -> None:
        self.endangered = True
        raise BodyError

    async def borrow(self, seconds: float) -> None:
        """Somebody who is no manager uses the shared limiter."""
        if self.stage.shared is not None:
            async with self.stage.limiter:
                self.stage.outsiders += 1
                try:
                    await trio.sleep(seconds)
                finally:
                    self.stage.outsiders -= 1

    # Hooks

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self.told_submitted += 1
        entry: Entry = handle.args[0]
        entry.told = handle
        if entry.item is not None:
            entry.submitted = trio.current_time()
        if entry.plan.unwanted:
            entry.cancelled = True
            handle.cancel("unwanted")

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        self.scheduled(handle.args[0], error, delay)

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        self.told_finished += 1
        self.finished(handle.args[0], outcome)

    # Tasks

    async def execute(self, entry: Entry) -> Any:
        attempt = entry.attempts
        act = entry.plan.act(attempt)
        self.starts(entry)
        if MARK.get(None) is not entry.mark:
            self.stage.fault(f"another context than that of the submitter: {entry!r}")
        MARK.set(None)
        retry = entry.options.retry
        entry.holds = retry is not None and retry.hold_slot  # when the attempt times out
        try:
            try:
                await trio.sleep(act.seconds)
                await self.meddle(entry, act.inside)
            except trio.Cancelled:
                entry.interrupted = True
                if entry.plan.manner == "stubborn":
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.5)
                elif entry.plan.manner == "swallows":
                    entry.returned = True
                    return "swallowed"
                elif entry.plan.manner == "turns":
                    raise RetriableError("turned") from None
                raise
            error = KeyError(attempt)
            config = act.config or entry.options.retry
            entry.holds = act.ending in {"retriable", "group"} and config is not None and config.hold_slot
            match act.ending:
                case "error":
                    raise error
                case "retriable":
                    raise RetriableError(error, retry_config=act.config)
                case "group":
                    parts = [
                        RetriableError("one", retry_config=act.config),
                        RetriableError(error, retry_config=act.config),
                    ]
                    raise ExceptionGroup("all retriable", parts)
                case "mixed":
                    raise ExceptionGroup("not all retriable", [RetriableError("one"), ZeroDivisionError()])
            entry.returned = True
            return (entry, attempt)
        finally:
            entry.executing = False
            self.executing -= 1

    async def meddle(self, entry: Entry, inside: str) -> None:
        """What a task does to its manager, or to the other one."""
        # Nobody could see where tasks of two managers wait for each other.
        own_limiter = self.stage.shared is None and (self.per_key is None or len(self.keyed_alike()) == 1)
        try:
            match inside:
                case "pause":
                    self.pause()
                case "resume":
                    self.resume()
                case "limit":
                    self.set_limit(2 + entry.attempts % 3)
                case "cancel":
                    self.cancel()
                case "cancel me":
                    if entry.handle is not None:
                        entry.cancelled = True
                        entry.handle.cancel()
                case "cancel another":
                    self.cancel_handle(entry.attempts)
                case "more":
                    self.start_soon(Plan(), Options())
                case "hand over":
                    other = self.stage.witnesses[-1]
                    if isinstance(other, Cast) and other.highest:
                        other.start_soon(Plan(), Options())
                case "interrupt":
                    self.stage.interrupt()
                case "move":
                    # Never on a tick of its own.
                    self.endangered = self.moved = True
                    self.cm.cancel_scope.deadline = trio.current_time() + 4.3125
                case "slow":
                    self.slow(0.5 + entry.attempts)
                case "priority":
                    self.set_priority(entry.attempts, entry.attempts % 3 - 1)
                case "key limit":
                    self.set_key_limit(entry.plan.key, 1 + entry.attempts % 3)
                case "wait":
                    await self.expect(RuntimeError, self.cm.wait)
                    await self.expect(RuntimeError, self.cm.wait_running)
                    await self.expect(RuntimeError, self.cm.shutdown)
                case "run" if own_limiter:
                    await self.run(Plan(), Options())
                case "map" if own_limiter:
                    source = Source("generator", (Plan(),) * 3)
                    await self.map(source, Options(), ordered=True, leave_after=math.inf, pace=0)
        except (ConManClosedError, RuntimeError):
            pass
