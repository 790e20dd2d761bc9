"""Which keys a journal has, and where: 16 to 32 bytes a key, whatever its length.

A hash table by hand, as a Python dict would take ten times as much. An entry is 64 bits: the number of a
record, and above it the upper half of the key's hash, whose lower half says where to look. So an entry may be
of another key, about once in a million times a million: whoever follows it compares the keys.

A table is never made anew, which would hold up who looks for keys; a full one is followed by another. It is
full when half of its places are taken: trio's loop looks for each new key in vain, and where two thirds are
taken that is twice as far to go. One thread adds keys while another one looks for some.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import final

_LOW = 0xFFFF_FFFF
_HIGH = 0xFFFF_FFFF_0000_0000
_SMALLEST, _GROWTH, _LARGEST = 15, 3, 21  # in bits: tables of 256 KiB, 2 MiB, 16 MiB, 16 MiB, …


@final
class Index:
    """The numbers of records, from 1, by the keys."""

    __slots__ = ("_room", "_tables")

    def __init__(self, expected: int = 0) -> None:
        self._tables: list[tuple[array[int], int]] = []
        self._extend((expected * 2).bit_length())

    def _extend(self, bits: int) -> None:
        size = 1 << min(max(bits, _SMALLEST), _LARGEST)
        self._tables.append((array("Q", [0]) * size, size - 1))
        self._room = size // 2

    def add(self, keys: Sequence[str], numbers: Sequence[int]) -> None:
        """The records of some keys have these numbers."""
        done = 0
        while done < len(keys):
            if not self._room:
                self._extend(self._tables[-1][1].bit_length() + _GROWTH)
            some = slice(done, done + self._room)
            done += self._fill(keys[some], numbers[some])

    def _fill(self, keys: Sequence[str], numbers: Sequence[int]) -> int:
        self._room -= len(keys)
        table, mask = self._tables[-1]
        for hashed, number in zip(map(hash, keys), numbers, strict=True):
            at = hashed & mask
            while table[at]:
                at = at + 1 & mask
            table[at] = hashed & _HIGH | number
        return len(keys)

    def find(self, key: str) -> list[int]:
        """The numbers that the record of a key may have."""
        found = []
        hashed = hash(key)
        for table, mask in self._tables:
            at = hashed & mask
            while entry := table[at]:
                if (entry ^ hashed) & _HIGH == 0:
                    found.append(entry & _LOW)
                at = at + 1 & mask
        return found
