"""What is retried, and when: the configs, RetriableError, and the decision, which have no clock."""

from __future__ import annotations

import copy
import gc
import logging
import math
import pickle
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from numbers import Real
from typing import Any
from unittest.mock import AsyncMock

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from trio_conman import RetriableError, RetryBudget, RetryConfig, StopReason
from trio_conman._base.texts import short
from trio_conman._policy.decision import Retry, asked_to_wait, decide, real_error

# No deadline, because it looks at the wall clock; the same examples in each run.
reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=300)

HUGE = 10**400  # more than any float holds
# Delays that show which config was used: 1, 2, 4, 8, 16.
DOUBLING = RetryConfig(initial_delay=1, max_delay=1000, jitter=False)


class Highest(random.Random):
    """Draws the whole delay each time, so that the jitter changes nothing."""

    def random(self) -> float:
        return 1.0


class TextlessError(Exception):
    """An exception that breaks whoever asks for its text."""

    def __str__(self) -> str:
        raise RuntimeError("not to be printed")


class UnprintableError(TextlessError):
    """An exception that breaks whoever prints it in any way."""

    def __repr__(self) -> str:
        raise RuntimeError("not to be printed")


class Ambiguous:
    """Like an array: what comes out of a comparison is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    __ge__ = __gt__ = __le__ = __lt__ = __eq__
    __hash__ = None  # type: ignore[assignment]  # unhashable, as arrays are

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __repr__(self) -> str:
        return "array([1, 2])"


@Real.register
class Scalar:
    """Like a scalar of an array library: a real number, but no float."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __ge__(self, other: float) -> bool:
        return self.value >= other


class OwnGroup(ExceptionGroup[Exception]):
    pass


def verdict(
    error: Exception,
    config: RetryConfig | None = None,
    *,
    timed_out: bool = False,
    retries: int = 0,
    first_attempt: float = 0.0,
    now: float = 0.0,
    deadline: float = math.inf,
    permit: float = -math.inf,
    rng: random.Random | None = None,
    budget: RetryBudget | None = None,
) -> Retry | StopReason:
    return decide(
        error,
        config=config,
        timed_out=timed_out,
        retries=retries,
        first_attempt=first_attempt,
        now=now,
        deadline=deadline,
        permit=permit,
        rng=rng or Highest(),
        budget=budget,
    )


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


def retriable(retry_after: float | None = None, config: RetryConfig | None = None) -> RetriableError:
    return RetriableError("busy", retry_config=config, retry_after=retry_after)


def slow(delay: Any, **changes: Any) -> RetryConfig:
    """A config with one and the same delay before each retry."""
    fields = {"initial_delay": delay, "backoff_factor": 1, "max_delay": delay, "jitter": False}
    return RetryConfig(**(fields | changes))


# RetryConfig

PRESETS = [RetryConfig.exponential, RetryConfig.linear, RetryConfig.none]
DOORS: dict[str, Callable[..., RetryConfig]] = {
    "constructor": RetryConfig,
    **{preset.__name__: preset for preset in PRESETS},
    "evolve": lambda **fields: attrs.evolve(RetryConfig(), **fields),
}
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)

NUMBERS = ["initial_delay", "backoff_factor", "max_delay", "max_elapsed", "max_retry_after"]
FLAGS = ["jitter", "hold_slot"]


async def asking(*_: object) -> bool:
    return True


async def yielding(*_: object) -> AsyncIterator[bool]:
    yield True


class Asking:
    async def __call__(self, *_: object) -> bool:
        return True

    async def ask(self, _: Exception) -> bool:
        return True

    @staticmethod
    async def say(_: Exception) -> bool:
        return True


class Yielding:
    async def __call__(self, _: Exception) -> AsyncIterator[bool]:
        yield True


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
    with pytest.raises(TypeError, match="attempts"):
        door(attempts=3)


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
        {"initial_delay": Fraction(1, 3), "max_delay": 1},
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


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


ways = pytest.mark.parametrize(
    "way", [through_pickle, copy.copy, copy.deepcopy], ids=lambda way: way.__name__
)


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


# RetriableError


@pytest.mark.parametrize(
    "inner", [ValueError("x"), KeyError("k"), OSError(2, "no such file"), group(OSError())]
)
def test_a_retriable_error_made_from_an_error_reads_like_it(inner: Exception) -> None:
    error = RetriableError(inner)
    assert error.err is inner
    assert str(error) == str(inner)
    assert real_error(error) is inner
    assert (error.retry_config, error.retry_after) == (None, None)


@pytest.mark.parametrize("message", ["busy", ""])
def test_a_retriable_error_made_from_a_message_is_itself_the_error(message: str) -> None:
    error = RetriableError(message)
    assert error.err is None
    assert str(error) == message
    assert real_error(error) is error


