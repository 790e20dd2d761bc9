"""Pours many items through a manager, and tells the peak of the memory that took.

    python streaming.py {map,ordered,send_to} COUNT

Prints the sum of all results, and the peak RSS in the units of `resource.getrusage`.
"""

import resource
import sys
from collections.abc import Iterator

import trio

from trio_conman import ConMan, Outcome, Success


def items(count: int) -> Iterator[int]:
    # Large enough to be seen if they were kept.
    for number in range(count):
        yield number + 10**6


async def double(item: int) -> int:
    return 2 * item


def value(outcome: Outcome[int]) -> int:
    assert isinstance(outcome, Success)
    return outcome.value


async def through_map(count: int, ordered: bool) -> int:
    total = 0
    async with trio.open_nursery() as nursery, ConMan[int].open(nursery) as cm:
        async with cm.map(double, items(count), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                total += value(outcome)
    assert cm.outcomes() == []
    return total


async def through_channel(count: int) -> int:
    total = 0

    async def consume() -> None:
        nonlocal total
        async for outcome in receive:
            total += value(outcome)

    send, receive = trio.open_memory_channel[Outcome[int]](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with ConMan[int].open(nursery, send_to=send) as cm:
            for item in items(count):
                await cm.run(double, item)
    assert cm.outcomes() == []
    return total


mode, count = sys.argv[1], int(sys.argv[2])
if mode == "send_to":
    total = trio.run(through_channel, count)
else:
    total = trio.run(through_map, count, mode == "ordered")
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
