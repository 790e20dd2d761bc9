import trio

from trio_conman import ConMan

SECONDS = {"home": 0.2, "news": 0.4, "shop": 0.1, "blog": 0.2}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])  # stands for the network
    return f"the {page} page"


async def main() -> None:
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            for page in SECONDS:
                await cm.run(fetch, page)
                print(f"{trio.current_time() - start:.1f} s: {page} started")
    print(f"{trio.current_time() - start:.1f} s: all ended")


trio.run(main)
