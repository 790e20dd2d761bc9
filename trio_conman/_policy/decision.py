"""Whether a task that failed runs again, and when: the pure decision."""

from __future__ import annotations

import inspect
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeGuard

import attrs

from trio_conman._base.checks import check_number, check_type
from trio_conman._base.log import log_fault
from trio_conman._base.outcomes import StopReason

from .backoff import full_jitter
from .budget import RetryBudget
from .retry import Predicate, RetriableError, RetryConfig, inner, is_spent

_DEFAULT = RetryConfig()


def real_error(error: Exception) -> Exception:
    """The error a person wants to see: the one inside a `RetriableError` that has one."""
    inside = inner(error)
    return error if inside is None else inside


def asked_to_wait(error: Exception, config: RetryConfig | None) -> float:
    """The seconds that a service asked everybody to wait, the longest in an error; 0 for none.

    More than ``max_retry_after`` is not waited for, neither by the task nor by the others.
    """
    longest = 0.0
    config = config or _DEFAULT
    for part in _parts(error, config):
        for leaf in filter(_asks, _leaves(part)):
            with suppress(Exception):  # the decision says what is wrong
                wish = _wish(leaf, config)
                most = (wish.config if leaf is part else config).max_retry_after
                if wish.asked <= min(most, sys.float_info.max):
                    longest = max(longest, wish.retry_after)
    return longest


@attrs.frozen
class Retry:
    """The decision to run a task again."""

    delay: float
    """Seconds until then."""
    hold_slot: bool
    """Whether the task keeps its slot meanwhile."""
    latest: float = math.inf
    """When the attempt must have started, if it has to wait for the rate: ``max_elapsed``."""


@attrs.frozen(eq=False, repr=False)
class _Plan:
    """How one error wants to be retried."""

    config: RetryConfig
    retry_after: float = 0.0
    asked: float = 0.0  # by the service: less than that where there is a margin
    delay: float | None = None  # chosen by a predicate: taken as it is


def _answer(predicate: Predicate, error: Exception) -> bool | float:
    """A predicate's answer; what it may not answer is logged and means False."""
    try:
        answer = predicate(error)
        if inspect.iscoroutine(answer):
            answer.close()  # else Python warns that it was never awaited
        if isinstance(answer, bool):
            return answer
        return check_number("the delay", answer)
    except Exception as fault:
        log_fault(
            "retry_on raised, or gave no bool or delay, for an error of type %s; not retried",
            type(error).__qualname__,
            error=fault,
        )
        return False


def _asks(error: Exception) -> TypeGuard[RetriableError]:
    return isinstance(error, RetriableError) and not is_spent(error)


def _wish(error: RetriableError, config: RetryConfig) -> _Plan:
    """What an error asks for. Raises when that is nonsense: anything can be assigned to an attribute."""
    own, seconds = error.retry_config, error.retry_after
    if own is not None:
        check_type("retry_config", own, RetryConfig, "a RetryConfig or None")
        config = own
    wait = 0.0 if seconds is None else check_number("retry_after", seconds)
    return _Plan(config, wait, wait - error._margin)


def _granted(error: RetriableError, config: RetryConfig) -> _Plan | None:
    """What an error asks for; nonsense is logged and means that it is not retried."""
    try:
        return _wish(error, config)
    except Exception as fault:
        log_fault(
            "an error of type %s asks for a retry that cannot be; not retried",
            type(error).__qualname__,
            error=fault,
        )
        return None


def _plan(error: Exception, config: RetryConfig) -> _Plan | None:
    """How one exception, no group, wants to be retried; None when it does not."""
    if _asks(error):
        return _granted(error, config)
    wanted = config.retry_on
    if wanted is None:
        return None
    if isinstance(wanted, (type, tuple)):
        return _Plan(config) if isinstance(error, wanted) else None
    answer = _answer(wanted, error)
    if isinstance(answer, bool):
        return _Plan(config) if answer else None
    return _Plan(config, delay=answer)


