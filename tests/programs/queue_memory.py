"""Prints how many bytes a queued task costs, its number as the argument and the tuple around it included."""

import tracemalloc

import trio

from trio_conman import ConMan

NUMBERS = list(range(10_000, 60_000))


async def main() -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
        for _ in range(2):
            await cm.run(trio.sleep, 1000)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in NUMBERS:
            cm.start_soon(trio.sleep, number)
        after, _ = tracemalloc.get_traced_memory()
        print((after - before) / len(NUMBERS))
        cm.cancel()


trio.run(main)
