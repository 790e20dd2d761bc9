"""What is left of a journal when its program is killed, or its disk fails: real processes, real files."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.journal_faults import Ran, finished, kill_again_and_again, killed, recorded, start
from tests.journaled import Counting, run
from trio_conman import ConMan, Success
from trio_conman._leaves.journal_file import JournalFile
from trio_conman.journal import JournalError, open_journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and rights of POSIX")

SHIM = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_or_fail(void) {
    const char *flag = getenv("FLAG"), *delay = getenv("DELAY");
    if (delay) usleep(atoi(delay));
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    return 0;
}
int fsync(int fd) { return sync_or_fail(); }
int fdatasync(int fd) { return sync_or_fail(); }
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages.journal"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to be preloaded, whose syncs fail once a file is there, or take their time."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and the preloading of Linux")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM, encoding="utf-8")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True, timeout=60
    )
    return folder / "shim.so"


# Killed


def test_what_was_published_durably_is_never_run_again(path: Path) -> None:
    assert kill_again_and_again(path, 400, 5, random.Random(1), "--durable") == []


def test_otherwise_what_is_lost_was_published_last(path: Path) -> None:
    ran = killed(path, 2000, 1000)
    published = [*ran.items("ran")]
    kept = set(recorded(path))
    lost = [item for item in published if item not in kept]
    # The records are written in the order of the publications, but for those at the same time.
    assert set(published[: max(0, len(published) - len(lost) - 10)]) <= kept
    again = finished(path, 2000)
    assert set(again.items("recalled")) == kept
    assert sorted(recorded(path)) == [*range(2000)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_again_and_again(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    assert kill_again_and_again(path, 1000, 10, rng, "--durable") == []
    lost = kill_again_and_again(path.with_name("other"), 1000, 10, rng)
    assert [end - when for when, end in lost if end - when > 0.05] == []


# The disk


def check_failed_disk(ran: Ran, path: Path, error: str, *, durable: bool) -> None:
    """The tasks have failed, each with a word of why; once it was said."""
    assert ran.status == 1
    failed = [line for line in ran.lines if line.startswith("failed")]
    assert failed or not durable  # else it may have ended before it was heard of
    assert all(str(path) in line and error in line for line in failed)
    # By the log, and by the error that ended the program.
    assert len(ran.errors.splitlines()) == 2
    assert all(str(path) in line and error in line for line in ran.errors.splitlines())


@pytest.mark.parametrize("options", [[], ["--durable"]], ids=["", "durable"])
@pytest.mark.parametrize("size", [60_000, 100_000])
def test_a_full_disk(path: Path, options: list[str], size: int) -> None:
    ran = finished(path, 800, "--size", str(size), *options)
    check_failed_disk(ran, path, "run the program again (SQLITE_", durable=bool(options))
    again = finished(path, 800)
    assert (again.status, again.errors) == (0, "")
    if options:
        assert set(ran.items("ran")) <= set(again.items("recalled"))
    assert sorted(recorded(path)) == [*range(800)]


@pytest.mark.parametrize("size", [1, 8192, 10_000, 20_000])
def test_a_disk_without_room_to_begin(path: Path, size: int) -> None:
    ran = finished(path, 10, "--size", str(size))
    assert (ran.status, ran.lines) == (1, [])
    assert str(path) in ran.errors
    assert len(ran.errors.splitlines()) == 1
    assert finished(path, 10).status == 0


@pytest.mark.parametrize("options", [[], ["--durable"]], ids=["", "durable"])
def test_a_sync_that_fails(path: Path, shim: Path, options: list[str]) -> None:
    flag = path.with_name("flag")
    env = {"LD_PRELOAD": str(shim), "FLAG": str(flag)}
    ran = finished(path, 1000, "--break-at", "500", str(flag), *options, env=env)
    error = "the disk has failed: see to it, and run the program again (SQLITE_IOERR_FSYNC"
    check_failed_disk(ran, path, error, durable=bool(options))
    flag.unlink()
    again = finished(path, 1000)
    assert again.status == 0
    if options:
        assert set(ran.items("ran")) <= set(again.items("recalled"))
    assert sorted(recorded(path)) == [*range(1000)]


# Folders


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """One that those without rights can reach, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_to(public_folder: Path) -> None:
    path = public_folder / "pages.journal"
    ran = finished(path, 10)
    assert ran.status == 0
    path.chmod(0o644)
    public_folder.chmod(0o555)
    new = finished(public_folder / "new.journal", 10, "--nobody")
    assert new.lines == []
    assert new.errors == (
        f"{public_folder}/new.journal: it cannot be written to: change its permissions and those of its "
        "folder (PermissionError: Permission denied)\n"
    )
    old = finished(path, 10, "--nobody")
    assert old.lines == []
    assert old.errors.startswith(f"{path}: it cannot be ")
    assert len(old.errors.splitlines()) == 1
    public_folder.chmod(0o755)
    assert len(finished(path, 10).items("recalled")) == 10


