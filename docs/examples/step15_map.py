from collections.abc import Iterator

import trio

from trio_conman import ConMan, Failure, Success

SECONDS = {"home": 0.1, "news": 0.5, "shop": 0.2, "blog": 0.4}


def pages() -> Iterator[str]:
    for page in SECONDS:
        print(f"{page} is drawn")
        yield page


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    if page == "shop":
        raise LookupError("no such page")
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, limit=2) as cm:
            async with cm.map(fetch, pages()) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Success(value=text, index=index):
                            print(f"{index}: {text}")
                        case Failure(error=error, index=index):
                            print(f"{index}: {error!r}")
    print("kept:", cm.outcomes())


trio.run(main)
