"""A map over an async iterable, which has a trio task of its own: its `Feeder`.

An item that was drawn starts at once where a slot is free, and the feeder draws the next one; where none is,
the feeder keeps the item and rests, and the map waits in the line. So one item at most is drawn without a
slot. Where the drawing ends before that has one, it is dropped; an outcome of another map goes back to that.
"""

from __future__ import annotations

from typing import Generic, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_conman._books.handles import Slot

from .feeder import Feeder
from .mapping import Mapping
from .stream import Stream

T = TypeVar("T")


@final
class FedMap(Mapping[T], Generic[T]):
    """A map over an async iterable."""

    _feeder: Feeder

    def _prepare(self) -> None:
        self._opener = self._block.inside.holder()
        self._feeder = Feeder(self._items, self._room, self._take_slots)

    def _begin(self) -> None:
        self._drawing = 1
        self._runner.pool.nursery.start_soon(self._feed, name=f"feeder of {self._name}")

    @enable_ki_protection
    async def _feed(self) -> None:
        """The trio task of the feeder."""
        task = trio.lowlevel.current_task()
        stand_ins = self._block.inside.stand_ins
        stand_ins[task] = self._opener
        try:
            await self._feeder.draw(self._exhausted)
        finally:
            del stand_ins[task]
            self._drawing = 0
            self._stream.ended.unpark_all()

    def want(self) -> None:
        """There may be room for another item, or one that waits for a slot."""
        self._feeder.wake()
        super().want()

    def _may_give(self) -> bool:
        return self._stream.more and self._feeder.has_item()

    def _give(self, slot: Slot) -> bool:
        handle = self._new(self._feeder.take())
        try:
            may_begin = self._line.keyring is None or self._may_begin(handle, slot)
        except BaseException as interrupt:  # which its own trio task raises
            self._stream.refused = True
            self._end_drawing(None)
            self._feeder.interrupt(interrupt)
            return False
        if may_begin:
            self._runner.start(handle, slot, handle._submitted)
        del handle  # the error of its key may lead to this frame
        self._feeder.wake()
        return may_begin

    @enable_ki_protection
    def _exhausted(self, error: Exception | None) -> None:
        """The feeder draws no more."""
        if self._feeder.has_item():  # it was stopped before that had a slot
            item = self._feeder.take()
            if isinstance(self._items, Stream) and not self._items.is_dropped:
                self._items.put_back([item])
        self._end_drawing(error)

    def _stop(self, reason: str) -> None:
        self._feeder.stop(reason)

    async def _close(self) -> None:
        self._feeder.raise_close_error()