def test_a_file_that_cannot_be_written_to(public_folder: Path) -> None:
    """SQLite would read it, and leave files beside it that can be written to as little, also afterwards."""
    path = public_folder / "pages.journal"
    assert finished(path, 10).status == 0
    path.with_name(f"{path.name}-lock").unlink()
    path.chmod(0o444)
    public_folder.chmod(0o777)
    ran = finished(path, 10, "--nobody")
    assert ran.lines == []
    assert ran.errors == (
        f"{path}: it cannot be written to: change its permissions and those of its folder\n"
    )
    assert [*public_folder.iterdir()] == [path]
    path.chmod(0o666)
    assert len(finished(path, 10, "--nobody").items("recalled")) == 10


# Two at once


def test_of_two_that_start_at_once_one_wins(path: Path) -> None:
    for number in range(3):
        name = path.with_name(f"{number}.journal")
        with start(name, 0, "--hold") as one, start(name, 0, "--hold") as other:
            for child in (one, other):
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            first = [child for child in (one, other) if child.stdout and child.stdout.readline() == "open\n"]
            assert len(first) == 1
            (loser,) = {one, other} - {*first}
            _, errors = loser.communicate(timeout=60)
            assert loser.returncode == 1
            assert errors == (
                f"{name}: another process has it open, or another open_journal() of this one: "
                "wait for that to end, or use another file "
                '(see "What goes wrong" in the docs)\n'
            )
            _, errors = first[0].communicate(timeout=60)
            assert (first[0].returncode, errors) == (0, "")


async def test_a_process_that_was_killed_holds_no_lock(path: Path) -> None:
    with start(path, 0, "--hold") as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="another process has it open"):
            async with open_journal(path):
                pass
        child.kill()
        child.wait()
    async with open_journal(path) as journal:
        await run(journal, Counting(1), 1)


# The loop


def slow(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        time.sleep(0.5)
        return method(*args)

    return call


LOCK = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["a lock", "a slow disk"])
async def test_the_loop_goes_on(path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process has the file's lock for 5 s, or a commit and a read take half a second each.

    It needs a machine that does nothing else.
    """
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await trio.sleep(0.001)
            gaps.append(time.perf_counter() - start - 0.001)

    async def unlock() -> None:
        await trio.sleep(5)
        assert other.stdin is not None
        other.stdin.close()

    async def work(number: int) -> str:
        await trio.sleep(0.001)
        return "x" * 100

    async with open_journal(path) as journal:
        for number in range(5000):
            await run(journal, Counting("x" * 100), number)
    if trouble == "a slow disk":
        for name in ("commit", "read"):
            monkeypatch.setattr(JournalFile, name, slow(getattr(JournalFile, name)))
    command = [sys.executable, "-c", LOCK, str(path)]
    ran = recalled = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        async with open_journal(path) as journal, trio.open_nursery() as nursery:
            assert other.stdin is not None and other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            if trouble == "a slow disk":
                other.stdin.close()
                other.wait()
            nursery.start_soon(watch)
            nursery.start_soon(unlock)
            async with ConMan[str].open(nursery, 20, journal=journal, timeout=5) as cm:
                async with cm.map(work, range(4900, 10**9)) as outcomes:
                    async for outcome in outcomes:
                        assert isinstance(outcome, Success)
                        assert outcome.value == "x" * 100
                        ran += not outcome.recalled
                        recalled += outcome.recalled
            nursery.cancel_scope.cancel()
    assert recalled == 100
    assert ran > 1000
    assert max(gaps) < 0.02
