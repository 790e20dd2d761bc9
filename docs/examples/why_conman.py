import trio

from trio_conman import ConMan, RetryConfig

PAGES = ["home", "news", "shop", "blog", "jobs", "help", "wiki", "team", "maps", "mail"]
BUSY = {"home": 2, "news": 2}  # how many requests fail before the page is there


async def fetch(page: str) -> str:
    await trio.sleep(0.3)  # stands for a request
    if page == "shop":
        raise LookupError("no such page")
    if BUSY.get(page, 0) > 0:
        BUSY[page] -= 1
        raise ConnectionError("busy")
    return f"the {page} page"


async def main() -> None:
    start = trio.current_time()
    busy = (ConnectionError, trio.TooSlowError)
    retry = RetryConfig(max_attempts=3, initial_delay=0.4, jitter=False, retry_on=busy)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=2, retry=retry, attempt_timeout=1, timeout=10
        ) as cm:
            for page in PAGES:
                await cm.run(fetch, page)
    seconds = trio.current_time() - start
    print(f"{seconds:.1f} s, {len(cm.outputs())} pages, errors: {cm.errors()}")


trio.run(main)
