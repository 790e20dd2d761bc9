"""A progress display, with rich: a bar for each manager on a terminal, a line now and then elsewhere.

The hooks only count. A trio system task looks at the counts: at regular times, however many tasks end, and
not at all while no task is unfinished. A thread draws, since a terminal may stand still: only the end waits
for it, and not for long.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from math import ceil, inf
from threading import get_ident
from types import TracebackType
from typing import Any, NoReturn, Self, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection, in_trio_run, spawn_system_task

from trio_conman import Failure, Instrument, Outcome, StopReason, TaskHandle

from ._base.checks import check_int, check_type
from ._base.texts import printable, short

try:
    from rich.console import Console
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "RichProgress needs rich: pip install 'trio-conman[progress]'", name="rich"
    ) from None

from ._leaves.drawing import Drawing, Look, harmless, is_terminal
from ._leaves.pace import RECENT, Pace, per_second

__all__ = ["ProgressRow", "RichProgress"]

ON_TERMINAL, IN_NOTEBOOK, ELSEWHERE = 0.1, 0.5, 5.0  # seconds from one drawing to the next
UNKNOWN_WIDTH = 80  # columns
LONGEST = 3e9  # seconds: what is longer tells nothing


class ProgressRow(Instrument):
    """A row of a display, made by `RichProgress.row`: an instrument, for one manager or more."""

    def __init__(self, display: _Display, description: str | None, total: int | None) -> None:
        check_type("description", description, str | None, "a str")
        self.total = total
        self._description = printable(description or "")
        self._display = display
        self._running: set[TaskHandle[Any]] = set()
        self._submitted = self._succeeded = self._failed = self._cancelled = self._retries = 0
        self._recalled = 0  # of those that succeeded
        self._limit: int | float = inf  # not known, or none
        self._pauses: dict[str, tuple[float, float]] = {}  # by manager: from when until when
        self._started: float | None = None
        self._ended = 0.0
        self._pace = Pace()  # without those that were recalled
        self._changed = False

    @property
    def total(self) -> int | None:
        """How many tasks there will be, or None when that is not known; may be assigned at any time.

        Raises:
            TypeError, ValueError: it is no int, or negative.
        """
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        if total is not None:
            check_int("total", total, minimum=0, others=", or None")
        self._total = total

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        """Count it."""
        now = trio.current_time()
        if self._started is None:
            self._started = now
            self._pace.begin(now, 0)
        elif not (self._unfinished or 0 <= now - self._ended <= RECENT):
            self._pace.begin(now, self._ran)  # long without a task, or by another clock
        self._submitted += 1
        self._count(submitted=True)

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
        """Count it as succeeded, failed, or cancelled, and as recalled where it was."""
        self._running.discard(handle)
        self._ended = trio.current_time()
        if not isinstance(outcome, Failure):
            self._succeeded += 1
            self._recalled += outcome.recalled
        elif outcome.reason is StopReason.CANCELLED:
            self._cancelled += 1
        else:
            self._failed += 1
        self._pace.note(self._ended, self._ran)
        self._count()

    def limit_changed(self, manager: str, limit: int | float) -> None:
        """Show it, with the next drawing."""
        self._limit = limit
        self._changed = True

    def pause_changed(self, manager: str, seconds: float) -> None:
        """Show it, with the next drawing."""
        now = trio.current_time()
        since, until = self._pauses.get(manager, (now, now))
        self._pauses[manager] = since if until == seconds == inf else now, now + seconds
        self._changed = True

    def _count(self, *, submitted: bool = False) -> None:
        self._changed = True
        self._display.count(self, submitted=submitted)

    @property
    def _done(self) -> int:
        return self._succeeded + self._failed + self._cancelled

    @property
    def _ran(self) -> int:
        return self._done - self._recalled

    @property
    def _unfinished(self) -> int:
        return self._submitted - self._done

    @property
    def _complete(self) -> bool:
        return self._done == self._total and not self._unfinished

    def _seconds(self, now: float) -> float:
        if self._started is None:
            return 0.0
        seconds = (now if self._unfinished else self._ended) - self._started
        return seconds if 0 <= seconds <= LONGEST else 0.0  # the clock of another trio run

    def _paused(self, now: float) -> str:
        """Whether it is paused, and for how long: so far, or from now on where that is known."""
        pauses = [(until, since) for since, until in self._pauses.values() if since <= now < until]
        if not pauses:
            return ""
        until, since = max(pauses)
        if until - now > LONGEST:
            return f"paused for {_clock(now - since)}"
        return f"paused {_clock(ceil(until - now))}"

    def _look(self, now: float) -> Look:
        return Look(self._cells(now), self._done, self._total)

    def _cells(self, now: float) -> dict[str, str]:
        done, total = self._done, self._total
        rate = self._pace.rate(now if self._unfinished else self._ended, self._ran)
        limit = "" if self._limit == inf else f" of {self._limit}"
        retries = "1 retry" if self._retries == 1 else f"{self._retries} retries"
        # Compared first: an int may be too large to be divided by a float.
        left = (total - done) / rate if total is not None and 0 < total - done <= rate * LONGEST else None
        return {
            "description": self._description,
            "bar": "",
            "done": f"{done} done" if total is None else f"{done}/{short(total)}",
            "running": f"{len(self._running)}{limit} running",
            "recalled": f"{self._recalled} recalled" if self._recalled else "",
            "failed": f"{self._failed} failed" if self._failed else "",
            "cancelled": f"{self._cancelled} cancelled" if self._cancelled else "",
            "retries": retries if self._retries else "",
            "rate": _per_time(rate),
            "time": self._paused(now)
            or (_clock(self._seconds(now)) if left is None else f"{_clock(left)} left"),
        }

    def _text(self, now: float, *, ended: bool) -> str:
        """How it stands, or how it ended, without a bar."""
        cells = self._cells(now)
        if ended:
            seconds, total = self._seconds(now), self.total
            cells["running"] = f"{self._succeeded} succeeded"
            cells["rate"] = _per_time(per_second(self._ran, seconds))
            cells["time"] = f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)
            if self._unfinished or (total is not None and self._done < total):
                cells["time"] = f"stopped after {cells['time']}"
        description = cells.pop("description")
        return (f"{description}: " if description else "") + ", ".join(filter(None, cells.values()))


@final
class RichProgress(ProgressRow):
    """Shows how far the tasks of managers are: an instrument, to be given to `trio_conman.ConMan.open`.

    On a terminal it is a row that is redrawn ten times a second: a bar and the time left when `total` is
    known, the counts, the rate. What is printed meanwhile goes above it. A narrow terminal shows less. In a
    notebook it is one line that is written anew twice a second. Elsewhere it is a plain line every 5 seconds,
    if something has changed. In the end a line tells how all ended. A display that fails, because its
    terminal is gone for example, just ends.

    Open it with ``with`` around the managers: leaving the block ends the display. Without, it ends, and tells
    that once, when all is done: no task is unfinished, and exactly as many have ended as the totals of all
    rows say. It begins anew when a further task is submitted. Otherwise it ends together with the trio run.

    It is drawn in a thread. A terminal that takes nothing, since nobody reads it or its output is stopped,
    holds up no task: what should have been drawn meanwhile is left out. The end waits for it, but at most a
    second; then the program goes on, and the last line comes when the terminal is read again, if the program
    still runs. What the program itself prints there does wait, as ever, on trio's thread too.

    Cancelled tasks are not among the failed ones here, and a task that waits for a permit of a rate limiter
    does not count as running. The rate is that of the last half minute, or of the last ten tasks where they
    took longer, without those that were recalled by a journal; the time left follows from it. In its place
    stands for how long the manager has been paused, or a rate limiter still pauses; managers that share a row
    need names of their own for that, by which pauses are told. In the end it is the average. Its times hold
    within one trio run; of several at once, in threads, each needs a display of its own. The limit of a
    manager is shown when it has changed, from the start where it is a `trio_conman.AdaptiveLimit`.

    Args:
        total: how many tasks there will be. Default: not known, so there is no bar.
        description: what they are, at the head of the row. Default: nothing.
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
        check_type("console", console, Console | None, "a rich.console.Console")
        self.console = _StandardError() if console is None else console
        super().__init__(_Display(self.console), description, total)
        if total is not None or description is not None:
            self._display.rows.append(self)

    def row(self, description: str, total: int | None = None) -> ProgressRow:
        """Add a row, an instrument of its own, so that several managers are shown in one display.

        Args:
            description: what its tasks are.
            total: how many there will be. Default: not known.

        Raises:
            TypeError, ValueError: as for the class.
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
            force_terminal=None if is_terminal(sys.stderr) else False,
            # What is printed by others shall look as ever.
            markup=False,
            emoji=False,
            highlight=False,
        )
        if not self.width:  # where COLUMNS is 0 nothing would be written, not even what the program prints
            self.width = UNKNOWN_WIDTH

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich's own closes standard output, and ends the program


@final
class _Display:
    """Has the rows drawn: when that begins, and when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: list[ProgressRow] = []
        self._notebook = console.is_jupyter
        self._terminal = (
            console.is_terminal
            and console.is_interactive
            and not (console.is_dumb_terminal or self._notebook)
        )
        self._interval = IN_NOTEBOOK if self._notebook else ON_TERMINAL if self._terminal else ELSEWHERE
        self._drawing: Drawing | None = None
        self._last: Drawing | None = None
        self._within = False  # a with block
        self._over = False  # the block was left, or the drawing has failed
        self._ended = False  # until a further task is submitted
        self._now = 0.0  # on trio's clock; kept, since leaving the block may come after the trio run
        self._ticker: trio.CancelScope | None = None
        self._thread = 0  # of the ticker
        self._resting = ParkingLot()

    def enter(self) -> None:
        self._within, self._over, self._ended = True, False, False
        self._draw()

    def leave(self) -> None:
        self._end()
        self._within, self._over = False, True

    def count(self, row: ProgressRow, *, submitted: bool) -> None:
        """Something of `row` has changed."""
        if self._ticker is not None and self._thread != get_ident():
            raise RuntimeError(
                "a RichProgress with its rows shows the managers of one trio run at a time: "
                "make another one for those of another thread"
            )
        if row not in self.rows:
            self.rows.append(row)
        self._ended = self._ended and not submitted
        if self._over or self._ended:
            return
        self._now = trio.current_time()
        if self._ticker is None:
            # Another place to rest, as one that has ended elsewhere may still rest in its own run.
            self._ticker, self._thread, self._resting = trio.CancelScope(), get_ident(), ParkingLot()
            self._run = trio.lowlevel.current_trio_token()
            spawn_system_task(self._tick, self._ticker, self._resting)
        self._resting.unpark_all()
        if not self._within and all(row._complete for row in self.rows):
            self._end()

    async def _tick(self, scope: trio.CancelScope, resting: ParkingLot) -> None:
        try:
            with scope:
                while not self._over:
                    await trio.sleep(self._interval)
                    if self._ticker is not scope:  # it has ended, elsewhere
                        break
                    self._now = trio.current_time()
                    if self._draw() and not any(row._unfinished for row in self.rows):
                        await resting.park()
        finally:
            if self._ticker is scope:  # the trio run ends
                self._ticker, self._now = None, trio.current_time()
                if not self._within:
                    self._end()
                elif self._terminal or self._notebook:
                    self._draw()

    def _draw(self) -> bool:
        """Hand over how it stands; return False when that must be tried again."""
        rows = [row for row in self.rows if row._changed or self._terminal or self._notebook]
        drawn = not rows
        with harmless(self._fail):
            if rows and (drawing := self._begun()) is not None:
                if drawing.failed:
                    self._fail()
                elif self._terminal:
                    drawn = drawing.show([row._look(self._now) for row in rows])
                else:
                    drawn = drawing.write([row._text(self._now, ended=False) for row in rows])
        for row in rows:
            row._changed = row._changed and not drawn
        return drawn

    def _end(self) -> None:
        if self._ticker is not None and in_trio_run() and self._thread == get_ident():
            self._ticker.cancel()
            self._now = trio.current_time()
        elif self._ticker is not None:
            with suppress(trio.RunFinishedError):
                self._run.run_sync_soon(self._resting.unpark_all)  # so that it sees that it has ended
        self._ticker = None
        self._ended = True
        with harmless(self._fail):
            if self.rows and (drawing := self._begun()) is not None:
                self._drawing, self._last = None, drawing
                drawing.end([row._text(self._now, ended=True) for row in self.rows])

    def _begun(self) -> Drawing | None:
        """What to draw with: nothing while the end of the last drawing is unread."""
        if self._last is not None and self._last.unread:
            return None
        if self._drawing is None:
            self._drawing = Drawing(self.console, live=self._terminal, over=self._notebook)
        return self._drawing

    def _fail(self) -> None:
        self._over = True


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _per_time(rate: float) -> str:
    if not rate:
        return ""
    if rate >= 0.5:
        return f"{rate:.1f}/s"
    return f"{rate * 60:.1f}/min" if rate * 60 >= 0.5 else f"{rate * 3600:.1f}/h"
