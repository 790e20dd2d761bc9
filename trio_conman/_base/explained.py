"""A better answer to keyword arguments that a callable does not take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def explained(method: F, error: Callable[[str, tuple[str, ...]], TypeError]) -> F:
    """Have a method raise an error of its own, for one that is not called often.

    Args:
        method: what to wrap.
        error: makes the error from the first name that it does not take, and those that it takes.
    """
    code = method.__code__
    options = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]  # inspect takes a millisecond

    @functools.wraps(method)
    def explaining(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in options:
                raise error(name, options)
        return method(*args, **given)

    return explaining  # type: ignore[return-value]  # it has the signature of what it wraps


def explained_init(method: F) -> F:
    """Have a constructor say what it takes, where it does not take a keyword argument."""
    name = method.__qualname__.removesuffix(".__init__")

    def error(given: str, options: tuple[str, ...]) -> TypeError:
        return TypeError(
            f"{name}() got an unexpected keyword argument {given!r}: it takes {', '.join(options)}"
        )

    return explained(method, error)
