"""Whose turn it is to take permits.

**Theory of operation.** Each rate limiter has a gate: its meter, and a queue of those who wait for its
permits. Who needs permits of several gates joins all their queues in one instant. So the same one of two
stands before the other wherever both wait, and among all who wait there is always one who is the first in
all its queues: nobody waits in a circle. It sleeps until its permits are due at every gate, and takes them in
that instant; until then it has taken nothing. All others sleep until they are the first. A dear request holds
up those behind it, and is never passed over.

Tasks stand in the queue from when they have their slot, for in which order those begin that were started
together may be a matter of chance.

*Too late.* Who stands before somebody says when his permits will be due. So each who waits says by when it
must have them, and is judged in the order of the queues, as soon as all before it have been: it is
*expected*, or it is told at once that it would be too late, and leaves. Who is expected stays so, as nobody
can get in before it, unless permits come later than was thought. Then those who may be too late are woken, to
say anew by when they must start, for deadlines can be moved; who stands behind them is judged after them.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import TypeAlias, final

import attrs
import trio

from .forecast import Forecast, Request
from .marks import Marks
from .meter import Meter


@final
@attrs.define(eq=False, repr=False)
class Ticket(Request):
    """Who waits, has said by when it must have its permits, and how to wake it."""

    gates: tuple[Gate, ...]
    owner: object  # on whose behalf it waits
    task: trio.lowlevel.Task = attrs.field(factory=trio.lowlevel.current_task, init=False)
    # When they would have been due, once that is known to be too late.
    too_late: float | None = attrs.field(default=None, init=False)
    # Until when it sleeps; None while it is awake.
    until: float | None = attrs.field(default=None, init=False)

    def wake(self) -> None:
        """Let it look again, if it sleeps."""
        if self.until is not None:
            trio.lowlevel.reschedule(self.task)
            self.until = None

    async def sleep(self, until: float) -> None:
        """Sleep until then, or until it is woken."""

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self.until = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.until = until
        if until == inf:
            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            with trio.CancelScope(deadline=until):
                await trio.lowlevel.wait_task_rescheduled(abort)


# So many permits of each of some gates.
Claims: TypeAlias = "tuple[tuple[Gate, float], ...]"
# In a queue: a ticket, or the owner of one who has not said yet by when it must have its permits.
Waits: TypeAlias = "Ticket | object"


@final
@attrs.define(eq=False, repr=False)
class Gate:
    """The meter of one limiter, and who waits for its permits, by a key for each."""

    meter: Meter
    forecast: Forecast = attrs.field(init=False)
    # All that have this forecast.
    linked: weakref.WeakSet[Gate] = attrs.field(init=False)
    # Ordered: to find the first of a dict takes a step for each that was deleted before.
    expected: OrderedDict[object, Ticket] = attrs.field(init=False)
    # Behind them those who have not been judged.
    queue: OrderedDict[object, Waits] = attrs.field(init=False)
    # Whether there may be tickets in the queue, as those who put some there have it judged: to look whether
    # the first is one costs more than to leave the queue.
    has_tickets: bool = attrs.field(default=False, init=False)
    # Whose request the service has answered.
    marks: Marks = attrs.field(init=False)
    # Called when a pause has begun or got longer.
    on_pause: dict[Callable[[], None], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.linked = weakref.WeakSet()
        self.empty()

    def empty(self) -> None:
        """Forget who waits: a trio run is over."""
        self.linked.discard(self)
        self.linked = weakref.WeakSet([self])
        self.forecast = Forecast()
        self.expected, self.queue, self.on_pause = OrderedDict(), OrderedDict(), {}
        self.marks = Marks()

    def refresh(self) -> None:
        """Where nobody is expected the meter is as it is: somebody may have taken permits without a wait."""
        if not self.expected:
            self.forecast.forget(self.meter)

    def waiting(self) -> int:
        """How many wait."""
        return len(self.expected) + len(self.queue)


def go_in(key: object, gates: tuple[Gate, ...], now: float) -> None:
    """Leave the queues, with permits."""
    others_sleep = False
    for gate in gates:
        if gate.expected:
            gate.forecast.remove(key, started=now)
            del gate.expected[key]
            others_sleep = True
        else:
            del gate.queue[key]
            # Who has not said yet by when it must have its permits is awake, and holds up all behind it.
            if gate.has_tickets and isinstance(next(iter(gate.queue.values()), None), Ticket):
                others_sleep = True
    if others_sleep:
        move_up(gates)


def line_up(key: object, ticket: Ticket) -> float:
    """Join the queues, if not there, and be judged; returns until when to sleep."""
    gates = ticket.gates
    if key not in gates[0].expected:
        for gate in gates:
            gate.queue[key] = ticket
        move_up(gates)
    if _is_first(key, gates):
        return max([meter.due(cost) for meter, cost in ticket.costs])
    return inf


def leave(key: object, gates: tuple[Gate, ...]) -> None:
    """Leave the queues, if there."""
    if gates[0].expected.pop(key, None) is not None:
        gates[0].forecast.remove(key)
    elif gates[0].queue.pop(key, None) is not None:
        gates[0].forecast.resolve()
    else:
        return
    for gate in gates[1:]:
        gate.expected.pop(key, None)
        gate.queue.pop(key, None)
    move_up(gates)


def move_up(gates: Iterable[Gate]) -> None:
    """Judge who can be judged now, and wake the first of each queue, if it is another one."""
    for gate in _judge(gates):
        key, ticket = next(iter(gate.expected.items()), (None, None))
        if ticket is not None and ticket.until == inf and _is_first(key, ticket.gates):
            ticket.wake()


def look_again(gate: Gate) -> None:
    """Wake the first: permits may come sooner than it was told."""
    gate.forecast.hasten()
    ticket = next(iter(gate.expected.values()), None)
    if ticket is not None:
        ticket.wake()


def delay(gate: Gate, seconds: float) -> None:
    """Permits come later, by so much at most: who may be too late is to say anew by when it must have them.

    All keep their places: those behind are judged when those before them are.
    """
    forecast = gate.forecast
    doubtful = set(forecast.delay(seconds, trio.current_time()))
    left = len(doubtful)
    concerned: set[Gate] = set()
    while left:
        key, ticket = forecast.expected.popitem()
        assert isinstance(ticket, Ticket)
        if key in doubtful:
            left -= 1
            ticket.wake()
        for each in ticket.gates:
            del each.expected[key]
            each.queue[key] = ticket.owner if key in doubtful else ticket
            each.queue.move_to_end(key, last=False)
        concerned.update(ticket.gates)
    move_up(concerned)


def pause(gate: Gate, seconds: float, now: float) -> None:
    """Let nobody in for so long; a longer pause stays."""
    longer = now + seconds - max(now, gate.meter.resume)
    if longer > 0:
        gate.meter.resume = now + seconds
        delay(gate, longer)
        for tell in gate.on_pause:
            tell()


def link(gates: tuple[Gate, ...]) -> None:
    """Foresee together, from now on, what is taken together."""
    most = max(gates, key=lambda gate: len(gate.linked))
    for gate in gates:
        if gate.linked is not most.linked:
            most.forecast.join(gate.forecast)
            for each in gate.linked:
                most.linked.add(each)
                each.linked, each.forecast = most.linked, most.forecast


def _is_first(key: object, gates: tuple[Gate, ...]) -> bool:
    return all(next(iter(gate.expected), None) is key for gate in gates)


def _judge(gates: Iterable[Gate]) -> Iterable[Gate]:
    """Judge up to the first who has not said yet by when it must have its permits; whom this may concern."""
    concerned = list(gates)
    for gate in concerned:  # it grows
        while gate.queue:
            key, ticket = next(iter(gate.queue.items()))
            if not isinstance(ticket, Ticket):
                break
            if any(next(iter(each.queue)) is not key for each in ticket.gates):
                break  # that gate has its turn when those before have been judged
            for each in ticket.gates:
                del each.queue[key]
                each.refresh()
            if gate.forecast.judge(key, ticket, trio.current_time()):
                for each in ticket.gates:
                    each.expected[key] = ticket
            else:
                ticket.too_late = ticket.due
                ticket.wake()
            concerned += [each for each in ticket.gates if each is not gate]
        gate.has_tickets = bool(gate.queue)
    return concerned
