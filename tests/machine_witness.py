"""What is known of a manager in a random program from outside, and what must hold of it."""

from __future__ import annotations

import inspect
import math
import re
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import attrs
import trio

from trio_conman import (
    ConMan,
    Failure,
    KeyedLimit,
    Outcome,
    RateLimiter,
    RetryBudget,
    RetryConfig,
    StopReason,
    Success,
    TaskHandle,
)

from .machine_keys import KeyMeter, overtaken
from .machine_meters import CLOSE, BudgetMeter, RateMeter, turns
from .machine_program import Entry, Manager, Source, Step


@attrs.define(eq=False)
class Stage:
    """What the managers of a program have in common."""

    managers: list[Manager]
    steps: list[list[Step]]
    shared: int | None = None
    outer: float = math.inf
    seed: int = 0
    keys: tuple[int, ...] = ()  # the limits of the keys 0, 1, …

    faults: list[str] = attrs.field(factory=list, init=False)
    witnesses: list[Witness] = attrs.field(factory=list, init=False)
    limiter: trio.CapacityLimiter = attrs.field(init=False)
    keyed: KeyedLimit | None = attrs.field(default=None, init=False)
    key_meter: KeyMeter = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    passes: int = attrs.field(default=0, init=False)
    outsiders: int = attrs.field(default=0, init=False)
    interrupts: int = attrs.field(default=0, init=False)

    def interrupt(self) -> None:
        """A Ctrl-C, here and now."""
        self.interrupts += 1
        for witness in self.witnesses:
            witness.endangered = True
        signal.raise_signal(signal.SIGINT)

    def fault(self, text: str) -> None:
        self.faults.append(f"at {trio.current_time()}: {text}")


def of_the_line(outcomes: list[Outcome[Any]]) -> list[Outcome[Any]]:
    """Those that are not a map's."""
    return [each for each in outcomes if each.args[0].item is None]


