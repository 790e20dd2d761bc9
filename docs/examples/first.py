import trio

from trio_conman import ConMan, RetryConfig


async def fetch(page: str) -> str:
    await trio.sleep(0.1)  # stands for a request
    if page == "shop":
        raise LookupError("no such page")
    return f"the {page} page"


async def main() -> None:
    retry = RetryConfig(retry_on=ConnectionError)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=retry, timeout=30) as cm:
            for page in ("home", "news", "shop", "blog"):
                await cm.run(fetch, page)
    print(sorted(cm.outputs()), cm.errors())


trio.run(main)
