"""Several rate limiters at once: an attempt starts when all allow it, and nobody is passed over."""

import math
import random
import re
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig, StopReason

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=150)


async def test_an_attempt_starts_when_all_allow_it(autojump_clock: MockClock, record: list[Any]) -> None:
    async with manager([RateLimiter(1, burst=2), RateLimiter(4, per=10, burst=4)]) as cm:
        for index in range(6):
            await cm.run(note, record, index)
    assert record == [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (5, 5)]


@pytest.mark.parametrize("several", [list, tuple, iter, frozenset])
async def test_any_iterable_of_limiters_will_do(
    several: Callable[[Iterable[Any]], Any], autojump_clock: MockClock, record: list[Any]
) -> None:
    async with manager(several([RateLimiter(1), RateLimiter(1, per=2)])) as cm:
        for index in range(3):
            await cm.run(note, record, index)
    assert record == [(0, 0), (2, 1), (4, 2)]


async def test_none_of_them_is_refused_lest_it_mean_no_rate() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(
            ValueError, match=r"^rate must have at least one limiter, not \[\]; for none give None$"
        ):
            ConMan[None].open(nursery, rate=[])


async def test_who_waits_for_one_has_taken_nothing_from_the_others(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    quick, slow = RateLimiter(1), RateLimiter(1, per=10)
    async with manager([quick, slow]) as both:
        for name in "ab":
            await both.run(note, record, name)
        await trio.sleep(5)
        assert quick.statistics().available == 1
        assert (waiting(quick), waiting(slow)) == (1, 1)
        both.cancel()
        await wait_all_tasks_blocked()
        assert (waiting(quick), waiting(slow)) == (0, 0)
        quick.acquire_nowait()
    assert record == [(0, "a")]


async def test_who_waits_for_another_one_keeps_its_place_in_each(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    quick, slow = RateLimiter(1), RateLimiter(1, per=10)
    async with manager([quick, slow]) as both, manager(quick) as one, manager(slow) as other:
        await both.run(note, record, "a")
        await both.run(note, record, "b")
        await one.run(note, record, "c")
        await other.run(note, record, "d")
    assert record == [(0, "a"), (10, "b"), (11, "c"), (20, "d")]


async def test_a_circle_of_managers_is_no_deadlock(autojump_clock: MockClock, record: list[Any]) -> None:
    one, two, three = (RateLimiter(1, per=seconds) for seconds in (2, 3, 5))
    async with manager([one, two]) as a, manager([two, three]) as b, manager([three, one]) as c:
        for _ in range(3):
            for name, cm in (("a", a), ("b", b), ("c", c)):
                await cm.run(note, record, name)
    assert record == [
        (0, "a"),
        (3, "b"),
        (8, "c"),
        (10, "a"),
        (13, "b"),
        (18, "c"),
        (20, "a"),
        (23, "b"),
        (28, "c"),
    ]


async def test_a_retry_takes_from_all_again(autojump_clock: MockClock, record: list[Any]) -> None:
    async def flaky() -> None:
        await note(record, "x")
        if len(record) < 3:
            raise RetriableError("again", retry_config=RetryConfig.none())

    async with manager([RateLimiter(1), RateLimiter(1, per=7)]) as cm:
        await cm.run(flaky)
    assert record == [(0, "x"), (7, "x"), (14, "x")]


async def test_a_request_to_wait_pauses_all(autojump_clock: MockClock, record: list[Any]) -> None:
    limiters = [RateLimiter(1), RateLimiter(2)]

    async def busy() -> None:
        raise RetriableError("busy", retry_after=5)

    async with manager(limiters, retry=RetryConfig.none(max_attempts=1)) as cm:
        await cm.run(busy)
        await trio.sleep(1)
        assert [each.statistics().paused_for for each in limiters] == [4, 4]


@pytest.mark.parametrize("wrong", [3, "rate", None, RateLimiter])
async def test_what_is_no_limiter_is_refused_by_name(wrong: Any) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=r"^rate must be a RateLimiter, or several, or None, not "):
            ConMan.open(nursery, rate=[RateLimiter(1), wrong])


@pytest.mark.parametrize("text", ["10/s", b"10/s"])
async def test_a_text_is_shown_whole_and_not_its_first_letter(text: Any) -> None:
    told = rf"^rate must be a RateLimiter, or several, or None, not {text!r}$"
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=told):
            ConMan.open(nursery, rate=text)


async def test_a_limiter_that_is_given_twice_is_refused() -> None:
    rate = RateLimiter(1)
    async with trio.open_nursery() as nursery:
        with pytest.raises(
            ValueError, match=rf"^rate must have each limiter once, not {re.escape(repr(rate))} twice$"
        ):
            ConMan.open(nursery, rate=[rate, RateLimiter(1), rate])


