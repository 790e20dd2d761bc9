"""Every public parameter refuses what is of a wrong kind or out of range, by name, and takes nothing."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import FunctionType
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

import trio_conman
from tests.hostile import Hostile
from trio_conman import (
    AdaptiveLimit,
    ConMan,
    Instrument,
    KeyedLimit,
    LoggingInstrument,
    RateLimiter,
    RetriableError,
    RetryBudget,
    RetryConfig,
    StopReason,
    TaskHandle,
    parse_retry_after,
)
from trio_conman.executors import broken_worker_errors, restarting, run_in_executor
from trio_conman.testing import FixedJitter, FlakyTask

pytestmark = pytest.mark.unmeasured

Wrong: TypeAlias = st.SearchStrategy[Any]

NONE: Wrong = st.none()
TEXTS: Wrong = st.text(max_size=20) | st.just("x" * 100_000)
THINGS: Wrong = (
    st.binary(max_size=5) | st.lists(st.integers(), max_size=3) | st.builds(Hostile) | st.builds(object)
)
NO_NUMBERS: Wrong = (
    st.booleans() | TEXTS | THINGS | st.complex_numbers() | st.decimals(allow_nan=True) | st.just(Decimal(1))
)
NEGATIVE: Wrong = (
    st.floats(max_value=-5e-324)
    | st.integers(max_value=-1)
    | st.fractions(max_value=Fraction(-1, 10**9))
    | st.sampled_from([math.nan, -math.inf, 10**400, -(10**400)])
)
INFINITE: Wrong = st.just(math.inf)
NO_INTS: Wrong = (
    st.booleans() | TEXTS | THINGS | st.floats(allow_infinity=False) | st.just(-math.inf) | st.fractions()
)

SECONDS = NO_NUMBERS | NEGATIVE
NO_BOOLS: Wrong = NONE | st.integers() | st.floats() | TEXTS | THINGS
NO_NAMES: Wrong = st.integers() | st.booleans() | st.floats() | THINGS
NO_OBJECTS: Wrong = st.integers() | st.booleans() | TEXTS | THINGS | st.just(RetryConfig)
NO_CALLABLES: Wrong = NONE | st.integers() | st.booleans() | TEXTS | st.builds(Hostile) | st.builds(object)


def counts(minimum: int) -> Wrong:
    return NO_INTS | st.integers(max_value=minimum - 1)


@attrs.frozen
class World:
    nursery: trio.Nursery
    cm: ConMan[Any]
    handle: TaskHandle[Any]


async def nothing(*_: object) -> None:
    await trio.lowlevel.checkpoint()


def opened(name: str) -> Callable[[World, Any], object]:
    def call(world: World, value: Any) -> object:
        given: dict[str, Any] = {"nursery": world.nursery, name: value}
        return ConMan[Any].open(**given)

    return call


def door(method: str, name: str) -> Callable[[World, Any], object]:
    def call(world: World, value: Any) -> object:
        arguments: list[Any] = [nothing, []] if method == "map" else [nothing]
        if name in ("task", "fn"):
            arguments[0] = value
        elif name == "items":
            arguments[1] = value
        else:
            return getattr(world.cm, method)(*arguments, **{name: value})
        return getattr(world.cm, method)(*arguments)

    return call


def assign_limit(world: World, value: Any) -> None:
    world.cm.limit = value


def made(make: Callable[..., object], name: str) -> Callable[[World, Any], object]:
    return lambda _, value: make(**{name: value})


def executed(name: str) -> Callable[[World, Any], Awaitable[Any]]:
    async def call(_: World, value: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            given: dict[str, Any] = {"executor": pool, "fn": len} | {name: value}
            await run_in_executor(given.pop("executor"), given.pop("fn"), (), **given)

    return call


OPTIONS: dict[str, Wrong] = {
    "name": NO_NAMES,
    "retry": NO_OBJECTS,
    "attempt_timeout": SECONDS,
    "task_timeout": SECONDS,
    "journal": NO_OBJECTS,
}
CONFIG: dict[str, Wrong] = {
    "max_attempts": NONE | counts(0),
    "initial_delay": NONE | SECONDS | INFINITE,
    "backoff_factor": NONE | SECONDS | INFINITE,
    "max_delay": NONE | SECONDS,
    "jitter": NO_BOOLS,
    "strategy": NONE | st.integers() | st.just("Linear") | THINGS,
    "max_elapsed": NONE | SECONDS,
    "max_retry_after": NONE | SECONDS,
    "hold_slot": NO_BOOLS,
    "retry_on": st.integers()
    | st.just("x")
    | st.sampled_from([int, (ValueError, 3), KeyboardInterrupt, [ValueError], trio.sleep]),
}

CONFIGS: dict[str, Callable[..., object]] = {
    "RetryConfig": RetryConfig,
    "RetryConfig.exponential": RetryConfig.exponential,
    "RetryConfig.linear": RetryConfig.linear,
    "RetryConfig.none": RetryConfig.none,
}

# The parameter, how to give it a value, and wrong ones.
PARAMETERS: dict[tuple[str, str], tuple[Callable[[World, Any], Any], Wrong]] = {
    **{
        ("ConMan.open", name): (opened(name), wrong)
        for name, wrong in {
            **OPTIONS,
            "nursery": NONE | NO_OBJECTS,
            "limit": NONE | counts(2),
            "attempt_timeout": NONE | SECONDS,
            "task_timeout": NONE | SECONDS,
            "rate": NO_OBJECTS,
            "per_key": NO_OBJECTS,
            "timeout": NONE | SECONDS,
            "max_errors": counts(0),
            "max_queued": NONE | counts(0),
            "retry_budget": NO_OBJECTS,
            "send_to": NO_OBJECTS,
            "instruments": NONE | st.integers() | st.builds(Hostile) | st.lists(st.integers(), min_size=1),
            "journal": NO_OBJECTS,
            "rng": NO_OBJECTS | st.just(random),
        }.items()
    },
    **{
        (f"ConMan.{method}", name): (door(method, name), wrong)
        for method in ("run", "run_nowait", "start_soon")
        for name, wrong in {**OPTIONS, "task": NO_CALLABLES, "priority": NONE | NO_INTS}.items()
    },
    **{
        ("ConMan.map", name): (door("map", name), wrong)
        for name, wrong in {
            **OPTIONS,
            "fn": NO_CALLABLES,
            "items": NONE | st.integers() | st.builds(Hostile),
            "ordered": NO_BOOLS,
            "priority": NONE | NO_INTS,
            "lookahead": counts(1),
        }.items()
    },
    ("ConMan.limit", "limit"): (assign_limit, NONE | counts(2)),
    ("ConMan.shutdown", "queued"): (
        lambda world, value: world.cm.shutdown(queued=value),
        NONE | st.integers() | st.just("Drop") | THINGS,
    ),
    ("ConMan.shutdown", "grace"): (lambda world, value: world.cm.shutdown(value), NONE | SECONDS),
    ("ConMan.cancel", "reason"): (lambda world, value: world.cm.cancel(value), NO_NAMES),
    ("TaskHandle.cancel", "reason"): (lambda world, value: world.handle.cancel(value), NO_NAMES),
    **{
        (where, name): (made(make, name), wrong)
        for where, make in CONFIGS.items()
        for name, wrong in CONFIG.items()
        if where == "RetryConfig" or name != "strategy"
    },
    ("RetryConfig.delay", "retry"): (
        lambda _, value: RetryConfig().delay(value),
        NONE | INFINITE | counts(1),
    ),
    ("RetriableError", "error"): (made(RetriableError, "error"), NONE | st.integers() | THINGS),
    ("RetriableError", "retry_config"): (
        lambda _, value: RetriableError("no", retry_config=value),
        NO_OBJECTS,
    ),
    ("RetriableError", "retry_after"): (lambda _, value: RetriableError("no", retry_after=value), SECONDS),
    ("RetriableError.with_retry_config", "config"): (
        lambda _, value: RetriableError("no").with_retry_config(value),
        NONE | NO_OBJECTS,
    ),
    ("RateLimiter", "rate"): (made(RateLimiter, "rate"), NONE | SECONDS | INFINITE | st.just(0)),
    ("RateLimiter", "per"): (
        lambda _, value: RateLimiter(1, per=value),
        NONE | SECONDS | INFINITE | st.just(0),
    ),
    ("KeyedLimit", "limit"): (lambda _, value: KeyedLimit(value, key=str), NONE | counts(1)),
    ("KeyedLimit", "key"): (lambda _, value: KeyedLimit(1, key=value), NO_CALLABLES | st.just(nothing)),
    ("KeyedLimit", "limits"): (
        lambda _, value: KeyedLimit(1, key=str, limits=value),
        st.integers() | st.booleans() | TEXTS | st.lists(st.integers(), min_size=1),
    ),
    ("RateLimiter", "burst"): (lambda _, value: RateLimiter(1, burst=value), NONE | counts(1)),
    ("RateLimiter", "cost"): (
        lambda _, value: RateLimiter(1, cost=value),
        NONE | SECONDS | INFINITE | st.just(0) | st.just(nothing),
    ),
    ("RateLimiter.restore", "snapshot"): (
        lambda _, value: RateLimiter.restore(value),
        NONE | st.integers() | st.booleans() | TEXTS | THINGS,
    ),
    ("RateLimiter.restore", "cost"): (
        lambda _, value: RateLimiter.restore(RateLimiter(1).snapshot(), cost=value),
        NONE | SECONDS | INFINITE | st.just(0) | st.just(nothing),
    ),
    ("RateLimiter.acquire", "permits"): (
        lambda _, value: RateLimiter(1).acquire(value),
        NONE | SECONDS | INFINITE | st.just(0),
    ),
    ("RateLimiter.acquire_nowait", "permits"): (
        lambda _, value: RateLimiter(1).acquire_nowait(value),
        NONE | SECONDS | INFINITE | st.just(0),
    ),
    ("RateLimiter.charge", "permits"): (
        lambda _, value: RateLimiter(1).charge(value),
        NONE | NO_NUMBERS | INFINITE | st.sampled_from([math.nan, -math.inf]),
    ),
    ("RateLimiter.observe", "remaining"): (
        lambda _, value: RateLimiter(1).observe(remaining=value, reset=1),
        NONE | SECONDS,
    ),
    ("RateLimiter.observe", "reset"): (
        lambda _, value: RateLimiter(1).observe(remaining=1, reset=value),
        NONE | SECONDS | INFINITE,
    ),
    ("RateLimiter.pause_for", "seconds"): (
        lambda _, value: RateLimiter(1).pause_for(value),
        NONE | SECONDS | INFINITE,
    ),
    ("AdaptiveLimit", "minimum"): (made(AdaptiveLimit, "minimum"), NONE | NO_INTS | st.integers(max_value=0)),
    ("AdaptiveLimit", "maximum"): (made(AdaptiveLimit, "maximum"), NONE | NO_INTS | st.integers(max_value=1)),
    ("AdaptiveLimit", "initial"): (made(AdaptiveLimit, "initial"), NONE | NO_INTS | st.integers(max_value=0)),
    ("AdaptiveLimit", "overloaded"): (
        made(AdaptiveLimit, "overloaded"),
        st.integers() | st.booleans() | TEXTS | st.builds(object) | st.just(nothing),
    ),
    ("RetryBudget", "tokens"): (made(RetryBudget, "tokens"), NONE | SECONDS | INFINITE),
    ("RetryBudget", "ratio"): (made(RetryBudget, "ratio"), NONE | SECONDS | INFINITE),
    ("parse_retry_after", "header"): (made(parse_retry_after, "header"), NONE | st.integers() | THINGS),
    ("parse_retry_after", "now"): (
        lambda _, value: parse_retry_after("3", value),
        st.integers() | TEXTS | THINGS | st.just(datetime(2026, 1, 1)),  # noqa: DTZ001  # it must have a time zone
    ),
    ("LoggingInstrument", "arguments"): (made(LoggingInstrument, "arguments"), NO_BOOLS),
    ("FixedJitter", "share"): (made(FixedJitter, "share"), NONE | SECONDS | st.floats(min_value=1.01)),
    ("FlakyTask", "seconds"): (lambda _, value: FlakyTask[None](None, seconds=value), NONE | SECONDS),
    ("run_in_executor", "executor"): (executed("executor"), NONE | NO_OBJECTS | st.just(ThreadPoolExecutor)),
    ("run_in_executor", "fn"): (executed("fn"), NO_CALLABLES | st.just(nothing)),
    ("run_in_executor", "abandon_on_cancel"): (executed("abandon_on_cancel"), NO_BOOLS),
    ("run_in_executor", "submit_in_thread"): (
        executed("submit_in_thread"),
        st.integers() | st.floats() | TEXTS | THINGS,
    ),
    ("broken_worker_errors", "executor"): (made(broken_worker_errors, "executor"), NONE | NO_OBJECTS),
    ("restarting", "factory"): (made(restarting, "factory"), NO_CALLABLES | st.just(nothing) | st.just(list)),
    ("restarting", "max_restarts"): (
        made(partial(restarting, partial(ThreadPoolExecutor, 1)), "max_restarts"),
        NONE | counts(0),
    ),
    ("restarting", "per"): (
        made(partial(restarting, partial(ThreadPoolExecutor, 1)), "per"),
        NONE | SECONDS | INFINITE,
    ),
}

OVERRIDING = set(CONFIGS) - {"RetryConfig"}

# What may be anything, or is for the library's own use, and classes that users do not construct.
FREE = {
    ("TaskCancelledError", "args"),
    ("FlakyTask", "answers"),
    ("run_in_executor", "args"),
    *((f"ConMan.{method}", "args") for method in ("run", "run_nowait", "start_soon")),
    *((f"ConMan.{method}", "_unknown") for method in ("run", "run_nowait", "start_soon")),
    *((where, "overrides") for where in OVERRIDING),
}
MADE_HERE = {
    "ConMan",
    "ConManClosedError",
    "ConManStatistics",
    "Failure",
    "Instrument",
    "KeyStatistics",
    "Outcome",
    "RateLimiterStatistics",
    "RetriedError",
    "AdaptiveLimitStatistics",
    "RetryBudgetStatistics",
    "StopReason",
    "Success",
    "Task",
    "TaskCancelledError",
    "TaskHandle",
}


async def settled(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


@pytest.mark.one_python
@pytest.mark.parametrize("where, name", [pytest.param(*each, id=":".join(each)) for each in PARAMETERS])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_wrong_value_is_refused_by_name_and_nothing_is_taken(
    where: str, name: str, data: st.DataObject
) -> None:
    call, wrong = PARAMETERS[where, name]
    value = data.draw(wrong)

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[Any].open(nursery, 2) as cm:
            world = World(nursery, cm, await cm.run(trio.sleep, 1))
            before = cm.statistics()
            with pytest.raises((TypeError, ValueError)) as raised:
                await settled(call(world, value))
            assert str(raised.value).startswith(f"{name} must "), raised.value
            assert len(str(raised.value)) < 400
            assert cm.statistics() == before
            assert await (await cm.run(nothing)).result() is None  # it goes on

    trio.run(main, clock=MockClock(autojump_threshold=0))


def methods(kind: type) -> dict[str, Any]:
    """Those that are its own, or inherited from the parts that it is made of, which have no public name."""
    return {
        name: getattr(kind, name)
        for base in kind.__mro__
        if base.__module__.startswith("trio_conman")
        for name, each in vars(base).items()
        if not name.startswith("_") and isinstance(each, FunctionType | classmethod)
    }


def public_parameters() -> set[tuple[str, str]]:
    functions: dict[str, Any] = {
        function.__name__: function
        for function in (run_in_executor, broken_worker_errors, restarting, parse_retry_after)
    }
    for kind in (FixedJitter, FlakyTask, *map(vars(trio_conman).get, trio_conman.__all__)):
        if isinstance(kind, type) and not issubclass(kind, Instrument | StopReason):
            functions |= {f"{kind.__name__}.{name}": each for name, each in methods(kind).items()}
            if kind.__name__ not in MADE_HERE:
                functions[kind.__name__] = kind
    functions["LoggingInstrument"] = LoggingInstrument
    return {
        (where, name)
        for where, function in functions.items()
        for name in inspect.signature(function).parameters
        if name != "self" and not name.startswith("_")  # what refuses all else has no name
    }


def test_no_public_parameter_is_forgotten() -> None:
    overrides = {each for each in PARAMETERS if each[0] in OVERRIDING}
    assert public_parameters() - FREE == set(PARAMETERS) - overrides - {("ConMan.limit", "limit")}