def test_other_errors_are_themselves_the_error() -> None:
    for error in (ValueError("x"), group(RetriableError(ValueError("x")))):
        assert real_error(error) is error


@pytest.mark.parametrize(
    "value",
    [None, 1, b"busy", ValueError, KeyboardInterrupt(), BaseExceptionGroup("g", [KeyboardInterrupt()])],
)
def test_a_retriable_error_is_made_from_nothing_else(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^error must be .*, not {re.escape(short(value))}$"):
        RetriableError(value)


@pytest.mark.parametrize("value", [0, False, "linear", RetryConfig, {}])
def test_its_config_is_checked(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^retry_config must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy", retry_config=value)


@pytest.mark.parametrize("value", [0, None, "linear", RetryConfig])
def test_a_config_given_later_is_checked_too(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^config must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy").with_retry_config(value)


@pytest.mark.parametrize(
    "kind, value",
    [(TypeError, True), (TypeError, "1"), (TypeError, 1j), (ValueError, -1), (ValueError, math.nan)],
)
def test_its_retry_after_is_checked(kind: type[Exception], value: Any) -> None:
    with pytest.raises(kind, match=rf"^retry_after must be .*, not {re.escape(short(value))}$"):
        RetriableError("busy", retry_after=value)


def test_options_of_a_retriable_error_are_given_by_name_only() -> None:
    arguments: list[Any] = ["busy", RetryConfig()]
    with pytest.raises(TypeError, match="positional"):
        RetriableError(*arguments)


@pytest.mark.parametrize(
    "method, config",
    [
        (RetriableError.with_exponential_backoff, RetryConfig.exponential()),
        (RetriableError.with_linear_backoff, RetryConfig.linear()),
        (RetriableError.with_no_backoff, RetryConfig.none()),
        (lambda error: error.with_retry_config(DOUBLING), DOUBLING),
    ],
)
def test_the_with_methods_set_the_config_and_return_the_error(
    method: Callable[[RetriableError], RetriableError], config: RetryConfig
) -> None:
    error = RetriableError("busy", retry_config=RetryConfig(max_attempts=1), retry_after=3)
    assert method(error) is error
    assert (error.retry_config, error.retry_after, error.args) == (config, 3, ("busy",))


class OwnError(RetriableError):
    pass


@ways
@pytest.mark.parametrize("kind", [RetriableError, OwnError])
@pytest.mark.parametrize("inner", ["busy", OSError(2, "no such file")])
def test_a_retriable_error_is_copied_with_its_fields(
    way: Callable[[Any], Any], kind: type[RetriableError], inner: Exception | str
) -> None:
    error = kind(inner, retry_after=2.5).with_linear_backoff()
    vars(error)["tag"] = "mine"
    error.add_note("and a note")
    copied = way(error)
    assert type(copied) is kind
    assert repr(copied) == repr(error)
    assert (copied.retry_config, copied.retry_after) == (RetryConfig.linear(), 2.5)
    assert (vars(copied)["tag"], copied.__notes__) == ("mine", ["and a note"])
    assert copied.err is (copied.args[0] if isinstance(inner, Exception) else None)
    assert str(copied) == str(error)


def raised(error: Exception, cause: Exception | None) -> Exception:
    """An error as it is after `raise error from cause` while another was handled."""
    try:
        try:
            raise KeyError("the context")
        except KeyError:
            raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize("cause", [OSError("the cause"), None])
@pytest.mark.parametrize("inner", ["busy", ValueError("x")])
def test_cause_context_and_traceback_are_left_alone(inner: Exception | str, cause: Exception | None) -> None:
    error = RetriableError(inner)
    raised(error, cause)
    before = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    assert before[0] is cause
    error.with_linear_backoff().with_no_backoff().with_exponential_backoff().with_retry_config(DOUBLING)
    assert verdict(error) == Retry(1, False)
    assert verdict(group(error)) == Retry(1, False)
    assert real_error(error) in (error, inner)
    after = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    assert all(one is other for one, other in zip(before, after, strict=True))
    if isinstance(inner, Exception):
        assert (inner.__cause__, inner.__context__, inner.__traceback__) == (None, None, None)


@attrs.define(auto_exc=True)
class BusyError(RetriableError):
    """Its `__init__` does not call the one of `RetriableError`: attrs writes such, and so do many people."""

    host: str


def test_a_subclass_with_a_constructor_of_its_own_is_retried() -> None:
    error = BusyError("example.org")
    assert verdict(error, DOUBLING) == Retry(1, False)
    assert real_error(error) is error
    assert (error.err, error.retry_config, error.retry_after) == (None, None, None)
    assert verdict(error.with_no_backoff(), DOUBLING) == Retry(0, False)


# Whose config


def test_the_errors_own_config_goes_before_the_tasks() -> None:
    assert verdict(retriable(config=slow(7)), slow(9)) == Retry(7, False)
    assert verdict(retriable(config=slow(7)), None) == Retry(7, False)


def test_the_tasks_config_goes_before_the_default() -> None:
    assert verdict(retriable(), slow(9)) == Retry(9, False)


def test_the_default_is_exponential_with_jitter() -> None:
    for retries, longest in enumerate([0.1, 0.2, 0.4, 0.8, 1.6]):
        outcome = verdict(retriable(), retries=retries)
        assert isinstance(outcome, Retry)
        assert outcome.delay == pytest.approx(longest)
    assert verdict(retriable(), retries=5) is StopReason.RETRIES_EXHAUSTED
    rng = random.Random(1)
    drawn = random.Random(1).uniform(0, 0.1)
    assert verdict(retriable(), rng=rng) == Retry(drawn, False)


@pytest.mark.parametrize("config", [None, DOUBLING, RetryConfig(retry_on=KeyError)])
@pytest.mark.parametrize("retries", [0, 2, 5, 10**6])
@pytest.mark.parametrize(
    "error", [ValueError("x"), UnprintableError(), group(ValueError("x")), StopIteration()]
)
def test_a_plain_error_is_never_retried_whatever_came_before(
    error: Exception, config: RetryConfig | None, retries: int
) -> None:
    assert verdict(error, config, retries=retries) is StopReason.ERROR


def test_a_new_config_counts_the_retries_already_made() -> None:
    assert verdict(retriable(config=DOUBLING), retries=3) == Retry(8, False)
    assert verdict(retriable(config=RetryConfig.none()), DOUBLING, retries=2) == Retry(0, False)
    assert verdict(retriable(config=RetryConfig.none()), DOUBLING, retries=3) is StopReason.RETRIES_EXHAUSTED


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 5])
def test_max_attempts_counts_retries(attempts: int) -> None:
    config = attrs.evolve(DOUBLING, max_attempts=attempts)
    delays: list[float] = []
    while isinstance(outcome := verdict(retriable(), config, retries=len(delays)), Retry):
        delays.append(outcome.delay)
    assert delays == [1, 2, 4, 8, 16][:attempts]
    assert outcome is StopReason.RETRIES_EXHAUSTED


@pytest.mark.parametrize("retries", [0, 10**6, HUGE], ids=["none", "many", "huge"])
def test_without_a_limit_retries_go_on_for_ever(retries: int) -> None:
    config = RetryConfig(max_attempts=math.inf, jitter=False, initial_delay=5)
    assert verdict(retriable(), config, retries=retries) == Retry(5, False)


@pytest.mark.parametrize("own, tasks, hold", [(None, True, True), (False, True, False), (True, False, True)])
def test_whether_the_slot_is_held_is_told_by_the_config_used(
    own: bool | None, tasks: bool, hold: bool
) -> None:
    config = None if own is None else slow(1, hold_slot=own)
    assert verdict(retriable(config=config), slow(1, hold_slot=tasks)) == Retry(1, hold)


# retry_on


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), Exception, lambda error: True])
def test_retry_on_makes_plain_errors_retriable(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    for error in (OSError("x"), ConnectionResetError("x"), raised(OSError("x"), KeyError("cause"))):
        assert verdict(error, config, retries=2) == Retry(4, False)


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), (), lambda error: False])
def test_what_retry_on_does_not_name_is_not_retried(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    for error in (ValueError("x"), raised(ValueError("x"), OSError("cause"))):
        assert verdict(error, config) is StopReason.ERROR


@pytest.mark.parametrize("retry_on", [OSError, (), lambda error: False, lambda error: 1 / 0])
def test_a_retriable_error_needs_no_retry_on(retry_on: Any) -> None:
    assert verdict(retriable(), attrs.evolve(DOUBLING, retry_on=retry_on)) == Retry(1, False)


def test_the_retry_on_of_an_errors_own_config_says_nothing_about_later_errors() -> None:
    # It is looked up at each failure, and a plain error brings none with it.
    verdict(retriable(config=RetryConfig(retry_on=Exception)), DOUBLING)
    assert verdict(ValueError("x"), DOUBLING, retries=1) is StopReason.ERROR


def test_a_predicate_is_asked_once_for_each_decision_with_the_error_itself(record: list[Any]) -> None:
    def ask(error: Exception) -> bool:
        record.append(error)
        return True

    config = attrs.evolve(DOUBLING, retry_on=ask)
    error = UnprintableError()
    verdict(error, config)
    verdict(error, config, retries=1)
    assert record == [error, error]


@pytest.mark.parametrize(
    "answer, delay",
    [(0, 0), (0.0, 0), (3, 3), (0.25, 0.25), (4000.0, 4000), (Fraction(1, 2), 0.5), (Scalar(2.5), 2.5)],
)
def test_a_delay_from_a_predicate_is_taken_as_it_is(answer: Any, delay: float) -> None:
    # Neither capped at 5 s nor drawn.
    config = RetryConfig(retry_on=lambda error: answer)
    result = verdict(OSError("x"), config, retries=3, rng=random.Random(1))
    assert result == Retry(delay, False)
    assert isinstance(result, Retry)
    assert type(result.delay) is float


def test_true_and_false_from_a_predicate_are_no_delays_of_1_and_0() -> None:
    assert verdict(OSError("x"), attrs.evolve(DOUBLING, retry_on=lambda error: True), retries=3) == Retry(
        8, False
    )
    assert verdict(OSError("x"), attrs.evolve(DOUBLING, retry_on=lambda error: False)) is StopReason.ERROR


def test_a_delay_from_a_predicate_is_held_to_every_limit() -> None:
    def config(**changes: Any) -> RetryConfig:
        return RetryConfig(retry_on=lambda error: 3, **changes)

    assert verdict(OSError("x"), config(), retries=5) is StopReason.RETRIES_EXHAUSTED
    assert verdict(OSError("x"), config(max_elapsed=2.5)) is StopReason.MAX_ELAPSED
    assert verdict(OSError("x"), config(), deadline=3) is StopReason.DEADLINE
    assert verdict(OSError("x"), config(hold_slot=True)) == Retry(3, True)


def test_an_infinite_delay_from_a_predicate_never_ends_in_time() -> None:
    assert verdict(OSError("x"), RetryConfig(retry_on=lambda error: math.inf)) is StopReason.DEADLINE


BROKEN = [
    None,
    "1",
    math.nan,
    -1,
    -0.5,
    -math.inf,
    1j,
    [True],
    HUGE,
    object(),
    Ambiguous(),
    Scalar(-1),
    Scalar(math.nan),
]


@pytest.mark.parametrize("error", [OSError("x"), UnprintableError()], ids=["printable", "unprintable"])
@pytest.mark.parametrize("answer", BROKEN, ids=lambda answer: str(answer)[:20])
def test_a_predicate_that_answers_nonsense_is_logged_and_nothing_is_retried(
    answer: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert verdict(error, RetryConfig(retry_on=lambda error: answer)) is StopReason.ERROR
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_conman", logging.ERROR)]
    assert "retry_on" in caplog.records[0].getMessage()


@pytest.mark.parametrize("error", [OSError("x"), UnprintableError()], ids=["printable", "unprintable"])
@pytest.mark.parametrize(
    "fault", [ValueError("x"), StopIteration(), group(KeyError()), UnprintableError(), RetriableError("x")]
)
def test_a_predicate_that_raises_is_logged_and_nothing_is_retried(
    fault: Exception, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(error: Exception) -> bool:
        raise fault

    assert verdict(error, RetryConfig(retry_on=ask)) is StopReason.ERROR
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_conman", logging.ERROR)]
    assert "retry_on" in caplog.records[0].getMessage()
    logged = caplog.records[0].exc_info
    assert logged is not None
    assert logged[1] is fault
    assert (error.__context__, error.__cause__) == (None, None)


def test_a_predicate_may_raise_the_very_error_it_was_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    def ask(error: Exception) -> bool:
        raise error

    assert verdict(OSError("x"), RetryConfig(retry_on=ask)) is StopReason.ERROR
    assert len(caplog.records) == 1


def test_a_predicate_that_gives_a_coroutine_is_logged_and_leaves_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # It cannot be seen before. Warnings are errors here.
    answers: list[Any] = [lambda _: asking(), lambda _: yielding()]
    for answer in answers:
        assert verdict(OSError("x"), RetryConfig(retry_on=answer)) is StopReason.ERROR
    gc.collect()
    assert len(caplog.records) == 2


def test_an_interrupt_in_a_predicate_is_not_swallowed() -> None:
    def ask(error: Exception) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict(OSError("x"), RetryConfig(retry_on=ask))


def test_a_good_predicate_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for answer in (True, False, 0, 1.5):
        verdict(OSError("x"), RetryConfig(retry_on=lambda _, answer=answer: answer))  # type: ignore[misc]  # no type for answer
    assert caplog.records == []


# Groups


@pytest.mark.parametrize(
    "error",
    [
        group(retriable()),
        group(retriable(), retriable()),
        group(group(retriable()), group(group(retriable(), retriable()))),
        OwnGroup("own", [retriable()]),
    ],
    ids=str,
)
def test_a_group_is_retried_when_all_its_leaves_are_retriable(error: Exception) -> None:
    assert verdict(error, DOUBLING, retries=1) == Retry(2, False)


@pytest.mark.parametrize(
    "error",
    [
        group(ValueError("x")),
        group(retriable(), ValueError("x")),
        group(ValueError("x"), retriable()),
        group(group(retriable()), group(group(ValueError("x"), retriable()))),
    ],
    ids=str,
)
def test_a_group_with_a_leaf_that_is_not_retriable_is_not_retried(error: Exception) -> None:
    assert verdict(error, DOUBLING) is StopReason.ERROR
    assert verdict(error, attrs.evolve(DOUBLING, retry_on=OSError)) is StopReason.ERROR


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), lambda error: isinstance(error, OSError)])
def test_retry_on_speaks_for_the_leaves_of_a_group(retry_on: Any) -> None:
    config = attrs.evolve(DOUBLING, retry_on=retry_on)
    assert verdict(group(OSError(), group(retriable(), ConnectionError())), config) == Retry(1, False)
    assert verdict(group(OSError(), group(retriable(), ValueError())), config) is StopReason.ERROR


