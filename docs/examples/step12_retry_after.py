import trio

from trio_conman import ConMan, RateLimiter, RetriableError, parse_retry_after

RETRY_AFTER = {"news": "3"}  # what the service answers at first, in seconds


async def fetch(page: str, start: float) -> None:
    print(f"{trio.current_time() - start:.1f} s: {page}")
    await trio.sleep(0.1)
    if header := RETRY_AFTER.pop(page, ""):
        print(f"  {page}: asked to wait for {header} s")
        raise RetriableError(
            ConnectionError("429"), retry_after=parse_retry_after(header)
        )


async def main() -> None:
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=4, rate=RateLimiter(5)) as cm:
            for page in ("home", "news", "shop", "blog"):
                await cm.run(fetch, page, start)


trio.run(main)
