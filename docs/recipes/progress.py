import sys

import trio
from rich.console import Console

from trio_conman import ConMan, RetriableError, RetryConfig
from trio_conman.progress import RichProgress

BUSY = {"page 4", "page 7"}


async def fetch(page: str) -> None:
    await trio.sleep(0.1)  # stands for a request
    if page in BUSY:
        BUSY.remove(page)
        raise RetriableError(ConnectionError("busy"))
    if page == "page 9":
        raise LookupError("no such page")


async def main() -> None:
    pages = [f"page {number}" for number in range(1, 21)]
    # By default it is shown on standard error.
    with RichProgress(total=len(pages), console=Console(file=sys.stdout)) as progress:
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(
                nursery,
                limit=3,
                name="pages",
                retry=RetryConfig.linear(),
                instruments=[progress],
            ) as cm:
                for page in pages:
                    await cm.run(fetch, page)
                    if page == "page 10":
                        progress.console.print("half way")  # stays above the bar


trio.run(main)