def test_a_predicate_is_asked_about_leaves_never_about_the_group(record: list[Any]) -> None:
    def ask(error: Exception) -> float:
        record.append(error)
        return len(record)

    one, other = OSError("one"), KeyError("other")
    config = RetryConfig(retry_on=ask)
    assert verdict(group(one, group(retriable(), other)), config) == Retry(2, False)
    assert len(record) == 2
    assert set(record) == {one, other}


def test_a_broken_predicate_for_one_leaf_ends_the_whole_group(caplog: pytest.LogCaptureFixture) -> None:
    config = attrs.evolve(DOUBLING, retry_on=lambda error: {"good": True}[str(error)])
    assert verdict(group(OSError("good"), retriable()), config) == Retry(1, False)
    assert verdict(group(OSError("good"), OSError("bad")), config) is StopReason.ERROR
    assert len(caplog.records) == 1


def test_the_longest_delay_of_a_group_counts() -> None:
    short, long = retriable(config=slow(2)), retriable(config=slow(7))
    for error in (group(short, long), group(long, short), group(group(long), short)):
        assert verdict(error, DOUBLING) == Retry(7, False)
    assert verdict(group(short, retriable(retry_after=30)), DOUBLING) == Retry(30, False)
    config = attrs.evolve(DOUBLING, retry_on=lambda error: 9)
    assert verdict(group(short, long, OSError("x")), config) == Retry(9, False)


