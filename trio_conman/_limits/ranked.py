"""In which order those who wait are served: by priority, and among equals as they came."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

import attrs

V = TypeVar("V")

# A heap may have so many entries that are out of date, beside one for each that is not.
MAX_STALE = 16


@attrs.define(eq=False, repr=False)
class Ranked(Generic[V]):
    """Those who wait, each with a value: a queue for each priority that somebody has.

    Each of them has his priority in ``_priority``, which must not change while he is here, but by `reorder`.
    """

    # The highest priority, and those who have it, if anybody is here.
    priority: int = attrs.field(default=0, init=False)
    # Ordered, as finding the first of a dict takes a step for each deleted before.
    ready: OrderedDict[Any, V] = attrs.field(factory=OrderedDict, init=False)
    # One that is empty is the only one.
    _queues: dict[int, OrderedDict[Any, V]] = attrs.field(init=False)
    # A heap of the priorities, the highest first. Some of them may have gone.
    _order: list[int] = attrs.field(factory=lambda: [0], init=False)

    def __attrs_post_init__(self) -> None:
        self._queues = {0: self.ready}

    def join(self, waiter: Any, value: V) -> None:
        """Wait, behind those of the same priority."""
        try:
            self._queues[waiter._priority][waiter] = value
        except KeyError:
            self._open(waiter._priority)[waiter] = value

    def leave(self, waiter: Any) -> V | None:
        """Wait no more; the value of who did."""
        queue = self._queues.get(waiter._priority)
        value = None if queue is None else queue.pop(waiter, None)
        if not queue and value is not None:
            self._close(waiter._priority)
        return value

    def reorder(self, waiter: Any, priority: int) -> None:
        """Wait on with another priority, if he does, and have it in any case."""
        value = self.leave(waiter)
        waiter._priority = priority
        if value is not None:
            self.join(waiter, value)

    def has_others(self, is_here: bool) -> bool:
        """Whether there is anybody but who asks, who may be here."""
        return len(self.ready) > 1 or len(self._queues) > 1 if is_here else bool(self.ready)

    def pop(self) -> tuple[Any, V]:
        """Take the first out."""
        item = self.ready.popitem(last=False)
        if not self.ready:
            self._close(self.priority)
        return item

    def items(self) -> list[tuple[Any, V]]:
        """All, in their order."""
        order = sorted(self._queues, reverse=True)
        return [item for priority in order for item in self._queues[priority].items()]

    def waiters(self) -> list[Any]:
        """All, in their order, without their values."""
        return [waiter for waiter, _ in self.items()]

    def drain(self) -> Iterator[tuple[Any, V]]:
        """Take out one after another."""
        while self.ready:
            yield self.pop()

    def _open(self, priority: int) -> OrderedDict[Any, V]:
        if not self.ready:
            self._queues.clear()
            self._order.clear()
        elif len(self._order) > 2 * len(self._queues) + MAX_STALE:
            self._order = [-each for each in self._queues]
            heapify(self._order)
        queue: OrderedDict[Any, V] = OrderedDict()
        self._queues[priority] = queue
        heappush(self._order, -priority)
        self._find_first()
        return queue

    def _close(self, priority: int) -> None:
        """There is nobody of that priority any more."""
        if len(self._queues) > 1:
            del self._queues[priority]
            self._find_first()

    def _find_first(self) -> None:
        while -self._order[0] not in self._queues:
            heappop(self._order)
        self.priority = -self._order[0]
        self.ready = self._queues[self.priority]
