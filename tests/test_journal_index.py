"""The index of a journal: many keys, in tables that follow one another."""

from __future__ import annotations

import pytest

from trio_conman._leaves import journal_index
from trio_conman._leaves.journal_index import Index


def test_it_finds_every_key_and_no_other() -> None:
    index = Index()
    for number in range(1, 60_001):
        index.add([str(number)], [number])
    assert [len(table) for table, _ in index._tables] == [2**15, 2**18]
    assert all(index.find(str(number)) == [number] for number in range(1, 60_001))
    assert not any(index.find(f"no {number}") for number in range(60_000))


@pytest.mark.parametrize("expected, size", [(1, 2**15), (16_000, 2**15), (17_000, 2**16), (10**9, 2**21)])
def test_it_begins_with_room_for_what_is_expected(expected: int, size: int) -> None:
    assert [len(table) for table, _ in Index(expected)._tables] == [size]


@pytest.mark.parametrize("expected", [0, 1, 1000, 60_000])
def test_many_may_be_added_at_once(expected: int) -> None:
    index = Index(expected)
    numbers = range(1, 60_001)
    for start in range(0, 60_000, 2000):
        some = numbers[start : start + 2000]
        index.add([*map(str, some)], some)
    index.add(["one more"], [60_001])
    assert all(index.find(str(number)) == [number] for number in numbers)
    assert index.find("one more") == [60_001]


def test_more_may_be_added_than_a_table_has_room_for() -> None:
    index = Index()
    numbers = range(1, 60_001)
    index.add([*map(str, numbers)], numbers)
    assert [len(table) for table, _ in index._tables] == [2**15, 2**18]
    assert all(index.find(str(number)) == [number] for number in numbers)


@pytest.mark.parametrize("expected", [0, 20_000])
def test_what_it_has_not_is_soon_looked_for_in_vain(expected: int) -> None:
    index = Index(expected)
    numbers = range(1, 20_001)
    index.add([*map(str, numbers)], numbers)
    (table, _), *_ = index._tables
    assert sum(map(bool, table)) <= len(table) / 2


def test_each_table_is_greater_than_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_index, "_SMALLEST", 2)
    monkeypatch.setattr(journal_index, "_GROWTH", 1)
    index = Index()
    for number in range(1, 60):
        index.add([str(number)], [number])
    assert [len(table) for table, _ in index._tables] == [4, 8, 16, 32, 64]


def test_no_table_grows_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_index, "_SMALLEST", 2)
    monkeypatch.setattr(journal_index, "_LARGEST", 6)
    index = Index(10**9)
    for number in range(1, 96):
        index.add([str(number)], [number])
    assert [len(table) for table, _ in index._tables] == [64, 64, 64]
    assert all(index.find(str(number)) == [number] for number in range(1, 96))


def test_keys_that_look_the_same_are_told_apart_by_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_index, "hash", lambda _: -5, raising=False)
    index = Index()
    index.add(["a", "b"], [1, 2])
    assert index.find("a") == index.find("c") == [1, 2]
