"""Those who wait for permits on behalf of one manager, or of one call."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .turns import Claims, Gate, Ticket, go_in, leave, line_up, move_up


@attrs.define(eq=False, repr=False)
class Waiters:
    """Waits at some gates, for permits of all of them at once; each who does has a key.

    While they are held they wait here and not in the queues, which others may share; then they join those
    again, in their order.
    """

    gates: tuple[Gate, ...]
    # What each takes, where that is the same for all.
    claims: Claims | None
    # Else what those take who have not got it yet.
    _priced: dict[object, Claims] = attrs.field(factory=dict, init=False)
    # While they are held, all in order; those who sleep already with how to wake them.
    _held: OrderedDict[object, Ticket | None] | None = attrs.field(default=None, init=False)

    def join(self, key: object) -> None:
        """Stand in the queues, from which an attempt must `take`, `acquire`, or `leave`."""
        if self._held is not None:
            self._held[key] = None
        else:
            for gate in self.gates:
                gate.queue[key] = self

    def take(self, key: Any, now: float) -> bool:
        """Take permits of all gates, if it is somebody's turn and they are due; no checkpoint.

        Raises:
            Exception: what it takes cannot be computed.
        """
        try:
            claims = self.claims or self._claims_of(key)
            if self._held is not None:
                return False
            first = None
            for gate in self.gates:
                for first in gate.expected or gate.queue:
                    if first is not key:
                        return False
                    break
            if len(claims) > 1:  # most have one, and to find that out by a slice costs as much as the look
                for gate, cost in claims[1:]:
                    if not gate.meter.is_due(cost, now):
                        return False
            for gate, cost in claims:
                if not gate.meter.take(cost, now):
                    return False  # the first of them, and so none: the others are due
                gate.marks.note(cost, gate.meter.total)
            if first is not None:  # who waits stands in all queues
                go_in(key, self.gates, now)
            if self._priced:
                self._priced.pop(key, None)
            return True
        finally:
            del key  # where an error led to this frame

    if TYPE_CHECKING:

        def _claims_of(self, key: Any) -> Claims:
            """What one takes, where that is not the same for all."""
            raise NotImplementedError  # the subclasses say that

    async def acquire(self, key: Any, latest: float = inf, *, patient: bool = False) -> float | None:
        """Wait for permits, and take them.

        Returns:
            None; or, as soon as it is known that they would be due too late, when that is: on the effective
            deadline or after it, unless it is `patient`, or after `latest`.
        """
        costs = tuple([(gate.meter, cost) for gate, cost in self.claims or self._claims_of(key)])
        ticket = Ticket(costs, self.gates, self, latest=latest)
        try:
            while ticket.too_late is None:
                # Cancelled in the very tick: then the permits are for the next one.
                await trio.lowlevel.checkpoint_if_cancelled()
                if (now := trio.current_time()) > latest:
                    return now  # it was woken late
                if self.take(key, now):
                    break
                until = inf
                if self._held is not None:
                    self._held[key] = ticket
                else:
                    if not patient:
                        ticket.deadline = trio.current_effective_deadline()
                    until = line_up(key, ticket)
                if ticket.too_late is None:
                    await ticket.sleep(until)
        finally:
            self.leave(key)
            del key
        return ticket.too_late

    def leave(self, key: object) -> None:
        """Leave the queues, if there."""
        if self._held is not None:
            self._held.pop(key, None)
        self._priced.pop(key, None)
        leave(key, self.gates)

    def hold(self) -> None:
        """Let nobody have permits until `resume`."""
        if self._held is not None:
            return
        self._held = OrderedDict()
        gate = self.gates[0]
        for key, ticket in [*gate.expected.items(), *gate.queue.items()]:
            owner = ticket.owner if isinstance(ticket, Ticket) else ticket
            if owner is self:
                self._held[key] = ticket if isinstance(ticket, Ticket) else None
        for key in self._held:
            for gate in self.gates:
                if gate.expected.pop(key, None) is not None:
                    gate.forecast.remove(key)
                gate.queue.pop(key, None)
        self.gates[0].forecast.resolve()  # those in doubt may be among them
        move_up(self.gates)

    def resume(self) -> None:
        """End a pause: those who wait join the queues in their order."""
        if self._held is None:
            return
        for key, ticket in self._held.items():
            if ticket is not None:
                ticket.wake()
            for gate in self.gates:
                gate.queue[key] = self
        self._held = None
