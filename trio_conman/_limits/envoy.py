"""Who waits in a limiter that others use too, on behalf of a line."""

from __future__ import annotations

from typing import Protocol, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import Slot

from .rings import Rings


class Sending(Protocol):
    """The line that sends it."""

    name: str
    limiter: trio.CapacityLimiter
    rings: Rings
    nursery: trio.Nursery

    def is_wanted(self) -> bool:
        """Whether somebody waits who may be served."""
        ...

    def offer(self, slot: Slot) -> None:
        """Grant a slot of the limiter, or give it back."""
        ...


@final
@attrs.define(eq=False, repr=False)
class Envoy:
    """A trio task that waits in the limiter for the head of the line, again and again, while it is wanted."""

    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)

    def mind(self, line: Sending) -> None:
        """Send it, or recall it: somebody else may wait, or nobody any more."""
        if self._scope is None and line.is_wanted():
            scope = trio.CancelScope()
            line.nursery.start_soon(self._wait_in_limiter, line, scope, name=f"envoy of {line.name}")
            self._scope = scope
            line.rings.asking.add(line)
        elif self._scope is not None and not line.is_wanted():
            self._scope.cancel(reason="nobody waits for a slot any more")
            self._scope = None
            line.rings.asking.discard(line)

    @enable_ki_protection
    async def _wait_in_limiter(self, line: Sending, scope: trio.CancelScope) -> None:
        with scope:
            while True:  # until it is recalled
                slot = Slot(line.name)
                await line.limiter.acquire_on_behalf_of(slot)
                line.offer(slot)
                self.mind(line)
                if line.rings.has_several():  # whose envoys may have been sent in this very turn
                    await trio.lowlevel.cancel_shielded_checkpoint()
