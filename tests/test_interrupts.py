"""Ctrl-C while the main task waits for what a manager has to end: the wait goes on, and it is raised then."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, NoReturn

import pytest
import trio
from trio.lowlevel import currently_ki_protected, enable_ki_protection
from trio.testing import MockClock

from trio_conman import ConMan, TaskHandle
from trio_conman._base.outlast import outlast
from trio_conman._engine.drawn import DrawnMap
from trio_conman._engine.execution import Runner
from trio_conman._engine.fed import FedMap
from trio_conman._engine.pool import Pool, Worker
from trio_conman.signals import shutdown_on_signal

Record = list[tuple[float, str]]

VARIABLE: ContextVar[int] = ContextVar("VARIABLE")


async def clean_up_for_long(record: Record) -> None:
    """A task that takes two seconds to end when it is cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        record.append((trio.current_time(), "cleaned up"))


@enable_ki_protection
def interrupt() -> None:
    """A Ctrl-C that hits no code of a user, so that trio raises it in the main task."""
    signal.raise_signal(signal.SIGINT)


async def interrupt_at(*times: float) -> None:
    for time in times:
        await trio.sleep_until(time)
        interrupt()


async def leave_a_map(nursery: trio.Nursery, record: Record) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            record.append((trio.current_time(), "source closed"))

    async with ConMan[None].open(nursery, 2) as cm:
        try:
            async with cm.map(lambda _: clean_up_for_long(record), source()):
                await trio.sleep(1)
        finally:
            record.append((trio.current_time(), "map left"))


async def leave_by_an_error(nursery: trio.Nursery, record: Record) -> None:
    try:
        async with ConMan[None].open(nursery, 2) as cm:
            await cm.run(clean_up_for_long, record)
            await trio.sleep(1)
            raise KeyError
    finally:
        record.append((trio.current_time(), "block left"))


async def shut_down(nursery: trio.Nursery, record: Record) -> None:
    try:
        async with ConMan[None].open(nursery, 2) as cm:
            await cm.run(clean_up_for_long, record)
            await trio.sleep(1)
            try:
                await cm.shutdown(grace=0)
            finally:
                record.append((trio.current_time(), "shut down"))
    finally:
        record.append((trio.current_time(), "block left"))


@pytest.mark.parametrize(
    "leave, expected",
    [
        (leave_a_map, [(3, "cleaned up"), (3, "cleaned up"), (1, "source closed"), (3, "map left")]),
        (leave_by_an_error, [(3, "cleaned up"), (3, "block left")]),
        (shut_down, [(1.5, "shut down"), (3, "cleaned up"), (3, "block left")]),
    ],
)
@pytest.mark.parametrize("times", [(1.5,), (1.5, 2.5)], ids=["once", "twice"])
def test_the_wait_goes_on_and_then_it_is_raised(
    leave: Callable[[trio.Nursery, Record], Awaitable[Any]],
    expected: Record,
    times: tuple[float, ...],
) -> None:
    record: Record = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt_at, *times)
            await leave(nursery, record)

    with pytest.raises(BaseExceptionGroup) as raised:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    interrupts, _ = raised.value.split(KeyboardInterrupt)
    assert interrupts is not None
    assert sorted(record[:-1]) == sorted(expected[:-1])
    assert record[-1] == expected[-1]


class Books(dict[Any, None]):
    """Tells whether those who write in it may be interrupted."""

    def __init__(self) -> None:
        self.protected: list[bool] = []

    def __setitem__(self, key: Any, value: None) -> None:
        self.protected.append(currently_ki_protected())
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self.protected.append(currently_ki_protected())
        super().__delitem__(key)


async def test_what_is_kept_in_step_cannot_be_interrupted(nursery: trio.Nursery) -> None:
    books = Books()

    async def wait() -> None:
        books.protected.append(currently_ki_protected())

    async with ConMan[None].open(nursery, 2) as cm:
        cm._block.maps = books
        async with cm.map(trio.sleep, [0]):
            pass
        await outlast(wait)
    assert books.protected == [True] * 3


