"""The index of a journal: many keys, in tables that grow."""

from __future__ import annotations

import random

import pytest

from trio_conman._leaves import journal_index
from trio_conman._leaves.journal_index import Index


def sizes(index: Index) -> set[int]:
    """Of its tables, in places."""
    return {len(table) for table in index._tables}


@pytest.mark.parametrize("expected", [0, 1, 1000, 60_000])
@pytest.mark.parametrize("at_once", [1, 2000, 60_000])
def test_it_finds_every_key_and_no_other(expected: int, at_once: int) -> None:
    index = Index(expected)
    numbers = range(1, 60_001)
    for start in range(0, 60_000, at_once):
        some = numbers[start : start + at_once]
        index.add([*map(str, some)], some)
    assert all(index.find(str(number)) == [number] for number in numbers)
    assert not any(index.find(f"no {number}") for number in numbers)


def test_without_keys_it_takes_no_memory() -> None:
    index = Index(10**9)
    assert index.find("a") == []
    assert sizes(index) == {1}


@pytest.mark.parametrize(
    "expected, size", [(1, 8), (5_000, 16), (16_000, 32), (17_000, 64), (1_000_000, 2048)]
)
def test_its_tables_begin_with_room_for_what_is_expected(expected: int, size: int) -> None:
    index = Index(expected)
    index.add(["a"], [1])
    assert sizes(index) == {1, size}


@pytest.mark.parametrize("expected", [0, 20_000])
def test_what_it_has_not_is_soon_looked_for_in_vain(expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same hashes in each run: with Python's own it would not be so once in 200."""
    monkeypatch.setattr(journal_index, "hash", lambda key: random.Random(key).getrandbits(64), raising=False)
    index = Index(expected)
    for number in range(1, 20_001):
        index.add([str(number)], [number])
    taken = [sum(map(bool, table)) / len(table) for table in index._tables]
    assert max(taken) <= 0.5
    assert min(taken) > 0.05
    assert sum(taken) / len(taken) > 0.25  # 32 bytes a key


def test_a_table_that_is_replaced_keeps_its_keys() -> None:
    """Another thread may be looking into it."""
    index = Index()
    index.add(["a"], [1])
    [table] = [each for each in index._tables if any(each)]
    before = table.tolist()
    index.add([*map(str, range(40_000))], range(2, 40_002))
    assert index.find("a") == [1]
    assert not any(each is table for each in index._tables)
    assert set(before) <= set(table.tolist())


def test_keys_that_look_the_same_are_told_apart_by_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_index, "hash", lambda _: -5, raising=False)
    index = Index()
    index.add([*"abc" * 20], range(1, 61))
    assert sorted(index.find("a")) == sorted(index.find("d")) == [*range(1, 61)]
