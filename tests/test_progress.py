"""The progress display: what it shows when, on terminals and elsewhere, and what it leaves behind."""

from __future__ import annotations

import io
import math
import os
import random
import re
import signal
import subprocess
import sys
import termios
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import trio
from rich.cells import cell_len
from rich.console import Console
from trio.testing import MockClock

from tests.journaled import Memory
from tests.managed import clean_up_after
from trio_conman import AdaptiveLimit, ConMan, ConManStatistics, Instrument, RetriableError, RetryConfig
from trio_conman._leaves.pen import Pen
from trio_conman.progress import ProgressRow, RichProgress
from trio_conman.testing import FlakyTask

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
RETRY = RetryConfig.linear(initial_delay=1, max_delay=1)


@pytest.fixture(autouse=True)
def drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that draws is waited for, so that it keeps pace with a virtual clock."""
    offer = Pen.offer

    def offer_and_wait(pen: Pen, job: Callable[[], None]) -> bool:
        taken = offer(pen, job)
        assert pen.idle.wait(10)
        return taken

    monkeypatch.setattr(Pen, "offer", offer_and_wait)


def terminal(width: int = 80, file: io.StringIO | None = None) -> Console:
    return Console(
        file=file or io.StringIO(),
        force_terminal=True,
        width=width,
        height=24,
        color_system=None,
        legacy_windows=False,
        _environ={},
    )


def plain_file() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=20, _environ={})


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(console: Console) -> list[str]:
    """The lines of the last drawing."""
    last = written(console).rpartition("\x1b[2K")[2]
    return [line.rstrip() for line in re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", last).splitlines()]


async def sleep(seconds: float) -> None:
    await trio.sleep(seconds)


def pages() -> list[Callable[[], Awaitable[Any]]]:
    """Six tasks: four of them succeed, one of those after two retries. None ends at a time of drawing."""
    busy = RetriableError(OSError("busy"))
    return [
        FlakyTask("page", seconds=1.03),
        FlakyTask(ValueError("[red] no [/] such page"), seconds=1.03),
        FlakyTask(busy, busy, "page", seconds=1.03),
        FlakyTask("page", seconds=1.03),
        FlakyTask(LookupError(), seconds=2.06),
        FlakyTask("page", seconds=3.09),
    ]


async def crawl(*instruments: Instrument) -> ConManStatistics:
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, 2, retry=RETRY, instruments=instruments) as cm:
            for page in pages():
                await cm.run(page)
    return cm.statistics()


async def looks(console: Console, record: list[Any], *times: float) -> None:
    for time in times:
        await trio.sleep(time - trio.current_time())
        record.append((time, *shown(console)))


def refuses_writes() -> io.StringIO:
    class Refuses(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("the terminal is gone")

    return Refuses()


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code], text=True, timeout=60, check=False, **options
    )


PROGRAM = """
import sys, threading, trio
from trio_conman import ConMan
from trio_conman.progress import RichProgress

async def task(i):
    await trio.sleep(0.02)
    print("result", i, flush=True)

async def crawl(*instruments, fn=task):
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, 2, instruments=instruments) as cm:
            for i in range(6):
                await cm.run(fn, i)
