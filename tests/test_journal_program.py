"""``python -m trio_conman.journal``: as a program, and called."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.journaled import Counting, run
from trio_conman._leaves import journal_file, journal_program
from trio_conman._leaves.journal_program import _Reading, main
from trio_conman.journal import open_journal

ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages #1?.journal"


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)


async def fill(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting({"é": [1.5, None]}), 1, "a")
        await run(journal, Counting("two"), 2.0, b"b", (True, None))
        pages = journal.section(
            'the "pages"', version="2024-01", encode=lambda value: value, decode=lambda data: data
        )
        await run(pages, Counting("text\n"), "/")
        await run(pages, Counting(b"\0\xff"), "/logo")


TABLE = """\
section          records  version    form     begun                 last written
""               2        "1"        JSON     2023-11-14 22:13:20Z  2023-11-14 22:13:20Z
"the \\"pages\\""  2        "2024-01"  its own  2023-11-14 22:13:20Z  2023-11-14 22:13:20Z
"""
LINES = [
    '{"section": "", "key": [1, "a"], "value": {"é":[1.5,null]}}',
    '{"section": "", "key": [2.0, {"base64": "Yg=="}, [true, null]], "value": "two"}',
    '{"section": "the \\"pages\\"", "key": ["/"], "text": "text\\n"}',
    '{"section": "the \\"pages\\"", "key": ["/logo"], "base64": "AP8="}',
]


async def test_it_shows_what_there_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(path)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == TABLE
    assert main([str(path), "--section", ""]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main([str(path), "--export"]) == 0
    assert capsys.readouterr().out.splitlines() == LINES
    assert [json.loads(line)["section"] for line in LINES] == ["", "", 'the "pages"', 'the "pages"']
    assert main([str(path), "--export", "--section", 'the "pages"']) == 0
    assert capsys.readouterr().out.splitlines() == LINES[2:]
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


async def test_it_tells_when_a_section_was_written_last(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(path)
    monkeypatch.setattr("time.time", lambda: 1_700_000_099.5)
    async with open_journal(path) as journal:
        await run(journal, Counting(3), 3)
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        '""               3        "1"        JSON     2023-11-14 22:13:20Z  2023-11-14 22:14:59Z',
        TABLE.splitlines()[2],
    ]


async def test_without_a_record_there_is_no_section(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_journal(path):
        pass
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "section  records  version  form  begun  last written\n"
    assert main([str(path), "--export"]) == 0
    assert capsys.readouterr() == ("", "")


async def test_it_reads_what_another_program_is_writing(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_conman._leaves.journal_program.SOME", 7)
    async with open_journal(path) as journal:
        for number in range(50):
            await run(journal, Counting(number), number)
            if number % 20 == 0:
                await journal.flush()
                assert main([str(path), "--export"]) == 0
                lines = capsys.readouterr().out.splitlines()
                assert [json.loads(line)["value"] for line in lines] == [*range(number + 1)]
        await journal.flush()
        with closing(journal_file.connect(str(path), 0)) as other:
            other.execute("BEGIN IMMEDIATE")  # who writes at this moment is not waited for
            assert main([str(path)]) == 0
            assert main([str(path), "--export"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 52


async def test_a_section_may_be_discarded_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_conman._leaves.journal_program.SOME", 7)
    async with open_journal(path) as journal:
        for number in range(20):
            await run(journal.section("a"), Counting(number), number)
        await run(journal.section("b"), Counting("b"), 1)
        await journal.flush()
        with closing(_Reading(str(path))) as reading:
            lines = reading.export(reading.sections)
            exported = [next(lines)]
            await journal.discard("a")
            exported += lines
            assert [json.loads(line)["value"] for line in exported] == [*range(7), "b"]
            assert [line.split()[0] for line in reading.table(reading.sections)] == ["section", '"b"']


async def test_a_table_that_somebody_has_dropped_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(path)
    with closing(journal_file.connect(str(path), 0)) as other:
        other.execute("DROP TABLE records_1")
    assert main([str(path), "--export"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{path}: it cannot be used (SQLITE_ERROR: no such table: records_1)")


@pytest.mark.parametrize(
    "content, text",
    [
        (None, "there is no such file"),
        (b"", "it is empty, and not a journal yet"),
        (
            b"Notes of mine. " * 100,
            "it is not a journal: give the journal a file of its own (SQLITE_NOTADB: file is",
        ),
    ],
)
def test_it_says_what_is_no_journal(
    path: Path, content: bytes | None, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(f"python -m trio_conman.journal: {path}: {text}")
    assert len(errors.splitlines()) == 1
    assert path.exists() == (content is not None)


async def test_it_says_that_there_is_no_such_section(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(path)
    assert main([str(path), "--section", "pages"]) == 1
    assert capsys.readouterr() == ("", f"python -m trio_conman.journal: {path}: it has no section 'pages'\n")


@pytest.mark.parametrize("now", [-1e12, 1e15])
async def test_times_may_be_anything(
    path: Path, now: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: now)
    await fill(path)
    assert main([str(path)]) == 0
    assert f"{now:.0f}" in capsys.readouterr().out


async def test_where_it_cannot_write_it_reads_what_is_complete(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(path)
    opened: list[str] = []
    connect = journal_file.connect

    def watched(name: str, *args: Any, **options: Any) -> Any:
        opened.append(name.rpartition("?")[2])
        return connect(name, *args, **options)

    monkeypatch.setattr("trio_conman._leaves.journal_program.connect", watched)
    assert main([str(path)]) == 0
    for those in ([path], [path.parent]):
        monkeypatch.setattr("os.access", lambda name, _, those=those: name not in those)
        assert main([str(path)]) == 0
    assert capsys.readouterr().out == TABLE * 3
    assert opened == ["mode=rw", "mode=ro&immutable=1", "mode=ro&immutable=1"]


async def test_through_a_link_it_reads_what_is_in_the_log(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path.with_name("links")
    folder.mkdir()
    link = folder / "link.journal"
    link.symlink_to(path)
    monkeypatch.setattr("os.access", lambda name, _: name != folder)
    async with open_journal(path) as journal:
        await run(journal, Counting("value"), 1)
        await journal.flush()
        assert main([str(link), "--export"]) == 0
    assert capsys.readouterr().out == '{"section": "", "key": [1], "value": "value"}\n'


async def test_as_a_program(path: Path) -> None:
    await fill(path)
    command = [sys.executable, "-W", "error", "-m", "trio_conman.journal", str(path)]
    done = subprocess.run(
        [*command, "--export"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert (done.stdout.splitlines(), done.stderr) == (LINES, "")
    done = subprocess.run(
        [*command[:-1], str(path.parent)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"python -m trio_conman.journal: {path.parent}: there is no such file\n"


async def test_it_writes_utf_8_whatever_the_terminal_speaks(path: Path) -> None:
    async with open_journal(path) as journal:
        await run(journal.section("é"), Counting("é"), "é")
    command = [sys.executable, "-m", "trio_conman.journal", str(path)]
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for option, text in [
        ("--export", '{"section": "é", "key": ["é"], "value": "é"}'),
        ("--section=é", '"\\xe9"'),
    ]:
        done = subprocess.run([*command, option], capture_output=True, check=True, cwd=ROOT, env=environment)
        assert text in done.stdout.decode("utf-8")
        assert done.stderr == b""


async def test_numbers_that_json_lacks_are_written_as_python_reads_them(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_journal(path) as journal:
        await run(journal, Counting([math.nan, math.inf]), -math.inf)
    assert main([str(path), "--export"]) == 0
    out = capsys.readouterr().out
    assert out == '{"section": "", "key": [-Infinity], "value": [NaN,Infinity]}\n'
    assert json.loads(out)["key"] == [-math.inf]


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of POSIX")
async def test_whoever_reads_the_output_may_have_enough(path: Path) -> None:
    async with open_journal(path) as journal:
        for number in range(3000):
            await run(journal, Counting("x" * 100), number)
    command = [sys.executable, "-m", "trio_conman.journal", str(path), "--export"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
async def test_output_that_cannot_be_written_is_told(path: Path) -> None:
    await fill(path)
    command = [sys.executable, "-m", "trio_conman.journal", str(path)]
    for options in ([], ["--export"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*command, *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
            )
        text = "python -m trio_conman.journal: [Errno 28] No space left on device\n"
        assert (done.returncode, done.stderr) == (1, text)


async def test_there_may_be_no_output(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(path)
    monkeypatch.setattr(sys, "stdout", None)
    assert main([str(path)]) == main([str(path), "--export"]) == 0


async def test_a_key_that_somebody_has_changed_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(path)
    with closing(journal_file.connect(str(path), 5)) as connection:
        connection.execute("UPDATE records_1 SET key = 'a,b' WHERE rowid = 2")
    assert main([str(path), "--export"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == LINES[:1]
    assert shown.err == (
        f"python -m trio_conman.journal: {path}: it is damaged, or was changed by hand, as 'a,b' is no key "
        "of a task\n"
    )


async def test_a_value_that_somebody_has_changed_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(path)
    with closing(journal_file.connect(str(path), 5)) as connection:
        connection.execute("UPDATE records_1 SET value = 5 WHERE rowid = 1")
    assert main([str(path), "--export"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "it is damaged, or was changed by hand, as 5 is no value of a task\n" in shown.err


@pytest.mark.parametrize("options", [[], ["--export"]])
async def test_a_file_that_was_cut_short_is_told(
    path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its end would be read as zeros."""
    async with open_journal(path) as journal:
        await run(journal, Counting("x" * 20_000), 1)
    length = path.stat().st_size
    os.truncate(path, length - 1)
    assert main([str(path), *options]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{path}: it was cut short, and has {length - 1:,} of {length:,} bytes: restore" in shown.err


async def test_a_file_whose_end_is_in_its_log_is_shown(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_journal(path, durable=True) as journal:
        for number in range(10):
            await run(journal, Counting("x" * 20_000), number)
        assert path.stat().st_size < 100_000
        assert main([str(path), "--export"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


async def test_values_of_any_size_are_exported_a_few_at_a_time(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(path)
    monkeypatch.setattr(journal_program, "MOST", 0)
    read: list[int] = []
    some = _Reading._read

    def watched(*args: Any) -> list[Any]:
        rows = some(*args)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(_Reading, "_read", watched)
    assert main([str(path), "--export"]) == 0
    assert capsys.readouterr().out.splitlines() == LINES
    assert read == [1, 1, 0, 1, 1, 0]
