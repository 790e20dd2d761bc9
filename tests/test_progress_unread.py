"""The progress display on a terminal, or in a pipe, that takes nothing: nobody waits for it but the end."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from trio_conman import ConMan
from trio_conman._leaves import drawing
from trio_conman._leaves.pen import Pen
from trio_conman.progress import RichProgress

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Stoppable(io.StringIO):
    """A file whose writes wait while it is stopped, as those to a terminal do."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waits = threading.Event()

    def write(self, text: str) -> int:
        if not self.goes_on.is_set():
            self.waits.set()
            assert self.goes_on.wait(10)
        return super().write(text)

    def stop(self) -> None:
        self.waits.clear()
        self.goes_on.clear()

    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", self.getvalue()).replace("\r", "\n")
        return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.fixture
def file() -> Stoppable:
    return Stoppable()


@pytest.fixture(params=[True, False], ids=["terminal", "elsewhere"])
def console(request: pytest.FixtureRequest, file: Stoppable) -> Console:
    return Console(file=file, force_terminal=request.param, width=80, color_system=None, _environ={})


@pytest.fixture
def pens(monkeypatch: pytest.MonkeyPatch) -> list[Pen]:
    """The pens, in the order of their ends; nobody waits long for an end."""
    ended: list[Pen] = []
    finish = Pen.finish

    def remember(pen: Pen, job: Callable[[], None], patience: float) -> None:
        ended.append(pen)
        finish(pen, job, patience)

    monkeypatch.setattr(Pen, "finish", remember)
    monkeypatch.setattr(drawing, "PATIENCE", 0.01)
    return ended


def drawn(pen: Pen) -> None:
    """Wait until it has drawn what it was handed."""
    pen._thread.join(10)
    assert not pen.alive


def living_pens() -> int:
    return [thread.name for thread in threading.enumerate()].count("trio_conman progress")


async def crawl(progress: RichProgress, tasks: int = 6) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
            for _ in range(tasks):
                await cm.run(trio.sleep, 4)
    assert cm.statistics().succeeded == tasks


async def test_no_task_waits_and_the_end_is_drawn_when_somebody_reads(
    console: Console, file: Stoppable, pens: list[Pen], autojump_clock: MockClock
) -> None:
    file.stop()
    with RichProgress(6, console=console) as progress:
        await crawl(progress)
        assert trio.current_time() == 12
    (pen,) = pens
    assert pen.alive
    assert file.lines() == []
    file.goes_on.set()
    drawn(pen)
    assert file.lines()[-1] == "6/6, 6 succeeded, 0.5/s, 12.0 s"
    assert len(file.lines()) < 5, "a frame was not dropped"
    assert file.getvalue().count(HIDE) == file.getvalue().count(SHOW)


async def test_what_was_dropped_last_is_made_up_for(
    console: Console, file: Stoppable, autojump_clock: MockClock
) -> None:
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                file.stop()
                await cm.run(trio.sleep, 7)
                while not file.waits.is_set():
                    await trio.sleep(1)
                await cm.run(trio.sleep, 1)
                await cm.wait()
                await trio.sleep(100)
                assert "2 done" not in file.getvalue()
                file.goes_on.set()
                while "2 done" not in file.getvalue():
                    await trio.sleep(1)
                pen = progress._display._drawing._pen  # type: ignore[union-attr]  # it is there
                assert pen.idle.wait(10)
                await trio.sleep(10)
                assert pen.idle.wait(10)
                before = file.getvalue()
                await trio.sleep(1000)
                assert file.getvalue() == before


async def test_who_has_given_up_once_begins_no_other_drawing_until_somebody_reads(
    console: Console, file: Stoppable, pens: list[Pen], autojump_clock: MockClock
) -> None:
    progress = RichProgress(2, console=console)
    file.stop()
    for total in (2, 4, 6):
        progress.total = total
        await crawl(progress, 2)
        assert living_pens() == 1
    assert len(pens) == 1
    file.goes_on.set()
    drawn(pens[0])
    assert file.lines()[-1] == "2/2, 2 succeeded, 0.5/s, 4.0 s"
    progress.total = 8
    await crawl(progress, 2)
    drawn(pens[1])
    assert file.lines()[-1] == "8/8, 8 succeeded, 0.5/s, 16.0 s"
    assert living_pens() == 0