def test_the_strictest_leaf_of_a_group_counts() -> None:
    patient = retriable(config=slow(1, max_attempts=10))
    for strict, reason in [
        (retriable(config=slow(1, max_attempts=3)), StopReason.RETRIES_EXHAUSTED),
        (
            retriable(retry_after=5, config=slow(1, max_attempts=10, max_retry_after=4)),
            StopReason.RETRY_AFTER,
        ),
        (retriable(config=slow(1, max_attempts=10, max_elapsed=0.5)), StopReason.MAX_ELAPSED),
    ]:
        for error in (group(patient, strict), group(strict, patient), group(patient, group(strict))):
            assert verdict(error, retries=3) is reason


def test_max_elapsed_of_one_leaf_is_held_against_the_longest_delay_of_all() -> None:
    error = group(retriable(config=slow(1, max_elapsed=2)), retriable(config=slow(3)))
    assert verdict(error) is StopReason.MAX_ELAPSED


def test_a_group_holds_its_slot_when_one_leaf_does() -> None:
    error = group(retriable(config=slow(1, hold_slot=True)), retriable(config=slow(2)))
    assert verdict(error) == Retry(2, True)


@pytest.mark.parametrize("retry_on", [ExceptionGroup, (OSError, ExceptionGroup), (ExceptionGroup, OwnGroup)])
@pytest.mark.parametrize(
    "error",
    [group(ValueError("x")), group(group(ValueError("x")), KeyError()), OwnGroup("own", [ValueError("x")])],
)
def test_a_group_of_a_named_type_is_retried_whatever_is_inside(error: Exception, retry_on: Any) -> None:
    assert verdict(error, attrs.evolve(DOUBLING, retry_on=retry_on)) == Retry(1, False)