def _leaves(error: Exception, whole: tuple[type, ...] = ()) -> Iterator[Exception]:
    """The exceptions in a group of any depth, or the exception itself; groups of some kinds stay `whole`."""
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, ExceptionGroup) and not isinstance(error, whole):
            stack.extend(error.exceptions)
        else:
            yield error


def _parts(error: Exception, config: RetryConfig) -> Iterator[Exception]:
    """What is judged by itself: an exception that is no group, or a group that ``retry_on`` names."""
    wanted = config.retry_on if isinstance(config.retry_on, tuple) else (config.retry_on,)
    kinds = (kind for kind in wanted if isinstance(kind, type) and issubclass(kind, ExceptionGroup))
    return _leaves(error, tuple(kinds))


def _group_plan(group: ExceptionGroup[Exception], config: RetryConfig) -> _Plan | None:
    """How a group that ``retry_on`` names is retried: not before the last of its leaves wants to."""
    plan = _Plan(config)
    for leaf in filter(_asks, _leaves(group)):
        wish = _granted(leaf, config)
        if wish is None:
            return None
        plan = _Plan(config, max(plan.retry_after, wish.retry_after), max(plan.asked, wish.asked))
    return plan


def _plans(error: Exception, config: RetryConfig) -> list[_Plan]:
    """How an error wants to be retried: a plan for each part of it; none when one part does not want to."""
    plans = []
    for part in _parts(error, config):
        plan = _group_plan(part, config) if isinstance(part, ExceptionGroup) else _plan(part, config)
        if plan is None:
            return []
        plans.append(plan)
    return plans


def _delay(plan: _Plan, retry: int, rng: random.Random) -> float:
    if plan.delay is not None:
        return plan.delay
    delay = plan.config.delay(retry)
    if plan.config.jitter and delay > 0:
        delay = full_jitter(delay, rng)
    return max(delay, plan.retry_after)


def decide(
    error: Exception,
    *,
    config: RetryConfig | None,
    timed_out: bool,
    retries: int,
    first_attempt: float,
    now: float,
    deadline: float,
    permit: Callable[[float, float], float] | None = None,
    rng: random.Random,
    budget: RetryBudget | None = None,
) -> Retry | StopReason:
    """Whether a task that failed with `error` runs again, and when; or the reason why it does not.

    The first reason that holds is given, in the order of the checks below.

    Args:
        error: what the attempt raised.
        config: the task's config, or else its manager's, or None. An error's own config goes before it.
        timed_out: whether `error` stands for the library's own ``attempt_timeout``.
        retries: how many retries the task has made, whatever the configs were.
        first_attempt: when the first attempt started, on the clock of `now` and `deadline`.
        now: the time.
        deadline: when the task ends in any case.
        permit: when the rate lets another attempt start, at the earliest; called with the deadline, and with
            the last time that `max_elapsed` allows. None where there is no rate.
        rng: where jitter comes from.
        budget: what a retry takes a token from.
    """
    spent = StopReason.ATTEMPT_TIMEOUT if timed_out else StopReason.RETRIES_EXHAUSTED
    if timed_out:
        if config is None:
            return spent
        plans = [_Plan(config)]
    else:
        plans = _plans(error, config or _DEFAULT)
        if not plans:
            return StopReason.ERROR
    if any(retries >= plan.config.max_attempts for plan in plans):
        return spent
    if any(plan.asked > plan.config.max_retry_after for plan in plans):
        return StopReason.RETRY_AFTER
    delay = max(_delay(plan, retries + 1, rng) for plan in plans)
    most = min(plan.config.max_elapsed for plan in plans)
    if now - first_attempt + delay > most:
        return StopReason.MAX_ELAPSED
    latest = max(first_attempt + most, now + delay)  # to a rounding they may be the other way round
    due = -math.inf if permit is None else permit(deadline, latest)
    if due > latest:
        return StopReason.MAX_ELAPSED
    # A delay that ends on the deadline is of no use: the attempt would be cancelled as it starts.
    if max(now + delay, due) >= deadline:
        return StopReason.DEADLINE
    if budget is not None and not budget._spend():
        return StopReason.RETRY_BUDGET
    return Retry(delay, any(plan.config.hold_slot for plan in plans), latest)