"""
RESULTS = [f"result {i}" for i in range(6)]


# On a terminal


async def test_a_terminal_of_80_columns(autojump_clock: MockClock, record: list[Any]) -> None:
    console = terminal()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks, console, record, 0.05, 0.95, 1.55, 2.55, 4.55, 6.55)
        with RichProgress(6, description="pages", console=console) as progress:
            await crawl(progress)
    assert record == [
        (0.05, "pages                                            0/6  0 running  0:00"),
        (0.95, "pages                                            0/6  2 running  0:01"),
        (1.55, "pages  ━━━━━━━━╸                   2/6  2 running  1 failed  1.3/s  0:03 left"),
        (2.55, "pages  ━━━━━━━━━━━━━               3/6  2 running  1 failed  1.2/s  0:03 left"),
        (4.55, "pages  ━━━━━━━━━━━━━━━━          4/6  2 running  2 failed  1 retry  0:02 left"),
        (6.55, "pages  ━━━━━━━━━━━━━━━━━━      5/6  1 running  2 failed  2 retries  0:01 left"),
    ]
    assert shown(console) == ["pages: 6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s"]


async def test_who_is_recalled_is_shown_apart_and_not_in_the_rate(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    console = terminal()
    journal = Memory({str(n): n for n in range(90)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks, console, record, 0.15, 1.15)
        with RichProgress(100, console=console) as progress:
            async with ConMan[None].open(nursery, 2, instruments=[progress], journal=journal) as cm:
                async with cm.map(lambda n: sleep(1), range(100)) as outcomes:
                    async for _ in outcomes:
                        pass
    assert [line.strip("━╸ ") for _, line in record] == [
        "90/100  2 running  90 recalled  0:00",
        "92/100  2 running  90 recalled  1.8/s  0:04 left",
    ]
    assert shown(console) == ["100/100, 100 succeeded, 90 recalled, 2.0/s, 5.0 s"]


async def test_a_terminal_of_40_columns(autojump_clock: MockClock, record: list[Any]) -> None:
    console = terminal(40)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks, console, record, 0.05, 0.95, 1.55, 2.55, 4.55, 6.55)
        with RichProgress(6, console=console) as progress:
            await crawl(progress)
    assert record == [
        (0.05, "                 0/6  0 running  0:00"),
        (0.95, "                 0/6  2 running  0:01"),
        (1.55, "━━━╸         2/6  1 failed  0:03 left"),
        (2.55, "━━━━━╸       3/6  1 failed  0:03 left"),
        (4.55, "━━━━━━━      4/6  2 failed  0:02 left"),
        (6.55, "━━━━━━━━━    5/6  2 failed  0:01 left"),
    ]
    assert shown(console) == ["6/6, 4 succeeded, 2 failed, 2 retries,", "0.8/s, 7.2 s"]


@pytest.mark.parametrize("width", [1, 5, 10, 15, 20, 25, 30, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("total", [0, 3, 6, None])
async def test_no_drawing_is_wider_than_the_terminal(
    width: int, total: int | None, autojump_clock: MockClock
) -> None:
    console = terminal(width)
    with RichProgress(total, description="頁面 of the whole site", console=console) as progress:
        await crawl(progress, progress.row("b", 10))
    drawings = written(console).rpartition(SHOW)[0].split("\r")
    assert len(drawings) > 50
    for drawing in drawings:
        lines = re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", drawing).strip("\n").split("\n")
        assert len(lines) <= 2
        assert all(cell_len(line) <= (width - 3 if width >= 15 else width) for line in lines)


async def test_a_drawing_follows_within_a_tenth_of_a_second_and_none_without_need(
    autojump_clock: MockClock,
) -> None:
    console = terminal()
    with RichProgress(console=console) as progress:
        assert written(console) == ""
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 50, instruments=[progress]) as cm:
                for _ in range(50):
                    cm.start_soon(sleep, 0.55)
                await trio.sleep(0.15)
                assert shown(console) == ["0 done  50 running  0:00"]
                await cm.wait()
                await trio.sleep(0.15)
                assert shown(console) == ["50 done  0 running  90.9/s  0:01"]
                before = written(console)
                await trio.sleep(1000)
                assert written(console) == before
                await cm.run(sleep, 0.55)
                await trio.sleep(0.15)
                assert shown(console) == ["50 done  1 running  16:41"]  # the rate is of lately
    assert shown(console) == ["51 done, 51 succeeded, 3.1/min, 16:41"]


async def test_several_managers_in_one_display(autojump_clock: MockClock, record: list[Any]) -> None:
    console = terminal()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks, console, record, 0.55, 2.55)
        with RichProgress(console=console) as progress:
            first, second = progress.row("pages", 6), progress.row("images of these")
            async with trio.open_nursery() as managers:
                managers.start_soon(crawl, first)
                managers.start_soon(crawl, second)
    assert record == [
        (
            0.55,
            "pages                                                 0/6     2 running  0:00",
            "images of these                                       0 done  2 running  0:00",
        ),
        (
            2.55,
            "pages            ━━━━━━━━━━            3/6     2 running  1 failed  0:03 left",
            "images of these                        3 done  2 running  1 failed  0:03",
        ),
    ]
    assert shown(console) == [
        "pages: 6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s",
        "images of these: 6 done, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s",
    ]


async def test_the_total_may_become_known_later_and_be_wrong(autojump_clock: MockClock) -> None:
    console = terminal()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 1)
                progress.total = 2
                await cm.run(sleep, 2)
                await trio.sleep(1.75)
                assert shown(console) == [
                    "━━━━━━━━━━━━━━━━━━━━                      1/2  1 running  0.6/s  0:02 left"
                ]
                await cm.run(sleep, 1)
    assert shown(console) == ["3/2, 3 succeeded, 1.1/s, 2.8 s"]


async def test_it_shows_a_limit_that_changes(autojump_clock: MockClock) -> None:
    console = plain_file()

    async def refused() -> None:
        await trio.sleep(6)
        raise RetriableError("busy", retry_after=1)

    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, AdaptiveLimit(initial=4), instruments=[progress]) as cm:
                await cm.run(sleep, 12)
                handle = await cm.run(refused)
                await trio.sleep(7.5)
                handle.cancel()
                await trio.sleep(3.5)
                cm.limit = 9
    assert written(console).splitlines() == [
        "0 done, 2 of 4 running, 0:05",
        "1 done, 1 of 2 running, 1 cancelled, 1 retry, 6.0/min, 0:10",
        "2 done, 1 succeeded, 1 cancelled, 1 retry, 10.0/min, 12.0 s",
    ]


async def test_a_limit_that_changes_while_nothing_else_does_is_shown(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 4, instruments=[progress]) as cm:
                await cm.run(sleep, 12)
                await trio.sleep(6)
                cm.limit = 9
    assert written(console).splitlines() == [
        "0 done, 1 running, 0:05",
        "0 done, 1 of 9 running, 0:10",
        "1 done, 1 succeeded, 5.0/min, 12.0 s",
    ]


async def test_hours(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(2, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 3602)
                await cm.run(sleep, 7204)
    assert written(console).splitlines() == [
        "0/2, 2 running, 0:05",
        "1/2, 1 running, 1.0/h, 1:00:05 left",
        "2/2, 2 succeeded, 1.0/h, 2:00:04",
    ]


# Elsewhere


async def test_a_file_gets_a_line_now_and_then_and_no_control_characters(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(6, description="pages", console=console) as progress:
        await crawl(progress)
        await trio.sleep(100)
    assert written(console).splitlines() == [
        "pages: 4/6, 2 running, 2 failed, 1 retry, 0.8/s, 0:02 left",
        "pages: 6/6, 0 running, 2 failed, 2 retries, 0.8/s, 0:07",
        "pages: 6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s",
    ]


async def test_a_file_gets_no_line_of_what_has_not_changed(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(console=console) as progress:
        first, second = progress.row("a"), progress.row("b")
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[first]) as cm:
                await cm.run(sleep, 23)
                async with ConMan.open(nursery, 2, instruments=[second]) as other:
                    for _ in range(4):
                        await other.run(sleep, 6)
    assert written(console).splitlines() == [
        "a: 0 done, 1 running, 0:05",
        "b: 0 done, 2 running, 0:05",
        "b: 2 done, 2 running, 12.0/min, 0:10",
        "b: 4 done, 0 running, 20.0/min, 0:12",
        "a: 1 done, 1 succeeded, 2.6/min, 23.0 s",
        "b: 4 done, 4 succeeded, 20.0/min, 12.0 s",
    ]


@pytest.mark.parametrize(
    "environment, interactive",
    [({"TERM": "dumb"}, None), ({"TERM": "dumb"}, True), ({"TTY_INTERACTIVE": "0"}, None)],
)
async def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    environment: dict[str, str], interactive: bool | None, autojump_clock: MockClock
) -> None:
    console = Console(
        file=io.StringIO(), force_terminal=True, force_interactive=interactive, _environ=environment
    )
    if console.is_interactive and not interactive:
        pytest.skip("this release of rich does not look at the variable")
    with RichProgress(6, console=console) as progress:
        await crawl(progress)
    assert written(console).splitlines() == [
        "4/6, 2 running, 2 failed, 1 retry, 0.8/s, 0:02 left",
        "6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s",
    ]


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"COLUMNS": "0"}])
def test_by_default_it_is_on_standard_error(environment: dict[str, str]) -> None:
    done = run(
        "with RichProgress(6, description='pages') as progress: trio.run(crawl, progress)",
        capture_output=True,
        env=os.environ | environment,
    )
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, RESULTS)
    assert re.fullmatch(r"pages: 6/6, 6 succeeded, \d+\.\d/s, 0\.\d s\n", done.stderr)


# What it counts


@pytest.mark.parametrize("seed", range(5))
async def test_it_counts_what_the_manager_does(seed: int, autojump_clock: MockClock) -> None:
    chance = random.Random(seed)
    progress = RichProgress(console=plain_file())

    async def task() -> None:
        await trio.sleep(chance.uniform(0, 3))
        if chance.random() < 0.4:
            raise chance.choice([ValueError(), RetriableError("again")])

    def compare() -> None:
        now = cm.statistics()
        assert (
            progress._submitted,
            len(progress._running),
            progress._succeeded,
            progress._failed + progress._cancelled,
            progress._cancelled,
            progress._retries,
        ) == (now.submitted, now.running, now.succeeded, now.failed, now.cancelled, now.retries)

    with progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 4, retry=RETRY, instruments=[progress]) as cm:
                for _ in range(60):
                    handle = cm.start_soon(task)
                    if chance.random() < 0.2:
                        nursery.start_soon(cancel_later, handle, chance.uniform(0, 20))
                for _ in range(100):
                    await trio.sleep(chance.uniform(0, 1))
                    compare()
        compare()
    final, now = written(progress.console).splitlines()[-1], cm.statistics()
    assert now.cancelled and now.retries
    assert final.startswith(
        f"60 done, {now.succeeded} succeeded, {now.failed - now.cancelled} failed, "
        f"{now.cancelled} cancelled, {now.retries} retries, "
    )


async def cancel_later(handle: Any, seconds: float) -> None:
    await trio.sleep(seconds)
    handle.cancel()


async def test_items_of_a_map_count(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(3, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                async with cm.map(sleep, [1, 2, 3]) as outcomes:
                    async for _ in outcomes:
                        pass
    assert written(console) == "3/3, 3 succeeded, 0.8/s, 4.0 s\n"


# How it ends


async def test_what_did_not_end_is_told(autojump_clock: MockClock) -> None:
    console = terminal()
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, 3, instruments=[progress := RichProgress(6, console=console)]) as cm:
            with progress:
                for seconds in (1, 2, 3, 4):
                    await cm.run(sleep, seconds)
                await trio.sleep(1.25)
            assert shown(console) == ["2/6, 2 succeeded, 0.9/s, stopped after 2.2 s"]
    assert shown(console) == ["2/6, 2 succeeded, 0.9/s, stopped after 2.2 s"]


async def test_it_is_told_when_the_block_was_left_though_nothing_was_drawn_lately(
    autojump_clock: MockClock,
) -> None:
    console = plain_file()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(
            nursery, 3, instruments=[progress := RichProgress(console=console)]
        ) as cm:
            with progress:
                await cm.run(sleep, 1)
                await cm.run(sleep, 7)
                await trio.sleep(4)
    assert written(console).splitlines() == ["1 done, 1 succeeded, 15.0/min, stopped after 4.0 s"]


async def test_a_cancelled_manager(autojump_clock: MockClock) -> None:
    console = terminal()
    with RichProgress(6, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, timeout=2.5, instruments=[progress]) as cm:
                for _ in range(4):
                    await cm.run(sleep, 1)
                await cm.run(sleep, 60)
                cm.start_soon(sleep, 60).cancel()
    assert cm.timed_out
    assert shown(console) == ["6/6, 4 succeeded, 1 failed, 1 cancelled, 2.4/s, 2.5 s"]


async def test_an_exception_leaves_a_sane_terminal(autojump_clock: MockClock) -> None:
    console = terminal()
    with pytest.RaisesGroup(KeyError):
        with RichProgress(6, console=console) as progress:
            async with trio.open_nursery() as nursery:
                async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                    await cm.run(sleep, 60)
                    await trio.sleep(1)
                    raise KeyError
    assert written(console).endswith(
        f"\n{SHOW}\r\x1b[1A\x1b[2K1/6, 0 succeeded, 1 cancelled, 1.0/s, stopped after 1.0 s\n"
    )


async def test_without_a_block_it_ends_when_all_have_ended(autojump_clock: MockClock) -> None:
    console = terminal()
    progress = RichProgress(6, console=console)
    assert written(console) == ""
    await crawl(progress)
    assert written(console).endswith("6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s\n")
    assert written(console).count(HIDE) == written(console).count(SHOW) == 1


def test_without_a_block_or_a_total_it_ends_with_the_trio_run() -> None:
    console = terminal()
    trio.run(crawl, RichProgress(console=console), clock=MockClock(autojump_threshold=0))
    assert written(console).endswith(
        f"{SHOW}\r\x1b[1A\x1b[2K6 done, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s\n"
    )


def test_what_ends_after_the_display_is_not_told_anew() -> None:
    """As in a system task, which the end of the run cancels together with that of the display."""

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(clean_up_after, math.inf, 1)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(serve)
        await trio.sleep(1)

    progress = RichProgress(console=(console := plain_file()))
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert progress._cancelled == 1
    assert written(console).splitlines() == ["0 done, 0 succeeded, stopped after 1.0 s"]


def test_the_block_may_be_around_the_trio_run() -> None:
    console = terminal()
    with RichProgress(description="[/] [red]pages\x1b[31m\n", console=console) as progress:
        assert shown(console) == ["[/] [red]pages [31m  0 done  0 running  0:00"]
        trio.run(crawl, progress, clock=MockClock(autojump_threshold=0))
        assert shown(console) == ["[/] [red]pages [31m  6 done  0 running  2 failed  2 retries  0.8/s  0:07"]
    assert shown(console) == ["[/] [red]pages [31m: 6 done, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s"]


async def without_block(
    progress: RichProgress, tasks: int, *, serial: bool = False, grow: bool = False
) -> None:
    """Run tasks that take a second, two at a time or one by one."""
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
            for number in range(1, tasks + 1):
                if grow:
                    progress.total = number
                await cm.run(sleep, 1)
                if serial:
                    await cm.wait()


@pytest.mark.parametrize(
    "total, tasks, options, told",
    [
        (0, 4, {}, ["4/0, 4 succeeded, 2.0/s, 2.0 s"]),
        (0, 4, {"serial": True}, ["4/0, 4 succeeded, 1.0/s, 4.0 s"]),
        (2, 4, {}, ["4/2, 4 succeeded, 2.0/s, 2.0 s"]),
        (2, 3, {"serial": True}, ["2/2, 2 succeeded, 1.0/s, 2.0 s", "3/2, 3 succeeded, 1.0/s, 3.0 s"]),
        (4, 4, {}, ["4/4, 4 succeeded, 2.0/s, 2.0 s"]),
        (0, 4, {"grow": True}, ["4/4, 4 succeeded, 2.0/s, 2.0 s"]),
        (
            0,
            2,
            {"grow": True, "serial": True},
            ["1/1, 1 succeeded, 1.0/s, 1.0 s", "2/2, 2 succeeded, 1.0/s, 2.0 s"],
        ),
        (9, 1, {}, ["1/9, 1 succeeded, 1.0/s, stopped after 1.0 s"]),
    ],
)
def test_without_a_block_the_end_is_told_once_each_time_that_all_is_done(
    total: int, tasks: int, options: dict[str, bool], told: list[str]
) -> None:
    progress = RichProgress(total, console=plain_file())
    trio.run(partial(without_block, progress, tasks, **options), clock=MockClock(autojump_threshold=0))
    assert written(progress.console).splitlines() == told


async def test_no_thread_and_no_task_is_left(autojump_clock: MockClock) -> None:
    threads, tasks = set(threading.enumerate()), trio.lowlevel.current_statistics().tasks_living
    with RichProgress(console=terminal()) as progress:
        await crawl(progress)
        (drawing,) = set(threading.enumerate()) - threads
    assert not drawing.is_alive()
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


def test_the_thread_that_draws_holds_nothing_of_what_it_has_drawn() -> None:
    pen = Pen()
    job = partial(print, end="")
    drawn = weakref.ref(job)
    pen.offer(job)
    del job
    assert drawn() is None
    pen.finish(print, 10)


CTRL_C = """
async def main():
    {with_block}:
        async def stop():
            print("ready", flush=True)
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await crawl(progress, fn=lambda i: trio.sleep(60))

