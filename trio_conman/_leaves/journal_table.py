"""The records of one section: in the file, and on their way there.

For a record trio's loop does no more than put it into a dict. What is in there when the writer's thread has
time is a group: the thread gives it numbers, writes it, and has the index know of it, before it takes it out
of the dict. So a key that is looked for in the dict, and then in the index, is found at any moment.
"""

from __future__ import annotations

from typing import final

from .journal_file import Change, Data, insertion, removal
from .journal_index import Index

OVERHEAD = 300  # bytes that a record takes while it waits, its key and its data aside


@final
class Table:
    """A section in the file. Trio's thread sets what is public, and the writer's calls the methods.

    Args:
        section: its id.
        index: of the records that it has.
        last: the greatest number among them.
        creation: what makes it, where it is not there yet.
    """

    __slots__ = ("_creation", "_group", "_last", "_section", "index", "is_dropped", "is_gone", "pending")

    def __init__(self, section: int, index: Index, last: int, creation: Change | None = None) -> None:
        self._section = section
        self.index: Index = index
        self._last = last
        self._creation = creation
        # What is not committed, and that of it which is being written now.
        self.pending: dict[str, Data] = {}
        self._group: dict[str, Data] = {}
        # Whether it is to be removed, and whether it was.
        self.is_dropped: bool = False
        self.is_gone: bool = False

    def changes(self) -> list[Change]:
        """What there is to do in the file."""
        self.is_gone = self.is_dropped
        self._group = self.pending.copy()  # in one step: the other thread may add to it at any time
        if self.is_gone:
            return [] if self._creation is not None else [removal(self._section)]
        if not self._group:
            return []
        records = insertion(self._section, self._group, self._last + 1)
        return [records] if self._creation is None else [self._creation, records]

    def settle(self) -> int:
        """That was done; returns how many bytes wait no more."""
        group, self._group = self._group, {}
        if not group:
            return 0
        self._creation = None
        start, self._last = self._last + 1, self._last + len(group)
        self.index.add([*group], range(start, self._last + 1))
        for key in group:
            del self.pending[key]
        return sum(map(len, group)) + sum(map(len, group.values())) + OVERHEAD * len(group)
