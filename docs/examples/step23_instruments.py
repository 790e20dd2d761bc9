import logging
import sys

import trio

from trio_conman import (
    ConMan,
    Instrument,
    LoggingInstrument,
    RetriableError,
    RetryConfig,
    TaskHandle,
)

BUSY = {"news"}


class Attempts(Instrument):
    """Prints when an attempt starts."""

    def attempt_started(self, handle: TaskHandle[str], attempt: int) -> None:
        print(f"{handle.name}: attempt {attempt}")


async def fetch(page: str) -> str:
    await trio.sleep(0.1)
    if page in BUSY:
        BUSY.remove(page)
        raise RetriableError(ConnectionError("busy"))
    return f"the {page} page"


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    retry = RetryConfig.exponential(jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=2, retry=retry, instruments=[LoggingInstrument(), Attempts()]
        ) as cm:
            for page in ("home", "news"):
                await cm.run(fetch, page, name=page)


trio.run(main)
