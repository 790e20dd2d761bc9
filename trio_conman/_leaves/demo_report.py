"""What the demo shows: how things stand while it runs, and how they ended."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import textwrap
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import attrs
import trio

from trio_conman import ConMan, Failure, Outcome, RateLimiter, RetryBudget, Success

from .demo_errors import why

QUIET = 5.0  # seconds that a pipe may be without a line
MOST = 20  # failures in a list

Update: TypeAlias = Callable[[ConMan[int]], None]  # shows how things stand


@attrs.define(eq=False, repr=False)
class Care:
    """What spares the servers, for how long they have made all requests wait, and who has ended it."""

    rate: RateLimiter | None
    budget: RetryBudget
    bytes: RateLimiter | None = None
    paused: float = 0.0  # seconds
    paused_until: float = -math.inf
    came: list[signal.Signals] = attrs.Factory(list)

    def look(self) -> None:
        """See whether there is a pause."""
        now = trio.current_time()
        end = now + self.rate.statistics().paused_for if self.rate is not None else now
        self.paused += max(0, end - max(now, self.paused_until))
        self.paused_until = max(end, self.paused_until)


@contextlib.contextmanager
def lines(total: int, care: Care) -> Generator[Update]:
    """Progress for a file or a pipe: a line for each URL as soon as it has ended, or in a quiet time."""
    print("        retries    time  URL", flush=True)
    shown = 0
    start = last = trio.current_time()

    def update(cm: ConMan[int]) -> None:
        nonlocal shown, last
        time = trio.current_time()
        for outcome in cm.outcomes()[shown:]:
            shown, last = shown + 1, time
            match outcome:
                case Success(value=size):
                    how = "recalled" if outcome.recalled else "ok      "
                    print(f"{how}{columns(outcome)}: {size:,} bytes", flush=True)
                case failure:
                    print(f"failed  {columns(failure)}: {why(failure)}", flush=True)
        if time - last >= QUIET:
            last = time
            print(f"...     {standing(cm, total, care, time - start)}", flush=True)

    yield update


@contextlib.contextmanager
def live_bar(total: int, care: Care) -> Generator[Update]:
    """Progress for a terminal: a bar, with how things stand below, which is gone at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    console = Console()
    start = trio.current_time()

    def update(cm: ConMan[int]) -> None:
        now = cm.statistics()
        table = Table.grid(expand=True)
        table.width = console.width - 3  # leaves room for a ^C
        table.add_row(ProgressBar(total=total, completed=now.succeeded + now.failed))
        table.add_row(standing(cm, total, care, trio.current_time() - start))
        live.update(table, refresh=True)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield update


def standing(cm: ConMan[int], total: int, care: Care, duration: float) -> str:
    """How things stand, on one line."""
    now = cm.statistics()
    paused = ", paused" * (trio.current_time() < care.paused_until)
    return (
        f"{now.succeeded + now.failed}/{total} done, {now.failed} failed, {now.retries} retries, "
        f"{now.running} running, {now.backing_off} backing off, "
        + f"{now.recalled} recalled, " * (now.recalled > 0)
        + f"{duration:.0f} s{paused}"
    )


def columns(outcome: Outcome[int]) -> str:
    """What every outcome has to tell."""
    return f"{outcome.retries:7} {outcome.elapsed:6.2f}s  {outcome.name}"


def summarize(cm: ConMan[int], urls: Sequence[str], care: Care, duration: float) -> None:
    """Print what a person wants to know at the end."""
    outcomes = cm.outcomes()
    print("\nThe time was up:" if cm.timed_out else "\nInterrupted:" if care.came else "")
    sizes = cm.outputs()
    print(f"succeeded    {len(sizes)} of {len(urls)}, {sum(sizes):,} bytes")
    if recalled := cm.statistics().recalled:
        print(f"recalled     {recalled} of these, from the journal")
    print(f"failed       {len(outcomes) - len(sizes)}")
    if len(outcomes) < len(urls):
        print(f"not started  {len(urls) - len(outcomes)}, from {urls[len(outcomes)]} on")
    print(f"retries      {sum(outcome.retries for outcome in outcomes)}")
    if refused := care.budget.statistics().refused:
        print(f"refused      {refused} more retries, as too much failed")
    if care.paused:
        print(f"paused       {math.ceil(care.paused)} s for all, as the server asked")
    print(f"time         {duration:.1f} s")
    if outcomes:
        slowest = max(outcomes, key=lambda outcome: outcome.elapsed)
        print(f"slowest      {slowest.elapsed:.1f} s, {slowest.name}")


def list_failures(cm: ConMan[int], most: int | None) -> None:
    """Print what failed, `most` of it at the most, or all: a terminal has not kept it."""
    failures = [outcome for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    failures.sort(key=lambda failure: failure.index)
    if failures:
        print("\nretries    time  failed")
    indent, width = " " * 17, max(40, shutil.get_terminal_size().columns)
    shown = failures[:most]
    for failure in shown:
        print(columns(failure))
        print(textwrap.fill(why(failure), width, initial_indent=indent, subsequent_indent=indent))
    if more := len(failures) - len(shown):
        print(f"{indent}and {more:,} more (--all shows them)")
