"""One trio run at a time uses a rate limiter, in its own thread; a budget may be used by several at once."""

import queue
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note
from trio_conman import ConMan, RateLimiter, RetryBudget

ELSEWHERE = r"^<RateLimiter of .*> is used by a manager of another trio run: .*trio\.from_thread\.run_sync$"
NOWHERE = r"^<RateLimiter of .*> can be used inside of trio\.run\(\) only, .*trio\.from_thread\.run_sync$"


async def use(rate: RateLimiter, record: list[Any]) -> None:
    """A run that starts two attempts."""
    async with manager(rate) as cm:
        for name in "xy":
            await cm.run(note, record, name)


async def pause(rate: RateLimiter, _: list[Any]) -> None:
    """A run that only pauses."""
    rate.pause_for(5)


async def look(rate: RateLimiter, _: list[Any]) -> None:
    """A run that only looks."""
    rate.statistics()


def run_fast(main: Callable[[RateLimiter, list[Any]], Awaitable[None]], rate: RateLimiter) -> list[Any]:
    """A trio run of its own, in virtual time."""
    record: list[Any] = []
    try:
        trio.run(main, rate, record, clock=MockClock(autojump_threshold=0))
    except ExceptionGroup as group:  # that of the nursery
        raise group.exceptions[0] from None
    return record


def test_it_says_where_it_stands_before_a_run_and_after() -> None:
    rate = RateLimiter(1, per=10, burst=3)
    assert (rate.statistics().available, rate.statistics().paused_for) == (3, 0)
    run_fast(use, rate)
    assert (rate.statistics().available, rate.statistics().tasks_waiting) == (1, 0)


@pytest.mark.parametrize("main", [use, pause, look])
@pytest.mark.parametrize("busy", [True, False])
async def test_another_run_is_refused_while_managers_of_this_one_are_open(
    main: Callable[[RateLimiter, list[Any]], Awaitable[None]],
    busy: bool,
    mock_clock: MockClock,
    record: list[Any],
) -> None:
    rate = RateLimiter(1, per=10)
    async with manager(rate) as cm:
        if busy:
            for name in "abc":
                await cm.run(note, record, name)
            await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match=ELSEWHERE):
            await trio.to_thread.run_sync(run_fast, main, rate)
        statistics = rate.statistics()
        assert (statistics.tasks_waiting, statistics.paused_for) == (2 if busy else 0, 0)
        mock_clock.autojump_threshold = 0
    assert record == ([(0, "a"), (10, "b"), (20, "c")] if busy else [])


async def test_another_run_may_use_it_when_the_managers_of_this_one_are_closed(
    patient_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)
    for _ in range(2):
        async with manager(rate) as one, manager(rate) as other:
            await one.run(note, record, "a")
            await other.run(note, record, "b")
        assert await trio.to_thread.run_sync(run_fast, use, rate) == [(0, "x"), (10, "y")]
    assert record == [(0, "a"), (10, "b"), (10, "a"), (20, "b")]


def test_a_second_run_on_the_same_clock_goes_on_where_the_first_one_was(record: list[Any]) -> None:
    rate, clock = RateLimiter(1, per=10), MockClock(autojump_threshold=0)
    for _ in range(2):
        trio.run(use, rate, record, clock=clock)
    assert record == [(0, "x"), (10, "y"), (20, "x"), (30, "y")]


async def test_a_manager_that_is_refused_leaves_all_as_it_was(patient_clock: MockClock) -> None:
    rate = RateLimiter(1)

    async def refused() -> None:
        send, receive = trio.open_memory_channel[Any](0)
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match=ELSEWHERE):
                await ConMan[Any].open(nursery, rate=rate, send_to=send).__aenter__()
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()

    async with manager(rate):
        await trio.to_thread.run_sync(trio.run, refused)
    await trio.to_thread.run_sync(run_fast, use, rate)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_run_that_is_over_blocks_nobody(interrupted: bool, record: list[Any]) -> None:
    rate = RateLimiter(1, per=10)

    async def main() -> None:
        async with manager(rate) as cm:
            for name in "abc":
                await cm.run(note, record, name)
            await wait_all_tasks_blocked()
            if interrupted:
                raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt) if interrupted else nullcontext():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert run_fast(use, rate) == [(0, "x"), (10, "y")]