async def test_one_that_another_run_uses_refuses_the_manager_and_leaves_the_others_free(
    patient_clock: MockClock, record: list[Any]
) -> None:
    free, used = RateLimiter(1), RateLimiter(1)

    async def elsewhere() -> None:
        async with trio.open_nursery() as nursery:
            with pytest.raises(RuntimeError, match="used by a manager of another trio run"):
                await ConMan[Any].open(nursery, rate=[free, used]).__aenter__()

    async with manager(used):
        await trio.to_thread.run_sync(trio.run, elsewhere)
        async with manager([free, used]) as cm:
            await cm.run(note, record, "a")
    assert record == [(0, "a")]


async def test_a_paused_manager_holds_nobody_up_in_any_queue(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    quick, slow = RateLimiter(1), RateLimiter(1, per=10)
    async with manager([quick, slow]) as both, manager(quick) as one, manager(slow) as other:
        for name in "abc":
            await both.run(note, record, name)
        await one.run(note, record, "d")
        await other.run(note, record, "e")
        await wait_all_tasks_blocked()
        both.pause()
        assert (waiting(quick), waiting(slow)) == (1, 1)
        await trio.sleep(15)
        assert record == [(0, "a"), (1, "d"), (10, "e")]
        both.resume()
    assert record[3:] == [(20, "b"), (30, "c")]


async def test_who_has_said_is_judged_when_those_before_it_in_every_queue_have_been(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    for _ in range(20):  # who runs first in a tick is chance
        record.clear()
        start = trio.current_time()
        quick, slow = RateLimiter(1), RateLimiter(1, per=10)
        async with manager(slow) as one, manager([quick, slow]) as both, manager(quick) as other:
            slow.acquire_nowait()
            one.start_soon(note, record, "a", task_timeout=15)
            both.start_soon(note, record, "b", task_timeout=15)
            other.start_soon(note, record, "c", task_timeout=15)
            both.start_soon(note, record, "d", task_timeout=25)
        assert [(when - start, name) for when, name in record] == [(0, "c"), (10, "a"), (20, "d")]


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_waits_is_told_of_a_pause_though_its_limiter_was_given_with_another_since(
    is_first: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    rate, other = RateLimiter(1), RateLimiter(1)
    async with manager(rate) as one:
        await one.run(note, record, "first")
        task = await one.run(note, record, "second", task_timeout=5)
        await wait_all_tasks_blocked()
        async with manager([rate, other] if is_first else [other, rate]):
            rate.pause_for(60)
            outcome = await task.wait()
            assert isinstance(outcome, Failure)
            assert outcome.reason is StopReason.DEADLINE
            assert trio.current_time() == 0
    assert record == [(0, "first")]


@pytest.mark.parametrize("is_turned", [True, False])
async def test_who_waits_is_told_of_a_pause_though_pairs_of_limiters_were_given_with_each_other_since(
    is_turned: bool, autojump_clock: MockClock, record: list[Any]
) -> None:
    pair, others = [RateLimiter(1), RateLimiter(1)], [RateLimiter(1), RateLimiter(1)]
    async with (
        manager(others),
        manager(pair[::-1] if is_turned else pair) as one,
        manager([others[0], pair[0]]),
    ):
        await one.run(note, record, "first")
        task = await one.run(note, record, "second", task_timeout=5)
        await wait_all_tasks_blocked()
        pair[0].pause_for(60)
        outcome = await task.wait()
        assert isinstance(outcome, Failure)
        assert outcome.reason is StopReason.DEADLINE
        assert trio.current_time() == 0
    assert record == [(0, "first")]


async def test_what_was_taken_without_a_wait_is_known_to_who_comes_next(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    slow, quick = RateLimiter(1, per=10), RateLimiter(1, cost=lambda _, name: 8 if name == "dear" else 1)
    retry = RetryConfig.none(max_elapsed=5)

    async def failing(*_: object) -> None:
        raise RetriableError("again")

    async with manager((slow, quick)) as both, manager(quick, retry=retry) as one:
        both.start_soon(note, record, "a")
        both.start_soon(note, record, "b", task_timeout=15)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.acquire)  # until 20
            await trio.sleep(12)
            failed = one.start_soon(failing, record, "dear")
            late = one.start_soon(note, record, "c", task_timeout=3)
            for handle, reason in ((failed, StopReason.MAX_ELAPSED), (late, StopReason.DEADLINE)):
                outcome = await handle.wait()
                assert isinstance(outcome, Failure)
                assert (outcome.reason, outcome.elapsed) == (reason, 0)
    assert record == [(0, "a"), (10, "b")]


@attrs.frozen
class Task:
    """One that arrives so many quarters of a second after the one before; costs in quarters of a permit."""

    gap: int
    limiters: frozenset[int]
    costs: tuple[int, int, int]
    timeout: int | None


@attrs.define
class Bucket:
    """A bucket of tokens, one dripping in each interval: said without a queue, in fractions."""

    interval: Fraction
    burst: int
    tokens: Fraction
    now: Fraction = Fraction(0)
    taken: list[tuple[Fraction, Fraction]] = attrs.Factory(list)

    def start(self, arrival: Fraction, cost: Fraction) -> Fraction:
        """When so many can be had, behind all that were taken before."""
        start = max(self.now, arrival)
        lacking = min(cost, Fraction(self.burst)) - self._tokens(start)
        return start + max(Fraction(0), lacking) * self.interval

    def take(self, start: Fraction, cost: Fraction) -> None:
        self.tokens, self.now = self._tokens(start) - cost, start
        self.taken.append((start, cost))

    def _tokens(self, now: Fraction) -> Fraction:
        return min(Fraction(self.burst), self.tokens + (now - self.now) / self.interval)

    def check_windows(self) -> None:
        """In no window more than the bound."""
        for first, (begin, _) in enumerate(self.taken):
            some = self.taken[first:]
            for last, (end, _) in enumerate(some):
                costs = [cost for _, cost in some[: last + 1]]
                assert sum(costs) <= max(Fraction(self.burst), *costs) + (end - begin) / self.interval


LIMITERS = [(Fraction(1, 2), 3), (Fraction(1), 1), (Fraction(4), 5)]
SETS = [frozenset(each) for each in ([0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2])]


def starts(tasks: list[Task]) -> list[Fraction | None]:
    """When each starts, None for what cannot be in time: one after the other, in the order of arrival."""
    buckets = [Bucket(interval, burst, Fraction(burst)) for interval, burst in LIMITERS]
    found: list[Fraction | None] = []
    arrival = Fraction(0)
    for task in tasks:
        arrival += Fraction(task.gap, 4)
        wanted = [(buckets[each], Fraction(task.costs[each], 4)) for each in task.limiters]
        start = max(bucket.start(arrival, cost) for bucket, cost in wanted)
        # One of them may make another one wait, which is fuller then.
        if task.timeout is not None and start >= arrival + Fraction(2 * task.timeout + 1, 8):
            found.append(None)
            continue
        for bucket, cost in wanted:
            bucket.take(start, cost)
        found.append(start)
    for bucket in buckets:
        bucket.check_windows()
    return found


def seen(tasks: list[Task]) -> list[float | None]:
    """When each did start, None for what did not; it has failed at once then."""
    record: dict[int, float] = {}
    limiters = [
        RateLimiter(
            1, per=float(interval), burst=burst, cost=lambda index, each=each: tasks[index].costs[each] / 4
        )
        for each, (interval, burst) in enumerate(LIMITERS)
    ]

    async def attempt(index: int) -> None:
        record[index] = trio.current_time()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            managers: dict[frozenset[int], ConMan[Any]] = {}
            for index, task in enumerate(tasks):
                await trio.sleep(task.gap / 4)
                if task.limiters not in managers:
                    some = manager([limiters[each] for each in sorted(task.limiters)])
                    managers[task.limiters] = await stack.enter_async_context(some)
                timeout = math.inf if task.timeout is None else task.timeout / 4 + 0.125
                managers[task.limiters].run_nowait(attempt, index, task_timeout=timeout)
        for cm in managers.values():
            for outcome in cm.outcomes():
                if isinstance(outcome, Failure):
                    assert (outcome.reason, outcome.elapsed) == (StopReason.DEADLINE, 0), outcome
        assert [each.statistics().tasks_waiting for each in limiters] == [0, 0, 0]

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return [record.get(index) for index in range(len(tasks))]


def some_tasks(seed: int) -> list[Task]:
    pick = random.Random(seed)
    patient = pick.random() < 0.3
    return [
        Task(
            max(0, pick.randrange(-4, 5)),
            pick.choice(SETS),
            (pick.choice([1, 2, 4, 4, 8, 30]), pick.choice([1, 4, 4, 9]), pick.choice([4, 4, 1, 20])),
            None if patient or pick.random() < 0.2 else pick.randrange(1, 120),
        )
        for _ in range(pick.randrange(1, 40))
    ]


@pytest.mark.one_python
@pytest.mark.parametrize("seed", range(150))
def test_all_start_first_come_first_served_or_fail_at_once(seed: int) -> None:
    tasks = some_tasks(seed)
    assert seen(tasks) == starts(tasks)
