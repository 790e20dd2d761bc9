"""Numbers of permits: what may be given, and what an attempt costs by the arguments of its task."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeAlias

from trio_conman._base.checks import check_finite, check_int, check_sync
from trio_conman._base.texts import short

Cost: TypeAlias = float | Callable[..., float]


def check_permits(name: object, value: object) -> float:
    """Refuse what is not a finite number above 0; returns it as a float."""
    return check_finite(name, value, positive=True)


def check_burst(name: str, value: object) -> int:
    """Refuse what is not an int of at least 1; returns a plain one."""
    if isinstance(value, float) and value == inf:
        raise ValueError(
            f"{name} must be an int of at least 1, not {short(value)}: without a limit there is no rate"
        )
    return check_int(name, value, minimum=1)


def check_cost(cost: Cost) -> Cost:
    """Refuse what is no cost; returns a number as a float."""
    if not callable(cost):
        return check_permits("cost", cost)
    check_sync("cost", cost, "a number or a sync callable")
    return cost
