import trio

from trio_conman import ConMan, Success


async def fetch(number: int) -> str:
    await trio.sleep(0.1)
    if number == 3:
        raise LookupError("no such page")
    return f"page {number}"


async def main() -> None:
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, limit=2, attempt_timeout=1) as cm,
        cm.map(fetch, range(1, 5), ordered=True) as outcomes,
    ):
        print(
            [
                each.value if isinstance(each, Success) else each.error
                async for each in outcomes
            ]
        )


trio.run(main)
