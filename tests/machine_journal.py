"""Random programs with a journal: runs that follow one another on one file, and what must hold of them.

All is real but the threads: tasks of trio take their place, so that writing and reading take virtual time,
and the database is in memory. A run may be killed, which loses what is not committed, and a commit may fail.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from math import inf
from tempfile import NamedTemporaryFile
from typing import Any, TypeAlias
from unittest import mock

import attrs
import trio
import trio._core._run
from trio.testing import MockClock

from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    Instrument,
    KeyedLimit,
    Outcome,
    RateLimiter,
    RetriableError,
    RetryConfig,
    TaskHandle,
)
from trio_conman._books.records import Recorder
from trio_conman._leaves import journal_index, journal_reader, journal_store, journal_writer
from trio_conman._leaves.journal_file import JournalFile, _set_up, connect, sections_of
from trio_conman._leaves.journal_keys import values_of
from trio_conman._leaves.journal_store import Store, _content
from trio_conman.journal import Journal, JournalError

FAR = 200  # virtual seconds that no run takes unless it hangs
FLUSH = 2.0  # flush_after
READING, WRITING = (1 / 16, 1 / 8, 1 / 2), (1 / 16, 1 / 4, 1.0)  # seconds that each may take
SLACK = FLUSH / 4 + 3 * max(WRITING)  # from the end of a task to its commit, at most
RETRY = RetryConfig.linear(initial_delay=0.5, max_delay=0.5)

Key: TypeAlias = tuple[str, int]  # of a section


def group(key: Key) -> int:
    """What a task counts for in a limit by key."""
    return key[1] % 3


class Bell:
    """A `threading.Event` for tasks of trio."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    def clear(self) -> None:
        self._event = trio.Event()

    async def wait(self, seconds: float = inf) -> None:
        with trio.move_on_after(seconds):
            await self._event.wait()


class Hang(BaseException):
    """Raised into trio's own loop."""


@attrs.frozen
class Job:
    """A task, or the items of a map: the key, how long it takes, how it ends, and how it is handed in."""

    key: Key
    seconds: float
    ending: str
    door: str
    priority: int
    task_timeout: float
    ordered: bool
    taken: float  # outcomes, before the map is left


@attrs.define(eq=False)
class Night:
    """One run of the program: what it is, and what is known of it."""

    number: int
    jobs: list[tuple[float, int, Job]]  # the pause before, and the manager
    limits: list[int]
    is_shared: bool  # whether each limit is a CapacityLimiter
    is_one: bool  # the same one, with the first of the limits
    per_key: int | None  # of all managers together
    durable: bool
    rate: float | None
    killed_at: float
    fails_at: int  # that commit
    discards: bool  # at the start
    discards_at: float  # while tasks run; of section "a", too
    pauses_at: float  # a manager, for a time
    shuts_down_at: float  # that manager
    failed: float = attrs.field(default=inf, init=False)  # when a commit did
    was_killed: bool = attrs.field(default=False, init=False)
    # What runs, and in how many slots of each manager; what was returned, what of it is kept, and what was
    # published when.
    running: set[Key] = attrs.field(factory=set, init=False)
    busy: Counter[int] = attrs.field(factory=Counter, init=False)
    of_key: Counter[int] = attrs.field(factory=Counter, init=False)
    returned: dict[Key, int] = attrs.field(factory=dict, init=False)
    kept: set[Key] = attrs.field(factory=set, init=False)
    published: list[tuple[float, Key, int]] = attrs.field(factory=list, init=False)
    recalled: int = attrs.field(default=0, init=False)
    shut_down: set[ConMan[int]] = attrs.field(factory=set, init=False)

    def may_forget(self, key: Key) -> bool:
        """Whether what is kept of a key may be gone."""
        return key[0] == "a" and self.discards_at < inf

    @property
    def safe(self) -> float:
        """What was published until then is on the disk."""
        if self.durable or (self.failed == inf and not self.was_killed):
            return inf
        return min(self.failed, self.killed_at) - SLACK


