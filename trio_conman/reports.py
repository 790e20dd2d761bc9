"""Reports: what a person wants to know of many outcomes, in a few lines."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, final

from trio_conman import Failure, Outcome, StopReason, Success

from ._base.checks import check_int, check_type
from ._base.texts import beginning, summary_of

__all__ = ["Tally", "summarize"]

_KINDS = 20  # of failures that are told apart
_OTHERS = "of other kinds"


def summarize(outcomes: Iterable[Outcome[Any]], *, total: int | None = None) -> str:
    """Say how tasks ended: how many, with which errors, after how many retries, and which was the slowest.

    Args:
        outcomes: those of `~trio_conman.ConMan.outcomes`, or any others.
        total: how many tasks there were to do; the report says how many of them have no outcome. Default: as
            many as there are outcomes.

    Returns:
        some lines, without a line break at the end.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: `total` is negative.
    """
    check_type("outcomes", outcomes, Iterable, "an iterable of outcomes")
    tally = Tally(total=total)
    for outcome in outcomes:
        tally.add(outcome)
    return str(tally)


@final
class Tally:
    """The same report of outcomes that come one by one, none of which is kept.

    Failures are of one kind if the types of their errors and their reasons are. Of each kind it keeps the
    text of the first, with that of the first error inside where it is a group, and of 20 kinds at most; the
    others are counted together.

    Where a map is ended by something else than its consumer, its last outcomes are in
    `~trio_conman.ConMan.outcomes`: add them too, or those tasks are told as not started.

    Args:
        total: as for `summarize`.

    Raises:
        TypeError: `total` is of the wrong kind.
        ValueError: `total` is negative.
    """

    __slots__ = (
        "_kinds",
        "_longest",
        "_slowest",
        "_total",
        "cancelled",
        "failed",
        "recalled",
        "retries",
        "succeeded",
    )

    succeeded: int
    """Tasks that returned, those that were recalled from a journal included."""
    recalled: int
    """Tasks that did not run, for a journal knew their values."""
    failed: int
    """Tasks that did not return, those that were cancelled included."""
    cancelled: int
    """Tasks that were cancelled."""
    retries: int
    """Attempts that followed a first one, of all tasks together."""

    def __init__(self, *, total: int | None = None) -> None:
        if total is not None:
            check_int("total", total, minimum=0, others=", or None")
        self.succeeded = self.recalled = self.failed = self.cancelled = self.retries = 0
        self._total = total
        self._kinds: dict[str, tuple[int, str]] = {}  # how many, and the first of them
        self._slowest = ""
        self._longest = -inf

    def add(self, outcome: Outcome[Any]) -> None:
        """Count an outcome.

        Raises:
            TypeError: it is none.
        """
        check_type("outcome", outcome, (Success, Failure), "a Success or a Failure")
        self.retries += outcome.retries
        if outcome.elapsed > self._longest:
            self._longest, self._slowest = outcome.elapsed, _which(outcome)
        if isinstance(outcome, Success):
            self.succeeded += 1
            self.recalled += outcome.recalled
            return
        self.failed += 1
        self.cancelled += outcome.reason is StopReason.CANCELLED
        kind = f"{beginning(type(outcome.error).__qualname__)}, {outcome.reason.value}"
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = _OTHERS
        count, first = self._kinds.get(kind) or (0, _first(outcome))
        self._kinds[kind] = count + 1, first

    def __str__(self) -> str:
        ended = self.succeeded + self.failed
        lines = [
            f"succeeded    {self.succeeded:,}{_of_them(self.recalled, 'recalled')}",
            f"failed       {self.failed:,}{_of_them(self.cancelled, 'cancelled')}",
        ]
        for kind, (count, first) in sorted(self._kinds.items(), key=lambda each: -each[1][0]):
            lines.append(f"{'':13}{count:,} x {kind}; the first: {first}")
        if self._total is not None and self._total > ended:
            lines.append(f"not started  {self._total - ended:,}")
        lines.append(f"retries      {self.retries:,}")
        if ended:
            lines.append(f"slowest      {self._longest:.2f} s, {self._slowest}")
        return "\n".join(lines)


def _first(failure: Failure) -> str:
    text = summary_of(failure.error)
    if beginning(failure.name) in text:
        return text
    return f"{_which(failure)}: {text}" if text else _which(failure)


def _which(outcome: Outcome[Any]) -> str:
    """A task; its index, as the items of a map have one name."""
    return f"{beginning(outcome.name)} (index {outcome.index})"


def _of_them(count: int, what: str) -> str:
    return f", {count:,} of them {what}" if count else ""
