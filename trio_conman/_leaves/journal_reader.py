"""Values read ahead: a program that runs again asks for them nearly in the order in which they were stored.

A thread reads what is asked for, and a window of records behind it. Whoever takes the first value of the
newest window makes the next one be read, so that a stream of them hardly ever waits. Windows grow while that
goes on, and shrink when something else is asked for. A few of them are kept, whatever the number of items and
of sections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias, final

import attrs
import trio

from .journal_file import Data, JournalError, JournalFile
from .journal_table import OVERHEAD

MOST, LEAST = 1024, 8  # records in a window
SIZE = 1 << 18  # bytes of keys and values that make a window full, and a job too
WINDOWS = 8  # kept for each section
ROOM = 1 << 22  # bytes of what is kept for all of them, unless two jobs alone have read more


# A value, or the numbers of the records that were read in vain: the index has mistaken one key for another.
Found: TypeAlias = Data | list[int]
Window: TypeAlias = dict[str, Found]


@attrs.define(eq=False, repr=False)
class Job:
    """What to read of a section, and what was read."""

    section: int
    wanted: dict[str, list[int]]  # by key, the numbers that its record may have
    start: int  # of a window that nobody waits for yet
    length: int
    found: Window = attrs.Factory(dict)
    window: Window = attrs.Factory(dict)
    size: int = 0  # bytes of what was read
    error: JournalError | None = None

    def do(self, file: JournalFile) -> None:
        """Read it, or as much as is enough for once."""
        try:
            if not self.wanted:
                self._read(file, self.start)
            for key, numbers in self.wanted.items():
                for number in numbers:
                    if key not in self.window:
                        self._read(file, number)
                self.found[key] = self.window.pop(key, numbers)
                if self.size >= SIZE:
                    break
        except Exception as error:
            self.error = file.fault(error)

    def _read(self, file: JournalFile, number: int) -> None:
        records = file.read(self.section, number, self.length, SIZE)
        self.start = records[-1][0] + 1 if records else number
        self.window.update((key, value) for _, key, value in records)
        self.size += sum(OVERHEAD + len(key) + len(value) for _, key, value in records)


@final
class Ahead:
    """What was read of one section and not yet asked for; in trio's thread.

    Args:
        reader: has the reading done.
        section: the section's id.
        window: what its file begins with.
        end: the number of the last record that was there when the journal was opened.
    """

    __slots__ = (
        "_end",
        "_events",
        "_length",
        "_next",
        "_reader",
        "_section",
        "_wanted",
        "is_dropped",
        "windows",
    )

    def __init__(self, reader: Reader, section: int, window: Window, end: int) -> None:
        self._reader = reader
        self._section = section
        self.windows: deque[Window] = deque([window] if window else [])
        self._length = 2 * LEAST
        self._next, self._end = len(window) + 1, end
        self._wanted: dict[str, list[int]] = {}
        self._events: dict[str, trio.Event] = {}
        # Whether the section is discarded, and may be gone in the middle of a job.
        self.is_dropped: bool = False

    def pop(self, key: str) -> Found | None:
        """The value of a key, if it was read."""
        for window in self.windows:
            if (value := window.pop(key, None)) is not None:
                if window is self.windows[-1] and self._next <= self._end and self._reader.can_read:
                    self._length = min(2 * self._length, MOST)
                    self._reader.ask(self)
                return value
        return None

    def want(self, key: str, numbers: list[int]) -> None:
        """Have the value of a key read: its record has one of these numbers, or is not there."""
        if key not in self._wanted:
            self._wanted[key] = numbers
            self._reader.ask(self)

    async def arrival(self, key: str) -> None:
        """Wait until what is wanted for a key was read."""
        if key in self._wanted:
            await self._events.setdefault(key, trio.Event()).wait()

    def job(self) -> Job:
        """What is to be read now."""
        if self._wanted:
            self._length = max(self._length // 2, LEAST)
        return Job(self._section, dict(self._wanted), self._next, self._length)

    def take(self, job: Job) -> None:
        """A job is done."""
        self._next = job.start
        # First what was waited for: of the other nobody has taken anything, so that it is the newest.
        windows = [window for window in (*self.windows, job.found, job.window) if window]
        self.windows = deque(windows[-WINDOWS:])
        for key in job.found if job.error is None else [*self._wanted]:
            del self._wanted[key]
            if (event := self._events.pop(key, None)) is not None:
                event.set()
        if self._wanted:
            self._reader.ask(self)


@final
class Reader:
    """Has one job after another done by trio's threads.

    Args:
        file: where from.
        failed: called when something cannot be read.
    """

    def __init__(self, file: JournalFile, failed: Callable[[JournalError], None]) -> None:
        self._file = file
        self._failed = failed
        # Whether anything new is to be read: not when that has failed, or the file is being closed.
        self.can_read: bool = True
        self._run = trio.lowlevel.current_trio_token()
        self._asking: dict[Ahead, None] = {}  # in order, each once
        # What has read the windows of all sections, in order, and how many bytes that were.
        self._jobs: deque[Job] = deque()
        self._size = 0
        self._idle = trio.Event()
        self._idle.set()

    def ask(self, ahead: Ahead) -> None:
        """There is something to read for a section."""
        self._asking[ahead] = None
        if self._idle.is_set():
            self._idle = trio.Event()
            self._begin()

    def _begin(self) -> None:
        ahead = next(iter(self._asking))
        del self._asking[ahead]
        job = ahead.job()

        def do() -> None:
            job.do(self._file)
            self._run.run_sync_soon(done)

        def done() -> None:
            if job.error is not None and not ahead.is_dropped:
                self._failed(job.error)
            ahead.take(job)
            self._make_room(job)
            if self._asking:
                self._begin()
            else:
                self._idle.set()

        try:
            # What it raises, when the run has crashed, is for nobody.
            trio.lowlevel.start_thread_soon(do, lambda _: None, "trio_conman journal")
        except Exception as error:  # no thread could be started
            job.error = self._file.fault(error)
            self._run.run_sync_soon(done)

    def _make_room(self, job: Job) -> None:
        self._jobs.append(job)
        self._size += job.size
        while self._size > ROOM and len(self._jobs) > 2:  # who has waited for the last but one may come yet
            oldest = self._jobs.popleft()
            self._size -= oldest.size
            oldest.found.clear()
            oldest.window.clear()

    async def end(self) -> None:
        """Wait until nothing is being read."""
        await self._idle.wait()
