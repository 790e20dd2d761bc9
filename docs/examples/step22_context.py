from contextvars import ContextVar

import trio

from trio_conman import ConMan, RetriableError

visitor = ContextVar[str]("visitor")
BUSY = {"home": 1}


async def fetch(page: str) -> None:
    print(f"{page} for {visitor.get()}")
    visitor.set("nobody")  # seen by the rest of this attempt only
    await trio.sleep(0.1)
    if BUSY.get(page, 0) > 0:
        BUSY[page] -= 1
        raise RetriableError(ConnectionError("busy")).with_no_backoff()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=2) as cm:
            visitor.set("Ada")
            await cm.run(fetch, "home")
            visitor.set("Grace")
            await cm.run(fetch, "news")
    print(f"the body: {visitor.get()}")


trio.run(main)