try:
    trio.run(main)
except* KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "block", ["with RichProgress(6) as progress", "progress = RichProgress(6)\n    if True"]
)
def test_ctrl_c_leaves_a_sane_terminal(block: str) -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    output, signalled = b"", False
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + CTRL_C.format(with_block=block)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm", "NO_COLOR": "1"},
    ) as child:
        os.close(slave)
        while chunk := read_terminal(master):
            output += chunk
            if not signalled and b"2 running" in output:
                child.send_signal(signal.SIGINT)
                signalled = True
    os.close(master)
    assert child.returncode == 0
    live, found, after = output.decode().replace("\r\n", "\n").rpartition(SHOW)
    assert found and HIDE in live and HIDE not in after
    assert re.fullmatch(
        r"\r\x1b\[1A\x1b\[2K2/6, 0 succeeded, 2 cancelled, [\d.]+/s, stopped after \d\.\d s\ninterrupted\n",
        after,
    )


def read_terminal(master: int) -> bytes:
    """What a terminal's program writes next; nothing at its end."""
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says it so
        return b""


def test_what_is_printed_meanwhile_goes_above_it_and_is_not_lost() -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    code = """
async def talks(i):
    await trio.sleep(0.2)
    print("[/] :bell: result", i, end="", flush=True)
    print("rest", end="\\n" if i else "")

with RichProgress(6) as progress:
    trio.run(lambda: crawl(progress, fn=talks))
print("after")
"""
    with subprocess.Popen([sys.executable, "-c", PROGRAM + code], stdout=slave, stderr=slave) as child:
        os.close(slave)
        output = b""
        while chunk := read_terminal(master):
            output += chunk
    os.close(master)
    assert child.returncode == 0
    text = output.decode()
    for i in range(6):
        assert f"[/] :bell: result {i}" in text
    assert text.count("rest") == 6
    assert text.endswith(" s\r\nafter\r\n")


