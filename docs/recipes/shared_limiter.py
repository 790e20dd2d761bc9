import trio

from trio_conman import ConMan, RateLimiter

underway = set[str]()
numbers: list[int] = []  # how many were underway when a call began


async def call(name: str) -> str:
    underway.add(name)
    numbers.append(len(underway))
    await trio.sleep(0.1)  # stands for a request
    underway.remove(name)
    return name


async def main() -> None:
    service = trio.CapacityLimiter(4)  # connections that the service allows
    rate = RateLimiter(50, burst=4)  # and requests a second
    start = trio.current_time()
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(
            nursery, service, name="pages", rate=rate, task_timeout=5
        ) as pages,
        ConMan[str].open(
            nursery, service, name="images", rate=rate, max_errors=3
        ) as images,
    ):
        for number in range(1, 7):
            pages.start_soon(call, f"page {number}")
            images.start_soon(call, f"image {number}")
        async with service:  # whoever does not know of managers takes a slot as ever
            await call("something else")
    print(f"{len(pages.outputs())} pages, {len(images.outputs())} images")
    borrowed = service.borrowed_tokens
    print(f"at most {max(numbers)} underway, {borrowed} slots are left borrowed")
    print(f"{trio.current_time() - start:.1f} s")


trio.run(main)
