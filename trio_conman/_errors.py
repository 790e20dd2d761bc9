"""The library's own exceptions."""

from __future__ import annotations

import trio


class ConManClosedError(trio.ClosedResourceError):
    """The manager accepts nothing new: it was closed, shut down or cancelled."""

    # Which manager raised it, by identity: a manager may end its own block quietly on its own error, never
    # on that of another manager.
    _owner: object = None


class TaskCancelledError(Exception):
    """A task was ended by a cancellation, of its handle, its manager, or a scope around them.

    It is the ``error`` of the task's `Failure`; the text says who cancelled, and the reason given.
    """