def test_what_is_printed_elsewhere_stays_there() -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    code = "with RichProgress(6) as progress: trio.run(crawl, progress)"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code], stdout=subprocess.PIPE, stderr=slave, text=True
    ) as child:
        os.close(slave)
        output = b""
        while chunk := read_terminal(master):
            output += chunk
        assert child.stdout is not None
        assert sorted(child.stdout) == [f"{line}\n" for line in RESULTS]
    os.close(master)
    assert child.returncode == 0
    assert HIDE.encode() in output
    assert b"result" not in output


def test_a_ctrl_c_does_not_come_amid_its_beginning_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with progress:
            note()

    def note() -> None:
        record.append(trio.lowlevel.currently_ki_protected())

    record: list[bool] = []
    progress = RichProgress(console=plain_file())
    monkeypatch.setattr(type(progress._display), "enter", lambda display: note())
    monkeypatch.setattr(type(progress._display), "leave", lambda display: note())
    trio.run(main)
    assert record == [True, False, True]


# A display that fails


@pytest.mark.parametrize("force", [True, False])
async def test_a_display_that_fails_ends_and_nobody_notices(
    force: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    console = Console(file=refuses_writes(), force_terminal=force, width=80, _environ={})
    with RichProgress(6, console=console) as progress:
        statistics = await crawl(progress)
    assert (statistics.succeeded, statistics.failed) == (4, 2)
    assert [each.levelname for each in caplog.records if each.levelname != "DEBUG"] == []


async def test_a_display_that_has_failed_leaves_its_console_to_others_at_once(
    autojump_clock: MockClock,
) -> None:
    console = terminal()
    with RichProgress(1, console=console) as failing:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[failing]) as cm:
                await cm.run(sleep, 1)
                await trio.sleep(0.5)
                console.file = refuses_writes()
        console.file = io.StringIO()
        with RichProgress(6, console=console) as progress:
            await crawl(progress)
        assert shown(console) == ["6/6, 4 succeeded, 2 failed, 2 retries, 0.8/s, 7.2 s"]
        assert written(console).count(HIDE) == 1
        before = written(console)
        await crawl(failing)
        assert written(console) == before
        assert failing._display._ticker is None


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_display_that_has_failed_gives_standard_output_back_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stdout := Tty())
    console = terminal()
    with RichProgress(1, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 1)
                await trio.sleep(0.5)
                assert sys.stdout is not stdout
                console.file = refuses_writes()
                await trio.sleep(0.5)
                assert sys.stdout is stdout


