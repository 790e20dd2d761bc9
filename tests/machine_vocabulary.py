"""The values that random programs are made of, whoever makes them.

Tasks last for whole halves of a second, and the program goes by them too, so that much falls on one tick;
the timeouts of attempts and tasks never do, for nobody can say what goes first then.
"""

from __future__ import annotations

import math

from trio_conman import RetryConfig

from .machine_program import Act, Plan

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
    RetryConfig.linear(initial_delay=0.5, max_delay=0.5, max_elapsed=2.75, hold_slot=True),
]
INSIDE = [
    "pause",
    "resume",
    "limit",
    "cancel me",
    "cancel another",
    "more",
    "hand over",
    "wait",
    "run",
    "map",
    "slow",
    "priority",
    "key limit",
]

FAILING = [
    Plan((Act(0.5, ending="retriable", config=config),) * 4) for config in (RETRIES[0], HALF, *RETRIES[2:4])
]
SIMPLE = [
    *(Plan((Act(seconds),)) for seconds in (1.0, 2.0, 0.5)),
    *(Plan((Act(1.0, inside),)) for inside in INSIDE),
    *FAILING,
]
SECONDS = [1.0, 2.0, 0.5, 0.0]
ENDINGS = ["return", "return", "error", "retriable", "retriable", "group", "mixed"]
MANNERS = ["plain", "plain", "plain", "stubborn", "swallows", "turns"]
ATTEMPT_TIMEOUTS = [None, None, 0.75, 1.75]
TASK_TIMEOUTS = [None, None, 1.125, 3.125]
PAUSES = [0.3125, 1.0, 2.5]  # of the rate
LIMITS: list[int | float] = [2, 3, 2, 5, inf]
# Of the keys 0, 1, …, if there are any.
KEYS: list[tuple[int, ...]] = [(), (), (1, 2), (2, 1, 3), (1, 1, 1, 1)]
PRIORITIES = [0, 0, 0, 1, -1]
LOOKAHEADS = [None, None, 1, 3, 20]
