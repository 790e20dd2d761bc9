"""What a rate, a budget of retries, and the turns in the line allow, counted anew from outside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from trio_conman import Outcome, StopReason, Success

from .machine_program import Entry

CLOSE = 1e-6


@attrs.define(eq=False)
class RateMeter:
    """When the permits of a rate are due: the textbook's way, without a queue."""

    rate: float
    burst: int
    arrival: float = attrs.field(default=-math.inf, init=False)  # the theoretical one of the next
    paused_at: float = attrs.field(default=math.inf, init=False)
    resumes: float = attrs.field(default=-math.inf, init=False)
    # When it was told to pause last, and when the next attempt was due before.
    told: float = attrs.field(default=-math.inf, init=False)
    due_before: float = attrs.field(default=-math.inf, init=False)

    def due(self) -> float:
        """When the next attempt may start."""
        return max(self.arrival - (self.burst - 1) / self.rate, self.resumes)

    def least_due(self, now: float) -> float:
        """What may have been said of that in this instant, before a pause was told."""
        return self.due_before if now == self.told else self.due()

    def pause_for(self, seconds: float, now: float) -> None:
        if now + seconds > self.resumes:
            self.told, self.due_before = now, self.least_due(now)
            self.paused_at = self.paused_at if now <= self.resumes else now
            self.resumes = now + seconds

    def take(self, now: float) -> str | None:
        """An attempt starts; what is wrong with that."""
        early = self.arrival - (self.burst - 1) / self.rate > now + CLOSE
        paused = self.paused_at < now < self.resumes - CLOSE
        self.arrival = max(self.arrival, now) + 1 / self.rate
        if early or paused:
            return "in a pause of the rate" if paused else "before its permit was due"
        return None


@attrs.define(eq=False)
class BudgetMeter:
    """The tokens of a budget of retries: one for each retry, of which those not made come back."""

    most: float
    ratio: float
    left: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = self.most

    def add(self, tokens: float) -> None:
        self.left = min(self.most, self.left + tokens)

    def scheduled(self) -> str | None:
        """A retry will follow; what is wrong with that."""
        self.left -= 1
        return "a retry, and no token was left" if self.left < 0 else None

    def finished(self, entry: Entry, outcome: Outcome[Any]) -> str | None:
        """A task has ended; what is wrong with how."""
        if isinstance(outcome, Success):
            self.add(self.ratio)
        elif entry.retry_is_due and outcome.reason in {StopReason.DEADLINE, StopReason.MAX_ELAPSED}:
            self.add(1)  # its permit would have come too late
        elif outcome.reason is StopReason.RETRY_BUDGET and self.left >= 1:
            return f"no token, and {self.left} are left"
        return None


@attrs.define(eq=False)
class Wait:
    """Somebody waited for a slot, in one of the two queues, and got it."""

    entry: Entry
    returns: bool
    since: float
    until: float


def waits_of(entries: Sequence[Entry]) -> Iterator[Wait]:
    """All waits for a slot that came to a start."""
    for entry in entries:
        if entry.started is not None:
            yield Wait(entry, False, entry.submitted, entry.starts[0])
            yield from (
                Wait(entry, True, since, entry.starts[attempt])
                for attempt, since in entry.lent.items()
                if attempt < len(entry.starts)
            )


def turns(entries: Sequence[Entry]) -> Iterator[str]:
    """What is wrong with the turns of those who return and those who have not started.

    While somebody waits in each queue they get their slots in turn. So while one waits, of the others at most
    one more than of its own queue get theirs. Ticks in which a wait begins or ends are not looked at, as
    trio's order is chance.
    """
    waits = list(waits_of(entries))
    for wait in waits:
        among = [each.returns is wait.returns for each in waits if wait.since < each.until < wait.until]
        own = sum(among)
        if len(among) - own > own + 1:
            yield f"{len(among) - own} of the other queue to {own} of its own passed {wait}"
    back = sorted((each for each in waits if each.returns), key=lambda wait: wait.since)
    for at, one in enumerate(back):
        for other in back[at + 1 :]:
            if one.since < other.since and one.until > other.until:
                yield f"{other} has passed {one}, who was back before"
