# %% once
import trio

from trio_conman import ConMan

PAGES = ["home", "news", "shop", "blog", "jobs", "help"]
pages: dict[str, str] = {}  # what is there, kept between cells
hangs = {"help"}


async def fetch(page: str) -> None:
    await trio.sleep(99 if page in hangs else 0.1)  # stands for a request
    if page == "shop":
        raise LookupError("no such page")
    pages[page] = f"the {page} page"


async def fetch_missing(seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, limit=2, timeout=seconds) as cm:
            for page in PAGES:
                if page not in pages:
                    await cm.run(fetch, page, name=page)
    print(f"{len(pages)} of {len(PAGES)}", *cm.errors(), sep="\n")


# %% a first look
trio.run(fetch_missing, 1)

# %% later: what is missing
hangs.clear()
trio.run(fetch_missing, 1)
