import trio

from trio_conman import ConMan, RetryConfig

SECONDS = {"home": 0.2, "news": 0.4, "shop": 0.1}


async def fetch_page(page: str) -> str:
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def fetch_image(page: str) -> bytes:
    await trio.sleep(0.3)
    return page.encode()


async def main() -> None:
    start = trio.current_time()
    connections = trio.CapacityLimiter(2)
    retry = RetryConfig.linear(retry_on=OSError)
    async with trio.open_nursery() as nursery:
        async with (
            ConMan[str].open(nursery, connections, name="pages", retry=retry) as pages,
            ConMan[bytes].open(
                nursery, connections, name="images", timeout=5.0
            ) as images,
        ):
            for page in SECONDS:
                await pages.run(fetch_page, page)
                print(f"{trio.current_time() - start:.1f} s: the {page} page started")
                await images.run(fetch_image, page)
                print(f"{trio.current_time() - start:.1f} s: the {page} image started")
    print(pages.outputs(), images.outputs())


trio.run(main)
