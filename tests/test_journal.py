"""The journal as its users see it, with an engine of ten lines in place of a manager."""

from __future__ import annotations

import json
import math
import pickle
import signal
import threading
from contextlib import nullcontext
from enum import IntEnum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_conman.journal
from tests.journaled import Counting, run
from trio_conman import ConMan, Failure, Success
from trio_conman._books.records import Answer
from trio_conman._leaves import journal_records, journal_writer
from trio_conman._leaves.journal_file import JournalFile
from trio_conman._leaves.journal_reader import MOST
from trio_conman._leaves.journal_store import Shelf
from trio_conman._leaves.journal_values import decode_json
from trio_conman.journal import Journal, JournalError, JournalStatistics, Section, open_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages.journal"


class Color(IntEnum):
    RED = 1


class Link(str):
    """As a parser of pages has them."""

    __slots__ = ()


class Word(StrEnum):
    ONE = "one"

    def isascii(self) -> bool:
        raise AssertionError


# Values and keys


async def test_what_was_recorded_is_recalled_by_the_next_run(path: Path) -> None:
    fn = Counting()
    async with open_journal(path) as journal:
        assert await run(journal, fn, 1, "a") == ([1, "a"], False)
        assert journal.statistics().stored == 1
    async with open_journal(path) as journal:
        assert await run(journal, fn, 1, "a") == ([1, "a"], True)
        assert await run(journal, fn, 2, "a") == ([2, "a"], False)
        statistics = journal.statistics()
        assert (statistics.recalled, statistics.stored) == (1, 1)
    assert fn.calls == [(1, "a"), (2, "a")]


async def test_what_was_recorded_is_recalled_in_the_same_run(path: Path) -> None:
    fn = Counting()
    async with open_journal(path) as journal:
        assert await run(journal, fn, 1) == ([1], False)
        assert await run(journal, fn, 1) == ([1], True)
        assert journal.statistics().pending == 1
        await journal.flush()
        assert journal.statistics() == JournalStatistics(recalled=1, stored=1, pending=0)
        assert await run(journal, fn, 1) == ([1], True)  # from the disk now
    assert fn.calls == [(1,)]


KEYS: list[tuple[Any, ...]] = [
    (1,),
    (1.0,),
    (True,),
    ("1",),
    (b"1",),
    (None,),
    ("None",),
    (0,),
    (0.0,),
    (-0.0,),
    (False,),
    ("",),
    (math.inf,),
    (math.nan,),
    ("é", "\n", '"', "\0"),
    (1, 2),
    ((1, 2),),
    ((1,), 2),
    ((),),
    ("1,2",),
    ('1","2',),
    ("1", "2"),
    (2**80,),
    (1e300,),
]


async def test_keys_know_the_types_of_what_they_are_made_of(path: Path) -> None:
    async with open_journal(path) as journal:
        for number, args in enumerate(KEYS):
            assert await run(journal, Counting(number), *args) == (number, False)
    async with open_journal(path) as journal:
        for number, args in enumerate(KEYS):
            assert await run(journal, Counting(), *args) == (number, True)


@pytest.mark.parametrize(
    "args, shown",
    [
        (([1],), r"list \[1\]"),
        ((1, {"a": 1}), r"dict \{'a': 1\}"),
        ((object,), "type <class 'object'>"),
        ((Color.RED,), "Color <Color.RED: 1>"),
        ((("a", Word.ONE),), "Word <Word.ONE: 'one'>"),
        ((Link("a"),), "Link 'a'"),
        (((1, 2), (None, ((frozenset(),),))), r"frozenset frozenset\(\)"),
    ],
)
async def test_what_is_not_plain_is_no_key(path: Path, args: tuple[Any, ...], shown: str) -> None:
    fn = Counting()
    async with open_journal(path) as journal:
        with pytest.raises(JournalError) as caught:
            await run(journal, fn, *args)
    assert str(caught.value).startswith(
        f"{path}: section '' has no key for a task: TypeError: a key must be made of "
    )
    assert caught.match(f"not the {shown}: give the section a key=.*: page.url\\)$")
    assert fn.calls == []


async def test_a_key_may_be_made_by_a_type(path: Path) -> None:
    async with open_journal(path) as journal:
        links = journal.section("links", key=str)
        assert await run(links, Counting(1), Link("a")) == (1, False)
        assert await run(links, Counting(2), "a") == (1, True)


