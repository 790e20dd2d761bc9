"""Limits by key under whatever may happen: nothing above a limit, nobody overtaken, no slot idle in vain."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, KeyedLimit, RetriableError, RetryConfig, TaskHandle
from trio_conman._books.handles import Slot
from trio_conman._limits.keys import Keys, hold

pytestmark = pytest.mark.unmeasured

RETRY = RetryConfig(initial_delay=1.5, max_delay=1.5, jitter=False, max_attempts=1)


@attrs.define(eq=False)
class Work:
    """One task: its keys, how long it takes, whether its first attempt fails."""

    host: str
    user: str
    seconds: float
    fails: bool
    number: int


@attrs.define(eq=False)
class World:
    """Managers that share limits by key, and what runs in them, as the tasks themselves see it."""

    chance: random.Random
    limits: list[KeyedLimit]
    managers: list[ConMan[Any]] = attrs.Factory(list)
    handles: dict[Work, tuple[ConMan[Any], TaskHandle[Any]]] = attrs.Factory(dict)
    running: Counter[Any] = attrs.Factory(Counter)
    scopes: list[trio.CancelScope] = attrs.Factory(list)
    made: int = 0

    async def job(self, work: Work) -> None:
        for key in (work.host, work.user):
            self.running[key] += 1
        try:
            await trio.sleep(work.seconds)
            if work.fails:
                work.fails = False
                raise RetriableError("again")
        finally:
            for key in (work.host, work.user):
                self.running[key] -= 1

    def work(self) -> Work:
        self.made += 1
        chance = self.chance
        return Work(
            chance.choice("aaabbc"),
            chance.choice("XYZ"),
            chance.choice([0, 0.5, 1, 2]),
            chance.random() < 0.2,
            self.made,
        )

    async def run(self, cm: ConMan[Any], work: Work, scope: trio.CancelScope) -> None:
        with scope:
            await cm.run(self.job, work, priority=self.chance.choice([0, 0, 0, 1]))

    async def map(self, cm: ConMan[Any], scope: trio.CancelScope) -> None:
        chance = self.chance
        items: Any = [self.work() for _ in range(chance.randrange(30))]
        if chance.random() < 0.4:
            items = as_async(items)
        most = chance.choice([None, 1, 3, 20])
        ordered = chance.random() < 0.5
        with scope:
            async with cm.map(self.job, items, lookahead=most, ordered=ordered) as outcomes:
                async for _ in outcomes:
                    if chance.random() < 0.02:
                        break

    def step(self, nursery: trio.Nursery) -> None:
        chance = self.chance
        cm = chance.choice(self.managers)
        what = chance.random()
        if what < 0.4:
            for _ in range(chance.randrange(8)):
                work = self.work()
                priority = chance.choice([0, 0, 0, 1, -1])
                self.handles[work] = cm, cm.start_soon(self.job, work, priority=priority)
        elif what < 0.55:
            self.scopes.append(trio.move_on_after(chance.choice([0.5, 5, 50])))
            nursery.start_soon(self.run, cm, self.work(), self.scopes[-1])
        elif what < 0.65:
            self.scopes.append(trio.move_on_after(chance.choice([0.5, 5, 50])))
            nursery.start_soon(self.map, cm, self.scopes[-1])
        elif what < 0.75:
            limit = chance.choice(self.limits)
            limit.limits[chance.choice("abcXYZ")] = chance.randrange(1, 6)
        elif what < 0.8:
            chance.choice(self.limits).limit = chance.randrange(1, 6)
        elif what < 0.85:
            cm.limit = chance.randrange(2, 8)
        elif what < 0.9:
            (cm.resume if cm.paused else cm.pause)()
        elif self.handles:
            _, handle = chance.choice(list(self.handles.values()))
            if chance.random() < 0.5:
                handle.cancel()
            else:
                handle.priority = chance.choice([-1, 0, 1])

    def check(self) -> None:
        statistics = [limit.statistics() for limit in self.limits]
        for each in statistics:
            for key, now in each.items():
                assert now.running + now.waiting > 0
                assert self.running[key] <= now.running
        free = {cm: cm.limit - sum(1 for _ in slots_of(cm)) for cm in self.managers}
        for work, (cm, handle) in list(self.handles.items()):
            if handle.state == "done":
                del self.handles[work]
            elif handle.state == "queued" and not cm.paused and free[cm] > 0:
                keys = (work.host, work.user)
                full = [
                    key
                    for each, key in zip(statistics, keys, strict=False)
                    if key in each and each[key].running >= each[key].limit
                ]
                assert full, f"{work} could run"


def slots_of(cm: ConMan[Any]) -> Any:
    line = cm._line
    spare = set(line._spare)
    return (each for each in line.limiter.statistics().borrowers if each not in spare)


async def as_async(items: list[Work]) -> Any:
    for item in items:
        yield item


@pytest.mark.parametrize("limiter", ["own", "shared"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "seed",  # gives the same order on any Python
    [0, 1, *(pytest.param(seed, marks=pytest.mark.one_python) for seed in range(2, 8))],
)
async def test_whatever_happens(
    seed: int, several: bool, limiter: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked_hold(keys: Keys, slot: Slot) -> None:
        assert all(key.running < key.most for key in keys)
        assert slot.keys is None
        hold(keys, slot)

    monkeypatch.setattr("trio_conman._limits.tokens.hold", checked_hold)
    chance = random.Random(seed)
    limits = [KeyedLimit(2, key=lambda work: work.host, limits={"c": 1})]
    if several:
        limits.append(KeyedLimit(3, key=lambda work: work.user))
    world = World(chance, limits)
    limit: Any = trio.CapacityLimiter(4) if limiter == "shared" else 4
    async with trio.open_nursery() as outer:
        async with (
            ConMan[Any].open(outer, limit, retry=RETRY, per_key=limits) as one,
            ConMan[Any].open(outer, limit, retry=RETRY, per_key=limits) as two,
            trio.open_nursery() as nursery,
        ):
            world.managers += [one, two]
            for _ in range(150):
                world.step(nursery)
                await wait_all_tasks_blocked()
                world.check()
                if chance.random() < 0.5:
                    await trio.sleep(chance.choice([0.25, 0.5, 1]))
            for cm in world.managers:
                cm.resume()
        assert [each.statistics() for each in limits] == [{}] * len(limits)
        assert not any(world.running.values())
