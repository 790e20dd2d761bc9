"""The standing check: whatever a test did, its managers lost nothing and hold nothing."""

import gc
import random
import signal
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import TaskHandle
from trio_conman._base.outcomes import Outcome
from trio_conman._books.handles import Slot
from trio_conman._engine.execution import Runner
from trio_conman._limits.line import Line

# These need a browser and the built site: only who names the folder runs them, as `nox -s docs_browser` does.
collect_ignore = ["browser"]

# A shell starts what runs in its background with Ctrl-C ignored, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    collect_and_freeze()


def collect_and_freeze() -> None:
    """What is left stays: the collector need not look at it again for each test that calls it."""
    gc.collect()
    gc.freeze()


@attrs.define
class Watch:
    """What happened to the tasks of one manager, seen from its runner; it keeps no task alive."""

    runner: Runner
    accepted: int = 0
    # The ids of the handles that have no outcome yet, and of those whose outcome has not arrived.
    unfinished: set[int] = attrs.Factory(set)
    unsettled: set[int] = attrs.Factory(set)
    # Of those that have started.
    in_hand: set[int] = attrs.Factory(set)
    faults: list[str] = attrs.Factory(list)

    def accept(self, handle: int) -> None:
        self.accepted += 1
        self.unfinished.add(handle)
        self.unsettled.add(handle)

    def begin(self, handle: int, now: float) -> None:
        self.in_hand.add(handle)
        running, limit = len(self.in_hand) - len(self.runner.without_slot), self.runner.slots.limit
        if running > limit:
            self.faults.append(f"{running} running, limit {limit}, at {now}")

    def check(self) -> None:
        runner, line = self.runner, self.runner.slots
        assert isinstance(line, Line)
        assert self.accepted == runner.submitted == runner.succeeded + runner.failed
        assert not self.unfinished, "an accepted task has no outcome"
        assert not self.unsettled, "an outcome has not arrived"
        assert self.faults == []
        assert (runner.backing_off, len(runner.without_slot), runner.unfinished) == (0, 0, 0)
        assert not runner.idle
        assert not runner.pool._called, "a worker was hired and has not begun"
        assert not runner.pool._late
        limiter = line.limiter.statistics()
        assert [each for each in limiter.borrowers if isinstance(each, Slot)] == [], (
            "a slot is still borrowed"
        )
        assert not line._queue.ready, "somebody still waits for a slot"
        assert not line._returning.ready, "somebody still waits for a slot"
        assert not line.parked, "somebody still waits for another one of its key"
        assert not line.rings._waits, "somebody still waits inside of a task"
        if not line.shared:
            assert (limiter.borrowed_tokens, limiter.tasks_waiting) == (0, 0)


@pytest.fixture(params=range(6))
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio runs what it wakes together in another order."""
    # Nothing public sets it.
    monkeypatch.setattr("trio._core._run._r", random.Random(request.param))


@pytest.fixture(autouse=True)
def standing_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Watch]]:
    """After each test: one outcome for each accepted task, no slot borrowed, nobody waiting, and at no start
    more tasks running than the limit."""
    watches: dict[int, Watch] = {}

    def watch(runner: Runner) -> Watch:
        found = watches.get(id(runner))
        if found is None:  # not by setdefault, which would make one for each task
            found = watches[id(runner)] = Watch(runner)
        return found

    accept, begin, finish, settle = Runner.accept, Runner.begin, Runner._finish, Runner.settle
    begin_new, put_back = Runner.begin_new, Runner.put_back

    def watched_accept(self: Runner, handle: TaskHandle[Any]) -> None:
        watch(self).accept(id(handle))  # first, since it may end as it is told of
        accept(self, handle)

    def watched_begin(self: Runner, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        begin(self, handle, slot, now)
        watch(self).begin(id(handle), now)

    def watched_begin_new(self: Runner, handle: TaskHandle[Any], slot: Slot, now: float) -> None:
        watched = watch(self)
        watched.accept(id(handle))
        begin_new(self, handle, slot, now)
        watched.begin(id(handle), now)

    def watched_put_back(self: Runner, handle: TaskHandle[Any]) -> Slot:
        watch(self).in_hand.remove(id(handle))
        return put_back(self, handle)

    def watched_finish(self: Runner, handle: TaskHandle[Any], outcome: Outcome[Any] | None) -> None:
        watched = watch(self)
        if id(handle) in watched.unfinished:
            watched.unfinished.remove(id(handle))
        else:
            watched.faults.append(f"{handle!r} finished twice")
        finish(self, handle, outcome)
        # Not the property: who looks there has looked.
        if handle._outcome is None:
            watched.faults.append(f"{handle!r} finished without an outcome")

    def watched_settle(self: Runner, handle: TaskHandle[Any]) -> None:
        watched = watch(self)
        if id(handle) in watched.unsettled:
            watched.unsettled.remove(id(handle))
            watched.in_hand.discard(id(handle))
        else:
            watched.faults.append(f"{handle!r} settled twice")
        settle(self, handle)

    monkeypatch.setattr(Runner, "accept", watched_accept)
    monkeypatch.setattr(Runner, "begin", watched_begin)
    monkeypatch.setattr(Runner, "begin_new", watched_begin_new)
    monkeypatch.setattr(Runner, "put_back", watched_put_back)
    monkeypatch.setattr(Runner, "_finish", watched_finish)
    monkeypatch.setattr(Runner, "settle", watched_settle)
    yield watches
    for each in watches.values():
        each.check()


@pytest.fixture
def patient_clock() -> MockClock:
    """`autojump_clock` for tests with threads, which that one waits for in a loop that may starve them."""
    return MockClock(autojump_threshold=0.01)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector is off: what is freed was in no reference cycle."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged of this test: managers of others, which may complain as they are collected, are gone."""
    collect_and_freeze()
    return caplog


@pytest.fixture
def record() -> list[Any]:
    """A list to append to, and to compare as a whole."""
    return []


@pytest.fixture
def limit_of_0() -> None:
    """A limiter may be at 0."""
    try:
        trio.CapacityLimiter(0)
    except ValueError:
        pytest.skip("this trio is of before limiters could be at 0")
