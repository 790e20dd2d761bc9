"""Workers: trio tasks that run one task after another, whatever door it came through."""

from __future__ import annotations

import contextvars
import math
import traceback
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.managed import clean_up_after
from trio_conman import (
    AdaptiveLimit,
    ConMan,
    Failure,
    Outcome,
    RateLimiter,
    StopReason,
    Success,
    TaskCancelledError,
)
from trio_conman._engine.pool import MAX_IDLE
from trio_conman._limits.waiters import Waiters

VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("VARIABLE")


async def here(*_: object) -> trio.lowlevel.Task:
    """The trio task that runs it."""
    await trio.lowlevel.checkpoint()
    return trio.lowlevel.current_task()


def workers_of(cm: ConMan[Any]) -> list[trio.lowlevel.Task]:
    return [worker.task for worker in cm._runner.pool.workers]


async def test_tasks_of_every_door_run_on_the_same_workers() -> None:
    used: set[trio.lowlevel.Task] = set()
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for _ in range(5):
            used.add(await (await cm.run(here)).result())
        handles = [cm.start_soon(here) for _ in range(5)]
        used |= {await handle.result() for handle in handles}
        used.add(await cm.run_nowait(here).result())
        async with cm.map(here, range(5)) as outcomes:
            used |= {outcome.value async for outcome in outcomes if isinstance(outcome, Success)}
        assert used == set(workers_of(cm))
    assert len(used) == 2