async def test_the_end_waits_a_second_at_most(
    console: Console, file: Stoppable, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[tuple[threading.Thread, float | None]] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", lambda thread, timeout=None: joined.append((thread, timeout)))
        file.stop()
        with RichProgress(0, console=console):
            pass
    ((thread, patience),) = joined
    assert patience == 1.0
    file.goes_on.set()
    thread.join(10)


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "unseen"])
async def test_a_display_that_fails_late_ends_and_leaves_no_thread(
    is_seen: bool,
    console: Console,
    file: Stoppable,
    pens: list[Pen],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """Whether or not that is seen by the next time that it would draw."""
    failed = threading.Event()
    fail = drawing.Drawing._fail

    def tell(self: drawing.Drawing) -> None:
        try:
            fail(self)
        finally:
            failed.set()

    monkeypatch.setattr(drawing.Drawing, "_fail", tell)
    progress = RichProgress(6, console=console)
    file.stop()

    async def close() -> None:
        while not file.waits.is_set():
            await trio.sleep(1)
        file.close()
        file.goes_on.set()
        if is_seen:
            assert failed.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        await crawl(progress)
    for pen in pens:
        drawn(pen)
    assert living_pens() == 0


async def test_without_threads_it_just_ends(
    console: Console, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with RichProgress(6, console=console) as progress:
        await crawl(progress)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


# What others print


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_standard_output_is_given_back_at_once(
    file: Stoppable, pens: list[Pen], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    console = Console(file=file, force_terminal=True, width=80, color_system=None, _environ={})
    with RichProgress(6, console=console) as progress:
        print("above")
        print("rest", end="")
        file.stop()
        await crawl(progress)
    assert pens[0].alive
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    print("plain")
    file.goes_on.set()
    drawn(pens[0])
    assert stdout.getvalue() == "plain\n"
    assert [line for line in file.lines() if line in ("above", "rest")] == ["above", "rest"]
    assert file.lines()[-1] == "6/6, 6 succeeded, 0.5/s, 12.0 s"


async def test_what_somebody_else_made_standard_output_stays(
    file: Stoppable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    console = Console(file=file, force_terminal=True, width=80, _environ={})
    mine = io.StringIO()
    with RichProgress(0, console=console):
        with redirect_stdout(mine):
            progress = RichProgress(0, console=console)
            with progress:
                pass
            assert sys.stdout is mine
        monkeypatch.setattr(sys, "stdout", mine)
    assert sys.stdout is mine


def test_a_forked_process_prints_as_ever(file: Stoppable, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    console = Console(file=file, force_terminal=True, width=80, _environ={})
    with RichProgress(0, console=console):
        assert sys.stdout is not stdout
        drawing.leave_to_parent()  # what a fork calls, see the next test
        assert (sys.stdout, sys.stderr) == (stdout, stderr)


# Real ones

PROGRAM = """
import os, sys, time, trio
from rich.console import Console
from trio_conman import ConMan
from trio_conman.progress import RichProgress

class Results:
    def write(self, text):
        os.write({results}, text.encode())

async def crawl(progress, count=20):
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
            for _ in range(count):
                await cm.run(trio.sleep, 0.01)
    print(cm.statistics().succeeded, "succeeded", file=Results())
"""


def full(writer: int) -> int:
    """Write to it until it takes no more."""
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    return writer


def run_unread(code: str, writer: int) -> tuple[int, list[str]]:
    """Run a program whose standard output and error nobody reads; return its exit status and results."""
    results, write_results = os.pipe()
    # Unbuffered files have no locks for which the end of a program could wait.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open(results) as lines:  # noqa: PTH123  # no path
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("{results}", str(write_results)) + code],
            stdin=writer,
            stdout=writer,
            stderr=writer,
            pass_fds=[write_results],
            env=environment | {"TERM": "xterm"},
            timeout=60,
            check=False,
        )
        os.close(write_results)
        return done.returncode, lines.read().splitlines()


@pytest.mark.parametrize(
    "console", ["None", "Console()", "Console(stderr=True)", "Console(file=sys.__stderr__)"]
)
def test_a_terminal_that_nobody_reads(console: str) -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    code = f"with RichProgress(20, console={console}) as progress: trio.run(crawl, progress)"
    assert run_unread(code, full(slave)) == (0, ["20 succeeded"])
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("code", ["trio.run(crawl, RichProgress(20))", "trio.run(crawl, RichProgress())"])
def test_a_pager_that_is_stopped(code: str) -> None:
    reader, writer = os.pipe()
    assert run_unread(code, full(writer)) == (0, ["20 succeeded"])
    os.close(writer)
    os.close(reader)


def test_a_fork_while_a_drawing_is_stuck() -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    code = """
import warnings
warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside a thread
stdout = sys.stdout
with RichProgress(20):
    assert sys.stdout is not stdout
    if not (child := os.fork()):
        os._exit(3 if sys.stdout is stdout else 4)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child", status, file=Results())
"""
    assert run_unread(code, full(slave)) == (0, ["child 3"])
    os.close(slave)
    os.close(master)


@pytest.mark.slow
def test_the_loop_keeps_its_pace_beside_a_terminal_that_nobody_reads() -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    code = """
late = 0.0

async def main():
    async with trio.open_nursery() as nursery:
        async def beat():
            global late
            while True:
                due = time.perf_counter() + 0.01
                await trio.sleep(0.01)
                late = max(late, time.perf_counter() - due)
        nursery.start_soon(beat)
        with RichProgress(400) as progress:
            await crawl(progress, 400)
            nursery.cancel_scope.cancel()

trio.run(main)
print("in time" if late < 0.3 else f"{late} s late", file=Results())
"""
    assert run_unread(code, full(slave)) == (0, ["400 succeeded", "in time"])
    os.close(slave)
    os.close(master)


# Past the buffer


@pytest.fixture
def real(tmp_path: Path) -> Iterator[io.TextIOWrapper]:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        yield file


def test_it_writes_past_the_buffer_of_a_file_and_in_order(real: io.TextIOWrapper) -> None:
    console = Console(file=real, width=80, _environ={})
    with RichProgress(description="pages", console=console) as progress:
        real.write("before\n")
        with drawing.written_through(console):
            assert console.file is not real
            assert (console.file.fileno(), console.encoding) == (real.fileno(), "utf-8")
            with drawing.written_through(console):
                console.print("within ✓")
        assert console.file is real
        real.write("after\n")
    assert progress.console is console
    assert Path(real.name).read_text(encoding="utf-8").splitlines() == [
        "before",
        "within ✓",
        "after",
        "pages: 0 done, 0 succeeded, 0.0 s",
    ]


def test_a_console_that_looks_up_the_standard_file_still_does(
    real: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(width=80, _environ={})
    monkeypatch.setattr(sys, "stdout", real)
    with RichProgress(description="pages", console=console):
        pass
    with redirect_stdout(io.StringIO()) as other:
        console.print("after")
    assert other.getvalue() == "after\n"
    assert Path(real.name).read_text(encoding="utf-8") == "pages: 0 done, 0 succeeded, 0.0 s\n"
    gc.collect()
    assert not real.closed
