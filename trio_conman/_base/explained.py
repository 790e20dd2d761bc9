"""A better answer to keyword arguments that a callable does not take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def unexpected(call: str, name: str, way: str) -> TypeError:
    """What to raise for a keyword argument that a callable does not take; `way` is the way out."""
    return TypeError(f"{call}() got an unexpected keyword argument {name!r}: {way}")


def explained(way: Callable[[str], str | None] = lambda _: None) -> Callable[[F], F]:
    """Have a method, or a constructor, say what it takes; for one that is not called often.

    Args:
        way: of a name that it does not take, the way out, if that is not what it takes.
    """

    def explain(method: F) -> F:
        code, call = method.__code__, method.__qualname__.removesuffix(".__init__")
        # inspect takes a millisecond
        options = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

        @functools.wraps(method)
        def explaining(*args: Any, **given: Any) -> Any:
            for name in given:
                if name not in options:
                    raise unexpected(call, name, way(name) or f"it takes {', '.join(options)}")
            return method(*args, **given)

        return explaining  # type: ignore[return-value]  # it has the signature of what it wraps

    return explain