async def test_a_display_in_a_file_leaves_the_terminal_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stdout := Tty())
    console = plain_file()
    with RichProgress(1, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 7)
                await trio.sleep(6)
                assert written(console) == "0/1, 1 running, 0:05\n"
                assert sys.stdout is stdout


@pytest.mark.parametrize("within", [True, False])
async def test_a_file_that_is_closed_meanwhile(within: bool, autojump_clock: MockClock) -> None:
    console = terminal()
    progress = RichProgress(6, console=console)

    async def close() -> None:
        await trio.sleep(2.5)
        console.file.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        if within:
            with progress:
                statistics = await crawl(progress)
        else:
            statistics = await crawl(progress)
    assert (statistics.succeeded, statistics.failed) == (4, 2)


def test_a_broken_pipe_ends_the_display_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(
        "with RichProgress(6) as progress: trio.run(crawl, progress)\nprint('after')",
        stdout=subprocess.PIPE,
        stderr=writer,
    )
    os.close(writer)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["after", *RESULTS])


@pytest.mark.parametrize("code", ["sys.stderr.close()", "sys.stderr = None"])
def test_without_standard_error(code: str) -> None:
    done = run(f"{code}\ntrio.run(crawl, RichProgress(6))", capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == RESULTS


async def test_two_displays_on_one_terminal_harm_nobody(autojump_clock: MockClock) -> None:
    console = terminal()
    with RichProgress(6, console=console) as one, RichProgress(6, console=console) as other:
        statistics = await crawl(one, other)
    assert (statistics.succeeded, statistics.failed) == (4, 2)
    assert written(console).count("6/6, 4 succeeded") == 2
    assert written(console).rpartition(SHOW)[1]


# Numbers beyond all measure


@pytest.mark.parametrize("digits", [31, 401, 5001])
@pytest.mark.parametrize("force", [True, False])
async def test_a_total_that_is_huge(digits: int, force: bool, autojump_clock: MockClock) -> None:
    console = Console(file=io.StringIO(), force_terminal=force, width=200, _environ={})
    with RichProgress(10 ** (digits - 1), console=console) as progress:
        await crawl(progress)
        await trio.sleep(6)
    lines = shown(console) if force else written(console).splitlines()
    assert len(lines) == (1 if force else 3)
    for line in lines:
        assert re.match(r"\d/(1000+\.\.\.0+|<int .*>|10{30}), ", line)
        assert " left" not in line
    assert lines[-1].endswith(", 4 succeeded, 2 failed, 2 retries, 0.8/s, stopped after 7.2 s")


def test_the_clock_of_another_run_starts_elsewhere() -> None:
    console = plain_file()
    progress = RichProgress(99, console=console)
    with progress:
        for start in (1000, 0, 1e10):
            clock = MockClock(autojump_threshold=0)
            clock.jump(start)
            trio.run(crawl, progress, clock=clock)
    assert written(console).splitlines() == [
        "4/99, 2 running, 2 failed, 1 retry, 0.8/s, 1:59 left",
        "10/99, 2 running, 4 failed, 3 retries, 0.8/s, 1:51 left",
        "16/99, 2 running, 6 failed, 5 retries, 0.8/s, 1:44 left",
        "18/99, 12 succeeded, 6 failed, 6 retries, stopped after 0.0 s",
    ]


async def test_a_run_in_another_thread_meanwhile_is_not_shown_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    console = terminal()
    with RichProgress(console=console) as progress:
        first, second = progress.row("here", 1), progress.row("there", 6)
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[first]) as cm:
                await cm.run(crawl_in_thread, second)
    [record] = caplog.records
    assert record.getMessage().startswith("task_submitted of an instrument of type ProgressRow raised")
    assert record.exc_info is not None
    assert str(record.exc_info[1]).startswith(
        "a RichProgress with its rows shows the managers of one trio run "
    )
    assert shown(console)[0].startswith("here: 1/1, 1 succeeded")
    assert shown(console)[1].startswith("there: 0/6, 0 succeeded")