async def test_a_queued_task_follows_the_one_before_without_a_turn_in_between() -> None:
    """Its worker does not sleep."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        async with ConMan[Any].open(nursery, 2) as cm:
            for _ in range(200):
                cm.start_soon(trio.lowlevel.checkpoint)
            await cm.wait()
        nursery.cancel_scope.cancel()
    assert turns < 115


async def test_a_worker_bears_the_name_of_its_task_and_an_idle_one_says_that_it_is_idle() -> None:
    async def name() -> str:
        return trio.lowlevel.current_task().name

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, name="cm") as cm:
        assert await (await cm.run(name, name="first")).result() == "first"
        await wait_all_tasks_blocked()
        assert [task.name for task in workers_of(cm)] == ["idle worker of cm"]
        assert await (await cm.run(name, name="second")).result() == "second"
        async with cm.map(lambda _: name(), range(3), name="item") as outcomes:
            assert {outcome.value async for outcome in outcomes if isinstance(outcome, Success)} == {"item"}


async def test_an_idle_worker_holds_nothing_of_its_last_task(no_collector: None) -> None:
    class Big:
        pass

    async def task(argument: Big) -> Big:
        VARIABLE.set(argument)
        await trio.lowlevel.checkpoint()
        return argument

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        big = Big()
        gone = weakref.ref(big)
        await (await cm.run(task, big)).wait()
        cm.pop_outcomes()
        del big
        await wait_all_tasks_blocked()
        assert gone() is None
        (worker,) = workers_of(cm)
        assert len(worker.context) == 0


@pytest.mark.parametrize("limit", [2, math.inf])
async def test_each_task_has_the_context_of_its_submitter(limit: float) -> None:
    async def task(expected: object) -> bool:
        seen = VARIABLE.get(None) is expected
        VARIABLE.set("left behind")
        await trio.lowlevel.checkpoint()
        return seen and VARIABLE.get() == "left behind"

    async with trio.open_nursery() as nursery, ConMan[bool].open(nursery, limit) as cm:
        for value in ("a", "b", "b", "c"):
            VARIABLE.set(value)
            cm.start_soon(task, value)
            await cm.run(task, value)
            async with cm.map(task, [value] * 3) as outcomes:
                VARIABLE.set("later")
                assert [outcome.value async for outcome in outcomes if isinstance(outcome, Success)] == [
                    True
                ] * 3
    assert cm.outputs() == [True] * 8


async def test_no_more_than_so_many_idle_workers_are_kept() -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, math.inf) as cm:
        for _ in range(MAX_IDLE + 50):
            cm.start_soon(trio.lowlevel.checkpoint)
        assert len(cm._runner.pool.workers) == MAX_IDLE + 50
        await cm.wait()
        await wait_all_tasks_blocked()
        assert len(cm._runner.pool.workers) == MAX_IDLE
        for _ in range(MAX_IDLE + 50):
            cm.start_soon(trio.lowlevel.checkpoint)
    assert len(cm.outcomes()) == 2 * (MAX_IDLE + 50)
    assert not cm._runner.pool.workers


async def hold(scopes: list[trio.CancelScope]) -> None:
    scopes.append(trio.CancelScope().__enter__())


@pytest.mark.parametrize("door", ["run", "start_soon"])
async def test_a_task_that_leaves_a_scope_open_fails_alone_and_its_worker_is_replaced(door: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        first = await (await cm.run(here)).result()
        scopes: list[trio.CancelScope] = []
        handle = await cm.run(hold, scopes) if door == "run" else cm.start_soon(hold, scopes)
        outcome = await handle.wait()
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, RuntimeError)
        assert "Cancel scope stack corrupted" in str(outcome.error)
        second = await (await cm.run(here)).result()
        assert second is not first
        await wait_all_tasks_blocked()
        assert workers_of(cm) == [second]


async def test_what_a_task_raises_that_leaves_a_scope_open_is_shown_too() -> None:
    async def leave_open() -> None:
        trio.CancelScope().__enter__()
        raise KeyError("a")

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        outcome = await (await cm.run(leave_open)).wait()
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, RuntimeError)
    assert repr(outcome.error.__context__) == "KeyError('a')"


@pytest.mark.parametrize("nurseries", [1, 3])
@pytest.mark.parametrize("children", [0, 2])
async def test_a_task_that_leaves_a_nursery_open_fails_alone(children: int, nurseries: int) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    async def leave_open() -> None:
        for each in managers:
            inner = await each.__aenter__()
            for _ in range(children):
                inner.start_soon(child)
        await trio.lowlevel.checkpoint()

    managers = [trio.open_nursery() for _ in range(nurseries)]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        outcome = await (await cm.run(leave_open)).wait()
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, RuntimeError)
        assert "Cancel scope stack corrupted" in str(outcome.error)
        assert isinstance(await (await cm.run(here)).result(), trio.lowlevel.Task)
        await wait_all_tasks_blocked()
        assert len(workers_of(cm)) == 1
        assert ended == ["child"] * children * nurseries
    assert not cm.cancel_scope.cancel_called


@pytest.mark.filterwarnings("ignore:open_nursery:trio.TrioDeprecationWarning")  # of the loose mode
@pytest.mark.parametrize("strict", [True, False])
async def test_what_was_raised_in_a_nursery_left_open_is_shown_too(strict: bool) -> None:
    async def fail(name: str) -> None:
        raise ValueError(name)

    async def leave_open() -> None:
        for name, each in zip("abc", managers, strict=True):
            (await each.__aenter__()).start_soon(fail, name)
        raise KeyError("body")

    managers = [trio.open_nursery(strict_exception_groups=strict) for _ in range(3)]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        outcome = await (await cm.run(leave_open)).wait()
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, RuntimeError)
    shown = "".join(traceback.format_exception(outcome.error))
    for error in ("ValueError: a", "ValueError: b", "ValueError: c", "KeyError: 'body'"):
        assert shown.count(error) == 1, shown


async def test_a_task_that_leaves_very_many_nurseries_open_fails_alone() -> None:
    async def fail() -> None:
        raise ValueError("child")

    async def leave_open() -> None:
        nurseries = [await each.__aenter__() for each in managers]
        nurseries[-1].start_soon(fail)

    managers = [trio.open_nursery() for _ in range(1000)]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        outcome = await (await cm.run(leave_open)).wait()
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, RuntimeError)
        assert isinstance(await (await cm.run(here)).result(), trio.lowlevel.Task)


@pytest.mark.filterwarnings("ignore:open_nursery:trio.TrioDeprecationWarning")  # of the loose mode
@pytest.mark.parametrize("strict", [True, False])
async def test_what_was_raised_in_a_nursery_left_open_stays_as_it_is(strict: bool) -> None:
    error = ValueError("child, and body")

    async def fail() -> None:
        try:
            raise KeyError("before")
        except KeyError:
            raise error  # noqa: B904  # its context is what this is about

    async def leave_open() -> None:
        (await left.__aenter__()).start_soon(fail)
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        raise error

    left = trio.open_nursery(strict_exception_groups=strict)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        outcome = await (await cm.run(leave_open)).wait()
    assert isinstance(outcome, Failure)
    assert isinstance(error.__context__, KeyError)
    assert "KeyError: 'before'" in "".join(traceback.format_exception(outcome.error))


async def test_what_a_nursery_left_open_still_cleans_up_is_waited_for(autojump_clock: MockClock) -> None:
    async def leave_open() -> None:
        inner = await managers[0].__aenter__()
        inner.start_soon(clean_up_after, math.inf, 2)
        await trio.sleep(1)

    managers = [trio.open_nursery()]
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        cm.start_soon(leave_open)
    [outcome] = cm.outcomes()
    assert isinstance(outcome, Failure)
    assert (trio.current_time(), outcome.elapsed) == (3, 3)


class Passes(trio.abc.Instrument):
    """Counts the passes of trio's loop, in each of which the order of tasks is chance, and their steps."""

    count = steps = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("is_brief", [True, False])
