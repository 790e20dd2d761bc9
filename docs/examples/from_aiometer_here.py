import trio

from trio_conman import ConMan, RateLimiter, Success


async def fetch(number: int) -> str:
    await trio.sleep(0.1)
    return f"page {number}"


async def main() -> None:
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, limit=2, rate=RateLimiter(10), max_errors=0) as cm,
        cm.map(fetch, range(1, 5)) as outcomes,
    ):
        async for outcome in outcomes:
            if isinstance(outcome, Success):
                print(outcome.value)


trio.run(main)
