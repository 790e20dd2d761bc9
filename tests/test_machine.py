"""Random programs, made by hypothesis, and run under watch in virtual time: see `machine`.

The rules only collect a program; it runs once, as a whole, in `Programs.teardown`, so that what fails shrinks
to a short list of steps. HYPOTHESIS_PROFILE=nightly tries more of them.
"""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from trio_conman import RetryConfig

from .machine import Act, Cast, Deed, Manager, Options, Plan, Source, Step, World

common = settings(
    deadline=None,
    database=None,
    print_blob=True,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
PROFILES = {
    "default": settings(common, max_examples=100, derandomize=True),
    "nightly": settings(common, max_examples=2000, derandomize=bool(os.environ.get("DERAND"))),
}
PROFILE = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")]

inf = math.inf
HALF = RetryConfig.linear(initial_delay=0.5, backoff_factor=0, max_delay=0.5, max_attempts=2)
RETRIES = [
    None,
    HALF,
    RetryConfig.linear(initial_delay=0.5, max_delay=0.5, hold_slot=True),
    RetryConfig.none(max_attempts=2, retry_on=KeyError),
    RetryConfig.exponential(initial_delay=0.5, jitter=False, max_attempts=3),
    RetryConfig.exponential(initial_delay=0.5, max_attempts=2, retry_on=(KeyError, OSError)),
    RetryConfig.exponential(initial_delay=1, jitter=False, max_elapsed=3.5),
]
INSIDE = ["pause", "resume", "limit", "cancel me", "cancel another", "more", "hand over", "wait", "run", "map"]

# Tasks last for whole halves of a second, and the program goes by them too, so that much falls on one tick;
# the timeouts of attempts and tasks never do, for nobody can say what goes first then.
acts = st.builds(
    Act,
    seconds=st.sampled_from([1.0, 0.0, 0.5, 2.0]),
    inside=st.sampled_from(["", "", "", "", "", "", "", "", *INSIDE, "cancel"]),
    ending=st.sampled_from(["return", "return", "error", "retriable", "retriable", "group", "mixed"]),
    config=st.sampled_from(RETRIES),
)
plans = st.builds(
    Plan,
    acts=st.lists(acts, min_size=1, max_size=3).map(tuple),
    manner=st.sampled_from(["plain", "plain", "plain", "stubborn", "swallows", "turns"]),
)
options = st.one_of(
    st.just(Options()),
    st.builds(
        Options,
        retry=st.sampled_from(RETRIES),
        attempt_timeout=st.sampled_from([None, None, 0.75, 1.75]),
        task_timeout=st.sampled_from([None, None, 1.125, 3.125]),
    ),
)
sources = st.builds(
    Source,
    kind=st.sampled_from(["generator", "list", "async"]),
    plans=st.lists(plans, max_size=12).map(tuple),
    pause=st.sampled_from([0.0, 0.5]),
    raises=st.sampled_from([False, False, True]),
)
limits = st.sampled_from([2, 2, 3, 5, inf])
managers = st.builds(
    Manager,
    limit=limits,
    timeout=st.sampled_from([inf, inf, inf, inf, 2, 5]),
    options=st.one_of(st.just(Options()), options),
    max_errors=st.sampled_from([None, None, None, None, 0, 2]),
    send_to=st.sampled_from([None, None, 0, 1, inf]),
    pace=st.sampled_from([0.0, 0.5, 9.0]),
    reads=st.sampled_from([inf, inf, 3]),
)
# When, by whom, and how closely looked at.
moments = st.fixed_dictionaries(
    {
        "which": st.sampled_from([0, 0, 1]),
        "delay": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
        "settle": st.booleans(),
    }
)
asides = st.fixed_dictionaries({"aside": st.booleans(), "patience": st.sampled_from([inf, inf, 0.5, 1.0])})
inline = st.just({"aside": False, "patience": inf})
numbers = st.integers(0, 9)


class Programs(RuleBasedStateMachine):
    """Each rule adds a step to the program."""

    def __init__(self, watches: dict[int, Any]) -> None:
        super().__init__()
        self.watches = watches
        self.world: World | None = None

    @initialize(
        managers=st.lists(managers, min_size=1, max_size=2),
        shared=st.sampled_from([None, None, 1, 2, 3]),
        outer=st.sampled_from([inf, inf, inf, inf, 3, 6.5]),
        seed=st.integers(0, 2**16),
    )
    def open(self, managers: list[Manager], shared: int | None, outer: float, seed: int) -> None:
        self.world = World(managers, [[] for _ in managers], shared, outer, seed)

    def add(self, deed: Deed, which: int, **moment: Any) -> None:
        assert self.world is not None
        steps = self.world.steps[which % len(self.world.steps)]
        steps.append(Step(deed, **moment))

    @rule(plan=plans, options=options, at=moments, by=asides)
    def run(self, plan: Plan, options: Options, at: Any, by: Any) -> None:
        self.add(lambda cast: cast.run(plan, options), **at, **by)

    @rule(plan=plans, options=options, at=moments)
    def run_nowait(self, plan: Plan, options: Options, at: Any) -> None:
        self.add(lambda cast: cast.run_nowait(plan, options), **at)

    @rule(plan=plans, options=options, count=st.integers(1, 3), at=moments)
    def start_soon(self, plan: Plan, options: Options, count: int, at: Any) -> None:
        def deed(cast: Cast) -> None:
            for _ in range(count):
                cast.start_soon(plan, options)

        self.add(deed, **at)

    @rule(
        source=sources,
        options=options,
        ordered=st.booleans(),
        leave_after=st.sampled_from([inf, inf, 1, 3]),
        pace=st.sampled_from([0.0, 0.0, 0.5]),
        at=moments,
        by=asides,
    )
    def map(
        self,
        source: Source,
        options: Options,
        ordered: bool,
        leave_after: float,
        pace: float,
        at: Any,
        by: Any,
    ) -> None:
        def deed(cast: Cast) -> Any:
            return cast.map(source, options, ordered=ordered, leave_after=leave_after, pace=pace)

        self.add(deed, **at, **by)

    @rule(number=numbers, at=moments)
    def cancel_a_handle(self, number: int, at: Any) -> None:
        self.add(lambda cast: cast.cancel_handle(number), **at)

    @rule(number=numbers, at=moments, by=asides)
    def await_a_handle(self, number: int, at: Any, by: Any) -> None:
        self.add(lambda cast: cast.await_handle(number), **at, **by)

    @rule(limit=limits, at=moments)
    def set_the_limit(self, limit: float, at: Any) -> None:
        self.add(lambda cast: cast.set_limit(limit), **at)

    @rule(at=moments)
    def pause(self, at: Any) -> None:
        self.add(lambda cast: cast.pause(), **at)

    @rule(at=moments)
    def resume(self, at: Any) -> None:
        self.add(lambda cast: cast.resume(), **at)

    @rule(at=moments)
    def pop_outcomes(self, at: Any) -> None:
        self.add(lambda cast: cast.pop(), **at)

    @rule(at=moments, by=asides)
    def wait(self, at: Any, by: Any) -> None:
        self.add(lambda cast: cast.wait(), **at, **by)

    @precondition(lambda self: self.world is not None and self.world.shared is not None)
    @rule(seconds=st.sampled_from([0.5, 1.0]), at=moments)
    def borrow_from_the_limiter(self, seconds: float, at: Any) -> None:
        self.add(lambda cast: cast.borrow(seconds), aside=True, **at)

    # What ends most of the program comes rarely.

    @rule(grace=st.sampled_from([inf, 0, 1]), at=moments, by=asides, now=st.integers(0, 4))
    def shutdown(self, grace: float, at: Any, by: Any, now: int) -> None:
        if now == 0:
            self.add(lambda cast: cast.shutdown(grace), **at, **by)

    @rule(at=moments, now=st.integers(0, 4))
    def cancel(self, at: Any, now: int) -> None:
        if now == 0:
            self.add(lambda cast: cast.cancel(), **at)

    @rule(at=moments, now=st.integers(0, 4))
    def fail(self, at: Any, now: int) -> None:
        if now == 0:
            self.add(lambda cast: cast.fail(), **at)

    def teardown(self) -> None:
        if self.world is not None:
            self.watches.clear()
            self.world.run()
            for watch in self.watches.values():
                watch.check()
            self.watches.clear()


def test_random_programs(standing_check: dict[int, Any]) -> None:
    run_state_machine_as_test(lambda: Programs(standing_check), settings=PROFILE)  # type: ignore[no-untyped-call]
