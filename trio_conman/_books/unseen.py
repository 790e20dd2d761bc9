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

    __slots__ = ("__weakref__", "_collector", "_is_asked", "_ledger", "_name", "_process")

    def __init__(self, name: str, ledger: Ledger, collector: Collector[Any]) -> None:
        self._name = name
        self._ledger = ledger
        self._collector = collector
        self._process = os.getpid()
        self._is_asked = False
        _note(self)

    def __del__(self) -> None:
        # No finalizer of weakref: an error that is kept may lead to the manager, which would live for ever.
        if not self._is_asked and self._process == os.getpid():
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


# Those that have not gone, by the process that made them, which asks them at its end. A fork may have
# forgotten what was registered before.
_there: dict[int, WeakSet[Unseen]] = {}


def _note(each: Unseen) -> None:
    there = _there.get(each._process)
    if there is None:
        there = _there.setdefault(each._process, WeakSet())  # another thread may have been quicker
        atexit.register(_ask_all)
    there.add(each)


def _ask_all() -> None:
    """At the end of the program: later what logging needs is gone, and globals go after that."""
    for each in list(_there.get(os.getpid(), ())):
        if not each._is_asked:
            each.ask()
