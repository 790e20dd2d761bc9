import trio

from trio_conman import ConMan

LINKS = {
    "home": ["news", "shop"],
    "news": ["home", "archive"],
    "shop": ["home", "basket"],
    "archive": ["news", "home"],
    "basket": [],
}
SECONDS = {"home": 0.1, "news": 0.2, "shop": 0.3, "archive": 0.3, "basket": 0.1}


async def visit(cm: ConMan[str], seen: set[str], page: str) -> str:
    await trio.sleep(SECONDS[page])
    for link in LINKS[page]:
        if link not in seen:
            seen.add(link)
            cm.start_soon(visit, cm, seen, link, name=link)
            print(f"{page} leads to {link}")
    return page


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            cm.start_soon(visit, cm, {"home"}, "home", name="home")
    print("visited:", cm.outputs())


trio.run(main)
