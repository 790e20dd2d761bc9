"""What the engine asks of a journal, whatever keeps it: is a task's value known, and will you keep this one.

The journal itself is a leaf, which nothing in here imports. A door takes a `Recorder`, a journal or a section
of one, and asks it for its `Records`; the engine talks to those. For each task, in this order:

1. ``key = records.key_of(args)``, when it is taken up. An error is the task's failure. Where there are limits
   by key that comes sooner too, since a task for which then ``records.holds(key)`` does not count for them.
2. ``answer = records.claim(key)``, before its permit and its first attempt. An error is the task's failure.
   Any value but an `Answer` is that of the task, which ends with it as recalled. On ``READ`` it claims again
   after ``await records.arrival(key)``. On ``WAIT`` it gives its slot back, and asks by
   ``records.follow(key, tell)`` to be told when to claim again.
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

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from trio_conman._base.checks import check_type
from trio_conman._base.hidden import refuse_copies

T = TypeVar("T")


class Answer(Enum):
    """What there is to do about a task whose value is not at hand."""

    RUN = "run"
    """Its value is not recorded: run it. Until it has ended, others of its key are told to wait."""
    READ = "read"
    """Its value is being read, or written, where that is waited for; which soon ends."""
    WAIT = "wait"
    """Another task of its key runs."""


class Records(Protocol[T]):
    """A section of a journal, as the engine sees it."""

    def enter(self) -> None:
        """Look whether it can be used.

        Raises:
            JournalError: it is closed, or its disk has failed.
            RuntimeError: it was opened in another trio run.
        """
        ...

    def key_of(self, args: tuple[Any, ...]) -> str:
        """The key of a task, by its arguments.

        Raises:
            TypeError: they are no key, and the section has no function that makes one of them.
            Exception: what the section's function raised.
        """
        ...

    def holds(self, key: str) -> bool:
        """Whether there is a recorded value, as far as is known without looking at it."""
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
        """Give a claim back without a value: the first who claims it again runs."""
        ...

    async def arrival(self, key: str) -> None:
        """Wait until `claim` has another answer than ``READ``; not always a checkpoint."""
        ...

    def follow(self, key: str, tell: Callable[[], object]) -> None:
        """Have `tell` called, once, when the task that has claimed the key has given it back."""
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

    def __reduce__(self) -> NoReturn:
        """Private: it is not pickled."""
        refuse_copies(self)


def records_of(journal: object) -> Records[Any]:
    """The records of what a door was given.

    Raises:
        JournalError: they can be used no more.
        RuntimeError: they belong to another trio run.
        TypeError: it is nothing of that kind.
    """
    wanted = "what 'async with open_journal(path) as journal:' yields, a section of it, or None"
    check_type("journal", journal, Recorder, wanted)
    assert isinstance(journal, Recorder)
    records: Records[Any] = journal._records
    records.enter()
    return records