@attrs.define(eq=False)
class Witness:
    """Keeps a record of one manager, and compares it with what the manager says of itself."""

    stage: Stage
    manager: Manager
    steps: list[Step]

    cm: ConMan[Any] = attrs.field(init=False)
    entries: list[Entry] = attrs.field(factory=list, init=False)
    # What was submitted by other ways than a map, in that order.
    line: list[Entry] = attrs.field(factory=list, init=False)
    maps: list[list[Entry]] = attrs.field(factory=list, init=False)
    # What consumers of maps took, and the items of maps that something else than their consumers has ended.
    taken: list[Outcome[Any]] = attrs.field(factory=list, init=False)
    cut_off: list[list[Entry]] = attrs.field(factory=list, init=False)
    popped: list[Outcome[Any]] = attrs.field(factory=list, init=False)
    sent: list[Outcome[Any]] = attrs.field(factory=list, init=False)
    waiting: int = attrs.field(default=0, init=False)  # in run()
    without_slot: int = attrs.field(default=0, init=False)
    idlers: int = attrs.field(default=0, init=False)  # in wait() or shutdown()
    executing: int = attrs.field(default=0, init=False)
    open_maps: int = attrs.field(default=0, init=False)
    paused: bool = attrs.field(default=False, init=False)
    paused_since: float = attrs.field(default=0.0, init=False)
    shut_since: float = attrs.field(default=math.inf, init=False)
    refusing: bool = attrs.field(default=False, init=False)
    # Whether anything may have cancelled tasks.
    endangered: bool = attrs.field(default=False, init=False)
    ended: bool = attrs.field(default=False, init=False)
    rate: RateLimiter | None = attrs.field(default=None, init=False)
    meter: RateMeter | None = attrs.field(default=None, init=False)
    budget: RetryBudget | None = attrs.field(default=None, init=False)
    tokens: BudgetMeter | None = attrs.field(default=None, init=False)
    pause_ends: list[float] = attrs.field(factory=list, init=False)
    calmers: int = attrs.field(default=0, init=False)  # in wait_running()
    told_submitted: int = attrs.field(default=0, init=False)
    told_finished: int = attrs.field(default=0, init=False)
    moved: bool = attrs.field(default=False, init=False)  # the deadline
    limit: int | float = attrs.field(default=0, init=False)
    # The highest limit of the instant, and of all the time.
    instant: float = attrs.field(default=0.0, init=False)
    high: float = attrs.field(default=0.0, init=False)
    highest: float = attrs.field(default=0.0, init=False)

    def __repr__(self) -> str:
        if not self.highest:
            return "<a manager that is not open yet>"
        unfinished = [
            each for each in self.entries if each.handle is not None and each.handle.outcome is None
        ]
        return f"<{self.cm!r} {self.cm.statistics()} {[each.handle for each in unfinished]}>"

    def measure(self) -> None:
        """Make what its attempts and retries are limited by, and what tells whether they are."""
        if self.manager.rate is not None:
            rate, burst = self.manager.rate
            self.rate, self.meter = RateLimiter(rate, burst=burst), RateMeter(rate, burst)
        if self.manager.tokens is not None:
            self.budget = RetryBudget(self.manager.tokens, ratio=0.5)
            self.tokens = BudgetMeter(self.manager.tokens, 0.5)

    def goes_on(self) -> None:
        """A pause ends, if there is one."""
        if self.paused:
            self.pause_ends.append(trio.current_time())
        self.paused = False

    @property
    def may_be_cancelled(self) -> bool:
        return self.endangered or self.manager.max_errors is not None

    @property
    def adapts(self) -> bool:
        return self.manager.adapts and self.stage.shared is None and self.manager.limit < math.inf

    def sharing(self) -> list[Witness]:
        """Who has the same limiter, and is there."""
        return (
            [self] if self.stage.shared is None else [each for each in self.stage.witnesses if each.highest]
        )

    def holding(self) -> int:
        """How many tasks are backing off with their slots."""
        return sum(
            each.holds and each.handle is not None and each.handle.state == "backing_off"
            for each in self.line
        )

    @property
    def per_key(self) -> KeyedLimit | None:
        return self.stage.keyed if self.manager.keyed else None

    def keyed_alike(self) -> list[Witness]:
        """Who has the same limits by key, and is there."""
        return [each for each in self.stage.witnesses if each.highest and each.manager.keyed]

    def slots(self) -> list[Entry]:
        """The tasks that have a slot, when nobody is about to do anything."""
        told = [each for each in self.entries if each.told is not None]
        return [each for each in told if each.told is not None and each.told._slot is not None]

    def with_key(self, key: int) -> int:
        """How many tasks of a key have a slot, in whichever manager."""
        return sum(each.plan.key == key for cast in self.keyed_alike() for each in cast.slots())

    def check_idle_slots(self) -> None:
        """Nothing will happen before time passes: then nobody waits who could run."""
        if self.paused or self.ended or not self.highest or self.cm._line.closed:
            return
        own, now = self.stage.shared is None, trio.current_time()
        if (self.limit - len(self.slots()) if own else self.stage.limiter.available_tokens) < 1:
            return
        for entry in self.entries:
            if entry.told is None:
                is_waiting = entry.waits and entry.handle is None and not entry.refused
            elif entry.told.state == "backing_off":
                is_waiting = entry.without_slot and entry.lent.get(entry.attempts, math.inf) < now
            else:
                is_waiting = entry.told.state == "queued"
            key = entry.plan.key
            if is_waiting and (self.per_key is None or self.with_key(key) < self.stage.key_meter.limits[key]):
                self.stage.fault(f"{entry} waits, though it could run: {self!r}")

    def in_hand(self) -> int:
        """How many tasks have started, and have no outcome, or one that has not arrived, and a slot."""
        workers = self.cm._runner.pool.workers
        handles = [each.handle for each in self.line if each.handle is not None and each.handle.outcome]
        return sum(each.handle is not None for each in workers) + sum(
            each._slot is not None for each in handles
        )

    def limit_now(self) -> int | float:
        """The highest limit of this instant: who starts now may have had its slot a tick ago."""
        return self.high if self.instant == trio.current_time() else self.limit

    def note_limit(self, limit: int | float) -> None:
        """The limit changes now."""
        high = max(self.limit_now(), limit)
        self.instant, self.high, self.limit = trio.current_time(), high, limit
        self.highest = max(self.highest, high)

    async def expect(self, error: type[Exception], call: Callable[..., Any], *args: Any) -> None:
        try:
            result = call(*args)
            if inspect.isawaitable(result):
                await result
        except error:
            return
        self.stage.fault(f"{call} did not raise {error}")

    def refuse(self, entry: Entry) -> None:
        entry.refused = entry.handle is None
        if entry.refused and entry.started:
            self.stage.fault(f"refused and yet started: {entry}")

    def starts(self, entry: Entry) -> None:
        now = trio.current_time()
        entry.attempts += 1
        if entry.executing or entry.refused or (self.ended and not entry.started):
            self.stage.fault(f"started out of order: {entry}")
        # One that has its slot may wait for a permit of the rate.
        waits_for_slots_only = self.meter is None
        # With a rate, retries too need something new.
        held_back = entry.started is None or self.meter is not None
        if held_back and self.paused and self.paused_since < now:
            self.stage.fault(f"started during a pause: {entry}")
        if entry.plan.unwanted:
            self.stage.fault(f"cancelled in task_submitted, and yet started: {entry}")
        self.measure_start(entry, now)
        # An item that was drawn, and waits for its key, is accepted.
        late = entry.item is not None and entry.submitted > self.shut_since
        new = entry.started is None and (entry.waits or late)
        if waits_for_slots_only and self.shut_since < now and new:
            self.stage.fault(f"started after a shutdown: {entry}")
        entry.executing = True
        entry.starts.append(now)
        self.executing += 1
        running = sum(cast.executing + cast.holding() for cast in self.sharing()) + self.stage.outsiders
        limit = self.limit_now() if entry.started is None and waits_for_slots_only else self.highest
        if running > limit:
            self.stage.fault(f"{running} running, limit {limit}")
        counted = self.cm.statistics()
        if self.in_hand() > 2 * self.highest:
            self.stage.fault(f"more in hand than twice the limit: {counted}")
        if self.per_key is not None:
            self.check_key(entry, now, first=entry.started is None and waits_for_slots_only)
        if entry.started is None:
            entry.started = (now, self.stage.passes)

    def check_key(self, entry: Entry, now: float, *, first: bool) -> None:
        """A task starts: of its key no more run than may."""
        key, meter = entry.plan.key, self.stage.key_meter
        holding = [
            each
            for cast in self.keyed_alike()
            for each in cast.entries
            if each.executing or (each.holds and each.told is not None and each.told.state == "backing_off")
        ]
        running = sum(each.plan.key == key for each in holding)
        limit = meter.limit_at(key, now) if first else meter.highest[key]
        if running > limit:
            self.stage.fault(f"{running} of key {key} run, limit {limit}: {entry}")

    def measure_start(self, entry: Entry, now: float) -> None:
        """An attempt starts: its permit is due, and it was worth waiting for."""
        if entry.without_slot:
            entry.without_slot = False
            self.without_slot -= 1
        if self.meter is None:
            return
        entry.due = self.meter.due()
        if (fault := self.meter.take(now)) is not None:
            self.stage.fault(f"{entry} has started {fault}")
        if now > entry.latest + CLOSE:
            self.stage.fault(f"retried beyond max_elapsed: {entry}, first at {entry.starts[0]}")

    def is_idle(self) -> bool:
        now = self.cm.statistics()
        return (now.running, now.waiting, now.queued, now.backing_off) == (0, 0, 0, 0)

    def look(self, *, settled: bool) -> None:
        """What holds at any moment; and when all tasks are blocked."""
        fault, cm, now = self.stage.fault, self.cm, self.cm.statistics()
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
            if settled and state == "running" and not entry.executing and self.manager.rate is None:
                fault(f"{handle} does not run")
            if settled and handle.retries != max(0, entry.attempts - 1):
                fault(f"{handle}: {entry.attempts} attempts, {handle.retries} retries")
        is_told = not (self.adapts and cm._line.closed)
        if is_told and (cm.limit != self.limit or now.limit != self.limit):
            fault(f"the limit is {cm.limit}, not {self.limit}")
        self.check_views(cm.outcomes())
        outcomes = of_the_line(cm.outcomes())
        if not set(map(id, outcomes)).isdisjoint(map(id, self.popped + self.sent)):
            fault("an outcome is in two places")
        done = {id(handle.outcome) for handle in handles if handle.outcome is not None}
        kept = set(map(id, of_the_line(self.popped) + outcomes))
        if self.manager.send_to is None and (done - kept or (settled and kept - done)):
            fault("the views are not what the handles say")
        if not settled:
            return
        states = [handle.state for handle in handles]
        queued = sum(each.told is not None and each.told.state == "queued" for each in self.entries)
        if (now.queued, now.waiting) != (queued, self.waiting):
            fault(f"{states}, {self.waiting} in run(): {now}")
        if now.submitted - now.succeeded - now.failed > now.running + now.backing_off + now.queued:
            fault(f"accepted tasks are missing: {now}")
        if not self.maps:
            self.check_counts(handles, states)
        if self.tokens is not None:
            self.compare_tokens(self)
        if self.calmers and not self.executing:
            fault(f"no attempt runs, and somebody still waits for that: {self!r}")
        if self.rate is not None and self.meter is not None and not self.paused:
            waiting = self.rate.statistics().tasks_waiting
            if waiting and self.meter.due() < trio.current_time() - CLOSE:
                fault(f"{waiting} wait for a permit, which was due at {self.meter.due()}")
        if self.is_idle() and self.idlers and not self.open_maps:
            fault(f"idle, and somebody still waits for it: {now}")

    def check_counts(self, handles: list[TaskHandle[Any]], states: Sequence[str]) -> None:
        """Without maps, all that is counted has a handle."""
        now = self.cm.statistics()
        failures = [each.outcome for each in handles if isinstance(each.outcome, Failure)]
        cancelled = sum(each.reason is StopReason.CANCELLED for each in failures)
        counted = (now.submitted, now.failed, now.cancelled, now.backing_off)
        expected = (len(handles), len(failures), cancelled, states.count("backing_off"))
        if counted != expected or now.retries != sum(each.retries for each in handles):
            self.stage.fault(f"{now}, but {handles}")
        running, done = states.count("running"), states.count("done")
        if now.succeeded + now.failed != done or now.running < running:
            self.stage.fault(f"{now}, but {states}")
        if now.running > running + (done - len(self.sent) if self.manager.send_to is not None else 0):
            self.stage.fault(f"{now}, but {states}")

    def check_views(self, outcomes: list[Outcome[Any]]) -> None:
        outputs = [each.value for each in outcomes if isinstance(each, Success)]
        errors = [each.error for each in outcomes if isinstance(each, Failure)]
        if self.cm.outputs() != outputs or list(map(id, self.cm.errors())) != list(map(id, errors)):
            self.stage.fault("outputs and errors together are not the outcomes")
        if self.manager.send_to is None:
            outcomes = self.popped + outcomes
        # What a map has left comes when it has ended.
        outcomes = of_the_line(outcomes)
        ends = [each.args[0].submitted + each.waited + each.elapsed for each in outcomes]
        if any(one > other + 1e-6 for one, other in pairwise(ends)):
            self.stage.fault(f"not in completion order: {ends}")

    def check_end(self, error: Exception | None) -> None:
        """How the block was left."""
        limit, now = self.manager.max_errors, self.cm.statistics()
        errors = now.failed - now.cancelled
        if isinstance(error, ExceptionGroup) and (
            limit is None or len(error.exceptions) <= limit or len(error.exceptions) != errors
        ):
            self.stage.fault(f"{now}, and the block has raised {error!r}")
        if error is None and limit is not None and errors > limit and not self.endangered:
            self.stage.fault(f"{now}, and the block has raised nothing")
        if self.cm.timed_out and trio.current_time() < self.manager.timeout and not self.moved:
            self.stage.fault("timed out too early")

    def close(self) -> None:
        """What holds when all is over."""
        faults, now = self.stage.faults, self.cm.statistics()
        if not self.is_idle() or now.submitted != now.succeeded + now.failed or self.executing:
            faults.append(f"at the end: {now}, {self.executing} executing")
        handles = [each.handle for each in self.line if each.handle is not None]
        outcomes = self.popped + self.sent + self.cm.outcomes()
        self.check_left(outcomes)
        outcomes = of_the_line(outcomes)
        if sorted(id(each.outcome) for each in handles) != sorted(map(id, outcomes)):
            faults.append(f"{len(handles)} accepted, but {len(outcomes)} outcomes: {outcomes}, {handles}")
        if (self.told_submitted, self.told_finished) != (now.submitted, now.submitted):
            faults.append(f"told of {self.told_submitted} tasks, and the end of {self.told_finished}: {now}")
        self.check_views(self.cm.outcomes())
        if self.tokens is not None:
            self.compare_tokens(self)
        for entry in self.line:
            if entry.handle is not None and entry.handle.outcome is not None:
                if entry.handle.index != entry.handle.outcome.index:
                    faults.append(f"{entry.handle} and {entry.handle.outcome}")
                self.judge(entry, entry.handle.outcome)
        self.check_order()
        if self.has_known_turns():
            faults += turns(self.line)

    def has_known_turns(self) -> bool:
        """Whether each slot that was granted came to a start, and nobody else has had one."""
        return not (
            self.may_be_cancelled
            or self.maps
            or self.meter is not None
            or self.stage.shared is not None
            or self.per_key is not None
            or any(each.options.priority or each.reordered for each in self.entries)
            or self.manager.send_to is not None
            or any(each.cancelled for each in self.entries)
        )

    def check_left(self, outcomes: list[Outcome[Any]]) -> None:
        """What a consumer of a map could not take is kept, and nothing else of a map is."""
        taken = set(map(id, self.taken))
        if any(id(each) in taken for each in outcomes):
            self.stage.faults.append(f"taken and yet kept: {outcomes}")
        items = [each.args[0] for each in outcomes if each.args[0].item is not None]
        if len(items) != len(set(map(id, items))):
            self.stage.faults.append(f"kept twice: {items}")
        of_cut_off = {id(each) for entries in self.cut_off for each in entries}
        if not (self.may_be_cancelled or set(map(id, items)) <= of_cut_off):
            self.stage.faults.append(f"kept, though its consumer has left it: {items}")
        found = {id(each) for each in items} | {id(each.args[0]) for each in self.taken}
        for entries in self.cut_off:
            if lost := [each for each in entries if each.started and id(each) not in found]:
                self.stage.faults.append(f"the outcomes of a map that was cut off are lost: {lost}")
        for each in outcomes:
            if each.args[0].item is not None:
                self.judge(each.args[0], each)

    def scheduled(self, entry: Entry, error: Exception, delay: float) -> None:
        """A retry follows: whose config may have asked for that delay?"""
        retry = entry.attempts
        act = entry.plan.act(retry - 1)
        is_own = act.ending in {"retriable", "group"} and str(error) != "turned"
        own = act.config if is_own else None
        config = entry.options.retry if isinstance(error, trio.TooSlowError) else own or entry.options.retry
        entry.scheduled += 1
        if config is not None and not entry.interrupted:
            entry.latest = entry.starts[0] + config.max_elapsed
        else:
            entry.latest = math.inf
        # As long as fewer than the limit are without one, it gives its slot back.
        if delay > 0 and not (config and config.hold_slot) and self.without_slot < self.limit:
            entry.lent[retry] = trio.current_time() + delay
            entry.without_slot = True
            self.without_slot += 1
        if self.tokens is not None:
            self.compare_tokens(entry, self.tokens.scheduled(), now=not self.may_be_cancelled)
        # A delay that was drawn is anywhere from 0 to the whole one.
        whole = (config or RetryConfig()).delay(retry)
        jitter = (config or RetryConfig()).jitter
        right = 0 <= delay <= whole if jitter else delay == whole
        if not (right or entry.interrupted):
            self.stage.fault(f"retry {retry} of {entry} after {delay}, not {whole}")

    def finished(self, entry: Entry, outcome: Outcome[Any]) -> None:
        """Each attempt that started is told, once."""
        if len(entry.starts) != entry.attempts or (entry.attempts and outcome.retries != entry.attempts - 1):
            self.stage.fault(f"{outcome} of {entry}")
        if self.tokens is not None:
            fault = self.tokens.finished(entry, outcome)
            self.compare_tokens(entry, fault, now=not self.may_be_cancelled)
        if entry.without_slot:
            entry.without_slot = False
            self.without_slot -= 1
        if self.meter is not None and not entry.attempts and not self.moved:
            self.check_unstarted(entry, outcome)

    def compare_tokens(self, what: object, fault: str | None = None, *, now: bool = True) -> None:
        """Whether the budget is as it must be; of an end that a deadline brought a hook is told later."""
        assert self.budget is not None and self.tokens is not None
        left = self.budget.statistics().remaining
        if now and (fault is not None or left != self.tokens.left):
            self.stage.faults.append(f"{what}: {fault}; {left} tokens are left, not {self.tokens.left}")

    def check_unstarted(self, entry: Entry, outcome: Outcome[Any]) -> None:
        """A permit that would be due too late is not waited for, and only such a one."""
        assert self.meter is not None
        now, reason = trio.current_time(), getattr(outcome, "reason", None)
        timeout = entry.options.task_timeout or math.inf
        deadline = min(now - outcome.elapsed + timeout, self.manager.timeout, self.stage.outer)
        if reason is StopReason.DEADLINE:
            assert isinstance(outcome, Failure)
            found = re.search(r"due in (\S+) s", str(outcome.error))
            due = now + float(found[1]) if found else math.nan
            if not due > deadline - 1e-4 or due < self.meter.least_due(now) - 1e-4:
                self.stage.fault(f"{outcome}: {outcome.error}; {deadline}, {self.meter.due()}")
        elif (
            reason in {StopReason.TASK_TIMEOUT, StopReason.MANAGER_TIMEOUT}
            and outcome.elapsed > CLOSE
            and not self.paused
            and now not in self.pause_ends
        ):
            self.stage.fault(f"waited in vain for a permit: {outcome} of {entry}")

    def check_order(self) -> None:
        """First come, first served, but for keys and priorities; and a map has one place in the line."""
        for key in {each.plan.key if self.per_key else None for each in self.line}:
            alike = [each for each in self.line if key is None or each.plan.key == key]
            self.stage.faults += overtaken(alike, is_rated=self.meter is not None)
        if self.meter is not None or self.per_key is not None:
            return
        for entry in [each for each in self.line if each.started]:
            priority = entry.options.priority
            for items in self.maps:
                lower = [each for each in items if each.starts and each.options.priority <= priority]
                passed = sum(entry.since < each.starts[0] < entry.starts[0] for each in lower)
                if passed > 1:
                    self.stage.faults.append(f"{passed} items of a map have passed {entry.handle}")

    def judge(self, entry: Entry, outcome: Outcome[Any]) -> None:
        """Whether a task could end like that."""
        faults, options, reason = self.stage.faults, entry.options, getattr(outcome, "reason", None)
        if outcome.args != (entry,) or outcome.retries != max(0, entry.attempts - 1):
            faults.append(f"{outcome} is not that of {entry}")
        late = entry.started[0] - entry.submitted - outcome.waited if entry.started else 0.0
        # With its slot it starts, or with the permit, or when a pause ends.
        known = (
            entry.started is None
            or entry.starts[0] <= entry.due + CLOSE
            or (entry.starts[0] in self.pause_ends)
        )
        if late < -CLOSE or (late > CLOSE and not known):
            faults.append(f"{outcome}, but started at {entry.started}, permit due at {entry.due}")
        if entry.plan.unwanted and (entry.attempts or reason is not StopReason.CANCELLED):
            faults.append(f"cancelled in task_submitted: {outcome}")
        if entry.returned != isinstance(outcome, Success):
            faults.append(f"returned: {entry.returned}, but {outcome}")
        if isinstance(outcome, Success):
            expected = [(entry, entry.attempts - 1), *["swallowed"] * entry.interrupted]
            if outcome.value not in expected:
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
                deadline = min(options.task_timeout or math.inf, self.manager.timeout, self.stage.outer)
                if deadline == math.inf and not self.moved:
                    faults.append(f"{outcome} without a deadline")
            case StopReason.RETRY_BUDGET:
                if self.manager.tokens is None:
                    faults.append(f"{outcome} without a budget")
            case StopReason.ERROR if (
                entry.cancelled or self.may_be_cancelled or options.task_timeout is not None
            ):
                pass  # what it raised while it was being cancelled is not retried
            case _ if not entry.interrupted or (entry.plan.manner == "plain" and not entry.plan.blocks()):
                if (reason, outcome.retries) != entry.predict():
                    faults.append(f"{outcome}, but expected {entry.predict()}")

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
            self.stage.fault(f"a map gave {seen}, ordered={ordered}")
        if complete and sorted(seen) != list(range(len(entries))):
            self.stage.fault(f"a map gave {seen} of {len(entries)}")
        if complete and error != (source.raises and source.kind != "list"):
            self.stage.fault(f"the source raised: {error}, of {source}")
        if any(each.executing for each in entries):
            self.stage.fault("a map was left before its items had ended")