def test_a_named_group_type_is_that_type_and_its_subclasses_only() -> None:
    config = attrs.evolve(DOUBLING, retry_on=OwnGroup)
    assert verdict(OwnGroup("own", [ValueError("x")]), config) == Retry(1, False)
    assert verdict(group(ValueError("x")), config) is StopReason.ERROR
    assert verdict(ValueError("x"), config) is StopReason.ERROR
    # Exception names every type, but no group type: the leaves decide.
    assert verdict(group(retriable(), ValueError("x")), attrs.evolve(DOUBLING, retry_on=Exception)) == Retry(
        1, False
    )


def test_what_the_leaves_of_a_named_group_ask_for_is_a_floor_too() -> None:
    config = attrs.evolve(DOUBLING, retry_on=ExceptionGroup)
    assert verdict(group(ValueError("x"), retriable(retry_after=50)), config) == Retry(50, False)
    assert verdict(group(ValueError("x"), retriable(retry_after=121)), config) is StopReason.RETRY_AFTER
    soon = attrs.evolve(config, initial_delay=0.25)
    for quiet in (group(ValueError("x"), retriable()), group(ValueError("x"))):
        assert verdict(quiet, soon) == Retry(0.25, False)


def test_a_retriable_error_made_from_a_group_is_retriable() -> None:
    inner = group(ValueError("x"))
    assert verdict(RetriableError(inner), DOUBLING) == Retry(1, False)
    assert real_error(RetriableError(inner)) is inner


