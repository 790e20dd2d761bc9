"""What is told to those who use a door in another way than it is meant: the way that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import trio

from trio_conman._base.explained import explained as _explained

F = TypeVar("F", bound=Callable[..., Any])

_RETRIES = "use retry=RetryConfig(max_attempts=...)"
_INSTEAD = {
    "timeout": "use task_timeout=... for all attempts together, or attempt_timeout=... for each",
    "attempts": _RETRIES,
    "max_attempts": _RETRIES,
    "max_retries": _RETRIES,
    "retries": _RETRIES,
}


def unexpected(method: str, names: Iterable[str], *, options: Iterable[str] = ()) -> TypeError:
    """What to raise for keyword arguments that a method does not take; without `options`, one that calls."""
    name, *_ = names
    ways = [_INSTEAD[name]] if name in _INSTEAD else []
    if options:
        ways = ways or [f"it takes {', '.join(options)}"]
    else:
        ways.append(f"to pass it to the task, use functools.partial(fn, {name}=...)")
    return TypeError(f"ConMan.{method}() got an unexpected keyword argument {name!r}: {'; '.join(ways)}")


def queue_full(manager: str, queued: int, most: float) -> trio.WouldBlock:
    """What `start_soon` raises beyond the bound of its queue."""
    return trio.WouldBlock(
        f"ConMan.start_soon() would queue one more task of {manager!r}, where {queued} are queued of "
        f"max_queued={most}: await run(), which waits for a slot, or try again when some have started"
    )


def explained(method: F) -> F:
    """Have a method of `ConMan` say more of keyword arguments that it does not take."""
    return _explained(
        method,
        lambda name, options: unexpected(method.__name__, [name], options=() if "fn" in options else options),
    )
