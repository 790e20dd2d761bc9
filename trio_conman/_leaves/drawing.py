"""What a progress display puts on a console, from the first frame to the last line.

Trio's thread hands over how the rows stand, and a pen draws it. When the console takes nothing, as a terminal
does that nobody reads, the pen is stuck there, frames are dropped, and trio's thread goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import cast, final

import attrs
from rich.cells import cell_len
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trio_conman._base.log import logger

from .pen import Pen

PATIENCE = 1.0  # seconds that the end waits to be drawn

SPARE = 3  # columns: a ^C typed at the end of a full line would wrap it
GAP, LONGEST_BAR = 2, 40
WIDE = 80  # columns: from there on the bar is the last to go, below it what it stands for comes first
SHORTEST_BAR = {True: 20, False: 6}
DROPPED_FIRST = ("rate", "recalled", "retries", "running", "cancelled")
DROPPED_THEN = {
    True: ("description", "failed", "time", "bar"),
    False: ("bar", "description", "time", "failed"),
}
STYLES = {"failed": "red", "cancelled": "yellow", "retries": "yellow"}


class Above(FileProxy):
    """A standard file whose lines go above the drawing."""


@final
@attrs.frozen(eq=False, repr=False)
class Look:
    """How a row stands: what there is to show, in order, of which what is "" is not; and its bar."""

    cells: dict[str, str]
    done: int
    total: int | None


@final
class Drawing:
    """One drawing: live on a terminal, one line over and over in a notebook, and lines elsewhere.

    Its public methods are for trio's thread.
    """

    def __init__(self, console: Console, *, live: bool, over: bool) -> None:
        self.failed = False
        self._console = console
        self._over = 0 if over else None  # columns that the next line is written over
        # Not refreshed by itself, which would be one thread more. Nor does it redirect: it would do so from
        # the pen's thread, at some time or other.
        self._live = (
            Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if live
            else None
        )
        self._above: dict[str, Above] = {}
        self._pen = Pen()
        if live:
            self._redirect()

    @property
    def unread(self) -> bool:
        """Whether its end is still to be drawn."""
        return self._pen.alive

    def show(self, looks: Sequence[Look]) -> bool:
        """Draw a frame; return whether it is not dropped."""
        return self._pen.offer(partial(self._show, looks))

    def write(self, lines: Sequence[str]) -> bool:
        """Write lines; return whether they are not dropped."""
        return self._pen.offer(partial(self._write, lines))

    def end(self, lines: Sequence[str]) -> None:
        """Leave these lines in the place of the drawing, as soon as the console takes them."""
        self._restore()
        self._pen.finish(partial(self._end, lines), PATIENCE)

    def _redirect(self) -> None:
        """What is printed shall go above the drawing."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream) and not isinstance(stream, FileProxy):
                self._above[name] = Above(self._console, stream)
                setattr(sys, name, self._above[name])

    def _restore(self) -> None:
        for name, above in self._above.items():
            if getattr(sys, name) is above:  # and not what somebody else has put there
                setattr(sys, name, above.rich_proxied_file)

    # The pen's thread

    def _show(self, looks: Sequence[Look]) -> None:
        with harmless(self._fail), written_through(self._console):
            live = cast("Live", self._live)
            live.start()
            live.update(table(looks, self._console.width - SPARE), refresh=True)

    def _write(self, lines: Sequence[str]) -> None:
        with harmless(self._fail), written_through(self._console):
            self._print(lines)

    def _end(self, lines: Sequence[str]) -> None:
        with harmless(self._fail), written_through(self._console):
            for above in self._above.values():
                above.flush()  # a line that has not ended would be lost
            if self._live is not None:
                self._live.stop()
            self._print(lines, last=True)

    def _print(self, lines: Sequence[str], *, last: bool = False) -> None:
        if self._over is None:
            for line in lines:
                # As Text, since a description is no markup. A line in a file is not wrapped.
                self._console.print(Text(line), soft_wrap=self._live is None)
            return
        # A notebook takes a carriage return, and nothing else that moves a cursor.
        text = ("\n" if last else "; ").join(lines)
        self._console.file.write(f"\r{' ' * self._over}\r{text}" + "\n" * last)
        self._console.file.flush()
        self._over = cell_len(text)

    def _fail(self) -> None:
        self.failed = True
        self._restore()
        if self._live is not None:
            self._live.stop()


@contextmanager
def harmless(clean_up: Callable[[], None]) -> Generator[None]:
    """Let no failure of the display out."""
    try:
        yield
    except (Exception, SystemExit):  # SystemExit is what rich makes of a broken pipe
        logger.debug("the progress display failed, and ends", exc_info=True)
        with suppress(Exception, SystemExit):
            clean_up()


@contextmanager
def written_through(console: Console) -> Generator[None]:
    """Have a console write past the buffer of its file.

    A write that is stuck would hold the buffer's lock, for which everybody waits who flushes the file. At the
    end of the program logging does, and so does Python, which aborts when it cannot have the lock.
    """
    file = console.file
    if (
        type(file) is not TextIOWrapper
        or not isinstance(file.buffer, BufferedWriter)
        or type(file.buffer.raw) is not FileIO  # a console of Windows has one of another kind
    ):
        yield
        return
    file.flush()  # what was written before comes first
    given = console._file  # None for a console that looks up the standard file each time
    direct = FileIO(file.fileno(), "w", closefd=False)
    console.file = TextIOWrapper(direct, file.encoding, file.errors, write_through=True)
    try:
        yield
    finally:
        console._file = given


def leave_to_parent() -> None:
    """In a forked process there is no pen, and the locks of its drawing may be held for ever."""
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), Above):
            setattr(sys, name, stream.rich_proxied_file)


with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=leave_to_parent)


def table(looks: Sequence[Look], room: int) -> Table:
    """The rows, with the columns for which there is room."""
    is_wide = room + SPARE >= WIDE
    widths = {key: max(cell_len(look.cells[key]) for look in looks) for key in looks[0].cells}
    widths["description"] = min(widths["description"], room // 4)
    widths["bar"] = 0 if all(look.total is None for look in looks) else SHORTEST_BAR[is_wide]
    keys = [key for key, width in widths.items() if width]
    free = room + GAP - sum(widths[key] + GAP for key in keys)
    for key in DROPPED_FIRST + DROPPED_THEN[is_wide]:
        if free < 0 and key in keys:
            keys.remove(key)
            free += widths[key] + GAP
    widths["bar"] = min(LONGEST_BAR, widths["bar"] + max(0, free))
    grid = Table.grid()
    for key in keys:
        grid.add_column(width=widths[key] + (GAP if key != keys[-1] else 0), no_wrap=True)
    for look in looks:
        texts = {key: Text(look.cells[key], STYLES.get(key, "")) for key in keys}
        for key, text in texts.items():
            text.truncate(widths[key], overflow="ellipsis")
        bar = ProgressBar(look.total, look.done, width=widths["bar"]) if look.total is not None else ""
        grid.add_row(*(bar if key == "bar" else text for key, text in texts.items()))
    return grid


def is_terminal(stream: object) -> bool:
    """Whether somebody may look at it; closed files and None are no terminals."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]  # it may not, see below
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
