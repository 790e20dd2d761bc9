import itertools
from collections.abc import AsyncIterator

import trio

from trio_conman import ConMan, Success


async def numbers() -> AsyncIterator[int]:
    try:
        for number in itertools.count(1):
            await trio.sleep(0.1)  # stands for a queue, or a socket
            yield number
    finally:
        print("the source is closed")


async def fetch(number: int) -> str:
    await trio.sleep(0.15)
    return f"page {number}"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, limit=2) as cm:
            async with cm.map(fetch, numbers()) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, Success):
                        print(outcome.value)
                        if outcome.value == "page 3":
                            break
            now = cm.statistics()
            ended = f"{now.succeeded} succeeded, {now.cancelled} cancelled"
            print(f"{ended}, {now.running} running")


trio.run(main)
