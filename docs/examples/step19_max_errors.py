import trio

from trio_conman import ConMan, Failure, Success, TaskHandle

SECONDS = {"home": 0.1, "news": 0.6, "shop": 0.2}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    if page == "shop":
        raise LookupError("no such page")
    return f"the {page} page"


async def main() -> None:
    handles: list[TaskHandle[str]] = []
    async with trio.open_nursery() as nursery:
        try:
            async with ConMan[str].open(nursery, limit=3, max_errors=0) as cm:
                handles += [await cm.run(fetch, page, name=page) for page in SECONDS]
        except ExceptionGroup as group:
            print(f"{group.message}: {group.exceptions}")
    for handle in handles:
        match handle.outcome:
            case Success(value=text):
                print(text)
            case Failure(error=error, reason=reason):
                print(f"{reason.name}: {error}")


trio.run(main)
