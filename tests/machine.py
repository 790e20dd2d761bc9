"""What random programs are made of, and the world in which they run once, watched, in virtual time.

A program is data: its `Manager`s, and for each of them a list of `Step`s, which its body takes one after
another. `World.run` runs it, and compares what happens with what must: after each step (`Cast.look`), and at
the end (`Cast.close`). It collects what it finds in `World.faults`, for a task that raised an AssertionError
would only hand its manager one more failure.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, TypeAlias

import attrs
import trio
import trio._core._run
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Outcome,
    RetriableError,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)

# Virtual seconds, and steps of trio tasks, that no program comes near unless it hangs or runs in circles.
FAR = 2000
MANY = 50_000


class Hang(BaseException):
    """Raised into trio's own loop, which is the only way out when shielded tasks wait for ever."""


class SourceError(Exception):
    """What some sources raise."""


class BodyError(Exception):
    """What some bodies raise."""


@attrs.frozen
class Act:
    """One attempt: it sleeps, does something to its manager, and ends."""

    seconds: float = 1.0
    inside: str = ""
    ending: str = "return"
    config: RetryConfig | None = None


@attrs.frozen
class Plan:
    """A task: its attempts, after which it succeeds, and what it does when it is cancelled."""

    acts: tuple[Act, ...] = (Act(),)
    manner: str = "plain"

    def act(self, attempt: int) -> Act:
        return self.acts[attempt] if attempt < len(self.acts) else Act()

    def blocks(self) -> bool:
        return any(act.inside in {"run", "map"} for act in self.acts)


@attrs.frozen
class Options:
    """The options of a task, None where its manager's hold."""

    retry: RetryConfig | None = None
    attempt_timeout: float | None = None
    task_timeout: float | None = None


@attrs.frozen
class Source:
    """What a map draws from: a list, a generator or an async one; it may raise at its end."""

    kind: str
    plans: tuple[Plan, ...]
    pause: float = 0.0
    raises: bool = False


@attrs.frozen
class Manager:
    """How to open a manager. Its outcomes are kept, or sent through a channel with that buffer."""

    limit: int | float = 2
    timeout: float = math.inf
    options: Options = Options()
    max_errors: int | None = None
    send_to: float | None = None
    pace: float = 0.0  # of the reader, in seconds for each outcome
    reads: float = math.inf  # how many outcomes until the reader goes away


Deed: TypeAlias = Callable[["Cast"], Awaitable[Any] | None]


@attrs.frozen
class Step:
    """After `delay` seconds the body does a deed; or has another task do it for at most `patience` seconds."""

    deed: Deed
    delay: float = 0.0
    settle: bool = False
    aside: bool = False
    patience: float = math.inf

    async def do(self, cast: Cast) -> None:
        result = self.deed(cast)
        if result is not None:
            await result


@attrs.define(eq=False)
class Entry:
    """One task that was submitted, or an item of a map."""

    cast: Cast
    plan: Plan
    options: Options
    submitted: float
    item: int | None = None
    handle: TaskHandle[Any] | None = None
    refused: bool = False
    cancelled: bool = False
    interrupted: bool = False  # met a Cancelled
    attempts: int = 0
    executing: bool = False
    # When its first attempt started: the time, and the pass of trio's loop.
    started: tuple[float, int] | None = None

    def predict(self) -> tuple[StopReason | None, int]:
        """How it ends when nobody interferes, None for a success, and after how many retries."""
        retry = self.options.retry
        for retries in range(100):
            act = self.plan.act(retries)
            config, spent = retry or RetryConfig(), StopReason.RETRIES_EXHAUSTED
            if act.seconds > (self.options.attempt_timeout or math.inf):
                spent = StopReason.ATTEMPT_TIMEOUT
                if retry is None:
                    return spent, retries
            elif act.ending == "return":
                return None, retries
            elif act.ending == "mixed" or (act.ending == "error" and config.retry_on is None):
                return StopReason.ERROR, retries
            elif act.ending != "error":
                config = act.config or config
            if retries >= config.max_attempts:
                return spent, retries
        raise AssertionError(self.plan)

    def configs(self) -> list[RetryConfig]:
        return [each for each in (self.options.retry, *(act.config for act in self.plan.acts)) if each]


