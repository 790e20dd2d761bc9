import trio

from trio_conman import ConMan, Failure, RetriableError, RetryConfig, Success

SECONDS = {"/home": 0.1, "/news": 0.3, "/old": 0.5, "/shop": 0.2}
BUSY = {"/news": 1, "/shop": 99}  # how many requests fail before the page is there


async def fetch(url: str) -> str:
    await trio.sleep(SECONDS[url])  # stands for the network
    if url == "/old":
        raise LookupError("404 not found")
    if BUSY.get(url, 0) > 0:
        BUSY[url] -= 1
        raise RetriableError(ConnectionError("503 busy"))
    return f"<h1>{url}</h1>"


async def main() -> None:
    # max_attempts counts retries: a task that always fails runs 1 + 2 times.
    retry = RetryConfig.exponential(max_attempts=2, jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=retry, timeout=10) as cm:
            for url in SECONDS:
                await cm.run(fetch, url, name=url)  # waits while two are running
        # Leaving the block waits for every task.

    for outcome in cm.outcomes():  # in completion order
        match outcome:
            case Success(value=page):
                print(f"{outcome.name}: {page}, retries: {outcome.retries}")
            case Failure(error=error, reason=reason):
                retries = outcome.retries
                print(f"{outcome.name}: {error!r}, retries: {retries}, {reason.value}")


trio.run(main)
