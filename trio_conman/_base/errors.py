"""The library's own exceptions."""

from __future__ import annotations

import trio


class ConManClosedError(trio.ClosedResourceError):
    """The manager accepts nothing new: it was closed, shut down or cancelled."""

    # Which manager raised it: a block may end quietly on its own error, never on that of another manager, nor
    # on one that has ended a task, which has None. A slot, because copies and pickles take along what is in
    # __dict__.
    __slots__ = ("_owner",)
    _owner: object


class TaskCancelledError(Exception):
    """A task was ended by a cancellation, of its handle, its manager, or a scope around them.

    It is the ``error`` of the task's `Failure`; the text says who cancelled, and the reason given.
    """
