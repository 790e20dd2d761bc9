"""What a trio task needs to run items of a map one after another."""

from __future__ import annotations

import math
from contextvars import Context
from typing import Any, Protocol, final

import attrs
import trio

from trio_conman._books.handles import Slot, TaskHandle


class Relay(Protocol):
    """What a worker's items come from."""

    def next(self, worker: Worker) -> TaskHandle[Any] | None:
        """Settle a worker's last item, and begin the next one; None when there is no slot, or no item.

        A worker that has a slot nevertheless is to ask again in its next turn.
        """
        ...

    async def rest(self, worker: Worker) -> bool:
        """Wait until the worker may have a slot; False when it never will."""
        ...

    def gone(self, worker: Worker) -> None:
        """The worker has ended."""
        ...


@final
@attrs.define(eq=False, repr=False)
class Worker:
    """A trio task that runs items one after another, in one scope."""

    relay: Relay
    name: str
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    handle: TaskHandle[Any] | None = None
    # What it has to begin its next item with, and whether that was its last item's.
    slot: Slot | None = None
    kept: bool = False
    # Its trio task, from its first item on; the same while it rests.
    task: trio.lowlevel.Task = attrs.field(init=False)
    sleeper: trio.lowlevel.Task | None = None
    # In which cancel scope it is between two items, and whether a source has left another one open in it.
    # Private, because nothing public shows that.
    status: Any = attrs.field(init=False)
    is_spoiled: bool = False

    def wake(self) -> None:
        """End the worker's rest, if it rests."""
        if self.sleeper is not None:
            trio.lowlevel.reschedule(self.sleeper)
            self.sleeper = None


def is_spent(scope: trio.CancelScope) -> bool:
    """Lift the deadline of a worker's scope; whether it has passed, in the tick in which the item ended."""
    scope.deadline = math.inf
    return scope.cancel_called


def is_same(context: Context, base: Context) -> bool:
    """Whether every variable holds the very object that it holds in `base`.

    Comparing the contexts would compare the objects, which may raise, and be true for equal ones.
    """
    if len(context) != len(base):
        return False
    for variable in base:  # noqa: SIM110  # a generator for all() costs more than the whole, once for each item
        if context.get(variable) is not base[variable]:
            return False
    return True
