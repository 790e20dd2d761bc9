"""Numbers of permits: what may be given, and what an attempt costs by the arguments of its task."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias

from trio.lowlevel import disable_ki_protection

from trio_conman._base.checks import check_count, check_finite, is_async
from trio_conman._base.texts import short
from trio_conman._books.handles import name_of

Cost: TypeAlias = float | Callable[..., float]


def check_permits(name: str, value: object) -> float:
    """Refuse what is not a finite number above 0; returns it as a float."""
    return check_finite(name, value, positive=True)


def check_burst(name: str, value: object) -> int:
    """Refuse what is not an int of at least 1."""
    check_count(name, value, minimum=1)
    if not isinstance(value, int):
        raise ValueError(
            f"{name} must be an int of at least 1, not {short(value)}: without a limit there is no rate"
        )
    return value


def check_cost(cost: Cost) -> Cost:
    """Refuse what is no cost; returns a number as a float."""
    if not callable(cost):
        return check_permits("cost", cost)
    if is_async(cost):
        raise TypeError(f"cost must be a number or a sync callable, not {short(cost)}, which is async")
    return cost


def price(limiter: object, cost: Callable[..., float], args: tuple[Any, ...]) -> float:
    """What a callable makes of the arguments of a task.

    Raises:
        RuntimeError: it has raised.
        TypeError: it gave no number.
        ValueError: the number is out of range.
    """
    name = f"cost of {limiter!r}, by {name_of(cost)}(),"
    try:
        answer = _call(cost, args)
    except Exception as error:
        raise RuntimeError(f"{name} has raised {short(error)}") from _without_us(error)
    finally:
        del args
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns that it was never awaited
    return check_permits(name, answer)


@disable_ki_protection
def _call(cost: Callable[..., object], args: tuple[Any, ...]) -> object:
    return cost(*args)


def _without_us(error: Exception) -> Exception:
    """An error without the traceback entries of this module, whose frames lead to the task."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return Exception.with_traceback(error, traceback)