# In a process of its own, for what is left of the run complains when it is collected.
CRASH = """
import gc, trio
from trio.testing import wait_all_tasks_blocked
from trio_conman import ConMan, RateLimiter

rate = RateLimiter(1, per=0.01)

async def main(crash):
    async with trio.open_nursery() as nursery, ConMan.open(nursery, rate=rate) as cm:
        for _ in range(3):
            await cm.run(trio.sleep, 0)
        if crash:
            await wait_all_tasks_blocked()
            with trio.move_on_after(0):
                await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)
        try:
            await trio.to_thread.run_sync(trio.run, main, False)
        except* RuntimeError as group:
            print("refused" if "another trio run" in str(group.exceptions[0]) else group)
    print(len(cm.outputs()))

gc.disable()
try:
    trio.run(main, True)
except trio.TrioInternalError:
    print("crashed")
trio.run(main, False)
gc.collect()
trio.run(main, False)
"""


def test_a_run_that_has_crashed_blocks_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "crashed\n" + 2 * "refused\n3\n"


def test_who_used_it_in_a_run_that_has_crashed_does_not_count_in_the_next(record: list[Any]) -> None:
    rate = RateLimiter(1, per=10)

    async def crashed() -> None:
        rate._enter_run(users=1)

    async def main() -> None:
        async with manager(rate):
            pass
        record.extend(await trio.to_thread.run_sync(run_fast, use, rate))

    trio.run(crashed)
    trio.run(main)
    assert record == [(0, "x"), (10, "y")]


async def test_who_waited_by_hand_in_a_run_that_is_over_does_not_count_in_the_next(
    autojump_clock: MockClock,
) -> None:
    rate = RateLimiter(1, per=1000)
    rate.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rate.acquire)
        await wait_all_tasks_blocked()
        run, rate._run, rate._users = rate._run, None, 0  # the next one has begun
        assert run is trio.lowlevel.current_trio_token()
        nursery.cancel_scope.cancel()
    assert rate._users == 0


async def test_a_limiter_that_another_run_has_used_is_linked_with_none_of_before() -> None:
    moved, stays, *others = [RateLimiter(1) for _ in range(5)]
    async with manager(others), manager([moved, stays]):
        pass
    await trio.to_thread.run_sync(run_fast, use, moved)
    async with manager([stays, others[0]]):
        assert stays._gate.forecast is others[0]._gate.forecast
        assert moved._gate.forecast is not stays._gate.forecast


async def test_in_another_thread_nothing_changes_but_through_trio(
    patient_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, per=10)

    def elsewhere() -> None:
        for call in (lambda: rate.pause_for(100), rate.statistics):
            with pytest.raises(RuntimeError, match=NOWHERE):
                trio_less(call)
        trio.from_thread.run_sync(rate.pause_for, 15)
        record.append(trio.from_thread.run_sync(rate.statistics).paused_for)

    def trio_less(call: Callable[[], object]) -> None:
        call()

    async with manager(rate) as cm:
        await cm.run(note, record, "a")
        await trio.to_thread.run_sync(elsewhere)
        await cm.run(note, record, "b")
    assert record == [(0, "a"), 15, (15, "b")]


def test_a_callback_of_the_host_may_pause_between_two_ticks(record: list[Any]) -> None:
    """In guest mode the host's thread is that of the run."""
    calls: queue.Queue[Callable[[], object]] = queue.Queue()
    ended: list[Any] = []
    rate = RateLimiter(1, per=10)

    async def main() -> None:
        async with manager(rate) as cm:
            await cm.run(note, record, "a")
            handle = await cm.run(note, record, "b", task_timeout=12)
            await wait_all_tasks_blocked()
            calls.put(lambda: rate.pause_for(20))
            calls.put(lambda: record.append(rate.statistics().tasks_waiting))
            outcome = await handle.wait()
            record.append((trio.current_time(), type(getattr(outcome, "error", None))))

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=calls.put,
        done_callback=ended.append,
        clock=MockClock(autojump_threshold=0.01),
    )
    while not ended:
        calls.get(timeout=10)()
    ended[0].unwrap()
    # Who was made too late has been woken, and has not run yet.
    assert record == [(0, "a"), 1, (0, trio.TooSlowError)]


