"""RetryConfig: what its fields may be, the presets, the delays, and copies."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import attrs
import pytest

from tests.judged import (
    DOUBLING,
    HUGE,
    Ambiguous,
    Asking,
    Yielding,
    asking,
    group,
    retriable,
    verdict,
    ways,
    yielding,
)
from trio_conman import RetriableError, RetryConfig, StopReason
from trio_conman._base.texts import short
from trio_conman._policy.decision import Retry

PRESETS = [RetryConfig.exponential, RetryConfig.linear, RetryConfig.none]
DOORS: dict[str, Callable[..., RetryConfig]] = {
    "constructor": RetryConfig,
    **{preset.__name__: preset for preset in PRESETS},
    "evolve": lambda **fields: attrs.evolve(RetryConfig(), **fields),
}
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)

NUMBERS = ["initial_delay", "backoff_factor", "max_delay", "max_elapsed", "max_retry_after"]
FLAGS = ["jitter", "hold_slot"]


ASYNC_PREDICATES: list[Any] = [
    *[asking, yielding, Asking(), Yielding(), Asking().ask, Asking.say, AsyncMock()],
    *[partial(asking, 1), partial(partial(yielding, 1), 2), partial(Asking(), 1)],
]


def nonsense() -> Iterator[Any]:
    """Each field with each wrong kind and range."""
    wrong: dict[tuple[type[Exception], str], list[Any]] = {
        (TypeError, "max_attempts"): [True, False, "1", None, 1.0, 2.5, math.nan, 1j, [1], Ambiguous()],
        (ValueError, "max_attempts"): [-1, -HUGE],
        (TypeError, "strategy"): [1, -1, True, None, math.nan, ["linear"], RetryConfig],
        (ValueError, "strategy"): ["1", "", "Linear", "fibonacci"],
        (TypeError, "retry_on"): [
            *[-1, math.nan, "1", True, object(), [OSError], (OSError, 1), (OSError, "1"), OSError(), int],
            *[BaseException, KeyboardInterrupt, (OSError, BaseException), (lambda error: True,)],
            *ASYNC_PREDICATES,
        ],
        (ValueError, "initial_delay"): [math.inf],
        (ValueError, "backoff_factor"): [math.inf],
    }
    for field in NUMBERS:
        wrong[TypeError, field] = [True, False, "1", None, 1j, [1], Ambiguous()]
        wrong[ValueError, field] = [*wrong.get((ValueError, field), []), -1, -0.5, math.nan, -math.inf, HUGE]
    for field in FLAGS:
        wrong[TypeError, field] = [1, 0, -1, "1", None, math.nan, Ambiguous()]
    for (kind, field), values in wrong.items():
        for value in values:
            yield pytest.param(kind, field, value, id=f"{field}={re.sub(' at 0x.*', '', str(value))[:20]}")


@doors
@pytest.mark.parametrize("kind, field, value", list(nonsense()))
def test_nonsense_is_refused_at_construction_and_named(
    door: Callable[..., RetryConfig], kind: type[Exception], field: str, value: Any
) -> None:
    with pytest.raises(kind, match=rf"^{field} must be .*, not {re.escape(short(value))}$"):
        door(**{field: value})


def test_every_field_is_tried_with_nonsense() -> None:
    tried = {parameters.values[1] for parameters in nonsense()}
    assert tried == {field.name for field in attrs.fields(RetryConfig)}


@doors
def test_what_is_no_field_is_refused(door: Callable[..., RetryConfig]) -> None:
    with pytest.raises(TypeError) as caught:
        door(delay=3)
    assert str(caught.value) == (
        "RetryConfig() got an unexpected keyword argument 'delay': it takes "
        + ", ".join(field.name for field in attrs.fields(RetryConfig))
    )


@doors
@pytest.mark.parametrize("name", ["attempts", "max_retries", "retries"])
def test_what_others_call_max_attempts_is_told(door: Callable[..., RetryConfig], name: str) -> None:
    with pytest.raises(TypeError) as caught:
        door(**{name: 3})
    assert str(caught.value) == (
        f"RetryConfig() got an unexpected keyword argument {name!r}: "
        "use max_attempts=..., which counts the retries after the first attempt"
    )


@pytest.mark.parametrize("preset", [RetryConfig, *PRESETS])
def test_fields_are_given_by_name_only(preset: Callable[..., RetryConfig]) -> None:
    with pytest.raises(TypeError, match="positional"):
        preset(3)


@doors
def test_a_first_delay_above_the_longest_is_capped(door: Callable[..., RetryConfig]) -> None:
    config = door(initial_delay=2, max_delay=1.5, strategy="exponential", backoff_factor=0.5, jitter=False)
    assert [config.delay(n) for n in (1, 2, 3)] == [1.5, 1, 0.5]
    assert verdict(retriable(), config) == Retry(1.5, False)
    # As it was given, so that a longer max_delay brings it back.
    assert attrs.evolve(config, max_delay=5).delay(1) == 2


@pytest.mark.parametrize("preset", [RetryConfig, *PRESETS])
def test_max_delay_0_takes_all_delays_away(preset: Callable[..., RetryConfig]) -> None:
    config = preset(max_delay=0)
    assert [config.delay(n) for n in (1, 2, 10**6)] == [0, 0, 0]
    assert verdict(retriable(), config, rng=random.Random(1)) == Retry(0, False)
    assert verdict(retriable(retry_after=3), config) == Retry(3, False)


def test_max_attempts_0_is_no_retries() -> None:
    config = RetryConfig(max_attempts=0, retry_on=OSError)
    assert verdict(retriable(), config) is StopReason.RETRIES_EXHAUSTED
    assert verdict(OSError(), config) is StopReason.RETRIES_EXHAUSTED
    assert verdict(group(retriable(), OSError()), config) is StopReason.RETRIES_EXHAUSTED
    assert verdict(retriable(config=config), DOUBLING) is StopReason.RETRIES_EXHAUSTED
    assert verdict(KeyError(), config) is StopReason.ERROR
    assert verdict(TimeoutError(), config, timed_out=True) is StopReason.ATTEMPT_TIMEOUT


@pytest.mark.parametrize("factor", [0, 0.0, -0.0])
@pytest.mark.parametrize("attempts", [2, math.inf])
def test_delays_that_vanish_after_the_first_are_refused(factor: float, attempts: float) -> None:
    with pytest.raises(ValueError, match=r"^backoff_factor must be above 0, not 0"):
        RetryConfig(backoff_factor=factor, max_attempts=attempts)


@pytest.mark.parametrize(
    "fields",
    [
        *[{"max_attempts": 0}, {"max_attempts": 1}, {"initial_delay": 0}],
        *[{"strategy": "linear"}, {"strategy": "none"}],
    ],
    ids=str,
)
def test_factor_0_is_allowed_where_no_delay_vanishes(fields: dict[str, Any]) -> None:
    assert RetryConfig(**fields, backoff_factor=0).backoff_factor == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"max_attempts": 0},
        {"max_attempts": HUGE},
        {"max_attempts": math.inf},
        {"initial_delay": 0, "max_delay": 0},
        {"initial_delay": 1, "max_delay": 0},
        {"initial_delay": Fraction(1, 4), "max_delay": 1},
        {"backoff_factor": 0.5},
        {"max_delay": math.inf},
        {"max_elapsed": 0},
        {"max_elapsed": math.inf},
        {"max_retry_after": 0},
        {"max_retry_after": math.inf},
        {"retry_on": ()},
        {"retry_on": Exception},
        {"retry_on": ExceptionGroup},
        {"retry_on": (OSError, RetriableError)},
        {"retry_on": lambda error: True},
    ],
    ids=lambda fields: f"{fields}"[:30],
)
@doors
def test_the_ends_of_each_range_are_allowed(door: Callable[..., RetryConfig], fields: dict[str, Any]) -> None:
    config = door(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


COMMON = {"max_elapsed": math.inf, "max_retry_after": 120.0, "hold_slot": False, "retry_on": None}


@pytest.mark.parametrize(
    "config, attempts, initial, factor, longest, jitter, strategy",
    [
        (RetryConfig(), 5, 0.1, 2.0, 5.0, True, "exponential"),
        (RetryConfig.exponential(), 5, 0.1, 2.0, 5.0, True, "exponential"),
        (RetryConfig.linear(), 5, 0.2, 1.0, 2.0, False, "linear"),
        (RetryConfig.none(), 3, 0, 0, 0, False, "none"),
    ],
)
def test_presets_are_the_promised_ones(
    config: RetryConfig,
    attempts: int,
    initial: float,
    factor: float,
    longest: float,
    jitter: bool,
    strategy: str,
) -> None:
    assert attrs.asdict(config) == COMMON | {
        "max_attempts": attempts,
        "initial_delay": initial,
        "backoff_factor": factor,
        "max_delay": longest,
        "jitter": jitter,
        "strategy": strategy,
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "override",
    [
        {"max_attempts": 7},
        {"max_delay": 9},
        {"initial_delay": 0.5, "backoff_factor": 3, "max_delay": 50},
        {"jitter": True},
        {"jitter": False},
        {"strategy": "linear"},
        {"max_elapsed": 3},
        {"max_retry_after": 4},
        {"hold_slot": True},
        {"retry_on": OSError},
    ],
    ids=str,
)
def test_an_override_changes_a_preset_in_nothing_else(
    preset: Callable[..., RetryConfig], override: dict[str, Any]
) -> None:
    assert attrs.asdict(preset(**override)) == attrs.asdict(preset()) | override


@pytest.mark.parametrize(
    "config, delays",
    [
        (RetryConfig.exponential(), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
        (RetryConfig.linear(), [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.0]),
        (RetryConfig.none(), [0, 0, 0, 0]),
        (RetryConfig(initial_delay=1, max_delay=5), [1, 2, 4, 5, 5]),
        (RetryConfig(initial_delay=8, backoff_factor=0.5, max_delay=8), [8, 4, 2, 1]),
        (RetryConfig.linear(initial_delay=2, max_delay=5), [2, 4, 5, 5]),
        (RetryConfig(strategy="none", initial_delay=1), [0, 0]),
    ],
    ids=str,
)
def test_delays_are_told_without_jitter(config: RetryConfig, delays: list[float]) -> None:
    assert [config.delay(n) for n in range(1, len(delays) + 1)] == pytest.approx(delays)


@pytest.mark.parametrize("config", [RetryConfig(), RetryConfig.linear(), RetryConfig.none()], ids=str)
@pytest.mark.parametrize("retry", [10**6, 10**18], ids=str)
def test_a_delay_far_out_is_the_longest(config: RetryConfig, retry: int) -> None:
    assert config.delay(retry) == config.max_delay


def test_the_number_of_a_retry_is_checked() -> None:
    for number in (0, -1):
        with pytest.raises(ValueError, match=rf"^retry must be an int of at least 1, not {number}$"):
            RetryConfig().delay(number)
    wrong: list[Any] = [True, 1.0, math.inf, math.nan, "1", None]
    for value in wrong:
        with pytest.raises(TypeError, match=rf"^retry must be an int of at least 1, not {value!r}$"):
            RetryConfig().delay(value)


def test_a_config_is_a_frozen_value() -> None:
    config = RetryConfig.linear(retry_on=(OSError, KeyError))
    for field in attrs.fields(RetryConfig):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(config, field.name, getattr(config, field.name))
    assert config == RetryConfig.linear(retry_on=(OSError, KeyError))
    assert hash(config) == hash(RetryConfig.linear(retry_on=(OSError, KeyError)))
    assert config != RetryConfig.linear()


@ways
@pytest.mark.parametrize(
    "config",
    [
        RetryConfig(),
        RetryConfig.none(max_attempts=math.inf, retry_on=(OSError,)),
        RetryConfig(retry_on=callable),
    ],
    ids=["default", "types", "predicate"],
)
def test_a_config_is_copied_whole(way: Callable[[Any], Any], config: RetryConfig) -> None:
    assert way(config) == config