async def crawl_in_thread(row: ProgressRow) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, instruments=[row]) as cm:
            for _ in range(6):
                await cm.run(sleep, 0)
        assert len(cm.outputs()) == 6

    await trio.to_thread.run_sync(trio.run, main)


@pytest.mark.parametrize("within", ["no run", "another run"])
def test_the_block_may_be_left_while_a_run_in_another_thread_goes_on(within: str) -> None:
    """By a Ctrl-C to the main thread, for example, which shall go on."""
    console = terminal()
    begun, left = threading.Event(), threading.Event()

    async def crawl() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 0)
                await cm.wait()
                begun.set()
                await trio.to_thread.run_sync(left.wait)

    def leave() -> None:
        with progress:
            thread.start()
            begun.wait()
            scopes.append(progress._display._ticker)
            raise KeyboardInterrupt

    async def leave_in_run() -> None:
        leave()

    progress = RichProgress(console=console)
    scopes: list[trio.CancelScope | None] = []
    thread = threading.Thread(target=trio.run, args=[crawl])
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(leave_in_run) if within == "another run" else leave()
    finally:
        left.set()
        thread.join()
    assert shown(console)[0].startswith("1 done, 1 succeeded")
    [scope] = scopes
    assert scope is not None
    assert not scope.cancel_called  # which is for its own thread to do


