"""What an adaptive limit must achieve, in figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean
from typing import TypeAlias

from .runs import Run
from .services import BACK, DROP, WELL

Figures: TypeAlias = dict[str, tuple[float, float, float]]
"""By name: the value, and the least and the most that it may be."""


def calls_until(limits: Iterable[tuple[float, int]], is_there: Callable[[int], bool]) -> float:
    """How many calls began before the limit was there."""
    return next((n for n, (_, limit) in enumerate(limits) if is_there(limit)), float("inf"))


def since(run: Run, seconds: float) -> list[tuple[float, int]]:
    return [each for each in run.limits if each[0] >= seconds]


def mean_limit(run: Run, last: int) -> float:
    return fmean(limit for _, limit in run.limits[-last:])


def refuses(run: Run, last: int) -> Figures:
    return {
        "calls until 45": (calls_until(run.limits, lambda limit: limit >= 45), 0, 1000),
        f"mean limit of the last {last} calls": (mean_limit(run, last), 45, 55),
        "refused": (run.service.refused / run.service.calls, 0, 0.02),
    }


def too_many(run: Run, last: int) -> Figures:
    settled = [limit for _, limit in run.limits[500:]]
    return {
        "least limit": (min(limit for _, limit in run.limits), 10, 200),
        "greatest limit after 500 calls": (max(settled), 10, 30),
        "mean limit after 500 calls": (fmean(settled), 18, 22),
    }


def drops(run: Run, last: int) -> Figures:
    return {
        "limit before": (since(run, DROP)[0][1], 45, 55),
        "calls until 16 when it drops": (
            calls_until(since(run, DROP), lambda limit: limit <= 16),
            0,
            1500,
        ),
        "calls until 45 when it is back": (
            calls_until(since(run, BACK), lambda limit: limit >= 45),
            0,
            1500,
        ),
    }


def queues(run: Run, last: int) -> Figures:
    return {
        f"mean limit of the last {last} calls": (mean_limit(run, last), 35, 65),
        f"mean time of the last {last} calls": (
            fmean(seconds for _, seconds in run.service.served[-last:]),
            0,
            1.5,
        ),
    }


def slow(run: Run, last: int) -> Figures:
    return {
        "calls until 45 when it is well": (
            calls_until(since(run, WELL), lambda limit: limit >= 45),
            0,
            1500,
        ),
        f"mean limit of the last {last} calls": (mean_limit(run, last), 45, 55),
    }


def unbounded(run: Run, last: int) -> Figures:
    return {"greatest limit": (max(limit for _, limit in run.limits), 200, 200)}


FIGURES: dict[str, Callable[[Run, int], Figures]] = {
    "refuses": refuses,
    "too many": too_many,
    "drops": drops,
    "queues": queues,
    "slow": slow,
    "unbounded": unbounded,
}


def missed(figures: Figures) -> dict[str, float]:
    """Those that are out of their bounds."""
    return {name: value for name, (value, least, most) in figures.items() if not least <= value <= most}
