"""start_soon: a queue without bound, in one line with run."""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from tests.managed import MakeLimit, each_kind
from trio_conman import (
    ConMan,
    ConManClosedError,
    Failure,
    RetriableError,
    RetryConfig,
    StopReason,
    TaskCancelledError,
    TaskHandle,
)

variable: ContextVar[str] = ContextVar("variable", default="nothing")


async def job(n: int, seconds: float, record: list[Any] | None = None) -> int:
    if record is not None:
        record.append((n, trio.current_time()))
    await trio.sleep(seconds)
    return n


async def never(record: list[Any]) -> int:
    record.append("started")
    return 0


@each_kind
async def test_it_starts_in_turn_with_run(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        await cm.run(job, 100, 20)
        await cm.run(job, 0, 1, record)
        for n in range(1, 10):
            if n % 3:
                cm.start_soon(job, n, 1, record)
            else:
                nursery.start_soon(cm.run, job, n, 1, record)
                await wait_all_tasks_blocked()
        statistics = cm.statistics()
        assert (statistics.running, statistics.queued, statistics.waiting) == (2, 6, 3)
        assert statistics.submitted == 8
    assert record == [(n, n) for n in range(10)]


async def test_a_slot_that_is_free_is_taken_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        handles = [cm.start_soon(job, n, 1) for n in range(4)]
        assert [handle.state for handle in handles] == ["running", "running", "queued", "queued"]
        assert [handle.index for handle in handles] == [0, 1, 2, 3]
    assert [handle.outcome.waited for handle in handles if handle.outcome] == [0, 0, 1, 1]


@each_kind
async def test_run_nowait_does_not_overtake_it(limit_of: MakeLimit, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:
        for n in range(3):
            cm.start_soon(job, n, 1)
        await trio.sleep(1)
        # On the tick on which the slots get free.
        while cm.statistics().queued:
            with pytest.raises(trio.WouldBlock):
                cm.run_nowait(job, 4, 1)
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert cm.statistics().running == 1
        cm.run_nowait(job, 4, 1)


async def test_it_is_never_a_checkpoint(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        with trio.CancelScope() as scope, assert_no_checkpoints():
            cm.start_soon(job, 0, 1)
            scope.cancel()
            # The callers' scopes govern nothing of it, neither at once nor in the queue.
            for n in range(1, 4):
                cm.start_soon(job, n, 1)
    assert sorted(cm.outputs()) == [0, 1, 2, 3]


async def test_a_task_sees_the_context_of_the_call(autojump_clock: MockClock) -> None:
    seen: list[tuple[int, str]] = []

    async def look(n: int) -> None:
        seen.append((n, variable.get()))
        variable.set(f"set by {n}")
        await trio.sleep(1)
        assert variable.get() == f"set by {n}"
        if seen.count((n, f"call {n}")) < 2:
            raise RetriableError("again", retry_config=RetryConfig.linear(initial_delay=1, max_attempts=2))

    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        for n in range(6):
            variable.set(f"call {n}")
            cm.start_soon(look, n)
        variable.set("later")
    assert cm.errors() == []
    assert sorted(seen) == [(n, f"call {n}") for n in range(6) for _ in range(2)]
    assert variable.get() == "later"


async def test_a_crawler_ends_when_it_has_found_all(autojump_clock: MockClock) -> None:
    links = {"/": ["/a", "/b"], "/a": ["/c", "/"], "/b": ["/c", "/d"], "/c": [], "/d": ["/a"]}
    seen = {"/"}

    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:

        async def visit(url: str) -> str:
            await trio.sleep(1)
            for link in links[url]:
                if link not in seen:
                    seen.add(link)
                    cm.start_soon(visit, link)
            return url

        cm.start_soon(visit, "/")
        await cm.wait()
        assert trio.current_time() == 3
    assert sorted(cm.outputs()) == sorted(links)


@each_kind
async def test_a_chain_of_tasks_that_add_the_next_is_waited_for(
    limit_of: MakeLimit, autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, limit_of(2)) as cm:

        async def link(left: int) -> int:
            await trio.sleep(1)
            if left:
                cm.start_soon(link, left - 1)
            return left

        async def waits() -> None:
            await cm.wait()
            record.append(trio.current_time())

        # Two chains, so that the slots are always taken when one is continued.
        for length in (9, 9):
            cm.start_soon(link, length)
        for _ in range(3):
            nursery.start_soon(waits)
        await wait_all_tasks_blocked()
    assert record == [10, 10, 10]
    assert trio.current_time() == 10
    assert cm.outputs() == sorted([*range(10), *range(10)], reverse=True)


async def test_a_queued_task_is_cancelled_at_once(autojump_clock: MockClock, record: list[Any]) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for n in range(2):
            cm.start_soon(job, n, 2)
        handle = cm.start_soon(never, record, name="never")
        last = cm.start_soon(job, 3, 2, record)
        await trio.sleep(1)
        with assert_no_checkpoints():
            handle.cancel("not needed")
            outcome = handle.outcome
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.CANCELLED
        assert type(outcome.error) is TaskCancelledError
        message = "task 'never' (index 2) was cancelled: its handle was cancelled: not needed"
        assert str(outcome.error) == message
        assert (outcome.waited, outcome.elapsed, handle.state) == (1, 0, "done")
        handle.cancel("again")
        assert handle.outcome is outcome
        assert cm.outcomes() == [outcome]
        statistics = cm.statistics()
        assert (statistics.queued, statistics.cancelled, statistics.failed) == (1, 1, 1)
        await last.wait()
    assert record == [(3, 2)]
    assert trio.current_time() == 4


async def test_who_waits_for_a_queued_task_wakes_when_it_is_cancelled(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async def waits(what: Callable[[], Awaitable[Any]]) -> None:
        await what()
        record.append(trio.current_time())

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        cm.pause()
        handle = cm.start_soon(never, record)
        nursery.start_soon(waits, handle.wait)
        nursery.start_soon(waits, cm.wait)
        await trio.sleep(3)
        handle.cancel()
        await trio.sleep(1)
    assert record == [3, 3]


async def test_a_task_cancelled_as_it_gets_its_slot_does_not_start(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        at_once = cm.start_soon(never, record)
        at_once.cancel()
        await at_once.wait()
        for n in range(2):
            cm.start_soon(job, n, 2)
        handle = cm.start_soon(never, record)
        cm.limit = 3
        assert handle.state == "running"
        handle.cancel()
    assert record == []
    assert cm.statistics().cancelled == 2


async def test_a_queued_task_that_is_cancelled_is_sent_as_well(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Any](0)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 2, send_to=send) as cm:
            handles = [cm.start_soon(job, n, 5) for n in range(3)]
            handles[2].cancel()
            await wait_all_tasks_blocked()
            # Nobody has taken its outcome yet, so it counts as running; in the queue it is no longer.
            assert (cm.statistics().queued, cm.statistics().running) == (0, 3)
            assert await receive.receive() is handles[2].outcome
            assert trio.current_time() == 0
            received = [await receive.receive() for _ in range(2)]
            assert {outcome.value for outcome in received} == {0, 1}
    assert cm.outcomes() == []


ENDS = {
    "cancel": "'conman' was cancelled: enough",
    "timeout": "the deadline of 'conman' passed",
    "error": "the block of 'conman' was left by KeyError",
    "nursery": "a cancel scope around 'conman' was cancelled",
    "interrupt": "a cancel scope around 'conman' was cancelled",
}


@each_kind
@pytest.mark.parametrize("how", ENDS)
async def test_queued_tasks_end_with_their_manager(
    limit_of: MakeLimit, how: str, autojump_clock: MockClock, record: list[Any]
) -> None:
    handles: list[TaskHandle[int]] = []
    managers: list[ConMan[int]] = []

    async def exits() -> int:
        await trio.sleep(3)
        raise SystemExit

    async def block() -> None:
        async with trio.open_nursery() as nursery:
            timeout = 3 if how == "timeout" else 100
            async with ConMan[int].open(nursery, limit_of(2), timeout=timeout) as cm:
                managers.append(cm)
                cm.start_soon(job, 0, 50)
                if how == "interrupt":
                    cm.start_soon(exits)
                else:
                    cm.start_soon(job, 1, 50)
                await trio.sleep(1)
                # What ends the tasks must not free a slot for one of these.
                handles.extend(cm.start_soon(never, record, name="late") for _ in range(3))
                await trio.sleep(2)
                if how == "cancel":
                    cm.cancel("enough")
                elif how == "error":
                    raise KeyError(how)
                elif how == "nursery":
                    nursery.cancel_scope.cancel()
                await trio.sleep(10)

    if how == "error":
        with pytest.RaisesGroup(KeyError):
            await block()
    elif how == "interrupt":
        with pytest.RaisesGroup(SystemExit, flatten_subgroups=True):
            await block()
    else:
        await block()
    assert trio.current_time() == 3
    assert record == []
    (cm,) = managers
    assert cm.statistics().failed == cm.statistics().submitted == 5
    for handle in handles:
        outcome = handle.outcome
        assert isinstance(outcome, Failure)
        assert outcome in cm.outcomes()
        if how == "timeout":
            assert outcome.reason is StopReason.MANAGER_TIMEOUT
            assert type(outcome.error) is trio.TooSlowError
        else:
            assert outcome.reason is StopReason.CANCELLED
            assert type(outcome.error) is TaskCancelledError
        assert str(outcome.error).partition(": ")[2] == ENDS[how]
        assert (outcome.waited, outcome.elapsed, outcome.retries) == (2, 0, 0)
    with pytest.raises(
        ConManClosedError, match=rf"^'conman' is closed and accepts no more tasks: {ENDS[how]} \(see"
    ):
        cm.start_soon(job, 9, 1)
    assert cm.statistics().submitted == 5


async def test_a_task_that_is_being_cancelled_adds_nothing(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:

        async def adds() -> int:
            try:
                await trio.sleep_forever()
            finally:
                with pytest.raises(ConManClosedError):
                    cm.start_soon(never, record)
                record.append("refused")
            return 1

        cm.start_soon(adds)
        await wait_all_tasks_blocked()
        cm.cancel()
    assert record == ["refused"]
    assert cm.statistics().submitted == 1


@pytest.mark.unmeasured
def test_a_queued_task_costs_less_than_500_bytes() -> None:
    # In a process of its own, where nothing else is traced.
    program = Path(__file__).parent / "programs" / "queue_memory.py"
    done = subprocess.run([sys.executable, program], check=True, capture_output=True, text=True)
    # From CPython 3.14 on a tuple keeps its hash, and the one of the arguments is 8 bytes larger.
    arguments = sys.getsizeof((1,)) - 48
    assert 100 < float(done.stdout) - arguments <= 500


async def test_a_queued_task_is_no_trio_task(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        before = trio.lowlevel.current_statistics().tasks_living
        for n in range(102):
            cm.start_soon(job, n, 1)
        assert trio.lowlevel.current_statistics().tasks_living == before + 2
    assert len(cm.outputs()) == 102
    assert trio.current_time() == 51


async def numbers() -> Any:
    yield 1


@pytest.mark.parametrize("busy", [0, 2])
async def test_what_is_no_task_is_refused(busy: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        untyped: Any = cm
        for n in range(busy):
            cm.start_soon(job, n, 1)
        # The coroutine is closed: Python would warn that it was never awaited.
        for wrong in (None, 7, job(1, 1), numbers):
            with pytest.raises(TypeError, match=r"pass fn, \*args, not fn\(\*args\)$"):
                untyped.start_soon(wrong)
        with pytest.raises(TypeError, match=r"^task_timeout must be .*, not '1'"):
            untyped.start_soon(job, 1, 1, task_timeout="1")
        with pytest.raises(ValueError, match=r"^attempt_timeout must be .*, not -1"):
            cm.start_soon(job, 1, 1, attempt_timeout=-1)
        with pytest.raises(TypeError, match=r"^retry must be a RetryConfig or None, not 3"):
            untyped.start_soon(job, 1, 1, retry=3)
        with pytest.raises(TypeError, match=r"^name must be a str or None, not 3"):
            untyped.start_soon(job, 1, 1, name=3)
        assert cm.statistics().submitted == busy


async def test_its_options_are_those_of_run(autojump_clock: MockClock) -> None:
    calls: list[float] = []

    async def slow() -> int:
        calls.append(trio.current_time())
        await trio.sleep_forever()
        return 0

    async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2) as cm:
        for n in range(2):
            cm.start_soon(job, n, 1)
        config = RetryConfig.linear(initial_delay=1, max_delay=1)
        handle = cm.start_soon(slow, name="slow", retry=config, attempt_timeout=2, task_timeout=6)
    outcome = handle.outcome
    assert isinstance(outcome, Failure)
    assert (handle.name, handle.retries, calls) == ("slow", 1, [1, 4])
    # The next delay would end on the task's deadline.
    assert (outcome.reason, outcome.elapsed) == (StopReason.DEADLINE, 5)
