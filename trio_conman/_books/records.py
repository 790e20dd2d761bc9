"""What the engine asks of a journal, whatever keeps it: is a task's value known, and will you keep this one.

The journal itself is a leaf, which nothing in here imports. A door takes a `Recorder`, a journal or a section
of one, and asks it for its `Records`; the engine talks to those. For each task, in this order:

1. ``key = records.key_of(args)``, when it is taken up. An error is the task's failure.
2. ``answer = records.claim(key)``, before its keys, its permit and its first attempt. An error is the task's
   failure. Any value but an `Answer` is that of the task, which ends with it as recalled. On ``WAIT`` the
   slot is given back; after ``await records.changed(key)`` it claims again.
3. On ``RUN`` the claim is the task's, which makes its attempts, with all their retries. Exactly one of two
   calls gives the claim back, whatever ends the task:

   - ``ticket = records.keep(key, value)`` when it has returned. An error is the task's failure, and
     ``records.release(key)`` is still to be called. Unless the ticket is None, the outcome is published after
     ``await records.committed(ticket)``, and is a failure if that raises.
   - ``records.release(key)`` when it failed, was cancelled, or never began.

All of it is called in the trio run that opened the journal. What is not async passes no checkpoint, reads no
disk, and takes no lock that a disk could hold up.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Answer(Enum):
    """What there is to do about a task whose value is not at hand."""

    RUN = "run"
    """Its value is not recorded: run it. Until it has ended, others of its key are told to wait."""
    WAIT = "wait"
    """Its value is being read, or another task of its key runs."""


class Records(Protocol[T]):
    """A section of a journal, as the engine sees it."""

    def enter(self) -> None:
        """Raise RuntimeError in another trio run than that of the journal, or when that is closed."""
        ...

    def key_of(self, args: tuple[Any, ...]) -> str:
        """The key of a task, by its arguments.

        Raises:
            TypeError: they are no key, and the section has no function that makes one of them.
            Exception: what the section's function raised.
        """
        ...

    def claim(self, key: str) -> T | Answer:
        """The recorded value, or what to do without it.

        Raises:
            JournalError: the value cannot be read; or there is none, and could not be kept either, since the
                journal is closed or its disk has failed.
        """
        ...

    def keep(self, key: str, value: T) -> int | None:
        """Record the value of a task that has claimed its key, and give the claim back.

        Returns:
            None when the outcome may be published, else the ticket to wait with.

        Raises:
            JournalError: the value cannot be stored, or the disk has failed. The claim is still there.
        """
        ...

    def release(self, key: str) -> None:
        """Give a claim back without a value: the next who waits for it runs."""
        ...

    async def changed(self, key: str) -> None:
        """Wait until `claim` may have another answer than ``WAIT``; not always a checkpoint."""
        ...

    async def committed(self, ticket: int) -> None:
        """Wait until what the ticket stands for is on the disk; not always a checkpoint.

        Raises:
            JournalError: the disk has failed.
        """
        ...


class Recorder(Generic[T]):
    """What a door takes as ``journal``."""

    __slots__ = ("__weakref__", "_records")
    _records: Records[T]
