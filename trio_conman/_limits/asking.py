"""What a callable of the user's makes of the arguments of a task."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, Protocol

from trio.lowlevel import disable_ki_protection

from trio_conman._base.texts import short
from trio_conman._base.tracebacks import foreign


class Asking(Protocol):
    """A limit that asks for something."""

    def _describe(self) -> str:
        """For errors, what that is."""
        ...


class Asked:
    """What a limit has asked for, by a name that is made when an error needs it."""

    __slots__ = ("_limit",)

    def __init__(self, limit: Asking) -> None:
        self._limit = limit

    def __str__(self) -> str:
        return self._limit._describe()


@disable_ki_protection
def ask(limit: Asking, fn: Callable[..., object], args: tuple[Any, ...]) -> Any:
    """What `fn` makes of the arguments of a task for a limit.

    It may go on for long, or for ever, where the books are kept: a Ctrl-C may interrupt it.

    Raises:
        RuntimeError: it has raised.
        TypeError: it made a coroutine.
    """
    try:
        answer = fn(*args)
    except Exception as error:
        raise RuntimeError(f"{limit._describe()} has raised {short(error)}") from foreign(error)
    finally:
        del args
    if type(answer) is CoroutineType:
        answer.close()  # else Python warns that it was never awaited
        raise TypeError(f"{limit._describe()} must be no coroutine: give a sync callable")
    return answer
