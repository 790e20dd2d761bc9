import trio

from trio_conman import ConMan, RetryConfig

RETRY = RetryConfig.exponential(
    max_attempts=3,  # retries, so 4 calls at most
    initial_delay=0.1,
    max_delay=5,
    max_elapsed=30,
    retry_on=ConnectionError,
)
TROUBLES = ["busy", "busier"]


async def fetch(number: int) -> str:
    await trio.sleep(0.1)
    if TROUBLES:
        raise ConnectionError(TROUBLES.pop())
    return f"page {number}"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY) as cm:
            handle = await cm.run(fetch, 1)
            print(await handle.result())


trio.run(main)
