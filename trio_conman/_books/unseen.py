"""Nothing fails in silence: what is said of failures that nobody has looked at."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, final

from trio_conman._base.log import log

from .collector import Collector
from .ledger import Ledger


@final
class Unseen:
    """A part of the manager that says so when it goes, with the manager: nobody can look any more.

    Who has taken an outcome has it, be it a map's consumer, that of ``send_to``, or who has called
    ``pop_outcomes``: those are not with the collector. An instrument that hears of ends has heard of all.
    """

    __slots__ = ("_collector", "_ledger", "_name")

    def __init__(self, name: str, ledger: Ledger, collector: Collector[Any]) -> None:
        self._name = name
        self._ledger = ledger
        self._collector = collector

    def __del__(self) -> None:
        # No finalizer of weakref: an error that is kept may lead to the manager, which would live for ever.
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
