import aiometer
import trio


async def fetch(number: int) -> str:
    await trio.sleep(0.1)
    return f"page {number}"


async def main() -> None:
    async with aiometer.amap(
        fetch, range(1, 5), max_at_once=2, max_per_second=10
    ) as results:
        async for result in results:
            print(result)


trio.run(main)
