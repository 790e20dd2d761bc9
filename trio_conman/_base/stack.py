"""Room on Python's stack, before the books are changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

# What trio needs to start a task, and a hook to be told, with a few to spare. CPython 3.11 also counts what a
# tracer in C takes, such as that of coverage.
FRAMES = 12 if sys.version_info >= (3, 12) else 16
MORE_FRAMES = 60  # a cancellation ends tasks amid trio's own calls, and they are told of


def _last() -> Any:
    """Where the chain ends."""


def _link() -> Any:
    return _last()  # a value passed on costs less than one dropped


def _nested(frames: int) -> Callable[[], Any]:
    call: Callable[[], Any] = _last
    for _ in range(frames - 1):
        # Code of its own for each, by which CPython knows whom it calls: that saves a sixth, on 3.11 a third.
        call = FunctionType(_link.__code__.replace(), {_last.__name__: call})
    return call


need_stack: Callable[[], Any] = _nested(FRAMES)
"""Raise RecursionError unless so many frames fit; for what is called often.

A caller may be deep in a recursion of its own. What fails amid the books, or in trio, which starts a task in
several steps, would leave a task that is accepted and never starts. So this comes first. A chain of calls
that are there is quicker than a recursion: 0.4 microseconds.
"""

need_more_stack: Callable[[], Any] = _nested(MORE_FRAMES)
"""The same for what ends tasks, or starts many."""