async def test_a_task_without_arguments_has_no_key(path: Path) -> None:
    async with open_journal(path) as journal:
        with pytest.raises(JournalError, match="has no key of its own: hand in what tells it from others"):
            await run(journal, Counting())
        section = journal.section("all", key=lambda: "all")
        assert await run(section, Counting(1)) == (1, False)
        assert await run(section, Counting(2)) == (1, True)


async def test_a_lone_surrogate_is_no_key_and_no_value(path: Path) -> None:
    async with open_journal(path) as journal:
        with pytest.raises(JournalError, match="has no key for a task: UnicodeEncodeError"):
            await run(journal, Counting(1), "\ud800")
        with pytest.raises(JournalError, match="cannot hold the value of a task: UnicodeEncodeError"):
            await run(journal, Counting("\ud800"), 1)
        assert await run(journal, Counting("\N{GRINNING FACE}"), "é") == ("\N{GRINNING FACE}", False)


async def test_a_section_has_its_own_key(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("pages", key=lambda page, client: page["url"])
        assert await run(section, Counting(1), {"url": "a", "tries": 1}, object()) == (1, False)
        assert await run(section, Counting(2), {"url": "a", "tries": 2}, object()) == (1, True)
        with pytest.raises(
            JournalError, match=r"section 'pages' has no key for a task: KeyError: 'url'$"
        ) as caught:
            await run(section, Counting(2), {}, object())
        assert isinstance(caught.value.__cause__, KeyError)


VALUES: list[Any] = [
    None,
    True,
    0,
    -1.5,
    math.inf,
    2**70,
    "",
    "a\n\0é",
    [],
    {},
    {"a": [1, {"b": None}]},
    Color.RED,
    Word.ONE,
    Answer.RUN.value,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_values_come_back_equal(path: Path, value: Any) -> None:
    async with open_journal(path) as journal:
        assert await run(journal, Counting(value), 1) == (value, False)
    async with open_journal(path) as journal:
        assert await run(journal, Counting(), 1) == (value, True)


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "value, why",
    [
        (object, "TypeError: Object of type type is not JSON serializable"),
        (b"1", "TypeError: Object of type bytes is not JSON serializable"),
        ((1, 2), r"TypeError: JSON would give back a list for the tuple \(1, 2\)"),
        ([{"a": (1,)}], r"TypeError: JSON would give back a list for the tuple \(1,\)"),
        ({"a": {1: 2}}, "TypeError: JSON would give back a str for the key 1 of a dict"),
        ({1}, "TypeError: Object of type set is not JSON serializable"),
        (ENDLESS, "RecursionError: "),
    ],
)
async def test_a_value_that_would_not_come_back_is_not_recorded(path: Path, value: Any, why: str) -> None:
    fn = Counting(value)
    async with open_journal(path) as journal:
        for _ in range(2):  # the key is free again
            with pytest.raises(
                JournalError, match=f"section '' cannot hold the value of a task: {why}"
            ) as caught:
                await run(journal, fn, 1)
            assert caught.match(
                r"give it functions that can, as in journal.section\(name, encode=pack, decode=unpack\)"
            )
        assert journal.statistics().stored == 0
    assert fn.calls == [(1,), (1,)]


@pytest.mark.parametrize("value", [(1, b"2"), {3}, math.nan])
async def test_a_section_has_its_own_form(path: Path, value: Any) -> None:
    def section(journal: Journal) -> Section[Any]:
        return journal.section("pickled", encode=pickle.dumps, decode=pickle.loads)

    async with open_journal(path) as journal:
        assert (await run(section(journal), Counting(value), 1))[1] is False
    async with open_journal(path) as journal:
        found, recalled = await run(section(journal), Counting(), 1)
        assert recalled
        assert found == value or (found != found and value != value)


async def coroutine(url: str) -> str:
    return url


class Packed(bytes):
    """As a library that packs values may have it, which stores them too."""

    def __conform__(self, protocol: object) -> int:
        return 5


def unchanged(value: Any) -> Any:
    return value


async def test_a_form_may_be_a_str_or_bytes_only(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("own", encode=unchanged, decode=unchanged)
        assert await run(section, Counting("text"), 1) == ("text", False)
        assert await run(section, Counting(b"\0\xff"), 2) == (b"\0\xff", False)
        assert await run(section, Counting(""), 3) == ("", False)
        assert await run(section, Counting(Word.ONE), 5) == ("one", False)
        assert await run(section, Counting(Packed(b"p")), 6) == (b"p", False)
        with pytest.raises(JournalError, match="TypeError: encode must return a str or bytes, not 5"):
            await run(section, Counting(5), 4)
    async with open_journal(path) as journal:
        section = journal.section("own", encode=unchanged, decode=unchanged)
        assert [await run(section, Counting(), n) for n in (1, 2, 3, 5, 6)] == [
            ("text", True),
            (b"\0\xff", True),
            ("", True),
            ("one", True),
            (b"p", True),
        ]


async def test_a_value_that_cannot_be_decoded_fails_the_task(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("own", encode=str, decode=int)
        await run(section, Counting("one"), 1)
        with pytest.raises(
            JournalError, match="section 'own' holds under '1' what cannot be decoded: ValueError: inv"
        ):
            await run(section, Counting(), 1)


# Sections and versions


async def test_sections_do_not_know_each_other(path: Path) -> None:
    async with open_journal(path) as journal:
        sections: list[Any] = [journal, journal.section("a"), journal.section("b")]
        for number, each in enumerate(sections):
            assert await run(each, Counting(number), 1) == (number, False)
    async with open_journal(path) as journal:
        sections = [journal, journal.section("a"), journal.section("b")]
        for number, each in enumerate(sections):
            assert await run(each, Counting(), 1) == (number, True)


async def test_two_objects_may_be_one_section(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal.section("a"), Counting(1), 1)
        assert await run(journal.section("a", key=lambda n: n + 1), Counting(), 0) == (1, True)


async def test_another_version_is_refused_until_the_section_is_discarded(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal.section("a", version="2024"), Counting(1), 1)
        await run(journal.section("b"), Counting(1), 1)
    async with open_journal(path) as journal:
        with pytest.raises(JournalError) as caught:
            journal.section("a", version="2025")
        assert str(caught.value) == (
            f"{path}: section 'a' was written with version '2024', and now has '2025': "
            "await journal.discard('a') first, which drops what it holds, or give it the version that it was "
            "written with"
        )
        await journal.discard("a")
        assert await run(journal.section("a", version="2025"), Counting(2), 1) == (2, False)
    async with open_journal(path) as journal:
        assert await run(journal.section("a", version="2025"), Counting(), 1) == (2, True)
        assert await run(journal.section("b"), Counting(), 1) == (1, True)


@pytest.mark.parametrize("version", ["0", "2"])
async def test_a_section_in_use_has_one_version(path: Path, version: str) -> None:
    async with open_journal(path) as journal:
        journal.section("a")
        with pytest.raises(JournalError) as caught:
            journal.section("a", version=version)
        assert str(caught.value) == (
            f"{path}: section 'a' is in use with version '1', and cannot have '{version}' as well: "
            "await journal.discard('a') first, which drops what it holds, or give both the same version"
        )


async def test_a_section_in_use_may_have_another_version_when_it_was_discarded(path: Path) -> None:
    async with open_journal(path) as journal:
        before = journal.section("a")
        await run(before, Counting("before"), 1)
        key = before._records.key_of((2,))
        assert before._records.claim(key) is Answer.RUN
        await journal.discard("a")
        assert await run(before, Counting("again"), 1) == ("again", False)
        with pytest.raises(JournalError, match="in use with version '1'"):
            journal.section("a", version="2")
        await journal.discard("a")
        now = journal.section("a", version="2")
        text = "section 'a' was discarded, and opened anew in another version or form: use what"
        with pytest.raises(JournalError, match=text):
            before._records.claim("1")
        with pytest.raises(JournalError, match=text):
            before._records.keep(key, "of a task that ran meanwhile")
        before._records.release(key)
        assert await run(now, Counting("now"), 1) == ("now", False)
        assert await run(now, Counting("now"), 2) == ("now", False)
    async with open_journal(path) as journal:
        now = journal.section("a", version="2")
        assert await run(now, Counting(), 1) == ("now", True)
        assert await run(now, Counting(), 2) == ("now", True)


async def test_another_form_is_refused_until_the_section_is_discarded(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal.section("a"), Counting(1), 1)
        await run(journal.section("b", encode=str, decode=int), Counting(1), 1)
    async with open_journal(path) as journal:
        with pytest.raises(
            JournalError, match="section 'a' was written with JSON, and its values are now to be read"
        ):
            journal.section("a", encode=str, decode=int)
        with pytest.raises(
            JournalError, match=r"section 'b' was written with functions of its own, and .* with JSON:"
        ):
            journal.section("b")
        await journal.discard("b")
        assert await run(journal.section("b"), Counting(2), 1) == (2, False)


async def test_discarding(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("a")
        await journal.discard("a")  # there is nothing yet
        await journal.discard("never heard of")
        await run(section, Counting(1), 1)
        await journal.flush()
        await run(section, Counting(1), 2)
        await journal.discard("a")  # what is written, and what is not
        assert await run(section, Counting(2), 1) == (2, False)
        await journal.discard("")
        assert await run(journal, Counting(3), 1) == (3, False)
        await journal.discard("")
    async with open_journal(path) as journal:
        assert await run(journal.section("a"), Counting(), 1) == (2, True)
        assert await run(journal.section("a"), Counting(3), 2) == (3, False)
        assert await run(journal, Counting(4), 1) == (4, False)


async def test_a_section_discarded_by_another_run_is_dropped_in_the_file(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting("x" * 100_000), 1)
    async with open_journal(path) as journal:
        await journal.discard("")
        await run(journal, Counting("y"), 1)
    async with open_journal(path) as journal:
        assert await run(journal, Counting(), 1) == ("y", True)


# Two tasks of one key


async def test_the_second_of_a_key_waits_for_the_first_and_takes_its_value(
    path: Path, record: list[Any]
) -> None:
    let_go = trio.Event()
    fn = Counting()

    async def slow(n: int) -> Any:
        await let_go.wait()
        return await fn(n)

    async def task() -> None:
        record.append(await run(journal, slow, 1))

    async with open_journal(path) as journal:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(task)
            await wait_all_tasks_blocked()
            assert await run(journal, fn, 2) == ([2], False)
            assert record == []
            let_go.set()
    assert sorted(record) == [([1], False), ([1], True), ([1], True)]
    assert fn.calls == [(2,), (1,)]


async def test_the_second_of_a_key_runs_when_the_first_has_failed(path: Path, record: list[Any]) -> None:
    let_go = trio.Event()

    async def fails(n: int) -> None:
        await let_go.wait()
        raise KeyError(n)

    async def first() -> None:
        with pytest.raises(KeyError):
            await run(journal, fails, 1)

    async def second() -> None:
        record.append(await run(journal, Counting(5), 1))

    async with open_journal(path) as journal:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await wait_all_tasks_blocked()
            nursery.start_soon(second)
            nursery.start_soon(second)
            await wait_all_tasks_blocked()
            let_go.set()
    assert sorted(record) == [(5, False), (5, True)]


async def test_who_follows_a_key_is_told_once(path: Path) -> None:
    record: list[str] = []
    async with open_journal(path) as journal:
        records = journal._records
        assert records.claim("1") is Answer.RUN
        assert records.claim("1") is Answer.WAIT
        records.follow("1", lambda: record.append("a"))
        records.follow("1", lambda: record.append("b"))
        records.release("1")
        assert record == ["a", "b"]
        assert records.claim("1") is Answer.RUN
        assert records.keep("1", "value") is None
        await records.arrival("1")  # nothing to wait for
        assert records.claim("1") == "value"
    assert record == ["a", "b"]


async def test_who_follows_a_key_is_told_when_its_record_is_handed_over(path: Path) -> None:
    stored: list[int] = []
    async with open_journal(path) as journal:
        records = journal._records
        assert records.claim("1") is Answer.RUN
        records.follow("1", lambda: stored.append(journal.statistics().stored))
        records.keep("1", "value")
    assert stored == [1]


@pytest.mark.parametrize("which", ["key", "encode", "decode"])
def test_ctrl_c_interrupts_the_functions_of_a_section(path: Path, which: str) -> None:
    """And the next run finds what was recorded before, and nothing else."""

    def interrupted(value: Any) -> Any:
        if value in {"2", 2}:
            signal.raise_signal(signal.SIGINT)
            went_on.append(value)
        return value if which == "key" else plain[which](value)

    went_on: list[Any] = []
    plain: dict[str, Any] = {"key": None, "encode": str, "decode": int}

    async def main(**functions: Any) -> list[tuple[int, bool]]:
        async with open_journal(path) as journal:
            section = journal.section("a", **plain | functions)
            async with trio.open_nursery() as nursery, ConMan[int].open(nursery, 2, journal=section) as cm:
                for number in range(4):
                    await cm.run(Counting(number), number)
                await cm.wait()
                return [(each.value, each.recalled) for each in cm.outcomes() if isinstance(each, Success)]

    if which == "decode":
        trio.run(main)
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        trio.run(partial(main, **{which: interrupted}))
    assert went_on == []
    found = trio.run(main)
    assert sorted(value for value, _ in found) == [0, 1, 2, 3]
    assert (2, True) not in found or which == "decode"


# The block


async def test_leaving_the_block_writes_all_whatever_is_cancelled(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_journal(path, flush_after=3600) as journal:
            await run(journal, Counting(1), 1)
            scope.cancel()
            await trio.sleep_forever()
    with pytest.raises(KeyError, match=r"^'mine'$"):  # noqa: PT012  # it is leaving the block that raises
        async with open_journal(path) as journal:
            await run(journal, Counting(2), 2)
            raise KeyError("mine")
    async with open_journal(path) as journal:
        assert await run(journal, Counting(), 1) == (1, True)
        assert await run(journal, Counting(), 2) == (2, True)
    assert sorted(each.name for each in path.parent.iterdir()) == ["pages.journal", "pages.journal-lock"]


async def test_a_closed_journal_says_so(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("a")
        await run(section, Counting(1), 1)
    text = f"{path}: it is closed: leave the block of open_journal() after its managers"
    for call in (
        section._records.enter,
        lambda: journal.section("b"),
        lambda: section._records.claim("1"),
        lambda: section._records.claim("2"),
        lambda: section._records.keep("2", 1),
    ):
        with pytest.raises(JournalError) as caught:
            call()
        assert str(caught.value) == text
    for wait in (journal.flush, lambda: journal.discard("a")):
        with pytest.raises(JournalError, match="it is closed"):
            await wait()
    assert journal.statistics() == JournalStatistics(recalled=0, stored=1, pending=0)


async def test_what_open_journal_returns_is_entered_once(path: Path) -> None:
    opening = open_journal(path)
    async with opening:
        pass
    with pytest.raises(
        RuntimeError, match=r"^what open_journal\(\) returns can be entered once: call it again$"
    ):
        async with opening:
            pass


async def test_a_second_open_journal_of_the_same_process_is_refused(path: Path) -> None:
    async with open_journal(path) as journal:
        for _ in range(2):
            with pytest.raises(JournalError, match="another process has it open, or another"):
                async with open_journal(path):
                    pass
        await run(journal, Counting(1), 1)
    async with open_journal(path) as journal:
        assert await run(journal, Counting(), 1) == (1, True)


async def test_a_journal_belongs_to_its_run(path: Path) -> None:
    async def elsewhere() -> None:
        records.enter()

    async with open_journal(path) as journal:
        records = journal._records
        records.enter()
        with pytest.raises(
            RuntimeError, match=r"was opened in another trio run: it can be used in that one only$"
        ):
            await trio.to_thread.run_sync(trio.run, elsewhere)
        for call in (records.enter, lambda: journal.section("a")):
            with pytest.raises(RuntimeError, match="was opened in another trio run"):
                await trio.to_thread.run_sync(call)


async def test_the_path_may_be_relative(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    async with open_journal("file:pages.journal?mode=ro") as journal:
        await run(journal, Counting(1), 1)
        monkeypatch.chdir("/")
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "file:pages.journal?mode=ro",
        "file:pages.journal?mode=ro-lock",
    ]


async def test_flush_is_a_checkpoint(path: Path) -> None:
    async with open_journal(path) as journal:
        with trio.testing.assert_checkpoints():
            await journal.flush()
        with trio.testing.assert_checkpoints():
            await journal.discard("a")


async def test_a_flush_that_has_begun_when_the_block_is_left_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch, record: list[Any]
) -> None:
    """The writer's last group begins amid it."""

    async def flush() -> None:
        await journal.flush()
        record.append("flushed")

    passing = trio.lowlevel.ParkingLot()
    async with trio.open_nursery() as nursery:
        async with open_journal(path) as journal:
            with monkeypatch.context() as patch:
                patch.setattr(trio.lowlevel, "checkpoint", passing.park)
                nursery.start_soon(flush)
                await wait_all_tasks_blocked()
        passing.unpark_all()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert record == ["flushed"]


async def test_a_slow_disk_makes_tasks_wait(path: Path) -> None:
    """What is not committed takes no more memory than it may."""
    async with open_journal(path, flush_after=3600) as journal:
        records = journal._records
        tickets: list[int | None] = []
        for key in range(5):
            assert records.claim(str(key)) is Answer.RUN
            tickets.append(records.keep(str(key), "x" * (1 << 20)))
        assert tickets[:3] == [None] * 3
        assert tickets[4] is not None
        await records.committed(tickets[4])
        assert journal.statistics().pending == 0
        assert records.claim("5") is Answer.RUN
        assert records.keep("5", "x") is None  # nobody waits for what is committed
        # Small ones are more than their values.
        ticket = None
        for number in range(6, 20_000):
            assert records.claim(str(number)) is Answer.RUN
            ticket = records.keep(str(number), "")
        assert ticket is not None


@pytest.mark.parametrize("durable", [False, True])
async def test_when_it_is_on_the_disk(path: Path, durable: bool) -> None:
    async with open_journal(path, flush_after=2, durable=durable) as journal:
        writer = journal._store.writer
        # Some of the time is for the commit.
        assert writer._delay == (0 if durable else 0.5)
        # FULL: else a commit is not followed by a sync.
        assert writer._file._main.execute("PRAGMA synchronous").fetchone() == (2,)
        # SQLite tells nobody what fails in a checkpoint of its own.
        assert writer._file._main.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


async def test_the_first_group_is_written_at_once_and_the_others_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:
                return super().wait()
            seconds.append(timeout)
            return True

    seconds: list[float] = []
    monkeypatch.setattr(journal_writer, "Event", Noting)
    monkeypatch.setattr(journal_writer, "monotonic", lambda: 100.0)
    async with open_journal(path, flush_after=2) as journal:
        for number in range(3):
            await run(journal, Counting(), number)
            await journal.flush()
    assert len(seconds) >= 4
    assert seconds == [0.0, *[0.5] * (len(seconds) - 1)]


async def test_durable_waits_for_the_commit(path: Path) -> None:
    async with open_journal(path, durable=True, flush_after=3600) as journal:
        assert await run(journal, Counting(1), 1) == (1, False)
        assert journal.statistics().pending == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_durable_recalls_nothing_that_is_not_committed(
    path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch, record: list[Any]
) -> None:
    commit, let_go, token = JournalFile.commit, trio.Event(), trio.lowlevel.current_trio_token()

    def late(self: JournalFile, batch: Any) -> None:
        trio.from_thread.run(let_go.wait, trio_token=token)
        if fails:
            raise OSError("disk")
        commit(self, batch)

    async def task() -> None:
        try:
            record.append(await run(journal, Counting(5), 1))
        except JournalError as error:
            record.append("disk" in str(error))

    monkeypatch.setattr(JournalFile, "commit", late)
    with pytest.raises(JournalError) if fails else nullcontext():
        async with open_journal(path, durable=True) as journal, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(task)
            await wait_all_tasks_blocked()
            before = [*record]
            let_go.set()
    assert before == []
    assert sorted(record) == (3 * [True] if fails else [(5, False), (5, True), (5, True)])


async def test_who_waits_for_the_second_commit_sleeps_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, let_go, token = JournalFile.commit, trio.Event(), trio.lowlevel.current_trio_token()

    def late(self: JournalFile, batch: Any) -> None:
        trio.from_thread.run(let_go.wait, trio_token=token)
        commit(self, batch)

    async with open_journal(path, durable=True) as journal, trio.open_nursery() as nursery:
        await run(journal, Counting(5), 1)
        monkeypatch.setattr(JournalFile, "commit", late)
        nursery.start_soon(run, journal, Counting(5), 2)
        try:
            with trio.fail_after(30):
                await wait_all_tasks_blocked()
        finally:
            let_go.set()


async def test_what_was_recorded_is_committed_by_and_by_though_nobody_asks_for_it(path: Path) -> None:
    async with open_journal(path, flush_after=0.04) as journal:
        for number in range(3):
            committed = journal._store.group  # of the next group, which may be there at once
            assert await run(journal, Counting(number), number) == (number, False)
            with trio.fail_after(60):
                await committed.wait()
            assert journal.statistics() == JournalStatistics(recalled=0, stored=number + 1, pending=0)


async def test_a_flush_may_be_as_late_as_no_thread_can_wait(path: Path) -> None:
    async with open_journal(path, flush_after=1e300) as journal:
        for number in range(3):  # the first one is written at once
            assert await run(journal, Counting(number), number) == (number, False)
            await journal.flush()
        assert journal.statistics().pending == 0


# Mistakes


@pytest.mark.parametrize(
    "arguments, options, error, text",
    [
        ([5], {}, TypeError, "path must be a str or a path of str, not 5"),
        ([b"x"], {}, TypeError, "path must be a str or a path of str, not b'x'"),
        ([""], {}, ValueError, "path must be that of a file, not ''"),
        (["\ud800"], {}, ValueError, "path must be that of a file, not '\\ud800'"),
        (["a\0b"], {}, ValueError, "path must be that of a file, not 'a\\x00b'"),
        (["x"], {"durable": 1}, TypeError, "durable must be True or False, not 1"),
        (
            ["x"],
            {"flush_after": "1"},
            TypeError,
            "flush_after must be a finite number of at least 0, not '1'",
        ),
        (
            ["x"],
            {"flush_after": math.inf},
            ValueError,
            "flush_after must be a finite number of at least 0, not inf",
        ),
        (["x"], {"flush_after": -1}, ValueError, "flush_after must be a finite number of at least 0, not -1"),
    ],
)
def test_open_journal_refuses_nonsense(
    arguments: list[Any], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        open_journal(*arguments, **options)
    assert str(caught.value) == text


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"x"


def test_a_path_of_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^path must be a str or a path of str, not b'x'$"):
        open_journal(BytesPath())  # type: ignore[arg-type]  # the mistake to be told


@pytest.mark.parametrize(
    "name, options, error, text",
    [
        (5, {}, TypeError, "name must be a str, not 5"),
        ("", {}, ValueError, 'name must not be empty: the journal itself is the section ""'),
        ("\ud800", {}, ValueError, r"name must have no lone surrogates, not '\ud800'"),
        ("a", {"version": 2}, TypeError, "version must be a str, not 2"),
        ("a", {"version": "\ud800"}, ValueError, r"version must have no lone surrogates, not '\ud800'"),
        ("a", {"key": "url"}, TypeError, "key must be a sync callable or None, not 'url'"),
        ("a", {"key": coroutine}, TypeError, f"key must be a sync callable or None, not {coroutine!r}"),
        ("a", {"encode": 1, "decode": int}, TypeError, "encode must be a sync callable or None, not 1"),
        ("a", {"encode": str, "decode": 1}, TypeError, "decode must be a sync callable or None, not 1"),
    ],
)
async def test_section_refuses_nonsense(
    path: Path, name: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with open_journal(path) as journal:
        with pytest.raises(error) as caught:
            journal.section(name, **options)
        assert str(caught.value) == text
        with pytest.raises(TypeError, match=r"^section must be a str, not None$"):
            await journal.discard(None)  # type: ignore[arg-type]  # the mistake to be told


@pytest.mark.parametrize("data", [b"1" * 8, "1" * 8, "\xfc" * 4])
async def test_a_value_for_which_a_record_has_no_room_fails_its_task_alone(
    path: Path, data: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_records, "LARGEST", 7)
    async with open_journal(path) as journal:
        section = journal.section("own", encode=unchanged, decode=unchanged)
        with pytest.raises(JournalError, match="it has 8 bytes, and there is room for 7; give it"):
            await run(section, Counting(data), 1)
        assert await run(section, Counting(b"1" * 7), 3) == (b"1" * 7, False)
        assert await run(section, Counting(data[:3]), 2) == (data[:3], False)
    async with open_journal(path) as journal:
        section = journal.section("own", encode=unchanged, decode=unchanged)
        assert await run(section, Counting(data[:3]), 2) == (data[:3], True)


async def test_in_place_of_a_codec_that_is_not_given_there_is_json(path: Path) -> None:
    options: list[dict[str, Any]] = [
        {"encode": lambda value: json.dumps(value, default=str)},
        {"decode": lambda text: ("read", json.loads(text))},
    ]

    async def make(number: int) -> Any:
        return [Path("a"), [1]][number]

    found: list[Any] = []
    for _ in range(2):
        async with open_journal(path) as journal, trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, 2) as cm:
                for number, given in enumerate(options):
                    section = journal.section(f"{number}", **given)
                    found.append(await cm.start_soon(make, number, journal=section).result())
    assert found == [Path("a"), [1], "a", ("read", [1])]


@pytest.mark.parametrize("data", [b"1", "", "a page", "1 2", "[1,", "'a'"])
async def test_an_encode_without_a_decode_must_make_json(path: Path, data: Any) -> None:
    async with open_journal(path) as journal, trio.open_nursery() as nursery:
        section = journal.section("a", encode=lambda _: data)
        async with ConMan[Any].open(nursery, 2, journal=section) as cm:
            failed = await cm.start_soon(trio.sleep, 0).wait()
        assert journal.statistics().stored == 0
    assert isinstance(failed, Failure)
    assert f"encode must return JSON as a str, as there is no decode, not {data!r}" in str(failed.error)


async def test_it_may_make_it_with_spaces(path: Path) -> None:
    found: list[Any] = []
    for _ in range(2):
        async with open_journal(path) as journal:
            section = journal.section("a", encode=lambda value: f" {json.dumps(value, indent=1)}\n")
            found.append(await run(section, Counting([1]), 1))
    assert found == [([1], False), ([1], True)]


# Names


async def test_how_they_show_themselves(path: Path) -> None:
    async with open_journal(path) as journal:
        section = journal.section("a", version="2")
        assert repr(journal) == f"<Journal {path}>"
        assert repr(section) == "<Section 'a' of a journal, version '2'>"
        assert (section.name, section.version) == ("a", "2")


def test_public_names() -> None:
    names = trio_conman.journal.__all__
    assert [*names] == sorted(names)
    for name in names:
        each = getattr(trio_conman.journal, name)
        assert each.__module__ == "trio_conman.journal"
        assert each.__doc__
    error = pickle.loads(pickle.dumps(JournalError("text")))
    assert (type(error), str(error)) == (JournalError, "text")
    assert all(field.kw_only for field in attrs.fields(JournalStatistics))


async def test_no_thread_is_left(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting(1), 1)
        names = {thread.name for thread in threading.enumerate()}
        assert "trio_conman journal" in names
    # It ends right after it has said that it is done.
    for thread in threading.enumerate():
        if thread.name == "trio_conman journal":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("no_collector")
async def test_a_journal_whose_thread_cannot_be_started_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Be it that this fails as well."""
    close = JournalFile.close

    def writer(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    def closed(self: JournalFile, *, in_order: bool) -> None:
        close(self, in_order=in_order)
        if fails:
            raise JournalError("the disk has failed")

    with monkeypatch.context() as patch:
        patch.setattr(journal_writer, "Thread", writer)
        patch.setattr(JournalFile, "close", closed)
        with pytest.raises(RuntimeError, match=r"^can't start new thread$"):
            async with open_journal(path):
                pass
    async with open_journal(path) as journal:
        assert await run(journal, Counting(1), 1) == (1, False)


async def test_an_interrupt_does_not_hit_a_discard(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(shelf: Shelf) -> None:
        assert trio.lowlevel.currently_ki_protected()
        dropped(shelf)

    dropped = Shelf.drop
    monkeypatch.setattr(Shelf, "drop", drop)
    async with open_journal(path) as journal:
        await run(journal, Counting(1), 1)
        await journal.discard("")
        assert await run(journal, Counting(2), 1) == (2, False)


@pytest.mark.parametrize("threads", [0, 1])
async def test_where_no_thread_can_be_started_to_read_that_is_told_once_and_the_journal_ends(
    path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_journal(path) as journal:
        for number in range(2 * MOST):
            await run(journal, Counting(number), number)
    start, started = trio.lowlevel.start_thread_soon, 0

    def start_some(*args: Any) -> None:
        nonlocal started
        if started == threads:
            raise RuntimeError("can't start new thread")
        started += 1
        start(*args)

    async def recall_some() -> None:
        async with open_journal(path) as journal, trio.open_nursery() as nursery:
            async with ConMan[int].open(nursery, 20, journal=journal) as cm:
                for number in range(2 * MOST - 1, MOST, -50):
                    cm.start_soon(Counting(number), number)
            assert {type(error) for error in cm.errors()} == {JournalError}
            assert len(cm.outcomes()) == 21

    refused = r"it cannot be used \(RuntimeError\(\"can't start new thread\"\)\)$"
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", start_some)
    with pytest.raises(JournalError, match=refused):
        await recall_some()


async def test_threads_of_the_journal_may_find_that_the_run_has_crashed(path: Path) -> None:
    class Crashed:
        def run_sync_soon(self, *_: object) -> None:
            raise OSError("Bad file descriptor")

    async with open_journal(path) as journal:
        writer = journal._store.writer
        here, writer._run = writer._run, Crashed()  # type: ignore[assignment]  # as its sockets are closed
        writer._tell(print)
        writer._run = here


def test_a_stored_form_with_more_than_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there is more than one value in '1 2'$"):
        decode_json("1 2")