@attrs.define(eq=False)
class World(trio.abc.Instrument):
    """Runs one program once."""

    managers: list[Manager]
    steps: list[list[Step]]
    shared: int | None = None
    outer: float = math.inf
    seed: int = 0

    faults: list[str] = attrs.field(factory=list, init=False)
    casts: list[Cast] = attrs.field(factory=list, init=False)
    limiter: trio.CapacityLimiter = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    passes: int = attrs.field(default=0, init=False)
    task_steps: int = attrs.field(default=0, init=False)
    outsiders: int = attrs.field(default=0, init=False)

    def fault(self, text: str) -> None:
        self.faults.append(f"at {trio.current_time()}: {text}")

    def after_io_wait(self, timeout: float) -> None:
        self.passes += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task_steps += 1
        self.passes = max(self.passes, 1)

    def clock(self) -> MockClock:
        """A clock that ends trio's loop when it goes on for ever."""
        clock = MockClock(autojump_threshold=0)
        time = clock.current_time

        def current_time() -> float:
            if self.task_steps > MANY or self.passes > 10 * MANY or (now := time()) > 2 * FAR:
                raise Hang(f"after {self.task_steps} steps: {self.casts}")
            return now

        clock.current_time = current_time  # type: ignore[method-assign]
        return clock

    def run(self) -> None:
        # The order of the tasks of each tick is random. Nothing public sets the seed, without which a failure
        # could not be seen again.
        order: random.Random = trio._core._run._r
        state = order.getstate()
        order.seed(self.seed)
        try:
            trio.run(self._main, clock=self.clock(), instruments=[self])
        finally:
            order.setstate(state)
        for cast in self.casts:
            cast.close()
        if self.faults:
            raise AssertionError("\n".join(self.faults))

    async def _main(self) -> None:
        trio.lowlevel.spawn_system_task(self._watch)
        if self.shared is not None:
            self.limiter = trio.CapacityLimiter(self.shared)
        with trio.move_on_after(self.outer):
            async with trio.open_nursery() as self.nursery:
                for manager, steps in zip(self.managers, self.steps, strict=True):
                    self.casts.append(Cast(self, manager, steps))
                for cast in self.casts:
                    self.nursery.start_soon(cast.play)
        if self.shared is not None:
            statistics = self.limiter.statistics()
            if (statistics.borrowed_tokens, statistics.tasks_waiting) != (0, 0):
                self.fault(f"the shared limiter: {statistics}")

    async def _watch(self) -> None:
        """Make a hang known: the clock ends it then."""
        await trio.sleep(FAR)
        self.task_steps = MANY + 1


