"""The file of a journal: what is refused, who may read it, and that nothing wrong is ever recalled."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.journaled import Counting, run
from trio_conman._books.records import Answer
from trio_conman._leaves import journal_file, journal_reader, journal_store
from trio_conman._leaves.journal_file import JournalFile
from trio_conman._leaves.journal_index import Index
from trio_conman._leaves.journal_reader import Ahead, Job, Window
from trio_conman._leaves.journal_table import OVERHEAD, Table
from trio_conman._leaves.journal_writer import Writer
from trio_conman.journal import Journal, JournalError, open_journal

posix = pytest.mark.skipif(sys.platform == "win32", reason="the permissions of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages.journal"


async def make(path: Path, count: int = 1) -> None:
    async with open_journal(path) as journal:
        for number in range(count):
            await run(journal, Counting(f"value {number}"), number)


async def refusal(path: Path) -> str:
    with pytest.raises(JournalError) as caught:
        async with open_journal(path):
            pass
    assert str(caught.value).startswith(str(path))
    return str(caught.value)[len(str(path)) :]


def execute(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements]


# What is refused


@pytest.mark.parametrize(
    "text, why",
    [
        ("x", ""),  # which SQLite takes for nothing
        ("Notes of mine.\n" * 100, " (SQLITE_NOTADB: file is not a database)"),
    ],
)
async def test_a_text_file(path: Path, text: str, why: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert await refusal(path) == f": it is not a journal: give the journal a file of its own{why}"
    assert path.read_text(encoding="utf-8") == text
    assert [*path.parent.iterdir()] == [path]


async def test_a_database_of_others(path: Path) -> None:
    execute(path, "CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    assert await refusal(path) == (
        ": it is an SQLite database, but not a journal: give the journal a file of its own"
    )
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("number", [5, 0x7FFF_FFFF])
@pytest.mark.parametrize("name", ["application_id", "user_version"])
async def test_an_empty_database_of_others(path: Path, name: str, number: int) -> None:
    execute(path, f"PRAGMA {name}={number}")
    assert "it is an SQLite database, but not a journal" in await refusal(path)


async def test_a_newer_format(path: Path) -> None:
    await make(path)
    execute(path, "PRAGMA user_version=2")
    assert await refusal(path) == (
        ": a newer release of trio-conman wrote it, in format 2, and this one knows 1: use that release"
    )


@posix
@pytest.mark.parametrize("suffix", ["", "-lock", "-wal", "-shm"])
@pytest.mark.parametrize("there", [True, False])
async def test_a_symbolic_link(path: Path, suffix: str, there: bool) -> None:
    target = path.parent / "target"
    if there:
        target.write_bytes(b"")
    link = path.with_name(path.name + suffix)
    link.symlink_to(target)
    assert await refusal(path) == f"{suffix}: it is a symbolic link: give the path of the file itself"
    assert target.exists() == there


async def test_a_file_with_several_names(path: Path, tmp_path: Path) -> None:
    await make(path)
    other = tmp_path / "other"
    other.hardlink_to(path)
    assert await refusal(other) == ": it has other names as well (hard links): use a copy of it"
    path.unlink()
    async with open_journal(other) as journal:
        assert await run(journal, Counting("new"), 0) == ("value 0", True)


async def test_a_folder(path: Path) -> None:
    path.mkdir()
    assert await refusal(path) == ": it is not a regular file: give the path of the file itself"


@pytest.mark.parametrize("suffix", ["", "-lock", "-shm"])
async def test_what_may_not_be_written_to(path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path, 1)
    forbidden = path.with_name(f"{path.name}{suffix}")
    forbidden.touch()
    monkeypatch.setattr("os.access", lambda name, _: name != str(forbidden))
    with pytest.raises(JournalError) as caught:
        async with open_journal(path):
            pass
    assert str(caught.value) == (
        f"{forbidden}: it cannot be written to: change its permissions and those of its folder"
    )


@pytest.mark.parametrize(
    "number, text",
    [
        (errno.EROFS, "it cannot be written to: change its permissions and those of its folder"),
        (errno.EPERM, "it cannot be written to: change its permissions and those of its folder"),
        (errno.ENOSPC, "the disk is full: make room, and run the program again"),
        (errno.EMFILE, "it cannot be used"),
    ],
)
async def test_a_file_that_cannot_be_made(
    number: int, text: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(_: Path, **__: object) -> NoReturn:
        raise OSError(number, "as it says")

    monkeypatch.setattr(Path, "touch", touch)
    assert re.fullmatch(rf": {re.escape(text)} \(\w+: as it says\)", await refusal(path))


async def test_a_path_that_leads_nowhere(path: Path) -> None:
    text = ": it cannot be opened: the folder must be there, and be one that can be written to"
    assert await refusal(path / "deeper") == f"{text} (FileNotFoundError: No such file or directory)"
    path.write_bytes(b"")
    assert await refusal(path / "deeper") == f"{text} (NotADirectoryError: Not a directory)"


async def test_an_empty_file_is_where_a_journal_begins(path: Path) -> None:
    path.touch(mode=0o644)
    await make(path)
    assert path.stat().st_size > 0
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_was_not_set_up_to_the_end_is_where_a_journal_begins(path: Path) -> None:
    execute(path, f"PRAGMA page_size={journal_file.PAGE_SIZE}", "PRAGMA journal_mode=WAL")
    assert path.stat().st_size == journal_file.PAGE_SIZE
    await make(path)
    assert await recalled(path, 1) == ALL[:1]


@posix
async def test_nobody_else_may_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        async with open_journal(path) as journal:
            await run(journal, Counting(1), 1)
            await journal.flush()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {path.name + suffix: 0o600 for suffix in ("", "-lock", "-wal", "-shm")}


# A file that was cut, or changed


async def recalled(path: Path, count: int) -> list[Any] | str:
    """What is recalled of so many keys, the others left out; or why nothing is."""
    found: list[Any] = []
    try:
        async with open_journal(path) as journal:
            for number in range(count):
                value, was_there = await run(journal, Counting(None), number)
                if was_there:
                    found.append((number, value))
    except JournalError as error:
        return str(error)
    return found


COUNT = 300
ALL = [(number, f"value {number}") for number in range(COUNT)]


async def test_a_file_cut_short_is_refused(path: Path) -> None:
    await make(path, COUNT)
    assert await recalled(path, COUNT) == ALL
    content = path.read_bytes()
    assert len(content) > 2 * journal_file.PAGE_SIZE
    edges = {edge + step for edge in range(0, len(content), 4096) for step in (-1, 0, 1)}
    cuts = {*range(1, 200), *range(200, len(content), 211), *edges, len(content) - 1}
    for cut in sorted(cuts):
        if 0 < cut < len(content):
            path.write_bytes(content[:cut])
            text = await recalled(path, COUNT)
            assert isinstance(text, str), cut
            assert "begin anew" in text or "it is not a journal" in text
            assert text.startswith(str(path))
    path.write_bytes(content[:-1])
    assert await recalled(path, COUNT) == (
        f"{path}: it was cut short, and has {len(content) - 1:,} of {len(content):,} bytes: "
        "restore it from a copy, or move it away to begin anew"
    )
    for more in (b"", b"x", bytes(journal_file.PAGE_SIZE)):  # as after a crash amid a checkpoint
        path.write_bytes(content + more)
        assert await recalled(path, COUNT) == ALL


async def test_a_log_cut_short_loses_its_end_only(path: Path, tmp_path: Path) -> None:
    """As after a crash, but worse."""
    log = path.with_name(f"{path.name}-wal")
    copy, copied_log = tmp_path / "copy.journal", tmp_path / "copy.journal-wal"
    async with open_journal(path) as journal:
        for number in range(COUNT):
            await run(journal, Counting(f"value {number}"), number)
            if number % 100 == 0:
                await journal.flush()
        await journal.flush()
        main, content = path.read_bytes(), log.read_bytes()
    assert len(content) > 4 * journal_file.PAGE_SIZE
    seen: set[int] = set()
    for cut in [*range(0, len(content), 1999), len(content)]:
        copy.write_bytes(main)
        copied_log.write_bytes(content[:cut])
        found = await recalled(copy, COUNT)
        assert found == ALL[: len(found)]
        seen.add(len(found))
        for each in (copy, copied_log, copy.with_name("copy.journal-shm")):
            each.unlink(missing_ok=True)
    assert {0, 1, 101, COUNT} <= seen


class Hindered(sqlite3.Connection):
    """One whose checkpoints find that another program makes one."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        return super().execute("SELECT 1, -1, -1" if "wal_checkpoint" in sql else sql, *args)


