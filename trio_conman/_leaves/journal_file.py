"""The file of a journal: an SQLite database in WAL mode, with a table for each section.

Here is all that knows SQL, and nothing that knows trio: whoever calls it is in a thread, and waits for the
disk.

*One program at a time.* The lock is an empty database beside the file, in which the owner holds a write
transaction that it never ends. The system takes it back from who was killed; SQLite, unlike the locks of
`fcntl`, also refuses a second owner in the same process, and does not hand it on to a fork. The journal
itself is not locked between commits, so that other programs can read it, or copy it.

*The disk.* ``synchronous`` is FULL: with NORMAL a commit is not followed by a sync, and a power cut would
take all since the last checkpoint. Checkpoints are made here, since SQLite keeps to itself what goes wrong in
those that it makes by itself, that of closing included.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeAlias, final

import attrs

from trio_conman._base.texts import SEE

APPLICATION_ID = 0x7C10_09A1
FORMAT = 1
PAGE_SIZE = 8192  # bytes; of smaller ones more is left over
LONGEST_WAIT = 60.0  # seconds for a lock that another program holds on the file
LARGEST_LOG = 4 << 20  # bytes of the write-ahead log that ask for a checkpoint
LARGEST = 900_000_000  # bytes of a value; with its key it may have a thousand million, as far as SQLite goes
AT_ONCE = 200  # records in one statement: beside a busy loop, each one may wait 5 ms for Python's lock
MOST_RECORDS = 0xFFFF_FFFF  # of a section
SCANNED = 2048  # keys read at once, for the same reason; fewer where they are long
LONGEST_SCAN = 1 << 24  # bytes of keys, unless one alone has more

Data: TypeAlias = str | bytes
Change: TypeAlias = Callable[[sqlite3.Connection], object]


class JournalError(Exception):
    """A journal cannot be used; the text says which file it is, what is wrong, and what to do."""

    __module__ = "trio_conman.journal"


@attrs.frozen(eq=False, repr=False)
class SectionInfo:
    """What the file says of a section; the times are seconds since 1970."""

    id: int
    name: str
    version: str
    is_json: bool
    created: int
    written: int


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn errors of SQLite and of the system into a `JournalError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{path}: {_explanation(error)}") from error


_EXPLANATIONS = {
    "SQLITE_BUSY": "another program has held a lock on it for too long: end it, and run the program again",
    "SQLITE_CANTOPEN": "it cannot be opened: the folder must be there, and be one that can be written to",
    "SQLITE_CORRUPT": "it is damaged, or cut short: restore it from a copy, or move it away to begin anew",
    "SQLITE_FULL": "the disk is full: make room, and run the program again",
    "SQLITE_IOERR": "the disk has failed: see to it, and run the program again",
    "SQLITE_NOTADB": "it is not a journal: give the journal a file of its own",
    "SQLITE_READONLY": "it cannot be written to: change its permissions and those of its folder",
}


# What is no error of SQLite's: of the system, before that has been asked, and of what is no UTF-8, after it.
_LIKE: Mapping[object, str] = {
    errno.EACCES: "SQLITE_READONLY",
    errno.ENOENT: "SQLITE_CANTOPEN",
    errno.ENOSPC: "SQLITE_FULL",
    errno.ENOTDIR: "SQLITE_CANTOPEN",
    errno.EPERM: "SQLITE_READONLY",
    errno.EROFS: "SQLITE_READONLY",
    "OperationalError": "SQLITE_CORRUPT",
}


def _explanation(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    like = _LIKE.get(getattr(error, "errno", name), "_".join(name.split("_")[:2]))
    text = _EXPLANATIONS.get(like, "it cannot be used")
    return f"{text} ({name}: {getattr(error, 'strerror', None) or error})"


def connect(path: str, timeout: float, *, uri: bool = False) -> sqlite3.Connection:
    """A connection that begins no transaction by itself, and may be used by one thread after another."""
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False, uri=uri)


def check_origin(connection: sqlite3.Connection, path: str) -> bool:
    """Whether there is a journal yet; a `JournalError` where there is something else."""
    application, layout = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application == APPLICATION_ID:
        if layout > FORMAT:
            raise JournalError(
                f"{path}: a newer release of trio-conman wrote it, in format {layout}, and this one knows "
                f"{FORMAT}: use that release"
            )
        return True
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application or layout or tables:
        raise JournalError(
            f"{path}: it is an SQLite database, but not a journal: give the journal a file of its own"
        )
    return False


def sections_of(connection: sqlite3.Connection) -> list[SectionInfo]:
    """What sections there are, by name."""
    rows = connection.execute(
        "SELECT id, name, version, is_json, created, written FROM sections ORDER BY name"
    )
    return [SectionInfo(*row) for row in rows]


def _check_files(path: str) -> None:
    """Refuse what is no file, and what SQLite could only read: it would leave others that are alike."""
    for name in (path, f"{path}-lock", f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            found = Path(name).lstat()
            if not stat.S_ISREG(found.st_mode):
                what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
                raise JournalError(f"{name}: it is {what}: give the path of the file itself")
            if found.st_nlink > 1:  # with a lock and a log for each
                raise JournalError(f"{name}: it has other names as well (hard links): use a copy of it")
            if not os.access(name, os.R_OK | os.W_OK):
                raise JournalError(f"{name}: {_EXPLANATIONS['SQLITE_READONLY']}")


def _make_empty(path: Path) -> bool:
    """Make a file where there is none; whether it was made."""
    # An existing one is not touched: closing any descriptor of it would end the locks that this process has.
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    return True


def _lock(path: str) -> sqlite3.Connection:
    lock = connect(f"{path}-lock", 0)
    try:
        lock.execute("PRAGMA journal_mode=OFF")
        # Of two at once one has it, and neither has to wait for the other: EXCLUSIVE would have to.
        lock.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        lock.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise JournalError(
            f"{path}: another process has it open, or another open_journal() of this one: "
            f"wait for that to end, or use another file {SEE}"
        ) from None
    return lock


def _set_up(main: sqlite3.Connection, path: str) -> None:
    Path(path).chmod(0o600)
    main.execute(f"PRAGMA page_size={PAGE_SIZE}")
    main.execute("PRAGMA journal_mode=WAL")
    main.execute("BEGIN IMMEDIATE")
    main.execute(
        "CREATE TABLE sections (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version TEXT NOT NULL, "
        "is_json INTEGER NOT NULL, created INTEGER NOT NULL, written INTEGER NOT NULL)"
    )
    main.execute(f"PRAGMA application_id={APPLICATION_ID}")
    main.execute(f"PRAGMA user_version={FORMAT}")
    main.execute("COMMIT")


def length_of(connection: sqlite3.Connection) -> int:
    """The bytes that its file has, or will have when the log is copied into it."""
    (pages,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    length: int = pages * size
    return length


def check_length(path: str, length: int) -> None:
    """Refuse a file whose last page was cut: SQLite would read zeros in place of what is missing."""
    is_there = Path(path).stat().st_size
    if is_there < length:
        raise JournalError(
            f"{path}: it was cut short, and has {is_there:,} of {length:,} bytes: "
            "restore it from a copy, or move it away to begin anew"
        )


@final
class JournalFile:
    """An open journal, with the lock on it. `commit` is for one thread at a time, and so is `read`."""

    def __init__(self, path: str) -> None:
        self.path: str = path
        with explained(path), ExitStack() as stack:
            _check_files(path)
            litter = Path(f"{path}-lock")
            is_litter = _make_empty(litter)
            self._lock = _lock(path)
            stack.callback(self._lock.close)
            # Not before: the change to WAL fails at once while another one so much as looks at the file.
            _make_empty(Path(path))
            self._main = connect(path, LONGEST_WAIT)
            stack.callback(self._main.close)
            with ExitStack() as foreign:
                if is_litter:
                    foreign.callback(litter.unlink)  # beside what is not ours
                is_new = not check_origin(self._main, path)
                if is_new and 0 < Path(path).stat().st_size < PAGE_SIZE:  # SQLite takes it for nothing
                    raise JournalError(f"{path}: {_EXPLANATIONS['SQLITE_NOTADB']}")
                foreign.pop_all()
            if is_new:
                _set_up(self._main, path)
            self._main.execute("PRAGMA journal_mode=WAL")
            self._main.execute("PRAGMA synchronous=FULL")
            self._main.execute("PRAGMA wal_autocheckpoint=0")
            self._main.execute("PRAGMA journal_size_limit=0")  # a log that was emptied is small again
            is_hindered, frames, copied = self._main.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not is_hindered and copied == frames:  # else by who reads an older state
                check_length(path, length_of(self._main))
            self.sections: list[SectionInfo] = sections_of(self._main)
            self._reader = connect(path, LONGEST_WAIT)
            stack.callback(self._reader.close)
            self._inode = Path(path).stat().st_ino
            stack.pop_all()

    def count(self, section: int) -> int:
        """How many records a section may have, at most: the greatest number."""
        with explained(self.path):
            (found,) = self._reader.execute(f"SELECT max(rowid) FROM records_{section}").fetchone()
        if found is not None and found > MOST_RECORDS:
            self._damaged()
        return found or 0

    def keys(self, section: int, count: int) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
        """The numbers of all records of a section, and their keys, some at a time."""
        # Without an ORDER BY, which takes as long again; the numbers come along, so that none is needed.
        scan = (
            f"SELECT group_concat(rowid), group_concat(key, char(10)) FROM records_{section} "
            "WHERE rowid > ? AND rowid <= ?"
        )
        longest = self._reader.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_SCAN)
        start, some = 0, SCANNED
        with explained(self.path):
            while start < count:
                try:
                    found, keys = self._reader.execute(scan, (start, start + some)).fetchone()
                except sqlite3.DataError:  # it would be too long
                    if some == 1:
                        raise
                    some //= 2
                    if some == 1:
                        self._reader.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
                    continue
                start += some
                if found is not None:
                    numbers, texts = [*map(int, found.split(","))], (keys or "").split("\n")
                    if keys is None or len(numbers) != len(texts):
                        self._damaged()
                    yield numbers, texts
        self._reader.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)

    def read(self, section: int, number: int, most: int, size: int) -> list[tuple[int, str, Data]]:
        """Records from a number on: so many at most, and no more once they have that size in bytes."""
        found: list[tuple[int, str, Data]] = []
        query = f"SELECT rowid, key, value FROM records_{section} WHERE rowid >= ? ORDER BY rowid LIMIT ?"
        with explained(self.path):
            records = self._reader.execute(query, (number, most))
            for record in records:
                if not isinstance(record[1], str) or not isinstance(record[2], str | bytes):
                    self._damaged()
                found.append(record)
                size -= len(record[1]) + len(record[2])
                if size <= 0:
                    records.close()
                    break
        return found

    def fault(self, error: Exception) -> JournalError:
        """What to tell of an error, also of one that nobody has thought of."""
        if isinstance(error, JournalError):
            return error
        return JournalError(f"{self.path}: it cannot be used ({error!r})")

    def _damaged(self) -> NoReturn:
        raise JournalError(f"{self.path}: {_EXPLANATIONS['SQLITE_CORRUPT']}")

    def commit(self, changes: Sequence[Change]) -> None:
        """Make changes, in that order: all of them, or none."""
        with explained(self.path):
            self._main.execute("BEGIN IMMEDIATE")
            try:
                for change in changes:
                    change(self._main)
                self._main.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._main.execute("ROLLBACK")
                raise
            if self._size_of_log() > LARGEST_LOG:
                self._main.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _size_of_log(self) -> int:
        """The bytes of the write-ahead log; a `JournalError` where what is written is found by nobody."""
        # SQLite writes on, to a file without a name.
        with suppress(FileNotFoundError):
            if Path(self.path).stat().st_ino == self._inode:
                return Path(f"{self.path}-wal").stat().st_size
        raise JournalError(
            f"{self.path}: it, or its -wal, was deleted, moved or replaced while it was open, and what was "
            "recorded meanwhile may be lost: leave them in place, and run the program again"
        )

    def close(self, *, in_order: bool) -> None:
        """Close it and give up the lock; `in_order`, after a checkpoint, which leaves a single file."""
        # In this order: whoever has the lock next finds nothing underway.
        with explained(self.path), closing(self._lock), closing(self._main), closing(self._reader):
            if in_order:
                self._size_of_log()  # what the last commit has written may be lost
                self._reader.close()
                self._main.execute("PRAGMA busy_timeout=0")  # whoever reads it is not waited for
                self._main.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def creation(section: int, name: str, version: str, is_json: bool) -> Change:
    """The change that makes a section."""

    def change(main: sqlite3.Connection) -> None:
        now = int(time.time())
        main.execute(
            "INSERT INTO sections VALUES (?, ?, ?, ?, ?, ?)", (section, name, version, is_json, now, now)
        )
        main.execute(f"CREATE TABLE records_{section} (key TEXT NOT NULL, value NOT NULL)")

    return change


def insertion(section: int, records: Mapping[str, Data], first: int) -> Change:
    """The change that adds records, numbered from the first."""

    def change(main: sqlite3.Connection) -> None:
        rows = [each for number, record in enumerate(records.items(), first) for each in (number, *record)]
        for start in range(0, len(rows), 3 * AT_ONCE):
            some = rows[start : start + 3 * AT_ONCE]
            values = ",".join(["(?,?,?)"] * (len(some) // 3))
            main.execute(f"INSERT INTO records_{section} (rowid, key, value) VALUES {values}", some)
        main.execute("UPDATE sections SET written = ? WHERE id = ?", (int(time.time()), section))

    return change


def removal(section: int) -> Change:
    """The change that drops a section with all that it has."""

    def change(main: sqlite3.Connection) -> None:
        main.execute(f"DROP TABLE records_{section}")
        main.execute("DELETE FROM sections WHERE id = ?", (section,))

    return change
