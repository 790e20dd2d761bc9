import trio

from trio_conman import ConMan

SECONDS = {"home": 0.2, "news": 0.4, "shop": 0.1, "blog": 0.2}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            handles = [await cm.run(fetch, page) for page in SECONDS]
            print("so far:", cm.outputs())
            print("the second:", await handles[1].result())
    print("all:", cm.outputs())


trio.run(main)
