import trio

from trio_conman import ConMan, Failure, Success

SECONDS = {"home": 0.2, "news": 0.4, "shop": 0.1, "blog": 0.2}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    if page == "shop":
        raise LookupError("no such page")
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            for page in SECONDS:
                await cm.run(fetch, page, name=page)
    for outcome in cm.outcomes():
        times = f"waited {outcome.waited:.1f} s, took {outcome.elapsed:.1f} s"
        match outcome:
            case Success(value=text, name=name):
                print(f"{name} {times}: {text}")
            case Failure(error=error, name=name):
                print(f"{name} {times}: {error!r}")


trio.run(main)
