"""A budget that keeps retries a share of the successes, so that a dead service is not stormed."""

from __future__ import annotations

import threading
from typing import NoReturn, final

import attrs

from trio_conman._base.checks import check_number
from trio_conman._base.explained import explained
from trio_conman._base.hidden import refuse_twins


@final
@attrs.frozen(kw_only=True)
class RetryBudgetStatistics:
    """Where a retry budget stands, at one moment."""

    tokens: float
    """What it holds when full."""
    remaining: float
    """What it holds now."""
    ratio: float
    """What each success gives back."""
    refused: int
    """Retries that were not made for want of a whole token."""


@final
class RetryBudget:
    """Retries for which there is a token; may be shared between managers, in several threads too.

    Each retry costs a token, also one that is cancelled before it begins, but none whose permit of a rate
    would be due too late; each task that succeeds gives back `ratio` of one, up to `tokens`. Where there is
    no whole token left the task fails, reason ``RETRY_BUDGET``. So while s tasks succeed, at most ``tokens +
    ratio * s`` retries are made. (Finagle has such budgets, and gRPC its retry throttling.)

    Args:
        tokens: what it holds at first, and at most. Default: 100.
        ratio: what a success gives back. Default: 0.1, one retry for ten successes.

    Raises:
        TypeError: a parameter is of the wrong kind.
        ValueError: a parameter is out of its range.
    """

    __slots__ = ("__weakref__", "_base", "_lock", "_ratio", "_refunds", "_refused", "_tokens")

    @explained()
    def __init__(self, tokens: float = 100, ratio: float = 0.1) -> None:
        self._tokens = check_number("tokens", tokens, finite=True)
        self._ratio = check_number("ratio", ratio, finite=True)
        # What remains is the base and the refunds since; a sum of floats would drift: ten times 0.1 is one.
        self._base = self._tokens
        self._refunds = 0
        self._refused = 0
        self._lock = threading.Lock()  # or two threads would spend the same token

    def __reduce__(self) -> NoReturn:
        refuse_twins(self)

    def __repr__(self) -> str:
        return f"<RetryBudget, {self.statistics().remaining:g} of {self._tokens:g} tokens left>"

    def _remaining(self) -> float:
        return self._base + self._refunds * self._ratio

    def statistics(self) -> RetryBudgetStatistics:
        """Where it stands now."""
        with self._lock:
            return RetryBudgetStatistics(
                tokens=self._tokens, remaining=self._remaining(), ratio=self._ratio, refused=self._refused
            )

    def _spend(self) -> bool:
        """Take a token for a retry; whether there was a whole one."""
        with self._lock:
            if self._remaining() < 1:
                self._refused += 1
                return False
            self._base -= 1
            return True

    def _give_back(self) -> None:
        """The retry that a token was taken for is not made."""
        with self._lock:
            self._base += 1
            self._overflow()

    def _refund(self) -> None:
        """A task has succeeded."""
        with self._lock:
            self._refunds += 1
            self._overflow()

    def _overflow(self) -> None:
        if self._remaining() >= self._tokens:
            self._base, self._refunds = self._tokens, 0
