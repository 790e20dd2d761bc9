"""A rate limiter that heeds what the service says, and a service that meters requests and tokens."""

import json
import math
import random
import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager, note, waiting
from trio_conman import RateLimiter, TaskHandle
from trio_conman._base.texts import short

pytestmark = pytest.mark.unmeasured


async def test_no_more_than_what_is_left_starts_until_it_is_reset(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=5)
    async with manager(rate) as cm:
        rate.observe(remaining=2, reset=10)
        assert rate.statistics().available == 2
        for index in range(9):
            await cm.run(note, record, index)
    assert [when for when, _ in record] == [0, 0, 10, 10, 10, 10, 10, 11, 12]


async def test_in_the_instant_of_the_reset_all_can_be_had_again(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1, burst=5)
    rate.observe(remaining=0, reset=10)
    await trio.sleep(10)
    assert rate.statistics().available == 5
    rate.acquire_nowait(5)


async def test_each_attempt_takes_one_of_what_is_left_where_there_is_no_rate(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter.unlimited()
    async with manager(rate) as cm:
        rate.observe(remaining=2, reset=10)
        for index in range(4):
            await cm.run(note, record, index)
        assert rate.statistics().available == 0
    assert [when for when, _ in record] == [0, 0, 10, 10]


async def test_it_only_slows_down(autojump_clock: MockClock, record: list[Any]) -> None:
    rate = RateLimiter(1, burst=2)
    rate.observe(remaining=100, reset=5)
    rate.observe(remaining=math.inf, reset=5)
    assert rate.statistics().available == 2
    rate.observe(remaining=1, reset=20)
    rate.observe(remaining=5, reset=20)  # it is known better
    rate.observe(remaining=3, reset=50)
    rate.observe(remaining=0, reset=6)
    assert rate.statistics().available == 0
    async with manager(rate) as cm:
        for index in range(6):
            await cm.run(note, record, index)
    # Nothing until 6, one until 20, three until 50.
    assert [when for when, _ in record] == [6, 20, 20, 50, 50, 51]


async def test_that_any_number_is_left_says_nothing(autojump_clock: MockClock) -> None:
    rate = RateLimiter(10, burst=10)
    rate.observe(remaining=math.inf, reset=10.5)
    text = json.dumps(rate.snapshot(), allow_nan=False)
    RateLimiter.restore(json.loads(text))
    rate.observe(remaining=0, reset=10)
    await rate.acquire()
    assert trio.current_time() == 10  # as the second answer alone would have it


async def test_rounded_seconds_do_not_pile_up(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1000)
    for step in range(50):
        rate.observe(remaining=100 - step, reset=60 - step // 2)
        await trio.sleep(0.49)
    assert len(rate._meter.bounds) == 1
    assert rate.statistics().available == 1
    await trio.sleep(100)
    rate.acquire_nowait()
    assert rate.statistics().available == 0
    rate.observe(remaining=100, reset=60)
    assert len(rate._meter.bounds) == 1


async def test_answers_that_allow_more_until_the_same_reset_do_not_pile_up(
    autojump_clock: MockClock,
) -> None:
    rate = RateLimiter(1000)
    for remaining in range(50):
        rate.observe(remaining=remaining, reset=60)
    assert len(rate._meter.bounds) == 1
    await rate.acquire()
    assert trio.current_time() == 60


async def test_a_reset_is_not_taken_for_those_of_a_sliding_window_long_after_it(
    autojump_clock: MockClock,
) -> None:
    rate = RateLimiter(1000)
    for step in range(100):
        rate.observe(remaining=100 + step, reset=60)
        await trio.sleep(0.5)
    rate.observe(remaining=0, reset=20.25)
    await rate.acquire()
    assert trio.current_time() == 71  # one of them was within a second


async def test_attempts_count_that_have_started_since_the_request_was_made(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1, burst=10)
    said: list[float] = []

    async def request(remaining: float, seconds: float) -> None:
        await trio.sleep(seconds)
        async with trio.open_nursery() as nursery:  # a child of the task knows whose answer it is, too

            async def answer() -> None:
                rate.observe(remaining=remaining, reset=60)
                said.append(rate.statistics().available)

            nursery.start_soon(answer)

    async with manager(rate) as cm:
        # The first one's answer has come when two more have started.
        for remaining, seconds in ((6, 1), (5, 2), (4, 3)):
            await cm.run(request, remaining, seconds)
        await cm.wait()
        assert said == [4, 4, 4]
        # One after the other: nobody comes in between.
        for remaining in (3, 2, 1):
            await cm.run(request, remaining, 0)
            await cm.wait()
        assert said[3:] == [3, 2, 1]
        # By hand it is the last one that was taken.
        rate.acquire_nowait()
        rate.observe(remaining=5, reset=600)
        assert rate.statistics().available == 0


async def test_the_first_answer_of_all_counts_those_that_have_started_since_then(
    autojump_clock: MockClock,
) -> None:
    rate = RateLimiter(1000, burst=1000)  # nothing is owed when the next one starts
    said: list[float] = []

    async def request(remaining: float) -> None:
        await trio.sleep(1)
        rate.observe(remaining=remaining, reset=60)
        said.append(rate.statistics().available)

    async with manager(rate) as cm:
        for remaining in range(9, -1, -1):
            await cm.run(request, remaining)
            await trio.sleep(0.05)
    assert said == [0] * 10


@pytest.mark.parametrize("settled", [2.5, 6])
@pytest.mark.parametrize("by", ["itself", "another task"])
async def test_what_is_given_back_for_an_earlier_request_is_not_taken_for_that_of_a_later_one(
    autojump_clock: MockClock, by: str, settled: float
) -> None:
    costs = {"first": 100, "second": 100, "third": 50}
    rate = RateLimiter(1000, per=1e9, burst=1000, cost=costs.__getitem__)  # nothing comes back by itself
    said: list[float] = []

    async def request(name: str) -> None:
        if name == "first":
            await trio.sleep_until(settled)
            if by == "itself":
                rate.charge(-60)
        elif name == "second":
            await trio.sleep_until(5)
            rate.observe(remaining=500, reset=60)
            said.append(round(rate.statistics().available))
        else:
            await trio.sleep_until(8)
            rate.charge(-20)
            said.append(round(rate.statistics().available))

    async with manager(rate) as cm:
        for name in costs:
            await cm.run(request, name)
            await trio.sleep(1)
        await trio.sleep_until(settled)
        if by != "itself":
            rate.charge(-60)
    # Only the third one has come after the second one's request.
    assert said == [450, 470]


async def test_who_has_given_back_all_still_stands_behind_who_came_before(autojump_clock: MockClock) -> None:
    rate = RateLimiter(1000, burst=1000)
    said: list[float] = []

    async def request(began: float, settled: float, answered: float) -> None:
        await trio.sleep_until(began)
        rate.acquire_nowait(3)
        await trio.sleep_until(settled)
        rate.charge(-3)
        await trio.sleep_until(answered)
        rate.observe(remaining=5, reset=60)
        said.append(rate.statistics().available)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, 0, 3, 9)
        nursery.start_soon(request, 1, 2, 5)  # when the third one's three are taken
        nursery.start_soon(request, 4, 6, 9)
    assert said[0] == 2


async def test_where_more_has_started_than_is_left_what_is_given_back_counts_from_there(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1000, burst=1000, cost=100)

    async def first() -> None:
        await trio.sleep(1)
        rate.observe(remaining=130, reset=60)  # and two more have started
        record.append(rate.statistics().available)

    async def settling() -> None:
        await trio.sleep(2)
        rate.charge(-60)
        record.append(rate.statistics().available)

    async with manager(rate) as cm:
        for task in (first, settling, settling):
            cm.start_soon(task)
        await cm.wait()
        rate.acquire_nowait(50)
        with pytest.raises(trio.WouldBlock):
            rate.acquire_nowait(1)
    assert record == [0, 0, 50]


async def test_who_settles_afterwards_gives_back_what_was_counted(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(100, burst=100)

    async def first() -> None:
        await rate.acquire(10)
        await trio.sleep(1)
        rate.charge(5)  # its answer says so already
        rate.observe(remaining=60, reset=60)
        record.append(rate.statistics().available)
        rate.charge(-5)
        record.append(rate.statistics().available)

    async def second() -> None:
        await rate.acquire(30)
        await trio.sleep(2)
        rate.charge(-20)
        record.append(rate.statistics().available)
        rate.charge(8)
        record.append(rate.statistics().available)

    rate.observe(remaining=1000, reset=60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(second)
    rate.charge(-1)  # whose is it?
    record.append(rate.statistics().available)
    assert record == [30, 30, 50, 42, 42]


@pytest.mark.parametrize("more, back, left", [(0, 30, 30), (0, 10, 24), (3, 16, 29), (3, 19, 29)])
async def test_what_a_task_took_before_an_answer_is_not_given_back_after_it(
    more: float, back: float, left: float, autojump_clock: MockClock
) -> None:
    rate = RateLimiter.unlimited()

    async def other() -> None:
        rate.acquire_nowait(1)
        rate.observe(remaining=30, reset=60)

    rate.acquire_nowait(16)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
    if more:
        rate.charge(more)
    else:
        rate.acquire_nowait(16)
    rate.charge(-back)  # those of before as well
    assert rate.statistics().available == left


@pytest.mark.parametrize("more", [0.5, 5])
async def test_what_an_attempt_took_more_is_counted_by_who_came_later(
    more: float, autojump_clock: MockClock
) -> None:
    rate = RateLimiter(100, burst=100)

    async def first() -> None:
        rate.acquire_nowait(10)
        await trio.sleep(2)
        rate.charge(more)

    async def second() -> None:
        await trio.sleep(1)
        rate.acquire_nowait(10)
        await trio.sleep(2)
        rate.observe(remaining=60, reset=60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(second)
    assert rate.statistics().available == 60 - more


async def test_what_is_left_decides_who_will_be_too_late(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(1)
    async with manager(rate) as cm:
        timeouts = [5, 6, 30, 25]
        handles: list[TaskHandle[None]] = [
            await cm.run(note, record, each, task_timeout=each) for each in timeouts
        ]
        await wait_all_tasks_blocked()
        rate.observe(remaining=1, reset=26)
        await wait_all_tasks_blocked()
        assert [handle.state for handle in handles] == ["done", "running", "running", "done"]
        late = await cm.run(note, record, "late", task_timeout=20)
        await late.wait()
        assert waiting(rate) == 2
    assert record == [(0, 5), (1, 6), (26, 30)]


async def test_who_is_too_late_for_the_same_reset_that_was_told_later_before_is_told_at_once(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    rate = RateLimiter(2)
    rate.acquire_nowait()
    rate.observe(remaining=5, reset=10.9)
    async with manager(rate) as cm:
        handle = await cm.run(note, record, "late", task_timeout=10.8)
        await wait_all_tasks_blocked()
        rate.observe(remaining=0, reset=9.95)
        await handle.wait()
    assert (trio.current_time(), record) == (0, [])


@pytest.mark.parametrize(
    "name, value, kind",
    [
        *((name, each, TypeError) for name in ("remaining", "reset") for each in (None, "1", True)),
        *((name, each, ValueError) for name in ("remaining", "reset") for each in (-1, math.nan)),
        ("reset", math.inf, ValueError),
    ],
)
async def test_what_no_service_says_is_refused_by_name(name: str, value: Any, kind: type[Exception]) -> None:
    rate = RateLimiter(1)
    with pytest.raises(kind, match=rf"^{name} must be .*, not {re.escape(short(value))}$"):
        rate.observe(**{"remaining": 0, "reset": 5, name: value})
    assert rate.statistics().available == 1


QUOTA, BURST = 400_000, 12_000  # tokens a minute; at once: the dearest call, and what may come back
TASKS = 10_000


@pytest.mark.one_python
async def test_ten_thousand_calls_of_a_service_that_meters_requests_and_tokens(
    autojump_clock: MockClock,
) -> None:
    """Estimates are off by up to five times, either way, and settled after each reply."""
    pick = random.Random(5)
    sizes = [max(50.0, min(8000.0, pick.lognormvariate(7, 1))) for _ in range(TASKS)]
    guesses = [max(50.0, min(8000.0, size * 5 ** pick.uniform(-1, 1))) for size in sizes]
    dearest = guesses.index(8000.0, TASKS // 2)
    requests = RateLimiter(1200, per=60, burst=20)
    tokens = RateLimiter(QUOTA - BURST, per=60, burst=BURST, cost=guesses.__getitem__)
    begun: list[float] = []
    # All that is owed: what is taken, and what is settled, from when it is known.
    taken: list[tuple[float, float]] = []
    settled: list[tuple[float, float]] = []

    async def call(index: int) -> None:
        assert index == len(begun)  # nobody is passed over
        begun.append(trio.current_time())
        taken.append((trio.current_time(), guesses[index]))
        await trio.sleep(0.5 + sizes[index] / 4000)
        tokens.charge(sizes[index] - guesses[index])
        settled.append((trio.current_time(), sizes[index] - guesses[index]))

    joined, before = 0.0, list[float]()
    async with manager([requests, tokens], 100) as cm:
        for index in range(TASKS):
            await cm.run(call, index)
            if index == dearest:
                joined = trio.current_time()
                before += [BURST - tokens.statistics().available, *guesses[len(begun) : index + 1]]
    assert len(begun) == TASKS
    check_windows(taken, settled)
    # As long as those before it, and what was settled meanwhile, take at the most.
    more = [permits for when, permits in settled if joined < when <= begun[dearest] and permits > 0]
    place = sum(before + more) * 60 / (QUOTA - BURST) + len(before) * 60 / 1200
    assert begun[dearest] - joined <= place
    assert sum(sizes) / (begun[-1] / 60) >= 0.95 * QUOTA


def check_windows(taken: list[tuple[float, float]], settled: list[tuple[float, float]]) -> None:
    """Nobody starts with whom the minute before would have more than the quota, with all that is settled."""
    entries = sorted(
        [(when, 0, permits) for when, permits in settled] + [(when, 1, permits) for when, permits in taken]
    )
    first, total = 0, 0.0
    for when, is_start, permits in entries:
        total += permits
        while entries[first][0] <= when - 60:
            total -= entries[first][2]
            first += 1
        assert total <= QUOTA + 1e-3 or not is_start
