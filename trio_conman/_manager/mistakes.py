"""What is told to those who use a door in another way than it is meant: the way that is."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from trio_conman._base.explained import unexpected as _unexpected

_RETRIES = "use retry=RetryConfig(max_attempts=...)"
INSTEAD = {
    "timeout": "use task_timeout=... for all attempts together, or attempt_timeout=... for each",
    "attempts": _RETRIES,
    "max_attempts": _RETRIES,
    "max_retries": _RETRIES,
    "retries": _RETRIES,
}


def way_to_pass(name: str) -> str:
    """The way out for a keyword argument that a method does not take, but that its task may take."""
    meant = f"{INSTEAD[name]}; " if name in INSTEAD else ""
    return f"{meant}to pass it to the task, use functools.partial(fn, {name}=...)"


def unexpected(method: str, names: Iterable[str]) -> TypeError:
    """What to raise for keyword arguments of a method that calls a task: for the first of them."""
    name = next(iter(names))
    return _unexpected(f"ConMan.{method}", name, way_to_pass(name))


def queue_full(manager: str, queued: int, most: float) -> trio.WouldBlock:
    """What `start_soon` raises beyond the bound of its queue."""
    return trio.WouldBlock(
        f"ConMan.start_soon() would queue one more task of {manager!r}, where {queued} are queued of "
        f"max_queued={most}: await run(), which waits for a slot, or try again when some have started"
    )