async def test_tasks_begin_in_the_order_of_submission(is_brief: bool) -> None:
    """Whichever worker has its turn first: a new one, one that rested, or one that goes on."""
    began: list[int] = []

    async def task(number: int) -> None:
        began.append(number)
        if not is_brief:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 4) as cm:
        for first in (0, 30, 60):
            for number in range(first, first + 2):
                cm.run_nowait(task, number)
            for number in range(first + 2, first + 29):
                cm.start_soon(task, number)
            await cm.run(task, first + 29)
            await cm.wait()
            await wait_all_tasks_blocked()  # until the workers rest
    assert began == list(range(90))


@pytest.mark.usefixtures("order")
async def test_they_do_while_an_adaptive_limit_grows(autojump_clock: MockClock) -> None:
    """It does so when the next task has got the slot of one that ends."""
    began: list[int] = []

    async def task(number: int) -> None:
        began.append(number)

    limit = AdaptiveLimit(2, 9, initial=2)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        await cm.run(trio.sleep, 1)  # so that one worker alone goes on
        for number in range(400):
            cm.start_soon(task, number)
        await cm.wait()
        assert cm.limit > 2
    assert began == list(range(400))


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("values", [1, 2, 3, 12])
@pytest.mark.parametrize("limit", [3, 12])
async def test_tasks_of_several_contexts_begin_in_their_order_each_in_its_own(
    limit: int, values: int, autojump_clock: MockClock
) -> None:
    began: list[tuple[float, int, object]] = []

    async def task(number: int) -> None:
        began.append((trio.current_time(), number, VARIABLE.get()))
        await trio.sleep(1)

    def submit(number: int) -> None:
        VARIABLE.set(number % values)
        cm.start_soon(task, number)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        for number in range(12):
            contextvars.copy_context().run(submit, number)
    assert began == [(number // limit, number, number % values) for number in range(12)]


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("limit", [10, 300])
async def test_the_order_of_several_contexts_costs_few_turns_however_many_begin(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in programs: trio takes a turn in one direction or in the other. In tests it may shuffle.
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", False)
    passes = Passes()
    began: list[int] = []

    async def task(number: int) -> None:
        began.append(number)
        for _ in range(number * 7 % 5):
            await trio.lowlevel.checkpoint()

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, limit) as cm:
        for number in range(1000):
            VARIABLE.set(number)
            cm.start_soon(task, number)
    trio.lowlevel.remove_instrument(passes)
    assert began == list(range(1000))
    assert passes.steps < 10_000  # 2,000 of them are the checkpoints of the tasks
    assert passes.count < 20_000 / limit


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("values", [1, 5])
async def test_a_cancellation_ends_those_who_were_to_begin_together(values: int) -> None:
    async def end() -> None:
        cm.cancel()
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 5) as cm:
        for number in range(10):
            VARIABLE.set(number % values)
            cm.start_soon(trio.sleep_forever if number else end)
    assert [type(error) for error in cm.errors()] == [TaskCancelledError] * 10


@pytest.mark.usefixtures("order")
async def test_who_begins_together_waits_for_no_permit_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []
    monkeypatch.setattr(Waiters, "acquire", lambda _, key, *__: waits.append(key))
    async with (
        trio.open_nursery() as nursery,
        ConMan[Any].open(nursery, 10, rate=RateLimiter(1, burst=100)) as cm,
    ):
        for _ in range(50):
            cm.start_soon(trio.lowlevel.checkpoint)
    assert waits == []


async def test_who_has_to_wake_a_worker_is_not_overtaken_by_who_finds_one_awake() -> None:
    passes = Passes()
    started: dict[str, int] = {}
    release = trio.Event()

    async def task(name: str) -> None:
        started[name] = passes.count

    async def resumes() -> None:
        await release.wait()
        cm.resume()  # wakes a worker for the first in the line; the second gets the one of this task

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        early = await cm.run(trio.lowlevel.checkpoint)
        await cm.run(resumes)
        await early.wait()
        await wait_all_tasks_blocked()
        cm.pause()
        for name in ("first", "second"):
            cm.start_soon(task, name)
        release.set()
        await cm.wait()
    trio.lowlevel.remove_instrument(passes)
    assert started["first"] == started["second"]


@pytest.mark.usefixtures("order")
async def test_who_needs_another_context_is_not_overtaken_by_who_does_not() -> None:
    started: list[str] = []
    release = trio.Event()

    async def task(name: str) -> None:
        started.append(name)

    def submit(name: str) -> None:
        VARIABLE.set(name)
        cm.start_soon(task, name)

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(release.wait)
        contextvars.copy_context().run(submit, "first")
        cm.start_soon(task, "second")
        await wait_all_tasks_blocked()
        release.set()
        await cm.wait()
    assert started == ["first", "second"]


async def test_tasks_that_pass_no_checkpoint_leave_others_their_turns() -> None:
    """Though a queued task follows the one before without a sleep."""
    ran: list[int] = []

    async def task() -> None:
        ran[-1] += 1

    async def bystand() -> None:
        while True:
            ran.append(0)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystand)
        await trio.lowlevel.checkpoint()
        async with ConMan[Any].open(nursery, 3) as cm:
            for _ in range(300):
                cm.start_soon(task)
            await cm.wait()
        nursery.cancel_scope.cancel()
    assert sum(ran) == 300
    assert max(ran) <= 2 * 3  # every other batch of trio's may put others first and last


