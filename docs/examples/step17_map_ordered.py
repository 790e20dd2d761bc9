import trio

from trio_conman import ConMan, Success

SECONDS = {"home": 0.4, "news": 0.1, "shop": 0.1, "blog": 0.1, "jobs": 0.1, "help": 0.1}


async def fetch(page: str) -> str:
    print(f"{page} started")
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, limit=2) as cm:
            async with cm.map(fetch, SECONDS, ordered=True) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, Success):
                        print(outcome.value)


trio.run(main)