def test_nothing_is_drawn_after_the_block_was_left_while_a_run_in_another_thread_goes_on() -> None:
    console = terminal()
    begun, left = threading.Event(), threading.Event()
    statistics = trio.lowlevel.current_statistics

    async def crawl() -> None:
        may_end = trio.Event()
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(may_end.wait)
                living = statistics().tasks_living
                begun.set()
                await trio.to_thread.run_sync(left.wait)
                while statistics().tasks_living == living:  # until that of the display has ended
                    await trio.sleep(0.01)
                may_end.set()

    progress = RichProgress(console=console)
    thread = threading.Thread(target=trio.run, args=[crawl])
    with progress:
        thread.start()
        begun.wait()
    at_the_end = shown(console)
    left.set()
    thread.join()
    assert shown(console) == at_the_end


def test_a_run_comes_after_one_in_another_thread_that_goes_on_with_nothing_to_show() -> None:
    """It was left behind by the block."""
    console = terminal()
    left, over = threading.Event(), threading.Event()

    async def crawl(ends: threading.Event) -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 0)
            with trio.fail_after(10):
                while progress._display._resting.statistics().tasks_waiting == 0:
                    await trio.sleep(0.01)
            left.set()
            ends.wait()

    progress = RichProgress(console=console)
    thread = threading.Thread(target=trio.run, args=[crawl, over], daemon=True)
    try:
        with progress:
            thread.start()
            left.wait()
        with progress:
            trio.run(crawl, left)
    finally:
        over.set()
        thread.join(10)
    assert not thread.is_alive()
    assert shown(console)[0].startswith("2 done, 2 succeeded")


