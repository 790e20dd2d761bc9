"""Which keys a journal has, and where: 16 to 32 bytes a key, whatever its length.

Hash tables by hand, as a Python dict would take ten times as much. An entry is 64 bits: the number of a
record, and above it the upper half of the key's hash, which says where in its table to look; in which table,
the lowest bits of the hash say. So an entry may be of another key, once in four million times where there are
a million: whoever follows it compares the keys.

A table is full when half of its places are taken, as trio's loop looks for each new key in vain, and where
two thirds are taken that is twice as far to go. Another one of twice the size takes its place then, which is
soon done, as there are many; and however many keys there are, one table is to be looked at. One thread adds
keys while another one looks for some: it has the table that was full, or the new one with the same keys.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import final

_LOW = 0xFFFF_FFFF
_HIGH = 0xFFFF_FFFF_0000_0000
_PLACE = 34  # the lowest bit of those that say where: Python is quickest with numbers of 30 bits
_TABLES = 1024
_WHICH = _TABLES - 1
_LEAST = 8  # places of a table with a key
_NO_KEYS = array("Q", [0])


@final
class Index:
    """The numbers of records, from 1, by the keys."""

    __slots__ = ("_least", "_room", "_tables")

    def __init__(self, expected: int = 0) -> None:
        self._least = max(_LEAST, 1 << (expected * 2 // _TABLES).bit_length())
        self._tables = [_NO_KEYS] * _TABLES  # until they have some
        self._room = [0] * _TABLES

    def add(self, keys: Sequence[str], numbers: Sequence[int]) -> None:
        """The records of some keys have these numbers."""
        tables, room = self._tables, self._room
        for hashed, number in zip(map(hash, keys), numbers, strict=True):
            which = hashed & _WHICH
            if not room[which]:
                self._make_room(which)
            room[which] -= 1
            _fill(tables[which], (hashed & _HIGH | number,))

    def _make_room(self, which: int) -> None:
        full = self._tables[which]
        table = array("Q", [0]) * max(self._least, 2 * len(full))
        _fill(table, filter(None, full))
        self._tables[which] = table
        self._room[which] = len(table) // 2 - len(full) // 2

    def find(self, key: str) -> list[int]:
        """The numbers that the record of a key may have."""
        found = []
        hashed = hash(key)
        table = self._tables[hashed & _WHICH]
        mask = len(table) - 1
        at = hashed >> _PLACE & mask
        while entry := table[at]:
            if (entry ^ hashed) & _HIGH == 0:
                found.append(entry & _LOW)
            at = at + 1 & mask
        return found


def _fill(table: array[int], entries: Iterable[int]) -> None:
    mask = len(table) - 1
    for entry in entries:
        at = entry >> _PLACE & mask
        while table[at]:
            at = at + 1 & mask
        table[at] = entry