def test_groups_nested_deeper_than_the_stack_are_judged() -> None:
    def nested(leaf: Exception) -> Exception:
        for _ in range(3000):
            leaf = group(leaf)
        return leaf

    # As names of their own: pytest must not print such a thing.
    good = verdict(nested(retriable()), DOUBLING)
    bad = verdict(nested(ValueError("x")), DOUBLING)
    assert (good, bad) == (Retry(1, False), StopReason.ERROR)


# Limits


@pytest.mark.parametrize(
    "exhausted, retry_after, max_elapsed, deadline, timed_out",
    # An attempt that timed out asks for no wait.
    [
        combination
        for combination in product([True, False], repeat=5)
        if not (combination[1] and combination[4])
    ],
)
def test_the_first_reason_that_holds_is_given(
    exhausted: bool, retry_after: bool, max_elapsed: bool, deadline: bool, timed_out: bool
) -> None:
    outcome = verdict(
        TimeoutError() if timed_out else retriable(11 if retry_after else 2),
        slow(3, max_attempts=2, max_retry_after=10, max_elapsed=102.9 if max_elapsed else math.inf),
        timed_out=timed_out,
        retries=2 if exhausted else 1,
        first_attempt=1000.0,
        now=1100.0,
        deadline=1103.0 if deadline else 1200.0,
    )
    reasons = [
        (exhausted, StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED),
        (retry_after, StopReason.RETRY_AFTER),
        (max_elapsed, StopReason.MAX_ELAPSED),
        (deadline, StopReason.DEADLINE),
    ]
    assert outcome == next((reason for holds, reason in reasons if holds), Retry(3, False))


def test_an_attempts_own_timeout_is_retried_only_where_a_config_is_given() -> None:
    error = TimeoutError("an attempt took too long")
    assert verdict(error, None, timed_out=True) is StopReason.ATTEMPT_TIMEOUT
    # The same error raised by the task itself is plain.
    assert verdict(error, DOUBLING, timed_out=False) is StopReason.ERROR
    for config in (DOUBLING, attrs.evolve(DOUBLING, retry_on=KeyError)):
        assert verdict(error, config, timed_out=True, retries=1) == Retry(2, False)
        assert verdict(error, config, timed_out=True, retries=5) is StopReason.ATTEMPT_TIMEOUT


@pytest.mark.parametrize(
    "delay, retry_after, expected", [(3, None, 3), (3, 0, 3), (3, 2, 3), (3, 7, 7), (0, 7, 7), (3, 60, 60)]
)
def test_retry_after_is_a_floor_above_any_cap(
    delay: float, retry_after: float | None, expected: float
) -> None:
    assert verdict(retriable(retry_after), slow(delay)) == Retry(expected, False)


@pytest.mark.parametrize("seconds", [7, Fraction(7)], ids=["int", "fraction"])
def test_a_delay_is_a_float_whatever_kind_of_number_was_given(seconds: Any) -> None:
    for outcome in (verdict(retriable(seconds), slow(3)), verdict(retriable(), slow(Fraction(7)))):
        assert isinstance(outcome, Retry)
        assert (outcome.delay, type(outcome.delay)) == (7.0, float)


def test_retry_after_is_a_floor_for_the_drawn_delay() -> None:
    config = RetryConfig(initial_delay=4, max_delay=4)
    drawn = [verdict(retriable(3), config, rng=random.Random(seed)) for seed in range(100)]
    delays = [result.delay for result in drawn if isinstance(result, Retry)]
    assert len(delays) == 100
    assert min(delays) == 3
    assert 3 < max(delays) <= 4


def test_only_a_wait_beyond_max_retry_after_is_too_long() -> None:
    config = slow(1, max_retry_after=8)
    assert verdict(retriable(8), config) == Retry(8, False)
    assert verdict(retriable(math.nextafter(8, 9)), config) is StopReason.RETRY_AFTER
    assert verdict(retriable(0), slow(1, max_retry_after=0)) == Retry(1, False)
    assert verdict(retriable(1e9), slow(1, max_retry_after=math.inf)) == Retry(1e9, False)
    # It limits what is asked for, not the delay of the strategy.
    assert verdict(retriable(2), slow(30, max_retry_after=8)) == Retry(30, False)