def test_a_block_that_is_left_in_another_thread_leaves_no_task_behind_in_the_run() -> None:
    rests, left = threading.Event(), threading.Event()

    async def crawl() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 0)
        resting = progress._display._resting
        with trio.fail_after(10):
            while resting.statistics().tasks_waiting == 0:
                await trio.sleep(0.01)
            rests.set()
            await trio.to_thread.run_sync(left.wait)
            while resting.statistics().tasks_waiting == 1:
                await trio.sleep(0.01)

    progress = RichProgress(console=terminal())
    with ThreadPoolExecutor(1) as pool:
        with progress:
            run = pool.submit(trio.run, crawl)
            rests.wait(10)
        left.set()
        run.result()


# What it is given


@pytest.mark.parametrize(
    "total, error", [(-1, ValueError), (True, TypeError), (2.0, TypeError), ("2", TypeError)]
)
def test_a_total_that_is_none_is_refused_later_too(total: Any, error: type[Exception]) -> None:
    progress = RichProgress(6, console=plain_file())
    row = progress.row("images")
    for each in (progress, row):
        with pytest.raises(error, match=rf"^total must be an int of at least 0, or None, not {total!r}$"):
            each.total = total
    assert (progress.total, row.total) == (6, None)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"total": -1}, ValueError, "total must be an int of at least 0, or None, not -1"),
        ({"total": True}, TypeError, "total must be an int of at least 0, or None, not True"),
        ({"total": 2.0}, TypeError, "total must be an int of at least 0, or None, not 2.0"),
        ({"description": 1}, TypeError, "description must be a str, not 1"),
        ({"console": sys.stdout}, TypeError, "console must be a rich.console.Console, not "),
    ],
)
def test_refuses_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        RichProgress(**arguments)


def test_without_rich_it_names_the_extra() -> None:
    code = "import sys; sys.modules['rich'] = None; import trio_conman.progress"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\nModuleNotFoundError: ") == 1
    assert done.stderr.endswith(
        "\nModuleNotFoundError: RichProgress needs rich: pip install 'trio-conman[progress]'\n"
    )
