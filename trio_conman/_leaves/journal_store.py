"""A journal while it is open, in trio's thread: what is known of each section, and who works on which key.

A value goes from `Shelf.add` into its table, where the writer's thread finds it, and stays there until it is
committed. From there on only the index knows of it, until it is asked for: then a thread reads it, and it is
in ``ahead`` for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs
import trio

from trio_conman._base.log import log_fault
from trio_conman._books.records import Answer

from .journal_file import Data, JournalError, JournalFile, SectionInfo, creation
from .journal_index import Index
from .journal_reader import MOST, SIZE, Ahead, Reader, Window
from .journal_table import OVERHEAD, Table
from .journal_writer import Writer

PATIENCE = 1 << 22  # bytes not committed that make tasks wait, so that a slow disk takes no more memory


@attrs.frozen(eq=False, repr=False)
class Content:
    """What a section held when the journal was opened: its index, its first records, and their number."""

    info: SectionInfo
    index: Index
    window: Window
    last: int


def load(path: str) -> tuple[JournalFile, list[Content]]:
    """Open a journal, and read all of its keys; for a thread."""
    file = JournalFile(path)
    try:
        return file, [_content(file, info, SIZE // len(file.sections)) for info in file.sections]
    except BaseException:
        file.close(in_order=False)
        raise


def _content(file: JournalFile, info: SectionInfo, size: int) -> Content:
    last = file.count(info.id)
    index = Index(last)
    for numbers, keys in file.keys(info.id, last):
        index.add(keys, numbers)
    records = file.read(info.id, 1, MOST, size)
    return Content(info, index, {key: data for _, key, data in records}, last)


@final
class Shelf:
    """One section, whatever functions it is used with.

    Its table in the file is made with its first record: a section that was only looked at leaves nothing.
    """

    __slots__ = (
        "_ahead",
        "_claims",
        "_store",
        "_table",
        "in_use",
        "is_dropped",
        "is_json",
        "name",
        "version",
    )

    def __init__(self, store: Store, name: str, version: str, is_json: bool) -> None:
        self._store = store
        self.name: str = name
        self.version: str = version
        self.is_json: bool = is_json
        self.in_use: bool = False
        # Whether it was discarded, and holds nothing: then one of another version may take its place.
        self.is_dropped: bool = False
        # By the keys of tasks that run: whom to tell when one has ended, if anybody.
        self._claims: dict[str, list[Callable[[], object]] | None] = {}
        self._table: Table | None = None
        self._ahead: Ahead | None = None

    def begin(self, section: int, table: Table, window: Window, last: int) -> None:
        """This is its table, and what its file begins with."""
        self._table = self._store.tables[section] = table
        self._ahead = Ahead(self._store.reader, section, window, last)
        self.is_dropped = False

    def _begin_new(self) -> Table:
        self._check_place()
        section = self._store.allot()
        made = creation(section, self.name, self.version, self.is_json)
        table = Table(section, Index(), 0, made)
        self.begin(section, table, {}, 0)
        return table

    def _check_place(self) -> None:
        """Raise where another one has taken its place."""
        if self._store.shelves[self.name] is not self:
            raise JournalError(
                f"{self._store.path}: section {self.name!r} was discarded, and opened anew in another "
                "version or form: use what journal.section() returned then"
            )

    @property
    def pending(self) -> int:
        """How many records are not on the disk yet."""
        return 0 if self._table is None else len(self._table.pending)

    def holds(self, key: str) -> bool:
        """Whether a key has a value, or, most improbably, another one that looks like it."""
        table = self._table
        return table is not None and (key in table.pending or bool(table.index.find(key)))  # see Table

    def claim(self, key: str) -> Data | Answer:
        """The value of a key, or what to do: on ``RUN`` it is the caller's, to `add` or `release` it."""
        table, ahead, store = self._table, self._ahead, self._store
        if table is not None and ahead is not None:
            found = None
            if ahead.windows:
                found = ahead.pop(key)
                if isinstance(found, (str, bytes)):  # a union would be made anew for each key
                    return found
            data = table.pending.get(key)  # before the index: see Table
            if data is not None:
                if store.durable:  # else it would be published before it is on the disk
                    store.check()
                    return Answer.READ
                return data
            numbers = table.index.find(key)
            if numbers and numbers != found:
                store.check_reading()
                ahead.want(key, numbers)
                return Answer.READ
        else:
            self._check_place()
        if key in self._claims:
            return Answer.WAIT
        if store.is_ending:
            store.check()
        self._claims[key] = None
        return Answer.RUN

    def add(self, key: str, data: Data) -> int | None:
        """Have a value written; returns the ticket to wait with, if one has to."""
        store = self._store
        if store.is_ending:
            store.check()
        table = self._table
        if table is None:
            table = self._begin_new()
        table.pending[key] = data
        store.stored += 1
        store.waiting += OVERHEAD + len(key) + len(data)
        ticket = None
        if store.durable or store.waiting > PATIENCE:
            ticket = store.ticket()
        elif not store.writer.is_called:
            store.writer.call()
        for tell in self._claims.pop(key) or ():
            tell()
        return ticket

    def release(self, key: str) -> None:
        """Who has claimed a key is done with it."""
        for tell in self._claims.pop(key) or ():
            tell()

    def follow(self, key: str, tell: Callable[[], object]) -> None:
        """Have somebody told when who has claimed a key is done with it."""
        followers = self._claims[key]
        if followers is None:
            followers = self._claims[key] = []
        followers.append(tell)

    async def arrival(self, key: str) -> None:
        """Wait until the value of a key was read, or committed, if that is underway."""
        table, store = self._table, self._store
        while store.durable and table is not None and key in table.pending and not store.is_ending:
            await store.group.wait()
        if self._ahead is not None:
            await self._ahead.arrival(key)

    def drop(self) -> None:
        """Forget all that it has, in the file too."""
        if self._table is not None and self._ahead is not None:
            self._table.is_dropped = self._ahead.is_dropped = True
        self._table = self._ahead = None
        self.is_dropped = True


