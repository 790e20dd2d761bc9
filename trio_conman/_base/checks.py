"""Checks of parameters: TypeError for a wrong kind, ValueError for a wrong range, naming both sides."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from types import UnionType, WrapperDescriptorType
from typing import TypeVar

from .texts import short

T = TypeVar("T")

ASYNC = "async"


def check_type(name: str, value: object, kind: type | UnionType | tuple[type, ...], wanted: str) -> None:
    """Refuse a `value` that is no `kind`; `wanted` says in words what would do."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, not {short(value)}")


def check_bool(name: str, value: object) -> None:
    check_type(name, value, bool, "True or False")


def check_choice(name: str, value: object, *choices: str) -> str:
    """Refuse what is not one of the `choices`; returns it as a plain str."""
    wanted = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {wanted}, not {short(value)}")
    text = str.__str__(value)
    if text not in choices:
        raise ValueError(f"{name} must be {wanted}, not {short(value)}")
    return text


def check_number(name: str, value: object, *, finite: bool = False) -> float:
    """Refuse what is not a number of at least 0: seconds, or a factor; `finite` refuses infinity too.

    Returns:
        the number as a float, whose methods are not the user's.
    """
    wanted = "a finite number of at least 0" if finite else "a number of at least 0 (math.inf for no limit)"
    number = _as_float(name, value, wanted)
    # The comparison is false for NaN too.
    if not number >= 0 or (finite and math.isinf(number)):
        raise ValueError(f"{name} must be {wanted}, not {short(value)}")
    return number


def check_finite(name: object, value: object, *, positive: bool = False) -> float:
    """Refuse what is not a finite number, be it above 0 or, unless `positive`, not; returns it as a float.

    The `name` may be anything that makes its text only when it is asked for it.
    """
    wanted = "a finite number above 0" if positive else "a finite number"
    number = _as_float(name, value, wanted)
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{name} must be {wanted}, not {short(value)}")
    return number


def _as_float(name: object, value: object, wanted: str) -> float:
    """A number as a float; NaN for what is beyond one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {wanted}, not {short(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.nan
    except Exception as error:
        raise TypeError(f"{name} must be {wanted}, not {short(value)}") from error


def check_text(name: str, value: str) -> str:
    """Refuse what is not a str.

    Returns:
        the text as a plain str, whose methods are not the user's.
    """
    check_type(name, value, str, "a str or None")
    return str.__str__(value)


def check_count(name: str, value: object, *, minimum: int) -> None:
    """Refuse what is neither a whole number of at least `minimum` nor `math.inf`."""
    if not (isinstance(value, float) and value == math.inf):
        check_int(name, value, minimum=minimum, others=", or math.inf")


def check_int(name: str, value: object, *, minimum: int | None = None, others: str = "") -> int:
    """Refuse what is no int, or one below `minimum`; returns a plain one. `others`: what else will do."""
    wanted = ("an int" if minimum is None else f"an int of at least {minimum}") + others
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {wanted}, not {short(value)}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be {wanted}, not {short(value)}")
    return int.__int__(value)


def check_several(name: str, given: object, kind: type[T], wanted: str) -> tuple[T, ...]:
    """What was given of a `kind`: one, several, or none; `wanted` says in words what one is.

    Raises:
        TypeError: it is nothing of that kind.
        ValueError: it names one twice, or none.
    """
    if given is None:
        return ()
    if isinstance(given, (kind, str, bytes)) or not isinstance(given, Iterable):
        given = (given,)
    several: list[T] = []
    for each in given:
        if not isinstance(each, kind):
            raise TypeError(f"{name} must be {wanted}, or several, or None, not {short(each)}")
        if each in several:
            raise ValueError(f"{name} must have each limiter once, not {each!r} twice")
        several.append(each)
    if not several:
        raise ValueError(f"{name} must have at least one limiter, not {short(given)}; for none give None")
    return tuple(several)


def check_limit(value: object) -> None:
    """Refuse what is no ``limit`` of a manager."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        raise ValueError(
            "limit must be an int of at least 2, or math.inf "
            f"(a manager opened with trio.CapacityLimiter(1) runs one at a time), not {short(value)}"
        )
    check_count("limit", value, minimum=2)


def deferral(fn: Callable[..., object]) -> str | None:
    """What a callable is whose calls return before any of it has run, as far as can be seen without one."""
    while isinstance(fn, partial):
        fn = fn.func
    # An object is called by a method of its type; that of a function is in C.
    call = type(fn).__call__
    for each in (fn,) if isinstance(call, WrapperDescriptorType) else (fn, call):
        # A mock may have flags that are a mock, which is true.
        flags = getattr(getattr(each, "__code__", None), "co_flags", 0)
        if isinstance(flags, int):
            if flags & inspect.CO_ASYNC_GENERATOR or inspect.iscoroutinefunction(each):
                return ASYNC
            if flags & inspect.CO_GENERATOR:
                return "a generator function"
    return None


def check_sync(name: str, value: object, wanted: str) -> None:
    """Refuse what is no sync callable; `wanted` says in words what would do."""
    if not callable(value) or (kind := deferral(value)) == ASYNC:
        raise TypeError(f"{name} must be {wanted}, not {short(value)}")
    if kind is not None:
        raise TypeError(f"{name} must be {wanted}, not {kind}, as {short(value)} is")


def wrong_thread(method: str, call: str) -> RuntimeError:
    """What to raise where trio's own thread is needed, before anything has changed; `call` is the way out."""
    return RuntimeError(
        f"{method}() was called in another thread than that of its trio run; "
        f"from there use trio.from_thread.{call}"
    )
