"""Nothing fails in silence: what is said of failures that nobody has looked at."""

from __future__ import annotations

import atexit
import logging
import os
from contextlib import suppress
from typing import Any, final
from weakref import WeakSet

from trio_conman._base.log import log

from .collector import Collector
from .ledger import Ledger


@final
class Unseen:
    """A part of the manager that says so when it goes, with the manager: nobody can look any more.

    Who has taken an outcome has it, be it a map's consumer, that of ``send_to``, or who has called
    ``pop_outcomes``: those are not with the collector. An instrument that hears of ends has heard of all.
    """

    __slots__ = ("__weakref__", "_collector", "_is_asked", "_ledger", "_name")

    def __init__(self, name: str, ledger: Ledger, collector: Collector[Any]) -> None:
        self._name = name
        self._ledger = ledger
        self._collector = collector
        self._is_asked = False
        _note(self)

    def __del__(self) -> None:
        # No finalizer of weakref: an error that is kept may lead to the manager, which would live for ever.
        if not self._is_asked and os.getpid() in _processes:
            self.ask()

    def ask(self) -> None:
        """Say so, if there is anything to say."""
        self._is_asked = True
        ledger = self._ledger
        if ledger.failed == ledger.cancelled:
            return  # without a look at each outcome
        if ledger.instruments is not None and ledger.instruments.hear_ends:
            return
        if unseen := self._collector.unseen():
            text = (
                "%d of %d tasks of %r failed, and nobody has looked "
                "(ConMan.raise_errors() raises the errors, LoggingInstrument logs each of them; "
                'see "What goes wrong" in the docs). The first:'
            )
            finished = ledger.succeeded + ledger.failed
            with suppress(Exception):
                log(logging.WARNING, text, len(unseen), finished, self._name, error=unseen[0].error)


# Those that have not gone, and the process that asks them at its end. A fork asks its own, and may have
# forgotten what was registered before.
_there: WeakSet[Unseen] = WeakSet()
_processes: set[int] = set()


def _note(each: Unseen) -> None:
    process = os.getpid()
    if process not in _processes:
        _processes.clear()
        _processes.add(process)
        for other in list(_there):
            other._is_asked = True  # by the parent
        _there.clear()
        atexit.register(_ask_all)
    _there.add(each)


def _ask_all() -> None:
    """At the end of the program: later what logging needs is gone, and globals go after that."""
    if os.getpid() in _processes:
        for each in list(_there):
            if not each._is_asked:
                each.ask()
