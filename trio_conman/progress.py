"""A progress display, with rich: a bar for each manager on a terminal, a line now and then elsewhere.

The hooks only count. A trio system task draws: at regular times, however many tasks end, without a thread,
and not at all while no task is unfinished.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, NoReturn, Self, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection, spawn_system_task

from trio_conman import Failure, Instrument, Outcome, StopReason, TaskHandle

from ._checks import check_type
from ._log import logger
from ._texts import short

try:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.file_proxy import FileProxy
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "RichProgress needs rich: pip install 'trio-conman[progress]'", name="rich"
    ) from None

__all__ = ["ProgressRow", "RichProgress"]

ON_TERMINAL, ELSEWHERE = 0.1, 5.0  # seconds from one drawing to the next
SPARE = 3  # columns: a ^C typed at the end of a full line would wrap it
GAP, SHORTEST_BAR, LONGEST_BAR = 2, 6, 40
DROPPED_FIRST = ("rate", "retries", "running", "time", "cancelled", "bar", "failed", "description")
STYLES = {"failed": "red", "cancelled": "yellow", "retries": "yellow"}


class ProgressRow(Instrument):
    """A row of a display, made by `RichProgress.row`: an instrument, for one manager or more."""

    total: int | None
    """How many tasks there will be, or None when that is not known; may be assigned at any time."""

    def __init__(self, display: _Display, description: str | None, total: int | None) -> None:
        check_type("description", description, (str, type(None)), "a str")
        if total is not None and (isinstance(total, bool) or not isinstance(total, int)):
            raise TypeError(f"total must be an int of at least 0, or None, not {short(total)}")
        if total is not None and total < 0:
            raise ValueError(f"total must be an int of at least 0, or None, not {short(total)}")
        self.total = total
        # One line, with nothing in it that moves a cursor.
        printable = "".join(char if char.isprintable() else " " for char in description or "")
        self._description = " ".join(printable.split())
        self._display = display
        self._running: set[TaskHandle[Any]] = set()
        self._submitted = self._succeeded = self._failed = self._cancelled = self._retries = 0
        self._started: float | None = None
        self._ended = 0.0
        self._changed = False

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """Count it."""
        self._submitted += 1
        if self._started is None:
            self._started = trio.current_time()
        self._count()

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        """Count it, as a retry when it is not the first."""
        self._running.add(handle)
        self._retries += attempt > 1
        self._count()

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        """Until its next attempt the task does not run."""
        self._running.discard(handle)
        self._count()

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        """Count it as succeeded, failed, or cancelled."""
        self._running.discard(handle)
        self._ended = trio.current_time()
        if not isinstance(outcome, Failure):
            self._succeeded += 1
        elif outcome.reason is StopReason.CANCELLED:
            self._cancelled += 1
        else:
            self._failed += 1
        self._count()

    def _count(self) -> None:
        self._changed = True
        self._display.count(self)

    @property
    def _done(self) -> int:
        return self._succeeded + self._failed + self._cancelled

    @property
    def _unfinished(self) -> int:
        return self._submitted - self._done

    def _seconds(self, now: float) -> float:
        if self._started is None:
            return 0.0
        return (now if self._unfinished else self._ended) - self._started

    def _cells(self, now: float) -> dict[str, str]:
        """What there is to show, in order; what is "" is not."""
        done, total, seconds = self._done, self.total, self._seconds(now)
        rate = done / seconds if seconds else 0.0
        retries = "1 retry" if self._retries == 1 else f"{self._retries} retries"
        left = (total - done) / rate if rate and total is not None and done < total else None
        return {
            "description": self._description,
            "bar": "",
            "done": f"{done} done" if total is None else f"{done}/{total}",
            "running": f"{len(self._running)} running",
            "failed": f"{self._failed} failed" if self._failed else "",
            "cancelled": f"{self._cancelled} cancelled" if self._cancelled else "",
            "retries": retries if self._retries else "",
            "rate": _rate(rate) if rate else "",
            "time": _clock(seconds) if left is None else f"{_clock(left)} left",
        }

    def _text(self, now: float, *, ended: bool) -> str:
        """How it stands, or how it ended, without a bar."""
        cells = self._cells(now)
        if ended:
            seconds, total = self._seconds(now), self.total
            cells["running"] = f"{self._succeeded} succeeded"
            cells["time"] = f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)
            if self._unfinished or (total is not None and self._done < total):
                cells["time"] = f"stopped after {cells['time']}"
        description = cells.pop("description")
        return (f"{description}: " if description else "") + ", ".join(filter(None, cells.values()))


@final
class RichProgress(ProgressRow):
    """Shows how far the tasks of managers are: an instrument, to be given to `trio_conman.ConMan.open`.

    On a terminal it is a row that is redrawn ten times a second: a bar and the time left when `total` is
    known, the counts, the rate. What is printed meanwhile goes above it. A narrow terminal shows less.
    Elsewhere it is a plain line every 5 seconds, if something has changed. In the end a line tells how all
    ended. A display that fails, because its terminal is gone for example, just ends.

    Open it with ``with`` around the managers: leaving the block ends the display. Without, it ends when
    exactly as many tasks have ended as the totals of all rows say, or else together with the trio run.

    Cancelled tasks are not among the failed ones here, and a task that waits for a permit of a rate limiter
    does not count as running. The rate is the average since the first task; the time left follows from it.
    Its times hold within one trio run.

    Args:
        total: how many tasks there will be. Default: not known, so there is no bar.
        description: what they are, at the head of the row.
        console: where to show it; a `rich.console.Console`. Default: standard error, so that the results of
            a program can be piped.

    Raises:
        TypeError, ValueError: a parameter is of a wrong kind, or `total` is negative.
    """

    console: Console
    """Where it is shown. What is printed to it goes above the display."""

    def __init__(
        self,
        total: int | None = None,
        *,
        description: str | None = None,
        console: Console | None = None,
    ) -> None:
        check_type("console", console, (Console, type(None)), "a rich.console.Console")
        self.console = _StandardError() if console is None else console
        super().__init__(_Display(self.console), description, total)
        if total is not None or description is not None:
            self._display.rows.append(self)

    def row(self, description: str, total: int | None = None) -> ProgressRow:
        """Add a row, an instrument of its own, so that several managers are shown in one display.

        Args:
            description: what its tasks are.
            total: how many there will be. Default: not known.
        """
        row = ProgressRow(self._display, description, total)
        self._display.rows.append(row)
        return row

    @enable_ki_protection
    def __enter__(self) -> Self:
        self._display.enter()
        return self

    @enable_ki_protection
    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._display.leave()


class _StandardError(Console):
    """The default: where there is no terminal, no environment variable makes it write as if to one."""

    def __init__(self) -> None:
        super().__init__(
            stderr=True,
            force_terminal=None if _is_terminal(sys.stderr) else False,
            # What is printed by others shall look as ever.
            markup=False,
            emoji=False,
            highlight=False,
        )

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich's own closes standard output, and ends the program


@final
class _Display:
    """Draws the rows: who starts that, and who ends it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: list[ProgressRow] = []
        self._terminal = console.is_terminal and console.is_interactive and not console.is_dumb_terminal
        self._live: Live | None = None
        self._within = False  # a with block
        self._over = False
        self._now = 0.0  # on trio's clock; kept, since leaving the block may come after the trio run
        self._ticker: trio.CancelScope | None = None
        self._resting = ParkingLot()

    def enter(self) -> None:
        self._within, self._over = True, False
        self._draw()

    def leave(self) -> None:
        self._within, self._over = False, True
        self._end()

    def count(self, row: ProgressRow) -> None:
        """Something of `row` has changed."""
        if row not in self.rows:
            self.rows.append(row)
        if self._over:
            return
        self._now = trio.current_time()
        if self._ticker is None:
            self._ticker = trio.CancelScope()
            spawn_system_task(self._tick, self._ticker)
        self._resting.unpark_all()
        if not self._within and all(row._done == row.total for row in self.rows):
            self._end()

    async def _tick(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while not self._over:
                    await trio.sleep(ON_TERMINAL if self._terminal else ELSEWHERE)
                    self._now = trio.current_time()
                    self._draw()
                    if not any(row._unfinished for row in self.rows):
                        await self._resting.park()
        finally:
            if self._ticker is scope:  # the trio run ends
                self._ticker = None
                if not self._within:
                    self._end()
                elif self._terminal:
                    self._draw()

    def _draw(self) -> None:
        with self._harmless():
            if self._terminal and self.rows:
                live = self._live
                if live is None:
                    live = self._live = Live(
                        console=self.console,
                        auto_refresh=False,  # which would be a thread
                        transient=True,
                        redirect_stdout=_is_terminal(sys.stdout),
                        redirect_stderr=_is_terminal(sys.stderr),
                    )
                    live.start()
                live.update(self._table(), refresh=True)
            for row in self.rows:
                if row._changed and not self._terminal:
                    self._print(row._text(self._now, ended=False))
                row._changed = False

    def _end(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        with self._harmless():
            if self._live is not None:
                for stream in (sys.stdout, sys.stderr):
                    if isinstance(stream, FileProxy):
                        stream.flush()  # a line that has not ended would be lost
                self._live.stop()
                self._live = None
            for row in self.rows:
                self._print(row._text(self._now, ended=True))

    @contextmanager
    def _harmless(self) -> Generator[None]:
        try:
            yield
        except (Exception, SystemExit):  # SystemExit is what rich makes of a broken pipe
            self._over = True
            logger.debug("the progress display failed, and ends", exc_info=True)
            with suppress(Exception, SystemExit):
                if self._live is not None:
                    self._live.stop()

    def _print(self, line: str) -> None:
        # As Text, since a description is no markup. A line in a file is not wrapped.
        self.console.print(Text(line), soft_wrap=not self._terminal)

    def _table(self) -> Table:
        """The rows, with the columns that the terminal has room for."""
        room = self.console.width - SPARE
        cells = [row._cells(self._now) for row in self.rows]
        widths = {key: max(cell_len(each[key]) for each in cells) for key in cells[0]}
        widths["description"] = min(widths["description"], room // 4)
        widths["bar"] = 0 if all(row.total is None for row in self.rows) else SHORTEST_BAR
        keys = [key for key, width in widths.items() if width]
        free = room + GAP - sum(widths[key] + GAP for key in keys)
        for key in DROPPED_FIRST:
            if free < 0 and key in keys:
                keys.remove(key)
                free += widths[key] + GAP
        widths["bar"] = min(LONGEST_BAR, SHORTEST_BAR + max(0, free))
        table = Table.grid()
        for key in keys:
            table.add_column(width=widths[key] + (GAP if key != keys[-1] else 0), no_wrap=True)
        for row, each in zip(self.rows, cells, strict=True):
            texts = {key: Text(each[key], STYLES.get(key, "")) for key in keys}
            for key, text in texts.items():
                text.truncate(widths[key], overflow="ellipsis")
            bar = ProgressBar(row.total, row._done, width=widths["bar"]) if row.total is not None else ""
            table.add_row(*(bar if key == "bar" else text for key, text in texts.items()))
        return table


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]  # it may not, see below
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _rate(rate: float) -> str:
    if rate >= 0.5:
        return f"{rate:.1f}/s"
    return f"{rate * 60:.1f}/min" if rate * 60 >= 0.5 else f"{rate * 3600:.1f}/h"