async def test_a_file_that_another_program_completes_is_not_cut_short(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not copied from the log yet is missing there."""
    copy, copied_log = tmp_path / "copy.journal", tmp_path / "copy.journal-wal"
    async with open_journal(path) as journal:
        await run(journal, Counting("x" * 100_000), 0)
        await journal.flush()
        copy.write_bytes(path.read_bytes())
        copied_log.write_bytes(path.with_name(f"{path.name}-wal").read_bytes())
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=Hindered, **kwargs)
    )
    assert await recalled(copy, 1) == [(0, "x" * 100_000)]


@pytest.mark.usefixtures("small_windows")
async def test_records_that_somebody_has_deleted_are_made_again(path: Path) -> None:
    await make(path, COUNT)
    gone = {7, *range(20, 60), 299}
    execute(path, *(f"DELETE FROM records_1 WHERE key = '{number}'" for number in gone))
    assert await recalled(path, COUNT) == [each for each in ALL if each[0] not in gone]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records_1 SET key = 'a' || char(10) WHERE key = '5'",
        "UPDATE records_1 SET key = CAST(x'ff' AS TEXT) WHERE key = '5'",
        "UPDATE records_1 SET value = 5 WHERE key = '5'",
        "UPDATE records_1 SET value = CAST(x'ff' AS TEXT) WHERE key = '5'",
        "UPDATE records_1 SET rowid = 1 << 32 WHERE key = '5'",
    ],
)
async def test_records_that_cannot_be_are_refused(path: Path, change: str) -> None:
    await make(path, 10)
    execute(path, change)
    assert "it is damaged, or cut short: restore it" in await refusal(path)
    # And the lock is given back.
    assert "it is damaged, or cut short: restore it" in await refusal(path)


async def test_a_lock_file_that_is_something_else(path: Path) -> None:
    path.with_name(f"{path.name}-lock").write_bytes(b"something else" * 100)
    assert "it is not a journal" in await refusal(path)


async def test_a_name_that_looks_like_an_address(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    await make(Path("file:pages.journal?mode=memory"))
    async with open_journal("file:pages.journal?mode=memory") as journal:
        assert await run(journal, Counting(None), 0) == ("value 0", True)
    assert (path.parent / "file:pages.journal?mode=memory").stat().st_size > 0


async def test_a_program_may_end_with_its_journal_open(path: Path) -> None:
    async with open_journal(path):
        (thread,) = [each for each in threading.enumerate() if each.name == "trio_conman journal"]
        assert thread.daemon


# As the first release made it; another format needs another number.
FORMAT_1 = (
    "PRAGMA application_id = 2081425825",
    "PRAGMA user_version = 1",
    (
        "CREATE TABLE sections (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version TEXT NOT NULL, "
        "is_json INTEGER NOT NULL, created INTEGER NOT NULL, written INTEGER NOT NULL)"
    ),
    "CREATE TABLE records_1 (key TEXT NOT NULL, value NOT NULL)",
)


async def test_the_format_stays_what_it_was(path: Path) -> None:
    await make(path, 2)
    made, version, tables, records = execute(
        path,
        "PRAGMA application_id",
        "PRAGMA user_version",
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name DESC",
        "SELECT rowid, key, value FROM records_1",
    )
    assert made + version == [(2081425825,), (1,)]
    assert [sql for (sql,) in tables] == [*FORMAT_1[2:]]
    assert records == [(1, "0", '"value 0"'), (2, "1", '"value 1"')]


async def test_what_an_earlier_release_has_written_is_read(path: Path) -> None:
    execute(
        path,
        *FORMAT_1,
        "INSERT INTO sections VALUES (1, '', '1', 1, 1700000000, 1700000000)",
        "INSERT INTO records_1 VALUES ('7', '\"early\"')",
    )
    async with open_journal(path) as journal:
        assert await run(journal, Counting("new"), 7) == ("early", True)
        assert await run(journal, Counting("new"), 8) == ("new", False)


# Reading


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "MOST", 4)
    monkeypatch.setattr(journal_reader, "MOST", 8)
    monkeypatch.setattr(journal_reader, "LEAST", 2)
    monkeypatch.setattr(journal_file, "SCANNED", 7)


async def all_of(journal: Journal, numbers: list[int], workers: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    source = iter(numbers)

    async def work() -> None:
        for number in source:
            found[number] = await run(journal, Counting(None), number)

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)
    return found


ORDERS: dict[str, Callable[[list[int]], list[int]]] = {
    "as stored": lambda numbers: numbers,
    "backwards": lambda numbers: numbers[::-1],
    "every seventh": lambda numbers: sorted(numbers, key=lambda number: number % 7),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.usefixtures("small_windows")
async def test_values_are_read_in_any_order(path: Path, order: str, workers: int) -> None:
    await make(path, COUNT)
    async with open_journal(path) as journal:
        found = await all_of(journal, ORDERS[order]([*range(COUNT + 5)]), workers)
        assert journal.statistics().recalled == COUNT
    assert {number: value for number, (value, was_there) in found.items() if was_there} == dict(ALL)


@pytest.mark.usefixtures("small_windows")
async def test_values_are_there_before_they_are_asked_for_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, COUNT)
    read, reads = JournalFile.read, 0

    def counted(self: JournalFile, *args: Any) -> Any:
        nonlocal reads
        reads += 1
        return read(self, *args)

    async with open_journal(path) as journal:
        monkeypatch.setattr(JournalFile, "read", counted)
        for number in range(COUNT):
            assert journal._records.claim(str(number)) == f"value {number}"
            await journal._store.reader.end()
    assert reads < COUNT / 6  # in windows of 8


async def test_more_is_read_at_once_where_it_is_wanted_in_order_and_less_where_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, 600)
    monkeypatch.setattr(journal_store, "MOST", 16)
    monkeypatch.setattr(journal_reader, "MOST", 100)
    read, reads = JournalFile.read, list[tuple[int, int]]()

    def noted(self: JournalFile, section: int, number: int, most: int, size: int) -> Any:
        reads.append((number, most))
        return read(self, section, number, most, size)

    async with open_journal(path) as journal:
        monkeypatch.setattr(JournalFile, "read", noted)
        for number in range(250):
            assert journal._records.claim(str(number)) == f"value {number}"
            await journal._store.reader.end()
        assert reads == [(17, 32), (49, 64), (113, 100), (213, 100), (313, 100)]
        for number in (500, 590, 450, 420, 415, 412):
            assert await run(journal, Counting(None), number) == (f"value {number}", True)
    assert reads[5:] == [(501, 50), (591, 25), (451, 12), (421, 8), (416, 8), (413, 8)]


@pytest.mark.usefixtures("small_windows")
async def test_what_was_read_in_vain_is_not_kept(path: Path) -> None:
    await make(path, COUNT)
    async with open_journal(path) as journal:
        await all_of(journal, [*range(0, COUNT, 3)][::-1], 1)
        ahead = journal._store.shelves[""]._ahead
        assert ahead is not None
        assert len(ahead.windows) <= journal_reader.WINDOWS


@pytest.mark.usefixtures("small_windows")
async def test_great_values_are_read_a_few_at_a_time(path: Path) -> None:
    great = "x" * (journal_reader.SIZE // 2)
    async with open_journal(path) as journal:
        for number in range(20):
            await run(journal, Counting(f"{number}{great}"), number)
    async with open_journal(path) as journal:
        found = await all_of(journal, [*range(19, -1, -1)], 10)
    assert found == {number: (f"{number}{great}", True) for number in range(20)}


async def test_what_is_wanted_while_something_else_is_read_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, 40)
    monkeypatch.setattr(journal_store, "MOST", 1)
    read = JournalFile.read
    token, wanted = trio.lowlevel.current_trio_token(), trio.Event()

    def late(self: JournalFile, *args: Any) -> Any:
        trio.from_thread.run(wanted.wait, trio_token=token)
        return read(self, *args)

    async with open_journal(path) as journal:
        records = journal._records
        monkeypatch.setattr(JournalFile, "read", late)
        for key in ("10", "30"):
            assert records.claim(key) is Answer.READ
        wanted.set()
        for key in ("10", "30"):
            await records.arrival(key)
            assert records.claim(key) == f"value {key}"


@pytest.mark.parametrize(
    "size, keys", [(1, ["10"]), (312, ["10"]), (313, ["10", "20"]), (999, ["10", "20", "30"])]
)
async def test_no_more_is_read_than_is_enough_for_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int, keys: list[str]
) -> None:
    await make(path, 40)
    monkeypatch.setattr(journal_reader, "SIZE", size)
    file = JournalFile(str(path))
    job = Job(1, {"10": [11], "20": [21], "30": [31]}, start=5, length=1)
    job.do(file)
    file.close(in_order=True)
    assert (job.found, job.window, job.error) == ({key: f'"value {key}"' for key in keys}, {}, None)
    assert (job.start, job.size) == (10 * len(keys) + 2, 312 * len(keys))


async def test_what_is_read_as_it_opens_does_not_grow_with_the_number_of_sections(path: Path) -> None:
    great = "x" * (journal_reader.SIZE // 16)
    async with open_journal(path) as journal:
        for section in range(8):
            for number in range(20):
                await run(journal.section(f"{section}"), Counting(great), number)
    async with open_journal(path) as journal:
        for section in range(8):
            ahead = journal._store.shelves[f"{section}"]._ahead
            assert ahead is not None
            assert [len(window) for window in ahead.windows] == [2]
            for number in range(20):
                assert await run(journal.section(f"{section}"), Counting(), number) == (great, True)


@pytest.mark.parametrize("room", [0, 30_000])
@pytest.mark.usefixtures("small_windows")
async def test_what_is_read_ahead_does_not_grow_with_the_number_of_sections_in_use(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(journal_reader, "ROOM", room)
    names = [f"{section}" for section in range(10)]
    async with open_journal(path) as journal:
        for name in names:
            for number in range(100):
                await run(journal.section(name), Counting(f"{number}{'x' * 1000}"), number)

    async def recall(name: str) -> None:
        section = journal.section(name)
        for number in range(0, 100, 3):
            assert await run(section, Counting(), number) == (f"{number}{'x' * 1000}", True)

    async with open_journal(path) as journal:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(recall, name)
        sections = [journal._store.shelves[name]._ahead for name in names]
        kept = [len(window) for ahead in sections if ahead is not None for window in ahead.windows]
    assert 0 < sum(kept) < 10 * 4 + max(room / 1000, 2 * 9)  # with what was read as it was opened


async def test_long_keys_are_read_a_few_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [*(f"{number}{'x' * 30_000}" for number in range(20)), "y" * 200_000]
    async with open_journal(path) as journal:
        for key in keys:
            await run(journal, Counting(len(key)), key)
        await journal.flush()
        assert journal._store.waiting == 0
    monkeypatch.setattr(journal_file, "LONGEST_SCAN", 100_000)
    async with open_journal(path) as journal:
        ahead = journal._store.shelves[""]._ahead
        assert ahead is not None
        assert [len(window) for window in ahead.windows] == [9]
        for key in keys:
            assert await run(journal, Counting(), key) == (len(key), True)


async def test_values_may_be_longer_than_what_is_read_of_keys_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "LONGEST_SCAN", 10_000)
    for recalled in (False, True):
        async with open_journal(path) as journal:
            assert await run(journal, Counting("x" * 50_000), 0) == ("x" * 50_000, recalled)


def test_no_window_without_a_value_is_kept(path: Path) -> None:
    ahead = Ahead(None, 1, {}, 99)  # type: ignore[arg-type]  # it has nothing to ask for
    windows: list[Window] = [{f"{number}": "value"} for number in range(20)]
    for window in windows:
        ahead.take(Job(1, {}, 1, 8, window=window))
    assert [*ahead.windows] == windows[-journal_reader.WINDOWS :]


async def test_a_key_that_is_too_long_for_sqlite_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another SQLite, for which it was not, may have written it."""
    async with open_journal(path) as journal:
        await run(journal, Counting(1), "x" * 30_000)
    monkeypatch.setattr(journal_file, "LONGEST_SCAN", 20_000)
    file = journal_file.JournalFile(str(path))
    file._reader.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
    with pytest.raises(JournalError, match=r"it cannot be used \(SQLITE_TOOBIG: string or blob too big\)$"):
        list(file.keys(1, 1))
    file.close(in_order=True)


async def test_an_index_that_mistakes_keys_recalls_nothing_wrong(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys look the same to it, here, of which there would be one pair in many journals."""
    monkeypatch.setattr("trio_conman._leaves.journal_index.hash", lambda _: 5, raising=False)
    await make(path, 20)
    monkeypatch.setattr(journal_store, "MOST", 1)
    async with open_journal(path) as journal:
        found = await all_of(journal, [*range(25, -1, -1), *range(25)], 3)
        assert journal.statistics().stored == 6
    assert {number: value for number, (value, _) in found.items()} == dict(ALL[:20]) | dict.fromkeys(
        range(20, 26)
    )


async def test_what_was_looked_for_in_vain_may_be_recorded_since(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_conman._leaves.journal_index.hash", lambda _: 5, raising=False)
    await make(path, 2)
    async with open_journal(path) as journal:
        records = journal._records
        assert records.claim("7") is Answer.READ
        await records.arrival("7")
        assert records.claim("7") is Answer.RUN
        assert records.claim("7") is Answer.READ
        await records.arrival("7")  # it is not there
        records.keep("7", "seven")
        await journal.flush()
        assert records.claim("7") is Answer.READ
        await records.arrival("7")
        assert records.claim("7") == "seven"


async def test_a_value_may_be_waited_for_by_several(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path, 20)
    monkeypatch.setattr(journal_store, "MOST", 1)
    async with open_journal(path) as journal:
        found = await all_of(journal, [15, 15, 15, 15], 4)
        assert found == {15: ("value 15", True)}
        assert journal.statistics().recalled == 4


@pytest.mark.usefixtures("small_windows")
async def test_a_discard_amid_a_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is gone when it is read."""
    await make(path, 20)
    async with open_journal(path) as journal:
        records = journal._records
        read = JournalFile.read
        discarded = trio.Event()

        def late(self: JournalFile, *args: Any) -> Any:
            trio.from_thread.run(discarded.wait, trio_token=token)
            return read(self, *args)

        token = trio.lowlevel.current_trio_token()
        monkeypatch.setattr(JournalFile, "read", late)
        records.claim("15")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(records.arrival, "15")
            await journal.discard("")
            discarded.set()
        assert await run(journal, Counting("anew"), 15) == ("anew", False)


@pytest.mark.usefixtures("small_windows")
async def test_the_block_is_left_when_what_is_being_read_was_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a task that was cancelled, for example: what it reads is not closed before."""
    await make(path, 20)
    read, end, record = JournalFile.read, Writer.end, list[str]()
    blocked, token = trio.Event(), trio.lowlevel.current_trio_token()

    def late(self: JournalFile, *args: Any) -> Any:
        trio.from_thread.run(blocked.wait, trio_token=token)
        record.append("read")
        return read(self, *args)

    def noted(self: Writer) -> None:
        record.append("the writer ends")
        end(self)

    async def let_go() -> None:
        await wait_all_tasks_blocked()
        blocked.set()

    async with trio.open_nursery() as nursery, open_journal(path) as journal:
        monkeypatch.setattr(JournalFile, "read", late)
        monkeypatch.setattr(Writer, "end", noted)
        assert journal._records.claim("15") is Answer.READ
        nursery.start_soon(let_go)
    assert record == ["read", "the writer ends"]


async def test_a_read_that_fails_fails_the_task(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path, 20)
    monkeypatch.setattr(journal_store, "MOST", 1)
    with pytest.raises(JournalError, match="ZeroDivisionError"):  # noqa: PT012  # it is leaving the block that raises
        async with open_journal(path) as journal:
            monkeypatch.setattr(JournalFile, "read", lambda *_: 1 // 0)
            with pytest.raises(JournalError, match="ZeroDivisionError"):
                await run(journal, Counting("anew"), 15)
            with pytest.raises(JournalError, match="ZeroDivisionError"):
                await run(journal, Counting("anew"), 30)


@pytest.mark.usefixtures("small_windows")
async def test_of_a_closed_journal_what_was_read_ahead_is_there_and_no_more_is_read(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await make(path, COUNT)
    async with open_journal(path) as journal:
        pass
    assert [journal._records.claim(str(number)) for number in range(4)] == [
        f"value {number}" for number in range(4)
    ]
    await journal._store.reader.end()
    with pytest.raises(JournalError, match="it is closed: leave the block"):
        journal._records.claim("4")
    assert caplog.records == []


# Another program


async def test_another_program_reads_it_meanwhile(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting("value"), 1)
        await journal.flush()
        query = "SELECT key, value FROM records_1"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            assert other.execute(query).fetchall() == [("1", '"value"')]
            await run(journal, Counting("value"), 2)
            await journal.flush()
            assert other.execute(query).fetchall() == [("1", '"value"')]
            other.execute("COMMIT")
            assert len(other.execute(query).fetchall()) == 2
            other.execute("BEGIN")
            other.execute(query).fetchall()
            # It is not waited for at the end either.
            await run(journal, Counting("value"), 3)
            journal._store.writer.end()
            await journal._store._closed.wait()
            other.execute("COMMIT")
    assert execute(path, "SELECT count(*) FROM records_1") == [[(3,)]]


async def test_it_opens_while_another_program_reads_an_older_state(path: Path) -> None:
    await make(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT key FROM records_1").fetchall()
        async with open_journal(path) as journal:
            await run(journal, Counting("x" * 100_000), "great")
        async with open_journal(path) as journal:
            assert await run(journal, Counting(), "great") == ("x" * 100_000, True)
    assert await recalled(path, 1) == ALL[:1]


async def test_a_lock_of_another_program_is_waited_for(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting("value"), 1)
        await journal.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await run(journal, Counting("value"), 2)
            assert await run(journal, Counting(None), 1) == ("value", True)  # reading goes on
            other.execute("COMMIT")
        await journal.flush()


async def test_a_lock_that_is_held_too_long_fails_the_tasks(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_file, "LONGEST_WAIT", 0)
    with pytest.raises(JournalError) as caught:  # noqa: PT012  # it is leaving the block that raises
        async with open_journal(path) as journal:
            await run(journal, Counting("value"), 1)
            await journal.flush()
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await run(journal, Counting("value"), 2)
                with pytest.raises(JournalError):
                    await journal.flush()
                fn = Counting("value")
                for number in (3, 4):
                    with pytest.raises(JournalError, match="held a lock on it for too long"):
                        await run(journal, fn, number)
                assert fn.calls == []  # nothing is paid for
                other.execute("COMMIT")
            found = await run(journal, fn, 1)  # reading goes on; looked at below, where no error is expected
    assert found == ("value", True)
    text = (
        f"{path}: another program has held a lock on it for too long: end it, and run the program again "
        "(SQLITE_BUSY: database is locked)"
    )
    assert str(caught.value) == text
    assert [each.getMessage() for each in caplog.records] == [f"no task can be recorded any more: {text}"]
    assert await recalled(path, 5) == [(1, "value")]


async def test_an_error_of_the_block_comes_before_that_of_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError, match=r"^'mine'$"):  # noqa: PT012  # it is leaving the block that raises
        async with open_journal(path) as journal:
            await run(journal, Counting("value"), 1)
            monkeypatch.setattr(JournalFile, "commit", lambda *_: 1 // 0)
            raise KeyError("mine")


async def test_a_table_that_somebody_has_dropped_fails_the_tasks(path: Path) -> None:
    with pytest.raises(JournalError, match="no such table: records_1"):  # noqa: PT012  # by leaving the block
        async with open_journal(path) as journal:
            await run(journal, Counting("value"), 1)
            await journal.flush()
            execute(path, "DROP TABLE records_1")
            with pytest.raises(JournalError, match="no such table: records_1"):  # noqa: PT012  # by the second
                await run(journal, Counting("value"), 2)
                await journal.flush()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps what is open where it is")
@pytest.mark.parametrize("how", ["deleted", "replaced", "log deleted"])
@pytest.mark.parametrize("when", ["before a commit", "after the last"])
async def test_a_file_that_is_taken_away_fails_the_tasks(path: Path, how: str, when: str) -> None:
    """SQLite would write on, to a file that nobody finds again."""
    with pytest.raises(JournalError) as caught:  # noqa: PT012  # by leaving the block
        async with open_journal(path, durable=True) as journal:
            await run(journal, Counting("value"), 1)
            if how == "replaced":
                path.with_name("other").write_bytes(path.read_bytes())
                path.with_name("other").replace(path)
            else:
                path.with_name(path.name + ("-wal" if how == "log deleted" else "")).unlink()
            if when == "before a commit":
                with pytest.raises(JournalError, match="deleted, moved or replaced"):
                    await run(journal, Counting("value"), 2)
    assert str(caught.value) == (
        f"{path}: it, or its -wal, was deleted, moved or replaced while it was open, and what was recorded "
        "meanwhile may be lost: leave them in place, and run the program again"
    )


async def test_of_several_faults_the_first_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(text: str) -> Callable[..., None]:
        def fails(*_: object, **__: object) -> None:
            raise OSError(5, text)

        return fails

    await make(path, 20)
    monkeypatch.setattr(journal_store, "MOST", 1)
    close = JournalFile.close
    with pytest.raises(JournalError) as caught:  # noqa: PT012  # by leaving the block
        async with open_journal(path) as journal:
            file = journal._store.writer._file
            monkeypatch.setattr(JournalFile, "commit", wrong("commit"))
            monkeypatch.setattr(JournalFile, "read", wrong("read"))
            monkeypatch.setattr(JournalFile, "close", wrong("close"))
            records = journal._records
            assert records.claim("15") is Answer.READ
            await run(journal, Counting("value"), 30)
            with pytest.raises(JournalError):
                await journal.flush()
            await records.arrival("15")
    close(file, in_order=False)
    first = str(caught.value)
    assert first in {f"{path}: it cannot be used (OSError(5, '{text}'))" for text in ("commit", "read")}
    assert [each.getMessage() for each in caplog.records] == [f"no task can be recorded any more: {first}"]


async def test_a_copy_is_a_journal(path: Path, tmp_path: Path) -> None:
    await make(path, COUNT)
    shutil.copy(path, tmp_path / "copy")
    assert await recalled(tmp_path / "copy", COUNT) == ALL


async def test_the_log_is_emptied_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "LARGEST_LOG", 100_000)
    async with open_journal(path) as journal:
        for number in range(100):
            await run(journal, Counting("x" * 2000), number)
            await journal.flush()
        assert path.with_name(f"{path.name}-wal").stat().st_size < 200_000


def test_an_emptied_log_is_not_emptied_again_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "LARGEST_LOG", 100_000)
    file = JournalFile(str(path))
    file.commit([journal_file.creation(1, "", "1", True)])
    said: list[str] = []
    file._main.set_trace_callback(said.append)
    for number in range(1, 101):
        file.commit([journal_file.insertion(1, {f"{number}": "x" * 2000}, number)])
    file._main.set_trace_callback(None)
    file.close(in_order=True)
    assert 10 <= said.count("PRAGMA wal_checkpoint(PASSIVE)") <= 40


async def test_what_has_nothing_to_write_changes_nothing(path: Path) -> None:
    """A new section may be looked at before its first record is there."""
    creation = journal_file.creation(1, "", "1", True)
    table = Table(1, Index(), 0, creation)
    assert (table.changes(), table.settle()) == ([], 0)
    table.pending["1"] = "one"
    assert [table.changes()[0], table.settle()] == [creation, OVERHEAD + 4]
    assert (table.changes(), table.settle()) == ([], 0)
    table.pending["2"] = "two"
    assert len(table.changes()) == 1


# The clock


@pytest.mark.parametrize("now", [-1e9, 0.0, 1e15])
async def test_a_clock_that_jumps_changes_nothing(
    path: Path, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, 3)
    monkeypatch.setattr("time.time", lambda: now)
    async with open_journal(path) as journal:
        assert await run(journal, Counting(None), 2) == ("value 2", True)
        assert await run(journal, Counting("value 3"), 3) == ("value 3", False)
    monkeypatch.undo()
    assert await recalled(path, 5) == ALL[:4]
