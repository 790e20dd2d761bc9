"""``python -m trio_conman.journal``: what a journal holds, also while another program writes it."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from trio_conman._base.texts import short

from .journal_file import (
    Data,
    JournalError,
    SectionInfo,
    check_length,
    check_origin,
    connect,
    explained,
    length_of,
    sections_of,
)
from .journal_keys import values_of

SOME = 1000  # records read at once: a long query would keep the log of who writes from being emptied
MOST = 1 << 22  # bytes of them, after which that is enough

_encode = json.JSONEncoder(ensure_ascii=False).encode


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_conman.journal",
        description="Show the sections of a journal: how many records each has, its version, and its times.",
    )
    parser.add_argument("file", help="the journal; it may be in use")
    parser.add_argument("--export", action="store_true", help="write the records as JSON lines")
    parser.add_argument("--section", metavar="NAME", help='only this section; "" is the journal itself')
    given = parser.parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):  # None stands for a closed one
        # JSON is UTF-8, wherever it goes; what is shown must suit who shows it.
        sys.stdout.reconfigure(encoding="utf-8" if given.export else None, errors="backslashreplace")
    try:
        with closing(_Reading(given.file)) as reading:
            sections = [each for each in reading.sections if given.section in {None, each.name}]
            if given.section is not None and not sections:
                raise JournalError(f"{given.file}: it has no section {given.section!r}")
            lines = reading.export(sections) if given.export else reading.table(sections)
            for line in lines:
                print(line)
        print(end="", flush=True)
    except JournalError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # whoever reads the output has enough of it
            print(f"{parser.prog}: {error}", file=sys.stderr)
        # Python would try to write the rest at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


class _Reading:
    """A journal that is read while others may write it."""

    def __init__(self, name: str) -> None:
        self._name = name
        path = Path(os.path.realpath(name))  # its log lies beside it, not beside a link to it
        if not path.is_file():
            raise JournalError(f"{name}: there is no such file")
        with explained(name):
            # Reading it beside who writes makes files in its folder. Only who may write removes them again.
            may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            log = Path(f"{path}-wal")
            is_alone = not log.exists() and not may_write
            options = "mode=ro&immutable=1" if is_alone else "mode=rw"
            self._connection = connect(f"{path.as_uri()}?{options}", 5, uri=True)
            try:
                self._connection.execute("PRAGMA query_only=ON")
                if not check_origin(self._connection, name):
                    raise JournalError(f"{name}: it is empty, and not a journal yet")
                length = length_of(self._connection)  # first: a log that is empty later has been copied
                if not log.exists() or log.stat().st_size == 0:
                    check_length(name, length)
                self.sections = sections_of(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()

    def table(self, sections: Sequence[SectionInfo]) -> Iterator[str]:
        """A line for each section."""
        rows = [("section", "records", "version", "form", "begun", "last written")]
        with explained(self._name):
            for each in sections:
                form = "JSON" if each.is_json else "its own"
                rows += (
                    (
                        _encode(each.name),
                        f"{count:,}",
                        _encode(each.version),
                        form,
                        _time(each.created),
                        _time(each.written),
                    )
                    for (count,) in self._read(each, "SELECT count(*) FROM records_{}")
                )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(cells).rstrip()

    def export(self, sections: Sequence[SectionInfo]) -> Iterator[str]:
        """A line for each record."""
        for each in sections:
            name = _encode(each.name)
            last = 0
            query = f"SELECT rowid, key, value FROM records_{{}} WHERE rowid > ? ORDER BY rowid LIMIT {SOME}"
            while True:
                with explained(self._name):
                    records = self._read(each, query, last)
                if not records:
                    break
                last = records[-1][0]
                for _, key, data in records:
                    if not isinstance(data, str | bytes):
                        raise self._damage(f"{short(data)} is no value")
                    form, value = _form(data, each.is_json)
                    yield f'{{"section": {name}, "key": {self._key(key)}, "{form}": {value}}}'

    def _read(self, section: SectionInfo, query: str, *given: int) -> list[Any]:
        """Rows of a section, the first ones of many: none where it has been discarded meanwhile."""
        rows: list[Any] = []
        size = 0
        try:
            with closing(self._connection.execute(query.format(section.id), given)) as found:
                for row in found:
                    rows.append(row)
                    size += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
                    if size > MOST:
                        break
            return rows
        except sqlite3.OperationalError:
            if any(each.id == section.id for each in sections_of(self._connection)):
                raise
            return []

    def _key(self, key: str) -> str:
        try:
            return _encode(values_of(key))
        except ValueError:
            raise self._damage(f"{short(key)} is no key") from None

    def _damage(self, what: str) -> JournalError:
        return JournalError(f"{self._name}: it is damaged, or was changed by hand, as {what} of a task")


def _form(data: Data, is_json: bool) -> tuple[str, str]:
    """What to call a value in an export, and how to write it."""
    if isinstance(data, bytes):
        return "base64", _encode(b2a_base64(data, newline=False).decode())
    return ("value", data) if is_json else ("text", _encode(data))


def _time(seconds: int) -> str:
    """When it was, in UTC; a clock may have been anywhere."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
