"""A journal: a file of what tasks have returned, by which an expensive job goes on after an interruption.

``python -m trio_conman.journal FILE`` shows what a journal holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._base.checks import check_bool, check_number, check_sync, check_type
from ._base.outlast import check_in_trio, outlast
from ._base.texts import short
from ._base.unentered import Unentered
from ._books.records import Recorder
from ._leaves.journal_file import JournalError
from ._leaves.journal_records import SectionRecords
from ._leaves.journal_store import Store, load

T = TypeVar("T")

__all__ = ["Journal", "JournalError", "JournalStatistics", "Section", "open_journal"]


@final
@attrs.frozen(kw_only=True)
class JournalStatistics:
    """Where a journal stands, at one moment."""

    recalled: int
    """Tasks whose value was there, so that they did not run."""
    stored: int
    """Values that were recorded since it was opened."""
    pending: int
    """How many of these are not on the disk yet."""


@final
class Section(Recorder[T]):
    """A part of a journal, from `Journal.section`; to be given as ``journal`` instead of the whole."""

    __slots__ = ("_name", "_version")

    def __init__(self, records: SectionRecords, name: str, version: str) -> None:
        self._records = records
        self._name, self._version = name, version

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def version(self) -> str:
        """The version of what it holds."""
        return self._version

    def __repr__(self) -> str:
        return f"<Section {self._name!r} of a journal, version {self._version!r}>"


@final
class Journal(Recorder[Any]):
    """An open journal, from `open_journal`; as ``journal`` of a task it is its section "".

    Its methods are called in the trio run that has opened it.
    """

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = SectionRecords(store, store.shelf("", "1", True))

    def __repr__(self) -> str:
        return f"<Journal {self._store.path}>"

    def section(
        self,
        name: str,
        *,
        key: Callable[..., Any] | None = None,
        version: str = "1",
        encode: Callable[[Any], str | bytes] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> Section[Any]:
        """A part of the journal with keys, a version and a form of its own; one for each function.

        Args:
            name: what it is called in the file; not empty.
            key: a sync callable of the task's arguments, for what makes up its key: a str, bytes, int, float,
                bool, None, or a tuple of them. Default: the arguments themselves, without those inside of a
                ``partial``.
            version: give it another one when what is stored would be wrong now: another prompt, another
                model. Default: "1".
            encode: a sync callable that makes a str or bytes of a value. Default: JSON, which refuses what
                would come back as something else, such as tuples.
            decode: a sync callable that makes a value of that again. Default: JSON, so that an `encode`
                without it must return a str of that.

        Raises:
            JournalError: the file has the section in another version, or was not written with JSON where this
                is to be, or the other way round. `discard` drops what it holds.
            TypeError: a parameter is of the wrong kind.
            ValueError: `name` is empty, or it or `version` has a lone surrogate, which no file can hold.
            RuntimeError: called in another trio run than that of the journal.
        """
        _check_text("name", name)
        _check_text("version", version)
        if not name:
            raise ValueError('name must not be empty: the journal itself is the section ""')
        for option, function in (("key", key), ("encode", encode), ("decode", decode)):
            if function is not None:
                check_sync(option, function, "a sync callable or None")
        self._store.enter()
        shelf = self._store.shelf(name, version, encode is None)
        return Section(SectionRecords(self._store, shelf, key, encode, decode), name, version)

    @enable_ki_protection
    async def discard(self, section: str) -> None:
        """Drop what a section holds, in whatever version, if there is one; always a checkpoint.

        Then it may have another version. Where that is opened, tasks that still use the one before fail.

        Args:
            section: its name; "" for what was recorded by the journal itself.

        Raises:
            JournalError: the disk has failed, or the journal is closed.
            TypeError: `section` is no str.
            RuntimeError: called in another trio run than that of the journal.
        """
        check_type("section", section, str, "a str")
        self._store.enter()
        await self._store.discard(section)

    async def flush(self) -> None:
        """Wait until all that was recorded so far is on the disk; always a checkpoint.

        Raises:
            JournalError: the disk has failed, or the journal is closed.
            RuntimeError: called in another trio run than that of the journal.
        """
        self._store.enter()
        await self._store.flush()

    def statistics(self) -> JournalStatistics:
        """Where it stands now."""
        store = self._store
        return JournalStatistics(
            recalled=store.recalled,
            stored=store.stored,
            pending=sum(shelf.pending for shelf in store.shelves.values()),
        )


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _check_text(option: str, text: str) -> None:
    check_type(option, text, str, "a str")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{option} must have no lone surrogates, not {short(text)}") from None


@final
class _Opening(Unentered):
    """What `open_journal` returns."""

    __slots__ = ("_durable", "_flush_after", "_path", "_store")

    _method = "open_journal"
    _use = "use 'async with open_journal(path) as journal:'"
    _yields = Journal

    def __init__(self, path: str, durable: bool, flush_after: float) -> None:
        super().__init__()
        self._path, self._durable, self._flush_after = path, durable, flush_after
        self._store: Store | None = None

    @enable_ki_protection
    async def __aenter__(self) -> Journal:
        self._is_told = True
        if self._store is not None:
            raise RuntimeError("what open_journal() returns can be entered once: call it again")
        check_in_trio("open_journal()")
        file, contents = await trio.to_thread.run_sync(load, self._path)
        try:
            self._store = Store(file, contents, durable=self._durable, flush_after=self._flush_after)
        except BaseException:  # no thread could be started
            with suppress(JournalError):
                file.close(in_order=False)
            raise
        return Journal(self._store)

    @enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del exc, traceback
        assert self._store is not None
        await outlast(self._store.end)
        if exc_type is None:
            self._store.raise_fault()


def open_journal(
    path: str | os.PathLike[str], *, durable: bool = False, flush_after: float = 0.05
) -> AbstractAsyncContextManager[Journal]:
    """Open a journal, or begin one, for the length of an ``async with`` block.

    Enter it before the managers that use it. Leaving the block writes what is not written yet, whatever is
    cancelled.

    One process at a time may have it open. It is a file of SQLite, for nobody else to read (mode 0600), with
    others beside it while it is open; one of them, ``-lock``, stays, and is empty.

    Args:
        path: the file.
        durable: publish an outcome only when it is safely on the disk. Default: False.
        flush_after: seconds from the end of a task until it is, as long as the disk keeps up; finite. With
            `durable` it is not waited for. Default: 0.05.

    Returns:
        an async context manager, which yields the `Journal`.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: `flush_after` is out of its range, or `path` cannot be one.
        JournalError: on entry, when the file is in use, cannot be used, or is no journal; on leaving, when
            something could not be written, unless the block has raised an error of its own.
        RuntimeError: on entry, when it was entered before, or trio does not run here.
    """
    check_type("path", path, (str, os.PathLike), "a str or a path of str")
    name = os.fspath(path)
    check_type("path", name, str, "a str or a path of str")
    if not name or "\0" in name or not _is_encodable(name):
        raise ValueError(f"path must be that of a file, not {short(name)}")
    check_bool("durable", durable)
    # Whole, as the current directory may change.
    return _Opening(
        str(Path(path).absolute()), durable, check_number("flush_after", flush_after, finite=True)
    )


if __name__ == "__main__":
    from ._leaves.journal_program import main

    sys.exit(main())
