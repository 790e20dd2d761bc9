"""The arithmetic of delays. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
import random
from typing import Literal, TypeAlias

from trio_conman._base.log import log_fault
from trio_conman._base.texts import short

Strategy: TypeAlias = Literal["exponential", "linear", "none"]


def backoff(
    strategy: Strategy, retry: int, *, initial_delay: float, backoff_factor: float, max_delay: float
) -> float:
    """The delay before retry number `retry`, in seconds; the formulas are those of `RetryConfig.delay`."""
    # A delay that starts at 0 stays there; 0 times an overflowed power would be NaN.
    if strategy == "none" or initial_delay == 0:
        return 0.0
    # As a float, and no more steps than a float can tell apart: the power of an int would grow to millions of
    # digits before it is capped.
    factor, steps = float(backoff_factor), min(retry - 1, 2**63)
    try:
        if strategy == "exponential":
            delay = initial_delay * factor**steps
        else:
            delay = initial_delay * (1 + factor * steps)
    except OverflowError:
        delay = math.inf
    return min(float(delay), float(max_delay))


def full_jitter(delay: float, rng: random.Random) -> float:
    """A delay drawn uniformly from [0, `delay`].

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").

    A source of randomness that raises, or draws outside of the range, is logged and costs only the jitter.
    """
    try:
        drawn = rng.uniform(0.0, delay)
        if 0.0 <= drawn <= delay:
            return drawn
        log_fault("the rng drew %s for a delay from 0 to %r; waiting the whole delay", short(drawn), delay)
    except Exception as error:
        log_fault("the rng failed to draw a delay from 0 to %r; waiting the whole delay", delay, error=error)
    return delay
