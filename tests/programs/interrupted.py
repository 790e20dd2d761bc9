"""A program as a newcomer writes it: it waits where it is told, and does nothing about a Ctrl-C."""

import sys

import trio
import trio.testing

from trio_conman import ConMan


async def job(n: int) -> None:
    await trio.sleep(60)


async def computes() -> None:
    print("ready", flush=True)
    while True:
        sum(range(1000))


@trio.lowlevel.enable_ki_protection  # a Ctrl-C is for those who wait, also when it comes at once
async def ready() -> None:
    await trio.testing.wait_all_tasks_blocked()
    print("ready", flush=True)


async def main(where: str) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2) as cm:
            if where == "task":
                await cm.run(computes)
                await trio.sleep(60)
            nursery.start_soon(ready)
            if where == "map":
                async with cm.map(job, range(100)) as outcomes:
                    async for _ in outcomes:
                        pass
            await cm.run(job, 0)
            await cm.shutdown()


trio.run(main, sys.argv[1])