def test_a_margin_is_waited_for_and_not_compared_with_max_retry_after() -> None:
    config = slow(1, max_retry_after=8, retry_on=ExceptionGroup)
    error = retriable(8.75)
    assert verdict(error, config) is StopReason.RETRY_AFTER
    error._margin = 0.75
    assert verdict(error, config) == Retry(8.75, False)
    both = group(error, retriable(8.5))
    assert verdict(both, config) is StopReason.RETRY_AFTER
    for quiet in (group(error, retriable(8)), group(error, ValueError("x"))):
        assert verdict(quiet, config) == Retry(8.75, False)
        assert asked_to_wait(quiet, config) == 8.75
    assert asked_to_wait(both, config) == 8.75
    error._margin = 0.5
    assert (verdict(error, config), asked_to_wait(error, config)) == (StopReason.RETRY_AFTER, 0)


def test_max_retry_after_is_that_of_the_config_used() -> None:
    error = retriable(20, slow(1, max_retry_after=10))
    assert verdict(error, slow(1, max_retry_after=30)) is StopReason.RETRY_AFTER
    assert verdict(retriable(20, slow(1, max_retry_after=30)), slow(1, max_retry_after=10)) == Retry(
        20, False
    )


def test_a_wait_for_ever_never_ends_in_time() -> None:
    assert verdict(retriable(math.inf), slow(1)) is StopReason.RETRY_AFTER
    assert verdict(retriable(math.inf), slow(1, max_retry_after=math.inf)) is StopReason.DEADLINE


def test_a_delay_may_end_exactly_at_max_elapsed() -> None:
    for allowed, max_elapsed in [
        (True, 8.0),
        (False, math.nextafter(8.0, 0)),
        (True, math.nextafter(8.0, 9)),
    ]:
        outcome = verdict(retriable(), slow(3, max_elapsed=max_elapsed), first_attempt=95.0, now=100.0)
        assert outcome == (Retry(3, False, 95 + max_elapsed) if allowed else StopReason.MAX_ELAPSED)


@pytest.mark.parametrize("now", [0.0, 0.1, 0.3, 1000.1, 123456.789])
@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 1.1])
def test_a_delay_of_max_elapsed_is_allowed_after_an_instant_failure_at_any_time(
    delay: float, now: float
) -> None:
    config = slow(delay, max_elapsed=delay)
    assert verdict(retriable(), config, first_attempt=now, now=now) == Retry(delay, False, now + delay)


def test_with_max_elapsed_0_only_an_instant_retry_is_made() -> None:
    assert verdict(retriable(), slow(0, max_elapsed=0), first_attempt=5, now=5) == Retry(0, False, 5)
    assert verdict(retriable(), slow(0, max_elapsed=0), first_attempt=5, now=6) is StopReason.MAX_ELAPSED
    assert verdict(retriable(), slow(1, max_elapsed=0), first_attempt=5, now=5) is StopReason.MAX_ELAPSED


@pytest.mark.parametrize(
    "permit, deadline, expected",
    [
        (108.0, 108.5, Retry(3, False, 108)),
        (math.nextafter(108, 109), math.inf, StopReason.MAX_ELAPSED),
        (108.5, 108.5, StopReason.MAX_ELAPSED),
        (108.0, 108.0, StopReason.DEADLINE),
        (0.0, 103.0, StopReason.DEADLINE),
    ],
)
def test_a_permit_has_to_be_due_within_max_elapsed_and_before_the_deadline(
    permit: float, deadline: float, expected: Retry | StopReason
) -> None:
    budget = RetryBudget(1)
    config = slow(3, max_elapsed=10)
    assert expected == verdict(
        retriable(), config, first_attempt=98.0, now=100.0, permit=permit, deadline=deadline, budget=budget
    )
    assert budget.statistics().remaining == (0 if isinstance(expected, Retry) else 1)


def test_a_delay_that_ends_on_the_deadline_is_refused() -> None:
    for allowed, deadline in [
        (False, 103.0),
        (False, math.nextafter(103, 0)),
        (True, math.nextafter(103, 104)),
    ]:
        outcome = verdict(retriable(), slow(3), now=100.0, deadline=deadline)
        assert outcome == (Retry(3, False) if allowed else StopReason.DEADLINE)


def test_no_delay_is_refused_on_the_deadline_too() -> None:
    assert verdict(retriable(), slow(0), now=100.0, deadline=100.0) is StopReason.DEADLINE
    assert verdict(retriable(), slow(0), now=100.0, deadline=-math.inf) is StopReason.DEADLINE


def test_a_drawn_delay_is_what_the_deadline_is_held_against() -> None:
    config = RetryConfig(initial_delay=4, max_delay=4)
    outcomes = [verdict(retriable(), config, deadline=2, rng=random.Random(seed)) for seed in range(100)]
    delays = [outcome.delay for outcome in outcomes if isinstance(outcome, Retry)]
    assert 30 < len(delays) < 70
    assert max(delays) < 2
    assert set(outcomes) - {Retry(delay, False) for delay in delays} == {StopReason.DEADLINE}


# The random source