class Source:
    """What a map draws from: tells whether what its user wrote may be interrupted."""

    def __init__(self) -> None:
        self.protected: dict[str, bool] = {}

    def note(self, where: str) -> None:
        self.protected[where] = currently_ki_protected()

    def __iter__(self) -> Iterator[float]:
        self.note("begun")
        return self.items()

    def items(self) -> Iterator[float]:
        try:
            while True:
                self.note("drawn")
                yield 0
        finally:
            self.note("closed")

    async def aclose(self) -> None:
        self.note("aclosed")


async def test_what_its_user_wrote_can_be_interrupted(nursery: trio.Nursery) -> None:
    source = Source()
    async with ConMan[None].open(nursery, 2) as cm, cm.map(trio.sleep, source) as outcomes:
        await anext(outcomes)
    assert source.protected == dict.fromkeys(["begun", "drawn", "closed", "aclosed"], False)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("values", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_worker_that_is_interrupted_before_it_begins_ends_its_task(
    at: int, values: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Pool.next, 0

    def interrupted(self: Pool, worker: Worker) -> TaskHandle[Any] | None:
        nonlocal calls
        calls += 1
        if calls == at:
            assert worker.is_called
            raise error  # as a signal would, in the worker's own frame, a moment earlier
        return original(self, worker)

    monkeypatch.setattr(Pool, "next", interrupted)
    handles: list[TaskHandle[None]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 5) as cm:
            for number in range(3):
                VARIABLE.set(number % values)
                handles.append(cm.start_soon(trio.sleep, 1))

    if error is MemoryError:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    else:
        with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
            trio.run(main)
    assert [handle.state for handle in handles] == ["done"] * 3


async def endless() -> AsyncIterator[float]:
    while True:
        yield 0
        await trio.sleep(0.01)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("door, at", [("start_soon", 1), ("start_soon", 3), ("map", 1), ("async map", 1)])
def test_who_is_interrupted_before_its_first_step_leaves_nothing_behind(door: str, at: int) -> None:
    limiter = trio.CapacityLimiter(3)
    managers: list[ConMan[None]] = []
    first = FedMap._feed if door == "async map" else Runner._live
    begun: set[FrameType] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is first.__code__:
            begun.add(frame)
            if len(begun) == at:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limiter) as cm:
            managers.append(cm)
            sys.setprofile(profile)
            if door == "start_soon":
                for number in range(5):
                    VARIABLE.set(number)  # so that no worker begins the task of another one
                    cm.start_soon(trio.sleep, 1)
            else:
                async with cm.map(trio.sleep, range(5) if door == "map" else endless()):
                    await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        trio.run(main)
    (cm,) = managers
    statistics = cm.statistics()
    assert statistics.succeeded + statistics.failed == statistics.submitted == len(cm.outcomes())
    assert (statistics.running, limiter.borrowed_tokens) == (0, 0)


def test_a_worker_that_is_interrupted_before_it_draws_gives_its_slot_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: DrawnMap[None], worker: Worker) -> NoReturn:
        assert worker.slot is not None
        raise KeyboardInterrupt  # as a signal would, in the worker's own frame, a moment earlier

    monkeypatch.setattr(DrawnMap, "draw", interrupted)
    limiter = trio.CapacityLimiter(2)

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, limiter) as cm:
            async with cm.map(trio.sleep, range(5)) as outcomes:
                async for _ in outcomes:
                    pass

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        trio.run(main)
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("opened", ["a manager", "what listens to signals"])
def test_a_ctrl_c_that_waits_beside_a_cancellation_is_what_an_opening_raises(opened: str) -> None:
    """trio's own start would raise a TrioInternalError in its place."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            if opened == "a manager":
                nursery.cancel_scope.cancel()
                interrupt()
                async with ConMan.open(nursery):
                    pass
            else:
                async with ConMan.open(nursery) as cm:
                    nursery.cancel_scope.cancel()
                    interrupt()
                    async with shutdown_on_signal(cm):
                        pass

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main)
