"""The order of a queue: by priority, and among equals as they came."""

from __future__ import annotations

import random

import attrs
import pytest

from trio_conman._limits.ranked import MAX_STALE, Ranked


@attrs.define(eq=False)
class Waiter:
    number: int
    _priority: int = 0


def drained(queue: Ranked[str]) -> list[tuple[int, str]]:
    return [(waiter.number, value) for waiter, value in queue.drain()]


def test_higher_first_and_among_equals_first_come_first_served() -> None:
    queue = Ranked[str]()
    for number, priority in enumerate([0, 5, -1, 5, 0, 10**30]):
        queue.join(Waiter(number, priority), f"value {number}")
    assert (len(queue.ready), queue.priority) == (1, 10**30)
    assert next(iter(queue.ready)).number == 5
    assert drained(queue) == [(number, f"value {number}") for number in (5, 1, 3, 0, 4, 2)]
    assert not queue.ready


def test_who_is_given_another_priority_stands_behind_those_who_have_it() -> None:
    queue = Ranked[str]()
    waiters = [Waiter(number, number % 2) for number in range(4)]
    for waiter in waiters:
        queue.join(waiter, "")
    queue.reorder(waiters[0], 1)
    queue.reorder(waiters[3], 0)
    stranger = Waiter(9)
    queue.reorder(stranger, 7)
    assert stranger._priority == 7
    assert [number for number, _ in drained(queue)] == [1, 0, 2, 3]


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_as_a_sorted_list_would_do(levels: int, seed: int) -> None:
    chance = random.Random(seed)
    queue, model = Ranked[str](), list[Waiter]()
    for number in range(2000):
        what = chance.random()
        if not model or what < 0.45:
            waiter = Waiter(number, chance.randrange(levels))
            queue.join(waiter, "here")
            model.append(waiter)
        elif what < 0.7:
            first = max(model, key=lambda waiter: waiter._priority)  # the first of those
            assert queue.priority == first._priority
            assert queue.pop() == (first, "here")
            model.remove(first)
        elif what < 0.85:
            waiter = chance.choice(model)
            model.remove(waiter)
            assert queue.leave(waiter) == "here"
            assert queue.leave(waiter) is None
        else:
            waiter = chance.choice(model)
            queue.reorder(waiter, chance.randrange(levels))
            model.remove(waiter)
            model.append(waiter)
        assert bool(queue.ready) == bool(model)
        assert queue.has_others(False) == (len(model) > 0)
        assert not model or queue.has_others(True) == (len(model) > 1)
    in_order = sorted(model, key=lambda waiter: -waiter._priority)
    assert queue.waiters() == in_order
    assert [waiter for waiter, _ in queue.drain()] == in_order


@pytest.mark.parametrize("stay", [1, 3])
def test_priorities_that_nobody_has_any_more_leave_nothing_behind(stay: int) -> None:
    queue = Ranked[str]()
    for number in range(stay):
        queue.join(Waiter(number, 10**9 + number), "")
    entries = []
    for number in range(10_000):
        waiter = Waiter(number, number)
        queue.join(waiter, "")
        entries.append(len(queue._order))
        queue.leave(waiter)
    assert len(queue._queues) == stay
    assert max(entries) == 2 * stay + MAX_STALE + 1


def test_nor_do_those_of_a_queue_that_is_empty_again_and_again() -> None:
    queue = Ranked[str]()
    for number in range(100):
        waiter = Waiter(number, number)
        queue.join(waiter, "")
        assert queue._order == [-number]
        queue.leave(waiter)
