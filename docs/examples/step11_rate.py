import trio

from trio_conman import ConMan, RateLimiter


async def fetch(page: int, start: float) -> None:
    print(f"{trio.current_time() - start:.1f} s: page {page}")
    await trio.sleep(0.1)


async def main() -> None:
    start = trio.current_time()
    rate = RateLimiter(2, per=1, burst=2)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=5, rate=rate) as cm:
            for page in range(1, 6):
                await cm.run(fetch, page, start)


trio.run(main)
