"""The thread that writes a journal: trio's loop waits neither for the disk, nor for who has a lock on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import TIMEOUT_MAX, Event, Thread
from time import monotonic
from typing import final

import trio

from trio_conman._base.outlast import OVER

from .journal_file import JournalError, JournalFile
from .journal_table import Table


@final
class Writer:
    """Commits what is in the tables, in groups, and then closes the file.

    It tells of it in trio's thread. After an error it has told of it writes no more. The thread is a daemon:
    when the run has crashed, nobody is left to end it.

    Args:
        file: where to; closed by the thread when it ends.
        tables: of the sections that the file has, by id; others may be added.
        delay: seconds between two groups, at least; the first record of all goes at once.
        committed: called with the number of each group, and how many bytes it had.
        failed: called at most once.
        closed: called at the end, when the file is closed.
    """

    def __init__(
        self,
        file: JournalFile,
        tables: dict[int, Table],
        delay: float,
        *,
        committed: Callable[[int, int], None],
        failed: Callable[[JournalError], None],
        closed: Callable[[], None],
    ) -> None:
        self._file = file
        self._tables = tables
        self._delay = delay
        self._committed, self._failed, self._closed = committed, failed, closed
        self._run = trio.lowlevel.current_trio_token()
        self._work, self._hurry = Event(), Event()
        self.is_called: bool = False  # said once for many: an event costs as much as all the rest
        self._group = 0  # how many were begun
        self._ending = False
        self._fault: JournalError | None = None
        Thread(target=self._write, name="trio_conman journal", daemon=True).start()

    def call(self) -> int:
        """There is something to write; returns the number of a group that it is written with, or before."""
        group = self._group + 1  # read first: when this one has begun in between, another one is called for
        if not self.is_called:
            self.is_called = True
            self._work.set()
        return group

    def hurry(self) -> None:
        """Let the next group begin now."""
        if not self._hurry.is_set():
            self._hurry.set()

    def end(self) -> None:
        """Write what there is, close the file, and end."""
        self._ending = True
        self._work.set()
        self._hurry.set()

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        with suppress(*OVER):  # it has crashed
            self._run.run_sync_soon(call, *args)

    def _write(self) -> None:
        ending, due = False, -inf
        while not ending:
            self._work.wait()
            # What was put while the last group was committed has waited long enough.
            self._hurry.wait(min(max(0.0, due - monotonic()), TIMEOUT_MAX))
            # In this order: what is put later is written now, or calls again.
            self._work.clear()
            self._hurry.clear()
            self.is_called = False
            self._group += 1
            ending, due = self._ending, monotonic() + self._delay
            if self._fault is None:
                self._try(self._commit)
        self._try(lambda: self._file.close(in_order=self._fault is None))
        self._tell(self._closed)

    def _commit(self) -> None:
        tables = self._tables.copy()  # in one step, see Table; in the order in which they were begun
        if changes := [change for table in tables.values() for change in table.changes()]:
            self._file.commit(changes)
        size = 0
        for section, table in tables.items():
            size += table.settle()
            if table.is_gone:
                del self._tables[section]
        self._tell(self._committed, self._group, size)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if self._fault is None:
                self._fault = self._file.fault(error)
                self._tell(self._failed, self._fault)
