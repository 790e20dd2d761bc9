import zlib
from concurrent.futures import ThreadPoolExecutor

import trio

from trio_conman import ConMan
from trio_conman.executors import run_in_executor

PAGES = {"home": b"welcome", "news": b"nothing new", "shop": b"sold out"}


def checksum(
    page: str,
) -> str:  # no async function: it would block all tasks while it runs
    return f"{page}: {zlib.crc32(PAGES[page]):08x}"


async def main() -> None:
    with ThreadPoolExecutor(2) as pool:
        async with trio.open_nursery() as nursery:
            async with ConMan[str].open(nursery, limit=2) as cm:
                for page in PAGES:
                    await cm.run(run_in_executor, pool, checksum, page, name=page)
    print(*sorted(cm.outputs()), sep="\n")


trio.run(main)