@final
class Store:
    """An open journal.

    Args:
        file: where it is.
        contents: what that holds.
        durable: whether every record is to be waited for.
        flush_after: seconds to a record's commit.
    """

    def __init__(
        self, file: JournalFile, contents: list[Content], *, durable: bool, flush_after: float
    ) -> None:
        self.path: str = file.path
        self.recalled: int = 0
        self.stored: int = 0
        # By the ids of the sections.
        self.tables: dict[int, Table] = {}
        self.durable: bool = durable
        self._run = trio.lowlevel.current_trio_token()
        self._fault: JournalError | None = None
        # Whether there is a fault, or it is being closed: then `check` raises.
        self.is_ending: bool = False
        self._closed = trio.Event()
        self._committed = 0  # groups
        self.waiting: int = 0  # bytes of what is pending
        # Set when one more group is committed, or something has gone wrong; and then it is another one.
        self.group: trio.Event = trio.Event()
        self._latest = max((content.info.id for content in contents), default=0)
        self.reader: Reader = Reader(file, self._reading_failed)
        self.shelves: dict[str, Shelf] = {}
        for content in contents:
            info, last = content.info, content.last
            shelf = self.shelves[info.name] = Shelf(self, info.name, info.version, info.is_json)
            shelf.begin(info.id, Table(info.id, content.index, last), content.window, last)
        self.writer: Writer = Writer(
            file,
            self.tables,
            # The rest is for the commit itself, as a busy loop has the interpreter for 5 ms each time.
            0 if durable else flush_after / 4,
            committed=self._have_committed,
            failed=self._failed,
            closed=self._closed.set,
        )

    # For sections

    def shelf(self, name: str, version: str, is_json: bool) -> Shelf:
        """A section, of this version."""
        shelf = self.shelves.get(name)
        if shelf is not None and (shelf.version, shelf.is_json) != (version, is_json):
            if not shelf.is_dropped:
                raise JournalError(f"{self.path}: section {name!r} {_difference(shelf, version)}")
            shelf = None
        if shelf is None:
            shelf = self.shelves[name] = Shelf(self, name, version, is_json)
        shelf.in_use = True
        return shelf

    async def discard(self, name: str) -> None:
        """Drop a section."""
        shelf = self.shelves.get(name)
        if shelf is not None:
            shelf.drop()
        await self.flush()

    def allot(self) -> int:
        """The id of a new section."""
        self._latest += 1
        return self._latest

    # For records

    def enter(self) -> None:
        """Raise RuntimeError elsewhere than in the run that it is open in; there, as `check` does."""
        if not trio.lowlevel.in_trio_run() or trio.lowlevel.current_trio_token() is not self._run:
            raise RuntimeError(
                f"the journal {self.path} was opened in another trio run: it can be used in that one only"
            )
        self.check()

    def check(self) -> None:
        """Raise when nothing can be written any more."""
        self.raise_fault()
        if self.is_ending:
            raise JournalError(
                f"{self.path}: it is closed: leave the block of open_journal() after its managers"
            )

    def check_reading(self) -> None:
        """Raise when nothing can be read any more, as it may still be when nothing can be written."""
        if not self.reader.can_read:
            self.check()

    def raise_fault(self) -> None:
        """Raise what has gone wrong with the disk, if anything has."""
        if self._fault is not None:
            raise JournalError(str(self._fault)) from self._fault

    def ticket(self) -> int:
        """What to wait with until all that is there is on the disk, and soon."""
        group = self.writer.call()
        self.writer.hurry()
        return group

    async def committed(self, ticket: int) -> None:
        """Wait until what a ticket stands for is on the disk."""
        while self._committed < ticket:
            self.raise_fault()
            await self.group.wait()

    async def flush(self) -> None:
        """Wait until all that was put is on the disk; a checkpoint."""
        ticket = self.ticket()  # first: once it is being closed, there is no next group
        await trio.lowlevel.checkpoint()
        await self.committed(ticket)

    async def end(self) -> None:
        """Write what there is, and close the file; may be called again, when the wait was broken off."""
        self.is_ending, self.reader.can_read = True, False
        await self.reader.end()
        self.writer.end()
        await self._closed.wait()

    # By the threads

    def _have_committed(self, group: int, size: int) -> None:
        self._committed = group
        self.waiting -= size
        self._tell()

    def _reading_failed(self, error: JournalError) -> None:
        self.reader.can_read = False
        self._failed(error)

    def _failed(self, error: JournalError) -> None:
        if self._fault is None:
            self._fault, self.is_ending = error, True
            log_fault("no task can be recorded any more: %s", error)
        self._tell()

    def _tell(self) -> None:
        self.group.set()
        self.group = trio.Event()


def _difference(shelf: Shelf, version: str) -> str:
    drop = f"await journal.discard({shelf.name!r})"
    if shelf.version != version:
        if shelf.in_use:
            return (
                f"is in use with version {shelf.version!r}, and cannot have {version!r} as well: {drop} "
                "first, which drops what it holds, or give both the same version"
            )
        return (
            f"was written with version {shelf.version!r}, and now has {version!r}: {drop} first, "
            "which drops what it holds, or give it the version that it was written with"
        )
    was, now = ("JSON", "functions of its own") if shelf.is_json else ("functions of its own", "JSON")
    return (
        f"was written with {was}, and its values are now to be read with {now}: {drop} first, "
        "which drops what it holds"
    )
