"""What a callable of the user's makes of the arguments of a task."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from trio.lowlevel import disable_ki_protection

from trio_conman._base.texts import short
from trio_conman._base.tracebacks import foreign


@disable_ki_protection
def ask(
    describe: Callable[[Any, Any], str], limit: object, fn: Callable[..., object], args: tuple[Any, ...]
) -> Any:
    """What `fn` makes of the arguments of a task for a limit; `describe` tells for errors what that is.

    It may go on for long, or for ever, where the books are kept: a Ctrl-C may interrupt it.

    Raises:
        RuntimeError: it has raised.
        TypeError: it made a coroutine.
    """
    try:
        answer = fn(*args)
    except Exception as error:
        raise RuntimeError(f"{describe(limit, fn)} has raised {short(error)}") from foreign(error)
    finally:
        del args
    if type(answer) is CoroutineType:
        answer.close()  # else Python warns that it was never awaited
        raise TypeError(f"{describe(limit, fn)} must be no coroutine: give a sync callable")
    return answer