def test_a_callback_of_the_host_may_take_and_settle_between_two_ticks(record: list[Any]) -> None:
    """There is no trio task that the service could have answered: what others have taken counts as known."""
    calls: queue.Queue[Callable[[], object]] = queue.Queue()
    ended: list[Any] = []
    rate = RateLimiter(1, per=10, burst=9)

    async def main() -> None:
        await rate.acquire(2)
        done = trio.Event()
        calls.put(lambda: rate.acquire_nowait(3))
        calls.put(lambda: record.append(rate.statistics().available))
        calls.put(lambda: rate.charge(1))
        calls.put(lambda: rate.charge(-2))
        calls.put(lambda: record.append(rate.statistics().available))
        calls.put(lambda: rate.observe(remaining=2, reset=5))
        calls.put(lambda: record.append(rate.statistics().available))
        calls.put(done.set)
        await done.wait()

    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=calls.put, done_callback=ended.append, clock=MockClock()
    )
    while not ended:
        calls.get(timeout=10)()
    ended[0].unwrap()
    assert record == [4, 5, 2]


@pytest.mark.parametrize("each", [RateLimiter(1), RetryBudget()])
@pytest.mark.parametrize("name", ["tokens", "ratio", "rates", "cost", "_limit"])
def test_an_assignment_that_would_do_nothing_is_refused(each: RateLimiter | RetryBudget, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(each, name, 3)


def test_a_limiter_tells_its_parameters() -> None:
    rate = RateLimiter(2, per=60, burst=3)
    assert (rate.rate, rate.per, rate.burst) == (2.0, 60.0, 3)


class SlowTokens(float):
    """A number that another thread may come between the look at it and its change."""

    def __lt__(self, other: float) -> bool:
        result = float(self) < other
        BETWEEN.wait(0.2)
        return result


BETWEEN = threading.Event()


def test_two_threads_do_not_spend_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = RetryBudget(1, ratio=0)
    monkeypatch.setattr(RetryBudget, "_remaining", lambda self: SlowTokens(self._base))
    spent: list[bool] = []
    threads = [threading.Thread(target=lambda: spent.append(budget._spend())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(spent) == [False, True]
    assert budget._base == 0


async def test_no_other_run_gets_in_between_while_a_manager_opens(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, record: list[Any]
) -> None:
    first, second = RateLimiter(1), RateLimiter(1)
    enter = RateLimiter._enter_run
    refused: list[str] = []

    def watched(self: RateLimiter, users: int = 0) -> None:
        if self is second and not refused:

            def other() -> None:
                with pytest.raises(RuntimeError, match=ELSEWHERE) as caught:
                    run_fast(use, first)
                refused.append(str(caught.value))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        enter(self, users)

    monkeypatch.setattr(RateLimiter, "_enter_run", watched)
    async with manager([first, second]) as cm:
        await cm.run(note, record, "a")
    assert (record, len(refused)) == ([(0, "a")], 1)


async def test_a_manager_that_one_of_its_limiters_refuses_uses_none(patient_clock: MockClock) -> None:
    free, taken = RateLimiter(1), RateLimiter(1)

    async def refused() -> None:
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match=ELSEWHERE)):
            async with manager([free, taken]):
                raise AssertionError

    async with manager(taken):
        await trio.to_thread.run_sync(trio.run, refused)
        assert free._users == 0


def test_a_pause_of_a_run_that_is_over_is_none_of_the_next() -> None:
    rate = RateLimiter(1)

    async def main(seconds: float) -> None:
        assert rate.statistics().paused_for == 0
        rate.acquire_nowait()
        rate.pause_for(seconds)

    for seconds in (60, 0):
        trio.run(main, seconds, clock=MockClock(autojump_threshold=0))