def test_the_same_seed_gives_the_same_delays_and_leaves_the_global_source_alone() -> None:
    config = RetryConfig(max_attempts=math.inf)

    def run(seed: int) -> list[Retry | StopReason]:
        rng = random.Random(seed)
        return [verdict(retriable(), config, retries=n, rng=rng) for n in range(1000)]

    before = random.getstate()
    assert run(1) == run(1)
    assert run(1) != run(2)
    assert random.getstate() == before


def test_a_broken_source_costs_only_the_jitter(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(random.Random):
        def random(self) -> float:
            return math.nan

    assert verdict(retriable(), RetryConfig(initial_delay=4), rng=Broken()) == Retry(4, False)
    assert len(caplog.records) == 1


def test_nothing_is_drawn_without_jitter_or_delay() -> None:
    rng = random.Random(1)
    before = rng.getstate()
    verdict(retriable(), DOUBLING, rng=rng)
    verdict(retriable(), RetryConfig(strategy="none"), rng=rng)
    verdict(OSError("x"), RetryConfig(retry_on=lambda error: 3), rng=rng)
    assert rng.getstate() == before


# Whatever is thrown at it

numbers = st.integers(0, 100) | st.floats(0, 100) | st.fractions(0, 100) | st.floats(0, 1e308)
limits = st.just(math.inf) | st.just(60.0) | numbers


def answering(answer: Any) -> Callable[[Exception], Any]:
    return lambda error: answer


def raising(error: Exception) -> bool:
    raise KeyError


def config_of(fields: dict[str, Any]) -> RetryConfig:
    """A config of fields that go together."""
    factor = fields.pop("backoff_factor")
    return RetryConfig(**fields, backoff_factor=factor or int(fields["strategy"] == "exponential"))


configs = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(0, 10) | st.just(HUGE) | st.just(math.inf),
        "initial_delay": numbers,
        "backoff_factor": st.integers(0, 10) | st.floats(0, 10) | st.floats(0, 1e308),
        "max_delay": limits,
        "jitter": st.booleans(),
        "strategy": st.sampled_from(["exponential", "linear", "none"]),
        "max_elapsed": limits,
        "max_retry_after": limits,
        "hold_slot": st.booleans(),
        "retry_on": st.sampled_from([None, OSError, (OSError, KeyError), Exception, raising])
        | st.sampled_from([True, False, 0, 0.5, 1e308, math.inf, *BROKEN]).map(answering),
    }
).map(config_of)
leaves = st.one_of(
    st.sampled_from([OSError, OSError, KeyError, TextlessError]).map(lambda kind: kind()),
    st.builds(
        RetriableError,
        st.sampled_from(["busy", OSError("inside"), TextlessError()]),
        retry_config=st.none() | configs,
        retry_after=st.none() | limits,
    ),
)
errors: st.SearchStrategy[Exception] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda several: group(*several)),
    max_leaves=6,
)
times = st.floats(-1e6, 1e6)


@given(
    error=errors,
    config=st.none() | configs,
    timed_out=st.sampled_from([False, False, False, True]),
    retries=st.integers(0, 5) | st.integers(0, 10**6) | st.just(HUGE),
    first_attempt=times,
    lasted=numbers.map(float),
    left=limits.map(float) | st.just(-math.inf),
    seed=st.integers(0, 1000),
)
@reproducible
def test_any_failure_is_judged_within_all_limits_and_left_as_it_is(
    error: Exception,
    config: RetryConfig | None,
    timed_out: bool,
    retries: int,
    first_attempt: float,
    lasted: float,
    left: float,
    seed: int,
) -> None:
    now = first_attempt + lasted
    deadline = now + left

    def judge(error: Exception, config: RetryConfig | None = config) -> Retry | StopReason:
        return verdict(
            error,
            config,
            timed_out=timed_out,
            retries=retries,
            first_attempt=first_attempt,
            now=now,
            deadline=deadline,
            rng=random.Random(seed),
        )

    def state(error: Exception) -> list[object]:
        inside = [state(leaf) for leaf in error.exceptions] if isinstance(error, ExceptionGroup) else []
        return [id(error), error.__cause__, error.__context__, vars(error).copy(), error.args, *inside]

    before = state(error)
    outcome = judge(error)
    assert state(error) == before
    if isinstance(outcome, Retry):
        assert outcome.delay >= 0
        assert now + outcome.delay < deadline
    else:
        assert outcome in {
            StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED,
            StopReason.ERROR,
            StopReason.RETRY_AFTER,
            StopReason.MAX_ELAPSED,
            StopReason.DEADLINE,
        }
    assert judge(error) == outcome
    if not timed_out:
        # A group around it changes nothing; a leaf that is not retriable changes all.
        assert judge(group(error)) == outcome
        assert (
            judge(group(error, ValueError()), attrs.evolve(config or RetryConfig(), retry_on=None))
            is StopReason.ERROR
        )
