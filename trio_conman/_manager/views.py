"""The views of what became of a manager's tasks."""

from __future__ import annotations

from threading import get_ident
from typing import Generic, TypeVar, final

import attrs

from trio_conman._base.checks import wrong_thread
from trio_conman._base.outcomes import Failure, Outcome, Success
from trio_conman._engine.block import Block
from trio_conman._engine.execution import Runner
from trio_conman._limits.line import Line

R = TypeVar("R")


@final
@attrs.frozen(kw_only=True)
class ConManStatistics:
    """Where the tasks of a manager stand, at one moment."""

    limit: int | float
    """How many tasks may run at once."""
    running: int
    """Tasks that have a slot and do not back off; of those some wait for a permit of the rate, and some have
    ended, but ``send_to`` has not taken their outcomes."""
    waiting: int
    """Calls of `ConMan.run` that wait for a slot."""
    queued: int
    """Accepted tasks that have not started, and those that wait for another one of their journal's key."""
    backing_off: int
    """Tasks that wait to be retried, with a slot or without."""
    submitted: int
    """Tasks accepted so far."""
    succeeded: int
    """Tasks that returned."""
    failed: int
    """Tasks that did not, the cancelled ones included."""
    cancelled: int
    """Tasks that were cancelled."""
    retries: int
    """Attempts that followed a first one, of all tasks together."""
    recalled: int
    """Tasks that did not run, as a journal had their values; among the succeeded ones."""


class ConMan(Generic[R]):
    """The part of a manager that is read, at any time, also after its end; named as the doors are."""

    __slots__ = ()

    _thread: int
    _block: Block
    _line: Line
    _runner: Runner

    @property
    def name(self) -> str:
        """The manager's name, for messages and for the names of its trio tasks."""
        return self._block.name

    def outcomes(self) -> list[Outcome[R]]:
        """How the tasks ended so far, in completion order: a new list.

        Those that ``send_to`` took, and those of maps, are not among them; but those that the consumer of a
        map could not take, because something else has ended the map, are from that moment on.

        Raises:
            RuntimeError: called in another thread than that of the trio run, before the manager has ended. So
                do the other readers of outcomes.
        """
        self._check_reader("outcomes")
        return self._block.collector.look().copy()

    def _check_reader(self, method: str) -> None:
        # A reader takes in what is on its way. When the manager has ended, nothing is.
        if get_ident() != self._thread and not self._block.ended:
            raise wrong_thread(f"ConMan.{method}", f"run_sync(cm.{method})")

    def outputs(self) -> list[R]:
        """What the tasks returned that succeeded so far, in completion order: a new list."""
        self._check_reader("outputs")
        return [outcome.value for outcome in self._block.collector.kept() if isinstance(outcome, Success)]

    def errors(self) -> list[Exception]:
        """The errors of the tasks that failed so far, in completion order: a new list."""
        self._check_reader("errors")
        return [outcome.error for outcome in self._block.collector.look() if isinstance(outcome, Failure)]

    def pop_outcomes(self) -> list[Outcome[R]]:
        """Like `outcomes`, and forgets them: for managers that live long."""
        self._check_reader("pop_outcomes")
        return self._block.collector.pop()

    def raise_errors(self) -> None:
        """Raise the errors so far, if there are any.

        Raises:
            ExceptionGroup: of `errors`, in completion order.
        """
        self._check_reader("raise_errors")
        errors = self.errors()
        if errors:
            raise self._runner.error_group(errors, self.name)

    def statistics(self) -> ConManStatistics:
        """Where the tasks stand now."""
        runner = self._runner
        return ConManStatistics(
            limit=self._line.limit,
            running=runner.unfinished - runner.queued - runner.backing_off,
            waiting=len(self._line.sleepers),
            queued=runner.queued,
            backing_off=runner.backing_off,
            submitted=runner.submitted,
            succeeded=runner.succeeded,
            failed=runner.failed,
            cancelled=runner.cancelled,
            retries=runner.retries,
            recalled=runner.recalled,
        )
