"""Random use of several limiters by several managers: all is served, in order, and never too much."""

import math
import random
from collections.abc import Callable
from contextlib import AsyncExitStack

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.rated import manager
from trio_conman import ConMan, Failure, RateLimiter, StopReason, TaskHandle

pytestmark = pytest.mark.unmeasured

# Interval of one permit, and burst.
LIMITERS = [(0.5, 3), (1.0, 1), (2.0, 4)]
SETS = [(0,), (1,), (2,), (0, 1), (1, 2), (2, 0), (0, 1, 2)]
COSTS = [0.5, 1, 1, 1, 2, 6]


@attrs.define
class Use:
    """One random use of the limiters, made from a number."""

    seed: int
    # By limiter: who has joined the queue, in order, and who has started, with the cost and the time.
    joined: list[list[int]] = attrs.Factory(lambda: [[] for _ in LIMITERS])
    started: list[list[tuple[int, float, float]]] = attrs.Factory(lambda: [[] for _ in LIMITERS])
    costs: list[float] = attrs.Factory(list)
    handles: list[TaskHandle[None]] = attrs.Factory(list)
    pick: random.Random = attrs.field(init=False)
    limiters: list[RateLimiter] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pick = random.Random(self.seed)
        self.limiters = [
            RateLimiter(1, per=per, burst=burst, cost=lambda number, *_: self.costs[number])
            for per, burst in LIMITERS
        ]

    async def attempt(self, number: int, wanted: tuple[int, ...]) -> None:
        for each in wanted:
            self.started[each].append((number, self.costs[number], trio.current_time()))
        await trio.sleep(self.pick.choice([0, 0, 1]))

    async def by_hand(self, number: int, limiter: int) -> None:
        await self.limiters[limiter].acquire(self.costs[number])
        self.started[limiter].append((number, self.costs[number], trio.current_time()))

    def submit(self, managers: dict[tuple[int, ...], ConMan[None]], nursery: trio.Nursery) -> None:
        number = len(self.costs)
        self.costs.append(self.pick.choice(COSTS))
        wanted = self.pick.choice(SETS)
        for each in wanted:
            self.joined[each].append(number)
        if len(wanted) == 1 and self.pick.random() < 0.3:
            nursery.start_soon(self.by_hand, number, wanted[0])
            return
        timeout = self.pick.choice([math.inf, math.inf, 3.3, 17.3, 60.3])
        handle = managers[wanted].start_soon(self.attempt, number, wanted, task_timeout=timeout)
        self.handles.append(handle)

    def meddle(self, managers: dict[tuple[int, ...], ConMan[None]], *, wild: bool) -> None:
        limiter = self.pick.choice(self.limiters)
        deeds: list[Callable[[], object]] = [
            lambda: limiter.pause_for(self.pick.choice([0.5, 3])),
            lambda: limiter.charge(self.pick.choice([0.5, 2])),
            lambda: limiter.observe(remaining=self.pick.choice([0, 1, 5]), reset=self.pick.choice([0.5, 4])),
            *(handle.cancel for handle in self.handles[-1:]),
        ]
        if wild:
            held = self.pick.choice(list(managers.values()))
            deeds += [
                held.pause,
                held.resume,
                held.resume,
                lambda: limiter.charge(-self.pick.choice([0.5, 2])),
                lambda: setattr(limiter, "rate", self.pick.choice([0.5, 1, 3])),
                lambda: setattr(limiter, "burst", self.pick.choice([1, 2, 9])),
            ]
        self.pick.choice(deeds)()

    async def main(self, *, wild: bool) -> None:
        async with AsyncExitStack() as stack:
            managers: dict[tuple[int, ...], ConMan[None]] = {}
            for wanted in SETS:
                some = manager([self.limiters[each] for each in wanted])
                managers[wanted] = await stack.enter_async_context(some)
            async with trio.open_nursery() as nursery:
                for _ in range(self.pick.randrange(5, 60)):
                    if self.pick.random() < 0.3:
                        self.meddle(managers, wild=wild)
                    else:
                        self.submit(managers, nursery)
                        await wait_all_tasks_blocked()
                    await trio.sleep(self.pick.choice([0, 0, 0, 0.25, 1, 3]))
                for cm in managers.values():
                    cm.resume()
        for limiter in self.limiters:
            assert limiter.statistics().tasks_waiting == 0
            assert not limiter._gate.forecast.expected
        for cm in managers.values():
            for outcome in cm.outcomes():
                if isinstance(outcome, Failure):
                    assert outcome.reason in {
                        StopReason.DEADLINE,
                        StopReason.CANCELLED,
                        StopReason.TASK_TIMEOUT,
                    }


@pytest.mark.one_python
@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("wild", [False, True])
def test_all_are_served_in_order_and_no_window_has_too_many(seed: int, wild: bool) -> None:
    use = Use(seed)

    async def main() -> None:
        with trio.fail_after(10_000):
            await use.main(wild=wild)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    for (per, burst), joined, started in zip(LIMITERS, use.joined, use.started, strict=True):
        numbers = [number for number, _, _ in started]
        assert len(set(numbers)) == len(numbers)
        if wild:
            continue
        gone = set(joined) - set(numbers)
        assert numbers == [number for number in joined if number not in gone]
        for first, (_, _, begin) in enumerate(started):
            total, dearest = 0.0, float(burst)
            for _, cost, end in started[first:]:
                total, dearest = total + cost, max(dearest, cost)
                assert total <= dearest + (end - begin) / per + 1e-9
