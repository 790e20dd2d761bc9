"""Random programs, each made from one number, so that a hundred thousand of them are a matter of minutes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs

from trio_conman import RetryConfig

from .machine import World
from .machine_cast import Cast
from .machine_journal import Overnight
from .machine_program import Act, Deed, Manager, Options, Plan, Source, Step
from .machine_vocabulary import (
    ATTEMPT_TIMEOUTS,
    ENDINGS,
    INSIDE,
    KEYS,
    LIMITS,
    LOOKAHEADS,
    MANNERS,
    PAUSES,
    PRIORITIES,
    RETRIES,
    SECONDS,
    SIMPLE,
    TASK_TIMEOUTS,
    inf,
)

T = TypeVar("T")

HOOKS = ["task_submitted", "attempt_started", "retry_scheduled", "task_finished", "limit_changed"]


def start_all(plans: list[Plan], options: Options, start: Callable[..., Any] = Cast.start_soon) -> Deed:
    """Start a task for each plan."""

    def deed(cast: Cast) -> None:
        for plan in plans:
            start(cast, plan, options)

    return deed


class Maker:
    """Draws the parts of one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice
        self.seed = seed
        self.keys = self.pick(KEYS)
        self.priorities = self.pick([[0], PRIORITIES])

    def odds(self, share: float) -> bool:
        return self.random.random() < share

    def some(self, make: Callable[[], T], least: int, most: int) -> list[T]:
        return [make() for _ in range(self.random.randint(least, most))]

    def act(self) -> Act:
        inside = self.pick(["", "", "", "", "", "", "", "", *INSIDE, "cancel", "interrupt", "move"])
        if inside in {"interrupt", "move"} and self.odds(0.7):
            inside = ""
        return Act(self.pick(SECONDS), inside, self.pick(ENDINGS), self.pick(RETRIES))

    def plan(self) -> Plan:
        key = self.random.randrange(len(self.keys) or 1)
        if self.odds(0.5):
            return attrs.evolve(self.pick(SIMPLE), key=key)
        return Plan(tuple(self.some(self.act, 1, 3)), self.pick(MANNERS), self.odds(0.04), key)

    def options(self) -> Options:
        if self.odds(0.5):
            return Options(priority=self.pick(self.priorities))
        return Options(
            self.pick(RETRIES),
            self.pick(ATTEMPT_TIMEOUTS),
            self.pick(TASK_TIMEOUTS),
            self.pick(self.priorities),
        )

    def manager(self) -> Manager:
        return Manager(
            limit=self.pick(LIMITS),
            timeout=self.pick([inf, inf, inf, inf, inf, 5, 9]),
            options=self.options(),
            max_errors=self.pick([None, None, None, None, 0, 2]),
            send_to=self.pick([None, None, 0, 1, inf]),
            pace=self.pick([0.0, 0.5, 9.0]),
            reads=self.pick([inf, inf, 3]),
            rate=self.pick([None, None, None, (2.0, 1), (4.0, 3)]),
            tokens=self.pick([None, None, None, 0, 2]),
            broken=self.pick(["", "", "", *HOOKS]),
            adapts=self.odds(0.25),
            keyed=self.odds(0.8),
        )

    def source(self) -> Source:
        plans = tuple(self.some(self.plan, 0, 12))
        return Source(
            self.pick(["generator", "list", "async"]),
            plans,
            self.pick([0.0, 0.5]),
            self.pick([False, False, True]),
        )

    def mapping(self) -> dict[str, Any]:
        return {
            "source": self.source(),
            "options": self.options(),
            "ordered": self.odds(0.5),
            "leave_after": self.pick([inf, inf, 1, 3]),
            "pace": self.pick([0.0, 0.0, 0.5, 3.0]),
            "lookahead": self.pick(LOOKAHEADS),
        }

    def deed(self, shared: bool) -> Deed:
        """Something to do with a manager; rarely what ends most of the program."""
        plans, options, number = self.some(self.plan, 1, 8), self.options(), self.random.randrange(10)
        way = self.pick(
            ["run", "run", "start_soon", "start_soon", "nowait", "map", "map", "other", "other", "end"]
        )
        if way == "end" and self.odds(0.8):
            way = "run"
        match way:
            case "run":

                async def run(cast: Cast) -> None:
                    for plan in plans:
                        await cast.run(plan, options)

                return run
            case "start_soon" | "nowait":
                return start_all(plans, options, Cast.start_soon if way == "start_soon" else Cast.run_nowait)
            case "map":
                return partial(Cast.map, **self.mapping())
            case "end":
                grace = self.pick([inf, 0, 1])
                ends: list[Deed] = [Cast.cancel, Cast.fail, partial(Cast.shutdown, grace=grace)]
                return self.pick(ends)
        limit, seconds, pause = self.pick(LIMITS), self.pick([0.5, 1.0]), self.pick(PAUSES)
        others: list[Deed] = [
            lambda cast: cast.cancel_handle(number),
            lambda cast: cast.await_handle(number),
            lambda cast: cast.set_limit(limit),
            Cast.pause,
            Cast.resume,
            Cast.pop,
            Cast.wait_running,
            lambda cast: cast.slow(pause),
            lambda cast: cast.wait(),
            lambda cast: cast.set_priority(number, number % 3 - 1),
            lambda cast: cast.set_key_limit(number, 1 + number % 3),
        ]
        if shared:
            others.append(lambda cast: cast.borrow(seconds))
        return self.pick(others)

    def step(self, shared: bool) -> Step:
        deed = self.deed(shared)
        aside = self.odds(0.4) and deed not in (Cast.cancel, Cast.fail)
        patience = self.pick([inf, inf, 0.5, 1.0]) if aside else inf
        return Step(deed, self.pick([0.0, 0.0, 0.5, 1.0]), self.odds(0.5), aside, patience)

    def contended(self) -> World:
        """A program in which many retry and many are new, and nothing else happens: it shows their turns."""
        plain = Manager(limit=self.pick([2, 3]), broken=self.pick(["", *HOOKS]))
        failing = [Plan((Act(seconds, ending="retriable"),) * 6) for seconds in SECONDS]
        lasting = [Plan((Act(seconds),)) for seconds in SECONDS]
        delays = [0.5, 1.0, 1.5]

        def step() -> Step:
            plans = self.some(lambda: self.pick([*failing, *lasting]), 2, 6)
            delay, attempts = self.pick(delays), self.pick([1, 3, inf])
            retry = RetryConfig.linear(
                initial_delay=delay, backoff_factor=0, max_delay=delay, max_attempts=attempts
            )
            deed = start_all(plans, Options(retry))
            return Step(deed, self.pick([0.0, 0.5, 1.0]), self.odds(0.5), False, inf)

        return World([plain], [self.some(step, 1, 5)], None, inf, self.seed)

    def keyed(self) -> World:
        """A program in which many wait for few keys, some of them first, and limits go up and down."""
        plain = Manager(limit=self.pick([2, 4, 8]), keyed=True)
        keys = self.pick([(1, 1), (1, 2), (2, 1, 3)])

        def step() -> Step:
            number = self.random.randrange(10)
            if self.odds(0.4):
                return Step(lambda cast: cast.set_key_limit(number, 1 + number % 3), 0.5, settle=True)
            plans = self.some(
                lambda: Plan((Act(self.pick(SECONDS)),), key=self.random.randrange(len(keys))), 2, 9
            )
            options = Options(priority=self.pick(PRIORITIES))
            return Step(start_all(plans, options), self.pick([0.0, 0.25, 0.5]), self.odds(0.5), False, inf)

        return World([plain], [self.some(step, 3, 9)], None, inf, self.seed, keys)

    def held_back(self) -> World:
        """A program in which pauses, of the manager or its rate, hold back attempts until it is too late."""
        metered = Manager(limit=self.pick([2, 3, 5]), rate=self.pick([(2.0, 1), (4.0, 3)]))
        failing = [Plan((Act(seconds, ending="retriable"),) * 6) for seconds in SECONDS]
        limited = [each for each in RETRIES if each is not None and each.max_elapsed < inf]

        def step() -> Step:
            wait = self.pick([0.0, 0.5, 1.0, 3.0])
            pause = self.pick(PAUSES)
            if self.odds(0.6):
                deeds: list[Deed] = [
                    Cast.pause,
                    Cast.resume,
                    Cast.wait_running,
                    lambda cast: cast.slow(pause),
                ]
                return Step(self.pick(deeds), wait, settle=True)
            plans = self.some(lambda: self.pick(failing), 1, 3)
            options = Options(self.pick(limited), task_timeout=self.pick(TASK_TIMEOUTS))
            return Step(start_all(plans, options), wait, self.odds(0.5), False, inf)

        return World([metered], [self.some(step, 4, 9)], None, inf, self.seed)

    def world(self) -> World:
        managers = self.some(self.manager, 1, 2)
        shared = self.pick([None, None, 1, 2, 3])
        steps = [self.some(lambda: self.step(shared is not None), 1, 9) for _ in managers]
        outer = self.pick([inf, inf, inf, inf, inf, 4, 8.5])
        world = World(managers, steps, shared, outer, self.seed, self.keys)
        if self.odds(0.15):
            world.interrupt_at = self.random.randrange(1, 150)
        return world


def program(seed: int) -> World | Overnight:
    """The program of that number."""
    if seed % 8 == 5:
        return Overnight(seed)
    maker = Maker(seed)
    kinds = {0: maker.contended, 4: maker.keyed, 8: maker.contended, 10: maker.held_back, 12: maker.keyed}
    return kinds.get(seed % 16, maker.world)()
