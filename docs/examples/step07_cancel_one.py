import trio

from trio_conman import ConMan, Failure

SECONDS = {"home": 0.2, "news": 9.0}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            home = await cm.run(fetch, "home", name="home")
            news = await cm.run(fetch, "news", name="news")
            print(await home.result())
            print(news)
            news.cancel("home is enough")
            outcome = await news.wait()
            print(news)
    if isinstance(outcome, Failure):
        print(f"{outcome.reason.name}, {type(outcome.error).__name__}: {outcome.error}")


trio.run(main)
