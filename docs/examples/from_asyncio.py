import asyncio


async def fetch(number: int) -> str:
    await asyncio.sleep(0.1)
    if number == 3:
        raise LookupError("no such page")
    return f"page {number}"


async def main() -> None:
    semaphore = asyncio.Semaphore(2)

    async def limited(number: int) -> str:
        async with semaphore:
            return await asyncio.wait_for(fetch(number), timeout=1)

    calls = [limited(number) for number in range(1, 5)]
    print(await asyncio.gather(*calls, return_exceptions=True))


asyncio.run(main())