async def test_a_cost_that_cannot_be_told_costs_no_worker() -> None:
    def cost(*args: object) -> float:
        if args:
            raise ValueError("unknown")
        return 1

    rate = RateLimiter(1000, burst=9, cost=cost)
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2, rate=rate) as cm:
        before = await (await cm.run(here)).result()
        outcome = await (await cm.run(here, "dear")).wait()
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, RuntimeError)
        assert await (await cm.run(here)).result() is before


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 0.5}, {"task_timeout": 0.5}])
async def test_a_task_that_returns_though_it_was_cancelled_leaves_the_next_one_alone(
    options: dict[str, Any], autojump_clock: MockClock
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        return "done"

    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        cm.start_soon(trio.sleep, 9)
        handles = [cm.start_soon(stubborn, **options), cm.start_soon(trio.sleep, 3)]
        await wait_all_tasks_blocked()
        if not options:
            handles[0].cancel()
        assert [await handle.result() for handle in handles] == ["done", None]
        assert trio.current_time() == 4


@pytest.mark.parametrize("end", ["leave", "cancel", "shutdown"])
async def test_idle_workers_end_with_the_manager(end: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 3) as cm:
        async with cm.map(here, range(9)) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 9
        await wait_all_tasks_blocked()
        assert len(workers_of(cm)) == 3
        if end == "cancel":
            cm.cancel()
        elif end == "shutdown":
            await cm.shutdown()
    assert not cm._runner.pool.workers


async def test_a_worker_that_is_woken_in_the_instant_of_a_cancellation_ends_its_task() -> None:
    async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
        await (await cm.run(here)).wait()
        await wait_all_tasks_blocked()
        handle = cm.run_nowait(trio.sleep_forever)
        cm.cancel()
    assert isinstance(handle.outcome, Failure)
    assert handle.outcome.reason is StopReason.CANCELLED


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_a_task_ends_all_and_loses_none(interrupt: type[BaseException]) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise interrupt

    managers: list[ConMan[Any]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 7) as cm:
            managers.append(cm)
            await (await cm.run(here)).wait()
            for _ in range(5):
                cm.start_soon(trio.sleep_forever)
            await cm.run(fail)

    with pytest.RaisesGroup(interrupt, flatten_subgroups=True):
        trio.run(main)
    (cm,) = managers
    assert cm.statistics().submitted == len(cm.outcomes())
    assert not cm._runner.pool.workers


@pytest.mark.parametrize("where", ["scope", "nursery", "group", "child", "source"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_a_scope_left_open_hides_no_interrupt(interrupt: type[BaseException], where: str) -> None:
    """In its place trio raises a RuntimeError, which ends that task alone."""

    async def fail() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            raise interrupt

    async def leave_open() -> None:
        managers.append(trio.open_nursery())
        inner = await managers[0].__aenter__()
        if where == "child":
            inner.start_soon(fail)
        elif where == "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
        else:
            await fail()

    async def leave_scope_open() -> None:
        trio.CancelScope().__enter__()
        await fail()

    def items() -> Iterator[int]:
        trio.CancelScope().__enter__()
        raise interrupt
        yield

    managers: list[Any] = []
    outcomes: list[Outcome[Any]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 7) as cm:
            if where == "source":
                async with cm.map(here, items()) as stream:
                    await anext(stream)
            handle = cm.start_soon(leave_scope_open if where == "scope" else leave_open)
            try:
                await trio.sleep(1)
            finally:
                with trio.CancelScope(shield=True):
                    outcomes.append(await handle.wait())

    with pytest.RaisesGroup(interrupt, flatten_subgroups=True):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    for outcome in outcomes:
        assert isinstance(outcome, Failure)
        assert "Cancel scope stack corrupted" in str(outcome.error)
        assert outcome.error.__context__ is None
    assert len(outcomes) == (where != "source")
