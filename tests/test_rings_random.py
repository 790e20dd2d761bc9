"""Random programs whose tasks wait for slots, keys and handles, and retry: who waits for ever is told so.

Each program runs twice, the second time with nobody told. It hangs then exactly where somebody was told, as
the limits of such a program are only lowered, and a pause ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_conman import ConMan, KeyedLimit, RetriableError, RetryConfig, TaskCancelledError, TaskHandle
from trio_conman._limits.rings import Rings

pytestmark = pytest.mark.unmeasured

T = TypeVar("T")


@attrs.define(eq=False)
class Program:
    """Tasks that hand in others and wait for them, and what lowers the limits meanwhile."""

    chance: random.Random
    pick: Callable[[Any], Any] = attrs.field(init=False)
    cm: ConMan[Any] = attrs.field(init=False)
    limits: list[KeyedLimit] = attrs.field(init=False)
    inside: int = attrs.field(init=False)  # how much deeper an item of a map is than its consumer
    most: int = attrs.field(init=False)
    handles: list[TaskHandle[None]] = attrs.Factory(list)
    made: int = 0
    told: int = 0
    is_over: bool = False

    def __attrs_post_init__(self) -> None:
        self.pick = self.chance.choice
        most = self.pick([[1, 2, 3], [2, 3, 5, 8]])
        keys = [KeyedLimit(self.pick(most), key=lambda name, *_, at=at: name[at]) for at in (0, 1)]
        self.limits = keys[: self.pick([0, 1, 1, 2, 2])]
        self.inside = self.pick([1, 9])
        self.most = self.pick([4, 8, 16, 32])

    def name(self) -> str:
        self.made += 1
        return f"{self.pick('abc')}{self.pick('xyz')}{self.made}"

    async def task(self, _: str, depth: int) -> None:
        await trio.sleep(self.pick([0, 0.5, 1, 1, 2]))
        if self.chance.random() < 0.2:
            retry = RetryConfig.linear(initial_delay=self.pick([0, 0.5, 2]), max_delay=2, max_attempts=inf)
            raise RetriableError("again", retry_config=retry)
        for _number in range(self.chance.randint(0, 2)):
            if depth < 2 and self.made < self.most:
                try:
                    await self.wait_for_others(depth)
                except RuntimeError:
                    self.told += 1

    async def wait_for_others(self, depth: int) -> None:
        way = self.chance.random()
        if way < 0.1:
            self.handles.append(self.cm.start_soon(self.task, self.name(), depth + 1))
        elif way < 0.4:
            self.handles.append(await self.cm.run(self.task, self.name(), depth + 1))
        elif way < 0.6:
            await self.cm.start_soon(self.task, self.name(), depth + 1).wait()
        elif way < 0.7 and self.handles:
            await self.pick(self.handles).wait()
        else:
            names = [self.name() for _ in range(self.chance.randint(1, 4))]
            is_ordered, lookahead = self.chance.random() < 0.6, self.pick([None, 1, 2, 5])
            block = self.cm.map(self.item(depth), names, ordered=is_ordered, lookahead=lookahead)
            async with block as outcomes:
                async for _ in outcomes:
                    await trio.sleep(self.pick([0, 0, 0.5, 1]))

    def item(self, depth: int) -> Callable[[str], Any]:
        return lambda name: self.task(name, depth + self.inside)

    def disturb(self) -> None:
        deed = self.pick([*["limit", "limits"][: 2 * len(self.limits)], "slots", "pause", "task"])
        limit, least = self.pick(self.limits or [None]), self.chance.randint(1, 3)
        if deed == "limit":
            limit.limit = min(least, limit.limit)
        elif deed == "limits":
            key = self.pick("abcxyz")
            limit.limits[key] = min(least, limit.limits.get(key, limit.limit))
        elif deed == "slots":
            self.cm.limit = min(self.chance.randint(2, 5), self.cm.limit)
        elif deed == "pause" and not self.cm.paused:
            self.cm.pause()
        else:
            self.cm.resume()
            self.cm.start_soon(self.task, self.name(), 0)

    async def main(self) -> None:
        limit = self.pick([2, 3, 5, 8, inf])
        if self.chance.random() < 0.4:
            limit = trio.CapacityLimiter(limit)
        with trio.move_on_after(10_000):
            async with (
                trio.open_nursery() as nursery,
                ConMan[Any].open(nursery, limit, per_key=self.limits or None, rng=self.chance) as self.cm,
            ):
                for _ in range(self.chance.randint(2, 8)):
                    self.cm.start_soon(self.task, self.name(), 0)
                for _ in range(self.chance.randint(0, 6)):
                    await trio.sleep(self.pick([0.5, 1, 1, 2]))
                    self.disturb()
                self.cm.resume()
                await self.cm.wait()
                # Of maps that were left.
                assert {type(error) for error in self.cm.errors()} <= {TaskCancelledError, RetriableError}
                self.is_over = True
        self.cm.errors()  # else what hangs would tell of them in some later test
        assert [limit.statistics() for limit in self.limits] == [{}] * len(self.limits)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Program]:
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)

    def run(seed: int) -> Program:
        trio._core._run._r.seed(seed)  # private: so that both go the same way
        program = Program(random.Random(seed))
        trio.run(program.main, clock=MockClock(autojump_threshold=0))
        return program

    return run


def check(first: int, count: int, run: Callable[[int], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(first, first + count)
    told = {}
    for seed in seeds:
        program = run(seed)
        assert program.is_over, seed
        told[seed] = program.told > 0
    assert 0.2 < sum(told.values()) / count < 0.8
    monkeypatch.setattr(Rings, "block", lambda *_: True)
    monkeypatch.setattr(Rings, "break_rings", lambda _: None)
    assert {seed: not run(seed).is_over for seed in seeds} == told


def test_who_waits_for_ever_is_told_and_nobody_else(
    run: Callable[[int], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(600, 300, run, monkeypatch)  # 794 needs that a map looks when it leaves a slot


@pytest.mark.slow
def test_who_waits_for_ever_is_told_and_nobody_else_in_many_programs(
    run: Callable[[int], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(1_000, 10_000, run, monkeypatch)