@attrs.define(eq=False)
class Cast:
    """One manager in a program: who acts on it, and what is known of it from outside."""

    world: World
    manager: Manager
    steps: list[Step]

    cm: ConMan[Any] = attrs.field(init=False)
    entries: list[Entry] = attrs.field(factory=list, init=False)
    # What was submitted by other ways than a map, in that order.
    line: list[Entry] = attrs.field(factory=list, init=False)
    maps: list[list[Entry]] = attrs.field(factory=list, init=False)
    popped: list[Outcome[Any]] = attrs.field(factory=list, init=False)
    sent: list[Outcome[Any]] = attrs.field(factory=list, init=False)
    waiting: int = attrs.field(default=0, init=False)  # in run()
    idlers: int = attrs.field(default=0, init=False)  # in wait() or shutdown()
    executing: int = attrs.field(default=0, init=False)
    open_maps: int = attrs.field(default=0, init=False)
    paused: bool = attrs.field(default=False, init=False)
    refusing: bool = attrs.field(default=False, init=False)
    # Whether anything may have cancelled tasks.
    endangered: bool = attrs.field(default=False, init=False)
    ended: bool = attrs.field(default=False, init=False)
    # The highest limit of the instant, and of all the time.
    instant: float = attrs.field(default=0.0, init=False)
    high: float = attrs.field(default=0.0, init=False)
    highest: float = attrs.field(default=0.0, init=False)

    def __repr__(self) -> str:
        unfinished = [each for each in self.entries if each.handle is not None and each.handle.outcome is None]
        return f"<{self.cm!r} {self.cm.statistics()} {[each.handle for each in unfinished]}>"

    @property
    def may_be_cancelled(self) -> bool:
        return self.endangered or self.manager.max_errors is not None

    # The play

    async def play(self) -> None:
        world, manager, options = self.world, self.manager, self.manager.options
        self.endangered = min(world.outer, manager.timeout) < math.inf
        send, receive = None, None
        if manager.send_to is not None:
            send, receive = trio.open_memory_channel[Outcome[Any]](manager.send_to)
            world.nursery.start_soon(self.read, receive)
        error: Exception | None = None
        try:
            async with ConMan[Any].open(
                world.nursery,
                manager.limit if world.shared is None else world.limiter,
                retry=options.retry,
                attempt_timeout=math.inf if options.attempt_timeout is None else options.attempt_timeout,
                task_timeout=math.inf if options.task_timeout is None else options.task_timeout,
                timeout=manager.timeout,
                max_errors=manager.max_errors,
                send_to=send,
                rng=random.Random(world.seed),
            ) as self.cm:
                self.high = self.highest = self.cm.limit
                world.nursery.start_soon(self.resume_now_and_then)
                await self.perform()
        except (BodyError, ExceptionGroup) as exc:
            error = exc
        finally:
            self.ended = True
            self.check_end(error)
        now = trio.current_time()
        await self.cm.wait()
        if trio.current_time() != now:
            world.fault("wait() took time after the block")
        await self.expect(ConManClosedError, self.cm.run, self.execute)

    async def perform(self) -> None:
        for step in self.steps:
            await trio.sleep(step.delay)
            if step.aside:
                self.world.nursery.start_soon(self.perform_aside, step)
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
                self.world.fault("refused, though nothing has closed the manager")

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

    async def expect(self, error: type[Exception], call: Callable[..., Any], *args: Any) -> None:
        try:
            result = call(*args)
            if inspect.isawaitable(result):
                await result
        except error:
            return
        self.world.fault(f"{call} did not raise {error}")

    # Deeds

    def entry(self, plan: Plan, options: Options, item: int | None = None) -> Entry:
        mine = self.manager.options
        retry = options.retry or mine.retry
        attempt = mine.attempt_timeout if options.attempt_timeout is None else options.attempt_timeout
        task = mine.task_timeout if options.task_timeout is None else options.task_timeout
        entry = Entry(self, plan, Options(retry, attempt, task), trio.current_time(), item)
        self.entries.append(entry)
        return entry

    async def run(self, plan: Plan, options: Options) -> None:
        entry = self.entry(plan, options)
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

    def refuse(self, entry: Entry) -> None:
        entry.refused = entry.handle is None
        if entry.refused and entry.started:
            self.world.fault(f"refused and yet started: {entry}")

    async def map(
        self, source: Source, options: Options, *, ordered: bool, leave_after: float, pace: float
    ) -> None:
        entries = [self.entry(plan, options, item) for item, plan in enumerate(source.plans)]
        self.maps.append(entries)
        drawn: list[Entry] = []
        seen: list[int] = []

        def draw(entry: Entry) -> Entry:
            drawn.append(entry)
            # An async source has asked for room some time ago.
            limit = self.limit_now() if source.kind == "generator" else self.highest
            if len(drawn) - len(seen) > (2 * limit if limit < math.inf else 1000):
                self.world.fault(f"{len(drawn)} drawn, {len(seen)} taken, limit {limit}")
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

        items: Any = {"list": lambda: entries, "generator": generator, "async": async_generator}[source.kind]()
        entered, complete, error = False, False, False
        self.open_maps += 1
        try:
            async with self.cm.map(
                self.execute, items, ordered=ordered, **attrs.asdict(options, recurse=False)
            ) as outcomes:
                entered = True
                async for outcome in outcomes:
                    seen.append(outcome.index)
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
                self.world.fault(f"the map was closed, and has not given {missing}")
            raise
        finally:
            self.open_maps -= 1
            if entered and (getattr(items, "gi_frame", None) or getattr(items, "ag_frame", None)):
                self.world.fault("a map was left and its source not closed")
            self.check_map(source, entries, seen, ordered=ordered, complete=complete, error=error)

    def check_map(
        self,
        source: Source,
        entries: list[Entry],
        seen: list[int],
        *,
        ordered: bool,
        complete: bool,
        error: bool,
    ) -> None:
        if seen != (list(range(len(seen))) if ordered else list(dict.fromkeys(seen))):
            self.world.fault(f"a map gave {seen}, ordered={ordered}")
        if complete and sorted(seen) != list(range(len(entries))):
            self.world.fault(f"a map gave {seen} of {len(entries)}")
        if complete and error != (source.raises and source.kind != "list"):
            self.world.fault(f"the source raised: {error}, of {source}")
        if any(each.executing for each in entries):
            self.world.fault("a map was left before its items had ended")

    def cancel_handle(self, which: int) -> None:
        handles = [each for each in self.entries if each.handle is not None]
        if handles:
            entry = handles[which % len(handles)]
            entry.cancelled = True
            assert entry.handle is not None
            queued = entry.handle.state == "queued"
            entry.handle.cancel("by the program")
            if queued and entry.handle.outcome is None:
                self.world.fault(f"cancelling the queued {entry.handle} did not end it at once")

    async def await_handle(self, which: int) -> None:
        handles = [each.handle for each in self.entries if each.handle is not None]
        if handles:
            handle = handles[which % len(handles)]
            if await handle.wait() is not handle.outcome or handle.state != "done":
                self.world.fault(f"waited for {handle}")

    async def wait(self) -> None:
        idle = self.is_idle()
        async with self.idler():
            await self.cm.wait()
        if not (idle or self.is_idle()):
            self.world.fault(f"wait() has returned: {self!r}")

    async def shutdown(self, grace: float) -> None:
        self.refusing = True
        self.paused = False
        self.endangered |= grace < math.inf
        async with self.idler():
            try:
                await self.cm.shutdown(grace)
            except trio.Cancelled:
                self.endangered = True
                raise
        if not self.is_idle():
            self.world.fault(f"shutdown() has returned: {self!r}")

    @asynccontextmanager
    async def idler(self) -> AsyncIterator[None]:
        self.idlers += 1
        try:
            yield
        finally:
            self.idlers -= 1

    def sharing(self) -> list[Cast]:
        """Who has the same limiter, and is there."""
        return [self] if self.world.shared is None else [each for each in self.world.casts if each.highest]

    def set_limit(self, limit: int | float) -> None:
        for cast in self.sharing():
            high = max(cast.limit_now(), limit)
            cast.instant, cast.high = trio.current_time(), high
            cast.highest = max(cast.highest, high)
        self.cm.limit = limit

    def limit_now(self) -> int | float:
        """The highest limit of this instant: who starts now may have had its slot a tick ago."""
        return self.high if self.instant == trio.current_time() else self.cm.limit

    def pause(self) -> None:
        self.paused = True
        self.cm.pause()

    def resume(self) -> None:
        self.paused = False
        self.cm.resume()

    def pop(self) -> None:
        kept = self.cm.outcomes()
        popped = self.cm.pop_outcomes()
        if popped != kept or self.cm.outcomes():
            self.world.fault(f"popped {popped} of {kept}")
        self.popped += popped

    def cancel(self) -> None:
        self.endangered = True
        self.cm.cancel("by the program")

    def fail(self) -> None:
        self.endangered = True
        raise BodyError

    async def borrow(self, seconds: float) -> None:
        """Somebody who is no manager uses the shared limiter."""
        if self.world.shared is not None:
            async with self.world.limiter:
                self.world.outsiders += 1
                try:
                    await trio.sleep(seconds)
                finally:
                    self.world.outsiders -= 1

    # Tasks

    async def execute(self, entry: Entry) -> Any:
        attempt = entry.attempts
        act = entry.plan.act(attempt)
        self.starts(entry)
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
                    return "swallowed"
                elif entry.plan.manner == "turns":
                    raise RetriableError("turned") from None
                raise
            error = KeyError(attempt)
            match act.ending:
                case "error":
                    raise error
                case "retriable":
                    raise RetriableError(error, retry_config=act.config)
                case "group":
                    parts = [RetriableError("one", retry_config=act.config), RetriableError(error, retry_config=act.config)]
                    raise ExceptionGroup("all retriable", parts)
                case "mixed":
                    raise ExceptionGroup("not all retriable", [RetriableError("one"), ZeroDivisionError()])
            return (entry, attempt)
        finally:
            entry.executing = False
            self.executing -= 1

    def starts(self, entry: Entry) -> None:
        now = trio.current_time()
        entry.attempts += 1
        if entry.executing or entry.refused or (self.ended and not entry.started):
            self.world.fault(f"started out of order: {entry}")
        entry.executing = True
        self.executing += 1
        running = sum(cast.executing for cast in self.sharing()) + self.world.outsiders
        limit = self.limit_now() if entry.started is None else self.highest
        if running > limit:
            self.world.fault(f"{running} running, limit {limit}")
        if entry.item is not None and entry.started is None:
            entry.submitted = now
        if entry.started is None:
            entry.started = (now, self.world.passes)

    async def meddle(self, entry: Entry, inside: str) -> None:
        """What a task does to its manager, or to the other one."""
        own_limiter = self.world.shared is None
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
                    if self.world.casts[-1].highest:
                        self.world.casts[-1].start_soon(Plan(), Options())
                case "wait":
                    await self.expect(RuntimeError, self.cm.wait)
                    await self.expect(RuntimeError, self.cm.shutdown)
                # With a shared limiter nobody could see that such tasks wait for ever.
                case "run" if own_limiter:
                    await self.run(Plan(), Options())
                case "map" if own_limiter:
                    source = Source("generator", (Plan(),) * 3)
                    await self.map(source, Options(), ordered=True, leave_after=math.inf, pace=0)
        except (ConManClosedError, RuntimeError):
            pass

    # Checks

    def is_idle(self) -> bool:
        now = self.cm.statistics()
        return (now.running, now.waiting, now.queued, now.backing_off) == (0, 0, 0, 0)

    def look(self, *, settled: bool) -> None:
        """What holds at any moment; and when all tasks are blocked."""
        fault, cm, now = self.world.fault, self.cm, self.cm.statistics()
        handles = [each.handle for each in self.line if each.handle is not None]
        for entry in self.line:
            handle = entry.handle
            if handle is None:
                continue
            state = handle.state
            if (state == "done") != (handle.outcome is not None) or (entry.executing and state != "running"):
                fault(f"{handle}, {handle.outcome}, executing: {entry.executing}")
            if state == "queued" and entry.started:
                fault(f"{handle} has started")
            if settled and state == "running" and not entry.executing:
                fault(f"{handle} does not run")
            if settled and handle.retries != max(0, entry.attempts - 1):
                fault(f"{handle}: {entry.attempts} attempts, {handle.retries} retries")
        outcomes = cm.outcomes()
        self.check_views(outcomes)
        if not set(map(id, outcomes)).isdisjoint(map(id, self.popped + self.sent)):
            fault("an outcome is in two places")
        done = {id(handle.outcome) for handle in handles if handle.outcome is not None}
        kept = set(map(id, self.popped + outcomes))
        if self.manager.send_to is None and (done - kept or (settled and kept - done)):
            fault("the views are not what the handles say")
        if not settled:
            return
        states = [handle.state for handle in handles]
        if (now.queued, now.waiting) != (states.count("queued"), self.waiting):
            fault(f"{states}, {self.waiting} in run(): {now}")
        if now.submitted - now.succeeded - now.failed > now.running + now.backing_off + now.queued:
            fault(f"accepted tasks are missing: {now}")
        if not self.maps:
            self.check_counts(handles, states)
        if self.is_idle() and self.idlers and not self.open_maps:
            fault(f"idle, and somebody still waits for it: {now}")
        if (now.queued or now.waiting) and not self.paused:
            shared = self.world.shared is not None
            if self.world.limiter.available_tokens > 0 if shared else now.running + now.backing_off < cm.limit:
                fault(f"somebody waits while a slot is free: {now}")

    def check_counts(self, handles: list[TaskHandle[Any]], states: list[str]) -> None:
        """Without maps, all that is counted has a handle."""
        now = self.cm.statistics()
        failures = [each.outcome for each in handles if isinstance(each.outcome, Failure)]
        cancelled = sum(each.reason is StopReason.CANCELLED for each in failures)
        counted = (now.submitted, now.failed, now.cancelled, now.backing_off)
        expected = (len(handles), len(failures), cancelled, states.count("backing_off"))
        if counted != expected or now.retries != sum(each.retries for each in handles):
            self.world.fault(f"{now}, but {handles}")
        running, done = states.count("running"), states.count("done")
        if now.succeeded + now.failed != done or now.running < running:
            self.world.fault(f"{now}, but {states}")
        if now.running > running + (done - len(self.sent) if self.manager.send_to is not None else 0):
            self.world.fault(f"{now}, but {states}")

    def check_views(self, outcomes: list[Outcome[Any]]) -> None:
        outputs = [each.value for each in outcomes if isinstance(each, Success)]
        errors = [each.error for each in outcomes if isinstance(each, Failure)]
        if self.cm.outputs() != outputs or list(map(id, self.cm.errors())) != list(map(id, errors)):
            self.world.fault("outputs and errors together are not the outcomes")
        if self.manager.send_to is None:
            outcomes = self.popped + outcomes
        ends = [each.args[0].submitted + each.waited + each.elapsed for each in outcomes]
        if any(one > other + 1e-6 for one, other in pairwise(ends)):
            self.world.fault(f"not in completion order: {ends}")

    def check_end(self, error: Exception | None) -> None:
        """How the block was left."""
        limit, now = self.manager.max_errors, self.cm.statistics()
        errors = now.failed - now.cancelled
        if isinstance(error, ExceptionGroup) and (
            limit is None or len(error.exceptions) <= limit or len(error.exceptions) != errors
        ):
            self.world.fault(f"{now}, and the block has raised {error!r}")
        if error is None and limit is not None and errors > limit and not self.endangered:
            self.world.fault(f"{now}, and the block has raised nothing")
        if self.cm.timed_out and trio.current_time() < self.manager.timeout:
            self.world.fault("timed out too early")

    def close(self) -> None:
        """What holds when all is over."""
        faults, now = self.world.faults, self.cm.statistics()
        if not self.is_idle() or now.submitted != now.succeeded + now.failed or self.executing:
            faults.append(f"at the end: {now}, {self.executing} executing")
        handles = [each.handle for each in self.line if each.handle is not None]
        outcomes = self.popped + self.sent + self.cm.outcomes()
        if sorted(id(each.outcome) for each in handles) != sorted(map(id, outcomes)):
            faults.append(f"{len(handles)} accepted, but {len(outcomes)} outcomes: {outcomes}, {handles}")
        self.check_views(self.cm.outcomes())
        for entry in self.line:
            if entry.handle is not None and entry.handle.outcome is not None:
                if entry.handle.index != entry.handle.outcome.index:
                    faults.append(f"{entry.handle} and {entry.handle.outcome}")
                self.judge(entry, entry.handle.outcome)
        self.check_order()

    def check_order(self) -> None:
        """First come, first served; and a map has one place in the line."""
        started = [each for each in self.line if each.started is not None]
        for one, other in pairwise(started):
            if one.started[1] > other.started[1]:
                self.world.faults.append(f"{one.handle} has started after {other.handle}")
        for entry in started:
            for items in self.maps:
                passed = [each for each in items if each.started and entry.submitted < each.started[0] < entry.started[0]]
                if len(passed) > 1:
                    self.world.faults.append(f"{len(passed)} items of a map have passed {entry.handle}")

    def judge(self, entry: Entry, outcome: Outcome[Any]) -> None:
        """Whether a task could end like that."""
        faults, options, reason = self.world.faults, entry.options, getattr(outcome, "reason", None)
        if outcome.args != (entry,) or outcome.retries != max(0, entry.attempts - 1):
            faults.append(f"{outcome} is not that of {entry}")
        if entry.started and abs(entry.submitted + outcome.waited - entry.started[0]) > 1e-6:
            faults.append(f"{outcome}, but started at {entry.started}")
        if isinstance(outcome, Success) and outcome.value != (entry, entry.attempts - 1):
            if outcome.value != "swallowed" or not entry.interrupted:
                faults.append(f"wrong value: {outcome}")
        match reason:
            case StopReason.CANCELLED:
                if not (entry.cancelled or self.may_be_cancelled):
                    faults.append(f"nobody has cancelled {entry}")
            case StopReason.MANAGER_TIMEOUT:
                if not self.cm.timed_out:
                    faults.append(f"not timed out: {outcome}")
            case StopReason.TASK_TIMEOUT:
                if options.task_timeout is None or outcome.elapsed < options.task_timeout - 1e-6:
                    faults.append(f"{outcome} with {options}")
            case StopReason.MAX_ELAPSED:
                if all(each.max_elapsed == math.inf for each in entry.configs()):
                    faults.append(f"{outcome} with {entry}")
            case StopReason.DEADLINE:
                if min(options.task_timeout or math.inf, self.manager.timeout, self.world.outer) == math.inf:
                    faults.append(f"{outcome} without a deadline")
            case StopReason.ERROR if entry.cancelled or self.may_be_cancelled or options.task_timeout is not None:
                pass  # what it raised while it was being cancelled is not retried
            case _ if not entry.interrupted or (entry.plan.manner == "plain" and not entry.plan.blocks()):
                if (reason, outcome.retries) != entry.predict():
                    faults.append(f"{outcome}, but expected {entry.predict()}")
