"""What a service has said, again and again: each answer holds, and what thousands of them cost."""

from __future__ import annotations

import math
import random
import sys

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import RateLimiter
from trio_conman._limits.meter import Bound, Meter


@attrs.define
class Said:
    """What is left by one answer, which was for that request."""

    left: float
    until: float
    number: int

    def is_as_strict(self, other: Said) -> bool:
        return self.left <= other.left and self.until >= other.until


@pytest.mark.parametrize("seed", range(30))
async def test_each_answer_holds_as_if_it_was_the_only_one(seed: int, autojump_clock: MockClock) -> None:
    pick, rate = random.Random(seed), RateLimiter.unlimited()
    slides, resets = pick.choice([-1, 0, 1, 3]), pick.choice([[60], [60, 58, 56], [4, 20, 60]])
    costs: list[float] = []  # of all requests, in their order, as far as they are known
    said: list[Said] = []

    def room() -> float:
        return min([each.left for each in said if trio.current_time() < each.until], default=math.inf)

    async def request(cost: float) -> None:
        assert rate.statistics().available == max(0, room())
        if cost > room():
            with pytest.raises(trio.WouldBlock):
                rate.acquire_nowait(cost)
            return
        rate.acquire_nowait(cost)
        number, costs[len(costs) :] = len(costs), [cost]
        for each in said:
            each.left -= cost
        await trio.sleep(pick.choice([2, 4, 20]))
        if back := pick.choice([0, 0, cost / 4, cost]):
            rate.charge(-back)
            costs[number] -= back
            for each in said:
                each.left += back if each.number < number else 0
        remaining = max(0, pick.choice([3, 30, pick.randrange(50, 60)]) + slides * number)
        reset = pick.choice(resets)
        rate.observe(remaining=remaining, reset=reset)
        new = Said(remaining - sum(costs[number + 1 :]), trio.current_time() + reset, number)
        if not any(each.is_as_strict(new) for each in said):
            said[:] = [new, *[each for each in said if not new.is_as_strict(each)]]
        assert rate.statistics().available == max(0, room())
        assert len(rate._meter.bounds) <= len(said)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(request, pick.choice([1, 1, 2, 8]))
            await wait_all_tasks_blocked()
            await trio.sleep(pick.choice([0, 0, 2]))


async def test_exactly_what_is_left_can_be_had_whatever_parts_of_a_permit_were_taken(
    autojump_clock: MockClock,
) -> None:
    for seed in range(1000):
        pick, rate = random.Random(seed), RateLimiter.unlimited()
        for _ in range(pick.randrange(1, 20)):
            rate.acquire_nowait(pick.choice([1, 0.1, 0.7, pick.random()]))
        left = pick.choice([0.3, 0.7, 1, 2, 5])
        rate.observe(remaining=left, reset=60)
        rate.acquire_nowait(left)
        with pytest.raises(trio.WouldBlock):
            rate.acquire_nowait(0.1)


@pytest.mark.parametrize("cost", [0.01, 0.1, 1 / 3, 0.7])
async def test_what_is_left_can_be_had_part_by_part(cost: float, autojump_clock: MockClock) -> None:
    for left in range(1, 40):
        rate = RateLimiter.unlimited()
        rate.acquire_nowait(cost)
        rate.observe(remaining=left, reset=60)
        for _ in range(math.floor(left / cost + 1e-9)):
            rate.acquire_nowait(cost)
        with pytest.raises(trio.WouldBlock):
            rate.acquire_nowait(cost)


@pytest.mark.parametrize("total, cost", [(2**53 - 100, 1), (0, 2**29)])
async def test_of_whole_permits_not_one_more_than_is_left_can_be_had(
    total: int, cost: int, autojump_clock: MockClock
) -> None:
    rate = RateLimiter.unlimited()
    if total:
        rate.acquire_nowait(total)
    rate.observe(remaining=3 * cost - 1, reset=60)
    for _ in range(2):
        rate.acquire_nowait(cost)
    with pytest.raises(trio.WouldBlock):
        rate.acquire_nowait(cost)


async def test_an_answer_costs_as_much_when_thousands_before_it_hold() -> None:
    def calls_of(bounds: int) -> int:
        """Steps into functions, of Python or not, that a few requests and their answers take."""
        rate, calls = RateLimiter(1e6, burst=10**6), 0
        for step in range(bounds):
            rate.observe(remaining=10_000 + step, reset=60 + step / 100)

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            for step in range(10):
                rate.acquire_nowait(2)
                rate.charge(-1)
                rate.observe(remaining=20_000 + step, reset=100 + step / 100)
        finally:
            sys.setprofile(None)
        assert len(rate._meter.bounds) == bounds + 10
        return calls

    assert calls_of(3000) < 1.5 * calls_of(300)


async def test_a_bound_that_a_stricter_one_outlasts_after_a_refund_is_forgotten() -> None:
    for before, after in [(0.0, 9.0), (9.0, 0.0)]:
        meter = Meter(math.inf, 1.0, 1.0, total=9.0)
        meter.bounds = [Bound(10.0, 10.0, before, 9.0), Bound(11.0, 20.0, after, 9.0)]
        meter._give_back(5.0, 9.0)
        assert [bound.until for bound in meter.bounds] == ([10.0, 20.0] if after == 0.0 else [20.0])


async def test_what_is_given_back_was_not_counted_by_an_answer_between_two_others(
    autojump_clock: MockClock,
) -> None:
    rate = RateLimiter.unlimited()
    rate.observe(remaining=100, reset=30)
    rate.observe(remaining=1, reset=5)
    rate.acquire_nowait()
    rate.observe(remaining=50, reset=20)
    rate.charge(-1)
    assert rate.statistics().available == 1
    await trio.sleep(6)
    assert rate.statistics().available == 50


async def test_of_what_is_left_only_as_much_comes_back_as_was_taken_last(autojump_clock: MockClock) -> None:
    for back in ([-3], [-1, -1], [-0.5, -0.5, -0.5]):
        rate = RateLimiter.unlimited()
        rate.observe(remaining=5, reset=60)
        for _ in range(2):
            rate.acquire_nowait()
        for permits in back:
            rate.charge(permits)
        assert rate.statistics().available == 4