class Overnight(Instrument):
    """A program of several runs on one journal."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.database = connect(":memory:", 0)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.version = "1"
        self.returned = 0  # values, each one more than the last
        self.recorded: dict[Key, int] = {}  # by the runs before

    def odds(self, share: float) -> bool:
        return self.random.random() < share

    def fault(self, text: str) -> None:
        self.faults.append(f"run {self.night.number}, at {trio.current_time()}: {text}")

    # The parts that are drawn

    def job(self, tries_again: bool) -> Job:
        pick = self.random.choice
        ending = pick(["return"] * 4 + ["error", "retriable", "refused", "cancelled"])
        if tries_again and self.odds(0.4):
            ending = "retriable"
        door = pick(["start_soon", "start_soon", "run", "map"])
        return Job(
            (pick(["", "a"]), self.random.randrange(9)),
            pick([0, 0, 0.5, 1.0, 3.0]),
            ending,
            door,
            pick([0, 0, 0, 1]),
            pick([inf, inf, inf, 2.0]),
            self.odds(0.4),
            pick([1, inf, inf]),
        )

    def new_night(self, number: int) -> Night:
        pick = self.random.choice
        is_crowd = self.odds(0.5)
        limits = [pick([1, 2, 3]) for _ in range(pick([1, 1, 2]))]
        jobs = [
            (pick([0, 0, 0, 0.5, 2.0]), self.random.randrange(len(limits)), self.job(is_crowd))
            for _ in range(self.random.randint(2, 20))
        ]
        if is_crowd:  # in which they wait for one another
            jobs = [(0.0, which, job) for _, which, job in jobs for _ in range(pick([1, 1, 5]))]
        return Night(
            number,
            jobs,
            limits,
            self.odds(0.5),
            self.odds(0.3),
            pick([None, 1, 2, 9, 9]),
            self.odds(0.4),
            pick([None, None, 2.0]),
            self.random.uniform(0, 12) if self.odds(0.4) else inf,
            self.random.randrange(6) if self.odds(0.2) else -1,
            self.odds(0.15),
            *[self.random.uniform(0, 8) if self.odds(0.15) else inf for _ in range(3)],
        )

    # The stand-ins

    @contextmanager
    def world(self) -> Iterator[None]:
        pick = self.random.choice
        windows: dict[str, Any] = {"MOST": pick([2, 4]), "SIZE": pick([20, 1 << 18])}
        with ExitStack() as stack:
            replace = mock.patch.object
            stack.enter_context(replace(journal_writer, "Thread", self.writing_thread))
            stack.enter_context(replace(trio.lowlevel, "start_thread_soon", self.reading_thread))
            stack.enter_context(mock.patch.multiple(journal_store, PATIENCE=pick([1 << 22, 700]), **windows))
            stack.enter_context(mock.patch.multiple(journal_reader, LEAST=1, **windows))
            if self.odds(0.3):  # keys that look the same
                stack.enter_context(replace(journal_index, "hash", len, create=True))
            yield

    def writing_thread(self, target: Any, **_: object) -> Any:
        """In place of the writer's thread."""
        writer = target.__self__
        writer._work, writer._hurry = Bell(), Bell()

        class Starter:
            def start(self) -> None:
                trio.lowlevel.spawn_system_task(write)

        async def write() -> None:
            ending = False
            due = -inf
            while not ending:
                await writer._work.wait()
                await writer._hurry.wait(max(0.0, due - trio.current_time()))
                writer._work.clear()
                writer._hurry.clear()
                writer.is_called = False
                writer._group += 1
                ending, due = writer._ending, trio.current_time() + writer._delay
                if writer._fault is None:
                    await self.commit(writer)
            writer._tell(writer._closed)

        return Starter()

    async def commit(self, writer: Any) -> None:
        """As the writer does it, with time for others between its steps."""
        tables = [*writer._tables.items()]
        changes = [change for _, table in tables for change in table.changes()]
        await trio.sleep(self.random.choice(WRITING))
        try:
            if writer._group == self.night.fails_at:
                raise JournalError("the disk has failed")
            if changes:
                writer._file.commit(changes)
        except JournalError as error:
            if writer._group != self.night.fails_at:
                self.fault(f"{error}")
            self.night.failed = trio.current_time()
            writer._fault = error
            writer._tell(writer._failed, error)
            return
        await trio.sleep(self.random.choice(WRITING))
        size = 0
        for section, table in tables:
            size += table.settle()
            if table.is_gone:
                del writer._tables[section]
        writer._tell(writer._committed, writer._group, size)

    def reading_thread(self, do: Callable[[], None], *_: object) -> None:
        """In place of one that reads."""

        async def read() -> None:
            await trio.sleep(self.random.choice(READING))
            do()

        trio.lowlevel.spawn_system_task(read)

    # A run

    def run(self) -> Counter[str]:
        with NamedTemporaryFile() as empty:  # for what is done to the file itself
            _set_up(self.database, empty.name)
        order: random.Random = trio._core._run._r
        state = order.getstate()
        order.seed(self.seed)
        try:
            for number in range(self.random.randint(1, 4)):
                self.night = self.new_night(number)
                with self.world():
                    trio.run(self.main, clock=self.clock())
                self.look_into_the_file()
                self.counts["runs with a journal"] += 1
        finally:
            order.setstate(state)
            self.database.close()
        if self.faults:
            raise AssertionError("\n".join(self.faults))
        return self.counts

    def clock(self) -> MockClock:
        """A clock that ends trio's loop when shielded tasks wait for ever."""
        clock = MockClock(autojump_threshold=0)
        time = clock.current_time

        def current_time() -> float:
            if (now := time()) > 2 * FAR:
                raise Hang(f"in run {self.night.number}: {self.night}")
            return now

        clock.current_time = current_time  # type: ignore[method-assign]  # MockClock is final
        return clock

    async def main(self) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, 3 * FAR)  # so that a hang has an end
        night = self.night
        file = JournalFile.__new__(JournalFile)
        file.path = "the journal"
        file._main = file._reader = self.database
        file._size_of_log = lambda: 0  # type: ignore[method-assign]  # it has none
        file.sections = sections_of(self.database)
        contents = [_content(file, info, journal_reader.SIZE) for info in file.sections]
        store = Store(file, contents, durable=night.durable, flush_after=FLUSH)
        journal = Journal(store)
        with trio.move_on_after(FAR) as patience, trio.move_on_at(night.killed_at) as death:
            try:
                if night.discards:
                    await self.discard(journal)
                await self.work({"": journal, "a": journal.section("a", version=self.version)})
            except JournalError as error:
                if night.failed == inf:
                    self.fault(f"{error!r}")
            else:
                self.check_counts(journal)
            await store.end()
            if night.failed == inf and journal.statistics().pending:
                self.fault(f"not all is written: {journal.statistics()}")
        night.was_killed = death.cancelled_caught
        if patience.cancelled_caught:
            self.fault(f"it hangs: {journal.statistics()}, {night.running}")

    async def discard(self, journal: Journal) -> None:
        """Drop what a section holds, for another version."""
        self.version += "1"
        if any(name == "a" for name, _ in self.recorded):
            try:
                journal.section("a", version=self.version)
            except JournalError:
                pass
            else:
                self.fault("a section has opened in another version")
        await journal.discard("a")
        self.recorded = {key: value for key, value in self.recorded.items() if key[0] != "a"}

    async def work(self, sections: dict[str, Any]) -> None:
        night = self.night
        rate = None if night.rate is None else RateLimiter(night.rate)
        keyed = None if night.per_key is None else KeyedLimit(night.per_key, key=group)
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            one = trio.CapacityLimiter(night.limits[0])
            self.managers = [
                await stack.enter_async_context(
                    ConMan[int].open(
                        nursery,
                        one if night.is_one else self.limit_of(limit),
                        rate=rate,
                        retry=RETRY,
                        per_key=keyed,
                        instruments=[self],
                    )
                )
                for limit in night.limits
            ]
            async with trio.open_nursery() as callers:
                for call, when in (
                    (partial(self.discard_later, sections[""]), night.discards_at),
                    (self.pause_later, night.pauses_at),
                    (self.shut_down_later, night.shuts_down_at),
                ):
                    if when < inf:
                        callers.start_soon(call)
                for pause, which, job in night.jobs:
                    await trio.sleep(pause)
                    callers.start_soon(self.hand_in, which, job, sections[job.key[0]])
        if keyed is not None and keyed._keys:
            self.fault(f"the limit by key: {keyed._keys}")

    def limit_of(self, limit: int) -> int | trio.CapacityLimiter:
        return trio.CapacityLimiter(limit) if self.night.is_shared or limit == 1 else limit

    async def discard_later(self, journal: Journal) -> None:
        await trio.sleep_until(self.night.discards_at)
        try:
            await journal.discard("a")
        except JournalError:
            if self.night.failed == inf:
                self.fault("it was not discarded")

    async def pause_later(self) -> None:
        cm = self.random.choice(self.managers)
        await trio.sleep_until(self.night.pauses_at)
        cm.pause()
        await trio.sleep(self.random.choice([0, 0.5, 3.0]))
        cm.resume()

    async def shut_down_later(self) -> None:
        cm = self.random.choice(self.managers)
        await trio.sleep_until(self.night.shuts_down_at)
        self.night.shut_down.add(cm)
        await cm.shutdown(self.random.choice([0, 1.0, inf]), queued=self.random.choice(["run", "drop"]))

    async def hand_in(self, which: int, job: Job, section: Recorder[Any]) -> None:
        cm, fn = self.managers[which], partial(self.execute, which, job)
        options: Any = {"journal": section, "priority": job.priority, "task_timeout": job.task_timeout}
        try:
            if job.door == "map":
                name, number = job.key
                items = [job.key, (name, number + 1), job.key]
                async with cm.map(fn, items, ordered=job.ordered, **options) as outcomes:
                    left = job.taken
                    async for _ in outcomes:
                        left -= 1
                        if not left:
                            break
            elif job.door == "run":
                await cm.run(fn, job.key, **options)
            else:
                handle = cm.start_soon(fn, job.key, **options)
                if job.ending == "cancelled":
                    await trio.sleep(0.25)
                    handle.cancel()
        except JournalError:
            if self.night.failed == inf:
                self.fault(f"{job} was refused")
        except ConManClosedError:
            if cm not in self.night.shut_down:
                self.fault(f"{job} was refused by an open manager")

    async def execute(self, which: int, job: Job, key: Key) -> Any:
        night = self.night
        is_known = (key in night.kept or key in self.recorded) and not night.may_forget(key)
        if key in night.running or is_known:
            self.fault(f"{key} runs again: {night.running}, {night.kept}, {self.recorded}")
        if night.failed < trio.current_time() and night.rate is None and job.ending != "retriable":
            self.fault(f"{key} runs, though it could not be kept")
        night.running.add(key)
        night.busy[which] += 1
        night.of_key[group(key)] += 1
        if night.per_key is not None and night.of_key[group(key)] > night.per_key:
            self.fault(f"{night.of_key} run, {night.per_key} of a key may")
        place = 0 if night.is_one else which
        busy = night.busy.total() if night.is_one else night.busy[which]
        if busy > night.limits[place]:
            self.fault(f"{busy} run, limit {night.limits[place]}")
        try:
            await trio.sleep(job.seconds)
            if job.ending == "error":
                raise KeyError(key)
            if job.ending == "retriable" and self.odds(0.6):
                raise RetriableError("try again")
            if job.ending == "refused":
                return object()
            self.returned += 1
            night.returned[key] = self.returned
            return self.returned
        finally:
            night.running.remove(key)
            night.busy[which] -= 1
            night.of_key[group(key)] -= 1

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self.counts["attempts"] += 1

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        night, now, (key,) = self.night, trio.current_time(), handle.args
        if isinstance(outcome, Failure):
            return
        if self.night.durable or not outcome.recalled:
            night.published.append((now, key, outcome.value))
        if outcome.recalled:
            night.recalled += 1
            self.counts["recalled"] += 1
            known = (self.recorded | night.returned).get(key)
            if outcome.value != known or outcome.retries:
                self.fault(f"{outcome} is not {known}")
        else:
            if now > night.failed or (key in night.kept and not night.may_forget(key)):
                self.fault(f"{outcome} was published")
            night.kept.add(key)

    def check_counts(self, journal: Journal) -> None:
        night, statistics = self.night, [cm.statistics() for cm in self.managers]
        if any(each.submitted != each.succeeded + each.failed for each in statistics):
            self.fault(f"a task is missing: {statistics}")
        recalled = sum(each.recalled for each in statistics)
        if recalled != night.recalled or journal.statistics().recalled != recalled:
            self.fault(f"{night.recalled} were recalled: {statistics}, {journal.statistics()}")
        self.counts["tasks"] += sum(each.submitted for each in statistics)

    def look_into_the_file(self) -> None:
        """What there must be, nothing else, and each key once."""
        night, found = self.night, dict[Key, int]()
        for info in sections_of(self.database):
            if info.name == "a":
                self.version = info.version  # it may have been killed before it was another one
            rows = self.database.execute(f"SELECT rowid, key, value FROM records_{info.id} ORDER BY rowid")
            for place, (number, text, value) in enumerate(rows.fetchall(), 1):
                ((name, item),) = values_of(text)
                if (name, item) in found or number != place or name != info.name:
                    self.faults.append(f"run {night.number}: record {number} of {info.name!r}: {text}")
                found[name, item] = int(value)
        must = {key: value for when, key, value in night.published if when <= night.safe}
        for key, value in (must | self.recorded).items():
            is_gone = night.may_forget(key) or (night.discards and night.was_killed and key[0] == "a")
            if found.get(key) != value and not is_gone:
                self.faults.append(f"run {night.number}: {key} has {found.get(key)}, not {value}: {night}")
        possible = self.recorded | night.returned
        if night.was_killed or night.failed < inf:  # before what was to be discarded was gone, maybe
            possible |= {key: value for key, value in found.items() if night.may_forget(key)}
        if unknown := {key for key, value in found.items() if possible.get(key) != value}:
            self.faults.append(f"run {night.number}: wrong values of {unknown}: {found}, {possible}")
        self.recorded = found
