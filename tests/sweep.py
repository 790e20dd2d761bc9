"""Runs a program again and again, and cancels or interrupts it at each of its checkpoints in turn."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, ConManClosedError, RetriableError, RetryConfig, TaskHandle

# Virtual seconds and task steps that no program comes near, unless it hangs or runs in circles.
FAR = 1000
MANY = 5000


class Interrupt(BaseException):
    """Like KeyboardInterrupt: nobody may catch it."""


class Hang(BaseException):
    """Raised into trio's own loop, which is the only way out when shielded tasks wait for ever."""


class BodyError(Exception):
    """What some programs raise in the body of the block, or in a task besides."""


class TaskError(Exception):
    """What tasks fail with; never seen outside."""


@attrs.define(eq=False)
class Stage(trio.abc.Instrument):
    """Runs one program once, and disturbs it at one place."""

    # After which step of any trio task to call which of the actions; at which point of a task to interrupt.
    step: float = math.inf
    action: str = "scope"
    interrupt: float = math.inf

    limiter: trio.CapacityLimiter = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    manager: ConMan[Any] | None = attrs.field(default=None, init=False)
    handles: list[TaskHandle[Any]] = attrs.field(factory=list, init=False)
    steps: int = attrs.field(default=0, init=False)
    points: int = attrs.field(default=0, init=False)
    running: bool = attrs.field(default=False, init=False)
    idle: int = attrs.field(default=0, init=False)
    # Whether an interrupt may end the manager without cancelling the body, which is told that it is closed.
    may_be_closed: bool = attrs.field(default=False, init=False)
    # How many items the sources of maps have given; how many of those a map may have dropped, not started.
    given: int = attrs.field(default=0, init=False)
    droppable: int = attrs.field(default=0, init=False)
    # What must hold when the program has ended, whatever became of it.
    checks: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.idle = 0
        if not self.running:
            return
        self.steps += 1
        if self.steps == self.step:
            match self.action:
                case "scope":
                    self.scope.cancel(reason="the sweep")
                case "nursery":
                    self.nursery.cancel_scope.cancel(reason="the sweep")
                case "manager" if self.manager is not None:
                    self.manager.cancel("the sweep")
                case "handles":
                    for handle in self.handles:
                        handle.cancel("the sweep")

    def clock(self) -> MockClock:
        """A clock that trio's loop cannot ask for ever without a task making a step."""
        clock = MockClock(autojump_threshold=0)
        time = clock.current_time

        def current_time() -> float:
            self.idle += 1
            if self.idle > MANY or self.steps > MANY:
                raise Hang(f"at {time()}, after {self.steps} steps")
            return time()

        clock.current_time = current_time  # type: ignore[method-assign]  # MockClock is final
        return clock

    def run(self, program: "Program") -> None:
        async def main() -> None:
            self.limiter = trio.CapacityLimiter(2)
            with trio.move_on_at(FAR) as guard:
                async with trio.open_nursery() as self.nursery:
                    with trio.CancelScope() as self.scope:
                        self.running = True
                        await program(self)
                    self.running = False
            assert not guard.cancelled_caught, "it hung"
            assert (self.limiter.borrowed_tokens, self.limiter.statistics().tasks_waiting) == (0, 0)

        trio.run(main, clock=self.clock(), instruments=[self])

    # What programs use

    @asynccontextmanager
    async def open(
        self, limit: int | trio.CapacityLimiter = 2, nursery: trio.Nursery | None = None, **options: Any
    ) -> AsyncIterator[ConMan[Any]]:
        async with trio.open_nursery() as own:
            async with ConMan[Any].open(own if nursery is None else nursery, limit, **options) as manager:
                self.manager = self.manager or manager
                yield manager

    async def submit(self, cm: ConMan[Any], task: Any, *args: Any, **options: Any) -> TaskHandle[Any]:
        handle: TaskHandle[Any] = await cm.run(task, *args, **options)
        self.handles.append(handle)
        return handle

    def submit_nowait(self, cm: ConMan[Any], task: Any, *args: Any, **options: Any) -> None:
        with suppress(trio.WouldBlock):
            self.handles.append(cm.run_nowait(task, *args, **options))

    def point(self) -> None:
        self.points += 1
        if self.points == self.interrupt:
            raise Interrupt

    async def sleep(self, seconds: float) -> None:
        self.point()
        try:
            await trio.sleep(seconds)
        finally:
            self.point()

    async def job(self, value: Any, seconds: float = 1) -> Any:
        await self.sleep(seconds)
        await self.sleep(0)
        return value

    def items(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.point()
            self.given += 1
            yield number

    async def items_with_pauses(self, count: int, seconds: float = 0) -> AsyncGenerator[int]:
        try:
            for number in range(count):
                await self.sleep(seconds)
                self.given += 1
                self.droppable += 1
                yield number
        finally:
            self.point()

    async def failing(self, seconds: float = 1) -> None:
        await self.sleep(seconds)
        raise TaskError

    def flaky(self, failures: int = 1, seconds: float = 0) -> Callable[[], Awaitable[str]]:
        async def task() -> str:
            nonlocal failures
            await self.sleep(seconds)
            failures -= 1
            if failures >= 0:
                raise RetriableError(TaskError("once more"))
            return "done"

        return task

    async def cleaning_up(self, seconds: float = 1) -> None:
        try:
            await self.sleep(9)
        finally:
            with trio.CancelScope(shield=True):
                await self.sleep(seconds)

    async def raising_when_cancelled(self) -> None:
        try:
            await self.sleep(9)
        except trio.Cancelled:
            raise TaskError from None

    async def with_children(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sleep, 2)
            nursery.start_soon(self.raising_when_cancelled)
            await self.sleep(1)
            nursery.cancel_scope.cancel()


Program: TypeAlias = Callable[[Stage], Awaitable[None]]


def every(seconds: float, **overrides: Any) -> RetryConfig:
    return RetryConfig.linear(initial_delay=seconds, max_delay=seconds, **overrides)


def in_orders(seeds: dict[str, int], *kinds: str) -> list[Any]:
    """Each kind of disturbance with each of its orders, which are the same ones on any Python."""
    return [
        pytest.param(kind, seed, marks=[pytest.mark.one_python] if seed else [])
        for kind in kinds
        for seed in range(seeds[kind])
    ]


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # trio orders the tasks of a tick by chance. A sweep has to find the same run again each time, up to the
    # place where it disturbs it: pytest-trio and hypothesis reach for the same two private names.
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    state = trio._core._run._r.getstate()
    yield
    trio._core._run._r.setstate(state)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def perform(program: Program, seed: int, watches: dict[int, Any], **disturbance: Any) -> Stage:
    """Run a program and check what it left; `watches` are those of the standing check."""
    watches.clear()
    stage = Stage(**disturbance)
    trio._core._run._r.seed(seed)
    raised: list[BaseException] = []
    try:
        try:
            stage.run(program)
        except (BodyError, Interrupt, BaseExceptionGroup) as error:
            raised = leaves(error)
        # An interrupt leaves, exactly once. Beside it there may be what the task raised together with it,
        # and, where it cancelled no scope around the body, the news that the manager is closed.
        kinds = [type(error) for error in raised]
        assert kinds.count(Interrupt) == (stage.points >= stage.interrupt)
        allowed: set[type[BaseException]] = {BodyError}
        if Interrupt in kinds:
            allowed |= {Interrupt, TaskError}
            if stage.may_be_closed:
                allowed.add(ConManClosedError)
        assert set(kinds) <= allowed, raised
        accepted = 0
        for watch in watches.values():
            watch.check()
            accepted += watch.accepted
        # Whoever was told that the manager took a task, and only they, have its handle; the rest are items.
        accepted -= len({id(handle) for handle in stage.handles})
        assert stage.given - stage.droppable <= accepted <= stage.given
        assert all(handle.outcome is not None for handle in stage.handles)
        for check in stage.checks:
            check()
    except BaseException as error:
        error.add_note(f"{program.__name__}, seed {seed}, {disturbance}")
        raise
    return stage
