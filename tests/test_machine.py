"""Random programs, made by hypothesis, and run under watch in virtual time: see `machine`.

The rules only collect a program; it runs once, as a whole, in `Programs.teardown`, so that what fails shrinks
to a short list of steps. HYPOTHESIS_PROFILE=nightly tries more of them.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .machine import World
from .machine_cast import Cast
from .machine_program import Act, Deed, Manager, Options, Plan, Source, Step
from .machine_vocabulary import (
    ATTEMPT_TIMEOUTS,
    ENDINGS,
    INSIDE,
    KEYS,
    LIMITS,
    LOOKAHEADS,
    MANNERS,
    PRIORITIES,
    RETRIES,
    SECONDS,
    SIMPLE,
    TASK_TIMEOUTS,
    inf,
)

pytestmark = pytest.mark.unmeasured

common = settings(
    deadline=None,
    database=None,
    print_blob=True,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
PROFILES = {
    "default": settings(common, max_examples=100, derandomize=True),
    "nightly": settings(common, max_examples=2000),
}
PROFILE = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]

acts = st.builds(
    Act,
    seconds=st.sampled_from(SECONDS),
    inside=st.sampled_from(["", "", "", "", "", "", "", "", *INSIDE, "cancel"]),
    ending=st.sampled_from(ENDINGS),
    config=st.sampled_from(RETRIES),
)
elaborate = st.builds(
    Plan,
    acts=st.lists(acts, min_size=1, max_size=3).map(tuple),
    manner=st.sampled_from(MANNERS),
    key=st.integers(0, 1),
)
plans = st.one_of(st.sampled_from(SIMPLE), elaborate)
options = st.one_of(
    st.just(Options()),
    st.builds(
        Options,
        retry=st.sampled_from(RETRIES),
        attempt_timeout=st.sampled_from(ATTEMPT_TIMEOUTS),
        task_timeout=st.sampled_from(TASK_TIMEOUTS),
        priority=st.sampled_from(PRIORITIES),
    ),
)
sources = st.builds(
    Source,
    kind=st.sampled_from(["generator", "list", "async"]),
    plans=st.lists(plans, max_size=12).map(tuple),
    pause=st.sampled_from([0.0, 0.5]),
    raises=st.sampled_from([False, False, True]),
)
maps = st.fixed_dictionaries(
    {
        "source": sources,
        "options": options,
        "ordered": st.booleans(),
        "leave_after": st.sampled_from([inf, inf, 1, 3]),
        "pace": st.sampled_from([0.0, 0.0, 0.5, 3.0]),
        "lookahead": st.sampled_from(LOOKAHEADS),
    }
)
limits = st.sampled_from(LIMITS)
managers = st.builds(
    Manager,
    limit=limits,
    timeout=st.sampled_from([inf, inf, inf, inf, inf, 5, 9]),
    options=st.one_of(st.just(Options()), options),
    max_errors=st.sampled_from([None, None, None, None, 0, 2]),
    send_to=st.sampled_from([None, None, 0, 1, inf]),
    pace=st.sampled_from([0.0, 0.5, 9.0]),
    reads=st.sampled_from([inf, inf, 3]),
    keyed=st.booleans(),
)
# When, by whom, and how closely looked at.
moments = st.fixed_dictionaries(
    {
        "which": st.sampled_from([0, 0, 1]),
        "delay": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
        "settle": st.booleans(),
    }
)
patiences = st.sampled_from([inf, inf, 0.5, 1.0])
asides = st.fixed_dictionaries({"aside": st.booleans(), "patience": patiences})
several = st.lists(plans, min_size=1, max_size=8)
numbers = st.integers(0, 9)
endings = st.sampled_from(
    [Cast.cancel, Cast.fail, *(partial(Cast.shutdown, grace=grace) for grace in (inf, 0, 1))]
)


class Programs(RuleBasedStateMachine):
    """Each rule adds a step to the program."""

    def __init__(self, watches: dict[int, Any]) -> None:
        super().__init__()
        self.watches = watches
        self.world: World | None = None

    @initialize(
        managers=st.lists(managers, min_size=1, max_size=2),
        shared=st.sampled_from([None, None, 1, 2, 3]),
        outer=st.sampled_from([inf, inf, inf, inf, inf, 4, 8.5]),
        seed=st.integers(0, 2**16),
        keys=st.sampled_from(KEYS),
    )
    def open(
        self,
        managers: list[Manager],
        shared: int | None,
        outer: float,
        seed: int,
        keys: tuple[int, ...],
    ) -> None:
        self.world = World(managers, [[] for _ in managers], shared, outer, seed, keys)

    def add(self, deed: Deed, which: int, **moment: Any) -> None:
        assert self.world is not None
        steps = self.world.steps[which % len(self.world.steps)]
        steps.append(Step(deed, **moment))

    @rule(plans=several, options=options, at=moments, by=asides)
    def run_one_after_the_other(self, plans: list[Plan], options: Options, at: Any, by: Any) -> None:
        async def deed(cast: Cast) -> None:
            for plan in plans:
                await cast.run(plan, options)

        self.add(deed, **at, **by)

    @rule(plans=several, options=options, at=moments, patience=patiences)
    def run_side_by_side(self, plans: list[Plan], options: Options, at: Any, patience: float) -> None:
        for plan in plans:
            self.add(partial(Cast.run, plan=plan, options=options), aside=True, patience=patience, **at)
            at = at | {"delay": 0.0}

    @rule(plans=several, options=options, way=st.sampled_from([Cast.start_soon, Cast.run_nowait]), at=moments)
    def start(self, plans: list[Plan], options: Options, way: Any, at: Any) -> None:
        def deed(cast: Cast) -> None:
            for plan in plans:
                way(cast, plan, options)

        self.add(deed, **at)

    @rule(how=maps, at=moments, by=asides)
    def map(self, how: Any, at: Any, by: Any) -> None:
        self.add(partial(Cast.map, **how), **at, **by)

    @rule(how=maps, at=moments, patience=patiences)
    def map_beside(self, how: Any, at: Any, patience: float) -> None:
        self.add(partial(Cast.map, **how), aside=True, patience=patience, **at)

    @rule(number=numbers, at=moments)
    def cancel_a_handle(self, number: int, at: Any) -> None:
        self.add(lambda cast: cast.cancel_handle(number), **at)

    @rule(number=numbers, at=moments, by=asides)
    def await_a_handle(self, number: int, at: Any, by: Any) -> None:
        self.add(lambda cast: cast.await_handle(number), **at, **by)

    @rule(number=numbers, priority=st.sampled_from(PRIORITIES), at=moments)
    def set_a_priority(self, number: int, priority: int, at: Any) -> None:
        self.add(lambda cast: cast.set_priority(number, priority), **at)

    @rule(key=numbers, limit=st.integers(1, 3), at=moments)
    def set_the_limit_of_a_key(self, key: int, limit: int, at: Any) -> None:
        self.add(lambda cast: cast.set_key_limit(key, limit), **at)

    @rule(limit=limits, at=moments)
    def set_the_limit(self, limit: float, at: Any) -> None:
        self.add(lambda cast: cast.set_limit(limit), **at)

    @rule(deed=st.sampled_from([Cast.pause, Cast.resume]), at=moments)
    def pause_or_resume(self, deed: Deed, at: Any) -> None:
        self.add(deed, **at)

    @rule(at=moments)
    def pop_outcomes(self, at: Any) -> None:
        self.add(Cast.pop, **at)

    @rule(at=moments, by=asides)
    def wait(self, at: Any, by: Any) -> None:
        self.add(lambda cast: cast.wait(), **at, **by)

    @precondition(lambda self: self.world is not None and self.world.shared is not None)
    @rule(seconds=st.sampled_from([0.5, 1.0]), at=moments)
    def borrow_from_the_limiter(self, seconds: float, at: Any) -> None:
        self.add(lambda cast: cast.borrow(seconds), aside=True, **at)

    @rule(deed=endings, at=moments, by=asides, odds=st.integers(0, 4))
    def end(self, deed: Deed, at: Any, by: Any, odds: int) -> None:
        if odds == 4:  # rarely, as it ends most of the program
            self.add(deed, **at, **(by if deed is not Cast.fail else {}))

    def teardown(self) -> None:
        if self.world is not None:
            try:
                self.world.run()
                for watch in self.watches.values():
                    watch.check()
            finally:
                self.watches.clear()


def test_random_programs(standing_check: dict[int, Any]) -> None:
    def program() -> Programs:
        return Programs(standing_check)

    run_state_machine_as_test(program, settings=PROFILE)  # type: ignore[arg-type]  # any factory will do
