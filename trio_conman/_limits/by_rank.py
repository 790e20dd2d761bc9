"""Which has the first rank, of many whose ranks become worse by and by."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Generic, Protocol, TypeAlias, TypeVar

import attrs

from .ranked import MAX_STALE

# The first of all is the least.
Rank: TypeAlias = tuple[float, int]
NEVER: Rank = (inf, 0)


class HasRank(Protocol):
    """What has one, as long as it is here."""

    def rank(self) -> Rank:
        """The present one."""
        ...


R = TypeVar("R", bound=HasRank)
# With the id, since one that was moved may have left its rank behind.
Entry: TypeAlias = tuple[float, int, int, R]


@attrs.define(eq=False, repr=False)
class ByRank(Generic[R]):
    """A heap by the ranks that were told; that one has become worse is noticed when it is its turn."""

    # What stands for each, where older ones may be too.
    entries: dict[R, Entry[R]] = attrs.field(factory=dict, init=False)
    _heap: list[Entry[R]] = attrs.field(factory=list, init=False)

    def put(self, each: R, rank: Rank) -> None:
        """It has this rank, unless it has had a better one before."""
        before = self.entries.get(each)
        if before is None or rank < before[:2]:
            self.entries[each] = entry = (*rank, id(each), each)
            if len(self._heap) > 2 * len(self.entries) + MAX_STALE:
                self._heap[:] = self.entries.values()
                heapify(self._heap)
            else:
                heappush(self._heap, entry)

    def drop(self, each: R) -> None:
        """It is not here any more, if it was; the last one leaves nothing behind."""
        if self.entries.pop(each, None) is not None and not self.entries:
            self._heap.clear()

    def top(self) -> Entry[R]:
        """What `first` has found; or, where that was not asked, no rank is better than this."""
        return self._heap[0]

    def first(self) -> Entry[R]:
        """The first rank, an id, and what has it; there must be one."""
        heap, entries = self._heap, self.entries
        while True:
            entry = heap[0]
            each = entry[-1]
            if entries.get(each) is not entry:
                heappop(heap)
            elif (rank := each.rank()) != entry[:2]:
                entries[each] = (*rank, id(each), each)
                heapreplace(heap, entries[each])
            else:
                return entry
