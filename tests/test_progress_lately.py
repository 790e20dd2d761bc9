"""What the progress display tells of lately: the rate, and pauses; and where: narrow, wide, in a notebook."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import trio
from rich.cells import cell_len
from rich.console import Console
from trio.testing import MockClock

from tests.test_progress import drawn_at_once, looks, plain_file, shown, sleep, terminal, written
from trio_conman import ConMan, RateLimiter, RetriableError
from trio_conman._leaves.drawing import Look, table
from trio_conman._leaves.pace import Pace
from trio_conman.progress import RichProgress, _clock, _per_time

__all__ = ["drawn_at_once"]  # a fixture


class Flushed(io.StringIO):
    """Shows no more than was flushed, as the file of a notebook does."""

    shown = ""

    def flush(self) -> None:
        self.shown = super().getvalue()

    def getvalue(self) -> str:
        return self.shown


def notebook(*, force_terminal: bool | None = None) -> Console:
    return Console(file=Flushed(), force_jupyter=True, force_terminal=force_terminal, _environ={})


# The rate


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    pace.begin(0, 0)
    for second in range(1, 101):
        pace.note(second, 10 * second)
    for second in range(101, 131):
        pace.note(second, 1000 + second - 100)
    assert pace.rate(130, 1030) == 1
    assert pace.rate(130, 1030) == 1


def test_a_pace_does_not_look_further_back() -> None:
    pace = Pace()
    pace.begin(0, 0)
    pace.note(100, 1000)
    assert pace.rate(129, 1029) == 1029 / 129
    assert pace.rate(130, 1030) == 1


def test_a_pace_is_that_of_ten_where_these_take_longer() -> None:
    pace = Pace()
    pace.begin(0, 0)
    for number in range(1, 31):
        pace.note(number * 60, number)
    assert pace.rate(30 * 60, 30) == 1 / 60
    assert pace.rate(60 * 60, 30) == 10 / (40 * 60)  # nothing comes any more: it fades


def test_a_pace_keeps_no_more_than_it_needs() -> None:
    pace = Pace()
    pace.begin(0, 0)
    for tenth in range(100_000):
        pace.note(tenth / 10, tenth)
    assert len(pace._marks) < 40
    for tenth in range(100_000):
        pace.note(10_000 + tenth, 100_000)  # none that counts
    assert len(pace._marks) < 40


@pytest.mark.parametrize("when", [0, -5, 1e-9])
def test_no_time_and_the_time_of_another_clock_tell_nothing(when: float) -> None:
    pace = Pace()
    assert pace.rate(when, 3) == 0
    pace.begin(0, 0)
    assert pace.rate(when, 3) == 0


@pytest.mark.parametrize(
    "rate, told",
    [(0, ""), (0.5, "0.5/s"), (0.49, "29.4/min"), (0.5 / 60, "0.5/min"), (0.4 / 60, "24.0/h")],
)
def test_a_rate_has_the_unit_that_suits_it(rate: float, told: str) -> None:
    assert _per_time(rate) == told


@pytest.mark.parametrize(
    "seconds, told", [(0.4, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00")]
)
def test_a_time_has_hours_where_there_are_some(seconds: float, told: str) -> None:
    assert _clock(seconds) == told


async def test_the_time_left_follows_from_the_rate_of_lately(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(140, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                for _ in range(100):
                    await cm.run(sleep, 0.21)
                for _ in range(40):
                    await cm.run(sleep, 4.01)
    lines = written(console).splitlines()
    assert (lines[1], lines[9], lines[-2], lines[-1]) == (
        "94/140, 2 running, 9.4/s, 0:05 left",
        "118/140, 2 running, 28.6/min, 0:46 left",
        "138/140, 2 running, 28.7/min, 0:04 left",
        "140/140, 140 succeeded, 1.5/s, 1:31",
    )


async def test_a_long_time_without_a_task_is_no_part_of_it(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                for pause in (20, 1000, 0):
                    for _ in range(12):
                        await cm.run(sleep, 1.03)
                    await cm.wait()
                    await trio.sleep(pause)
    assert written(console).splitlines() == [
        "8 done, 2 running, 1.6/s, 0:05",
        "12 done, 0 running, 1.9/s, 0:06",
        "20 done, 2 running, 0.6/s, 0:31",  # after 20 seconds without
        "24 done, 0 running, 0.7/s, 0:32",
        "32 done, 2 running, 1.6/s, 17:17",  # after 1,000
        "36 done, 36 succeeded, 2.1/min, 17:19",
    ]


async def test_a_long_time_with_a_task_is_part_of_it(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2, instruments=[progress]) as cm:
                for _ in range(4):
                    await cm.run(sleep, 1.03)
                await cm.wait()
                await cm.run(sleep, 70)
                await trio.sleep(60)  # none of them ends
                await cm.run(sleep, 1.03)
    assert written(console).splitlines() == [
        "4 done, 1 running, 0.8/s, 0:05",
        "5 done, 1 running, 4.6/min, 1:05",
        "6 done, 6 succeeded, 5.0/min, 1:12",
    ]


# Pauses


async def test_it_tells_how_long_a_manager_has_been_paused(
    autojump_clock: MockClock, record: list[Any]
) -> None:
    console = terminal()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looks, console, record, 0.65, 1.65, 4.65, 6.65)
        with RichProgress(9, console=console) as progress:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                for _ in range(4):
                    cm.start_soon(sleep, 1)
                await trio.sleep(0.5)
                cm.pause()
                assert progress._paused(trio.current_time()) == "paused for 0:00"
                await trio.sleep(1)
                cm.pause()  # as it is
                await trio.sleep(4)
                cm.resume()
                assert progress._paused(trio.current_time()) == ""
                await trio.sleep(2)
    assert [(when, line.strip("━╸ ")) for when, line in record] == [
        (0.65, "0/9  2 running  paused for 0:00"),
        (1.65, "2/9  0 running  1.2/s  paused for 0:01"),
        (4.65, "2/9  0 running  26.1/min  paused for 0:04"),
        (6.65, "4/9  0 running  0.6/s  0:08 left"),
    ]


async def test_a_pause_while_nothing_else_changes_is_shown(autojump_clock: MockClock) -> None:
    console = plain_file()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 4, instruments=[progress]) as cm:
                await cm.run(sleep, 12)
                await trio.sleep(6)
                cm.pause()
                await trio.sleep(5)
    assert written(console).splitlines() == [
        "0 done, 1 running, 0:05",
        "0 done, 1 running, paused for 0:04",
        "1 done, 1 succeeded, 5.0/min, 12.0 s",
    ]


async def test_it_tells_how_long_a_limiter_still_pauses(autojump_clock: MockClock) -> None:
    async def refused() -> None:
        await trio.sleep(6)
        raise RetriableError("busy", retry_after=12.5)

    console = plain_file()
    with RichProgress(console=console) as progress:
        limiter = RateLimiter.unlimited()
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, rate=limiter, instruments=[progress]) as cm:
                await cm.run(sleep, 11)
                handle = await cm.run(refused)
                await trio.sleep(19)
                handle.cancel()
    assert written(console).splitlines() == [
        "0 done, 2 running, 0:05",
        "0 done, 1 running, paused 0:09",
        "1 done, 0 running, 4.0/min, paused 0:04",
        "2 done, 1 succeeded, 1 cancelled, 1 retry, 6.3/min, 19.0 s",
    ]


async def test_a_pause_of_ages_has_no_end_to_be_told(autojump_clock: MockClock) -> None:
    console = terminal()
    limiter = RateLimiter.unlimited()
    limiter.pause_for(1e300)
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, rate=limiter, instruments=[progress]) as cm:
                await cm.run(sleep, 1)
                await trio.sleep(3.25)
                assert shown(console) == ["0 done  0 running  paused for 0:03"]
                cm.cancel()


async def test_of_several_managers_the_longest_pause_is_told(autojump_clock: MockClock) -> None:
    console = terminal()
    slow, quick = RateLimiter.unlimited(), RateLimiter.unlimited()
    with RichProgress(console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with (
                ConMan[None].open(nursery, 2, name="one", rate=slow, instruments=[progress]) as one,
                ConMan[None].open(nursery, 2, name="two", rate=quick, instruments=[progress]) as two,
            ):
                quick.pause_for(5)
                slow.pause_for(8)
                await one.run(sleep, 1)
                await two.run(sleep, 1)
                for when, told in [(1.25, "0:07"), (6.25, "0:02")]:
                    await trio.sleep_until(when)
                    assert shown(console)[0].endswith(f"paused {told}")
                two.pause()
                await trio.sleep(1)
                assert shown(console)[0].endswith("paused for 0:01")


def test_a_pause_by_the_clock_of_another_run_is_not_told() -> None:
    async def paused(start: float) -> None:
        limiter = RateLimiter.unlimited()
        limiter.pause_for(1000)
        async with trio.open_nursery() as nursery:
            rate = limiter if start else None
            async with ConMan[None].open(nursery, 2, rate=rate, instruments=[progress]) as cm:
                await cm.run(sleep, 6)
                await trio.sleep(7)
                cm.cancel()

    progress = RichProgress(console=(console := plain_file()))
    with progress:
        for start in (1000.0, 0.0):
            clock = MockClock(autojump_threshold=0)
            clock.jump(start)
            trio.run(paused, start, clock=clock)
    assert written(console).splitlines()[:2] == [
        "0 done, 0 running, paused 16:35",
        "1 done, 1 running, 1 cancelled, 0:00",
    ]


# Where there is much, or little, room


def crowded(total: int | None = 5000) -> Look:
    cells = {
        "description": "the pages of the whole site",
        "bar": "",
        "done": "1234/5000",
        "running": "120 of 150 running",
        "recalled": "1000 recalled",
        "failed": "17 failed",
        "cancelled": "3 cancelled",
        "retries": "230 retries",
        "rate": "20.5/s",
        "time": "paused 12:05",
    }
    return Look(cells, 5000, total)


def drawn(width: int, look: Callable[[], Look] = crowded) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, _environ={})
    console.print(table([look()], width - 3))
    return written(console).rstrip("\n")


@pytest.mark.parametrize("width", [80, 81, 90, 100, 120, 160, 200, 300])
def test_from_80_columns_on_the_bar_is_20_wide_at_least(width: int) -> None:
    line = drawn(width)
    assert cell_len(line) <= width - 3
    assert 20 <= line.count("━") + line.count("╸") + line.count("╺") <= 40
    for told in ("1234/5000", "17 failed", "paused 12:05"):
        assert told in line


def test_with_much_room_all_is_told() -> None:
    for told in crowded().cells.values():
        assert told in drawn(200)


@pytest.mark.parametrize("width", [40, 45, 50, 60, 79])
def test_from_40_columns_on_what_matters_stays(width: int) -> None:
    line = drawn(width)
    assert cell_len(line) <= width - 3
    for told in ("1234/5000", "17 failed", "paused 12:05"):
        assert told in line


@pytest.mark.parametrize(
    "width, line",
    [
        (50, "頁面 of th…  1/2  2 running"),
        (40, "頁面 of …  1/2  2 running"),
    ],
)
def test_a_description_has_a_quarter_at_most(width: int, line: str) -> None:
    cells = {"description": "頁面 of the whole site", "bar": "", "done": "1/2", "running": "2 running"}
    assert drawn(width, lambda: Look(cells, 1, None)) == line


def test_what_goes_first() -> None:
    shown = {
        width: [key for key, text in crowded().cells.items() if text[:5] in drawn(width)]
        for width in (40, 80)
    }
    assert shown[40] == ["bar", "done", "failed", "time"]
    assert shown[80] == ["description", "bar", "done", "failed", "time"]


# In a notebook


@pytest.mark.parametrize("force_terminal", [None, True])
async def test_in_a_notebook_it_is_one_line_that_is_written_over(
    force_terminal: bool | None, autojump_clock: MockClock
) -> None:
    console = notebook(force_terminal=force_terminal)
    with RichProgress(4, description="頁面", console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                for _ in range(4):
                    await cm.run(sleep, 0.7)
    texts = [
        "頁面: 0/4, 0 running, 0:00",
        "頁面: 0/4, 2 running, 0:00",
        "頁面: 2/4, 2 running, 2.0/s, 0:01 left",
        "頁面: 4/4, 4 succeeded, 2.9/s, 1.4 s",
    ]
    expected, last = "", 0
    for text in texts:
        expected += f"\r{' ' * last}\r{text}"
        last = cell_len(text)
    assert written(console) == expected + "\n"


async def test_in_a_notebook_rows_share_the_line_and_end_on_lines_of_their_own(
    autojump_clock: MockClock,
) -> None:
    console = notebook()
    with RichProgress(console=console) as progress:
        first, second = progress.row("pages", 1), progress.row("images", 2)
        async with trio.open_nursery() as nursery:
            async with (
                ConMan[None].open(nursery, 2, instruments=[first]) as one,
                ConMan[None].open(nursery, 2, instruments=[second]) as two,
            ):
                await one.run(sleep, 0.7)
                await two.run(sleep, 0.9)
                await two.run(sleep, 0.9)
    assert [part for part in written(console).split("\r") if part.strip()] == [
        "pages: 0/1, 1 running, 0:00; images: 0/2, 2 running, 0:00",
        "pages: 1/1, 1 succeeded, 1.4/s, 0.7 s\nimages: 2/2, 2 succeeded, 2.2/s, 0.9 s\n",
    ]


def test_in_a_notebook_the_block_may_be_around_the_trio_run() -> None:
    async def crawl() -> None:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 0.7)

    with RichProgress(console=(console := notebook())) as progress:
        trio.run(crawl, clock=MockClock(autojump_threshold=0))
        assert written(console).rpartition("\r")[2] == "1 done, 0 running, 1.4/s, 0:01"


def test_a_notebook_that_has_nothing_to_show_shows_nothing() -> None:
    with RichProgress(console=(console := notebook())):
        pass
    assert written(console) == ""


async def test_a_notebook_that_fails_ends_the_display_only(autojump_clock: MockClock) -> None:
    console = notebook()
    console.file.close()
    with RichProgress(1, console=console) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, 2, instruments=[progress]) as cm:
                await cm.run(sleep, 3)
    assert cm.statistics().succeeded == 1
