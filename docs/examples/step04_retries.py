import trio

from trio_conman import ConMan, Failure, RetriableError, RetryConfig, Success

SECONDS = {"home": 0.2, "news": 0.4, "shop": 0.1, "blog": 0.2}
BUSY = {"news": 1, "blog": 99}  # how many requests fail before the page is there


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    if page == "shop":
        raise LookupError("no such page")
    if BUSY.get(page, 0) > 0:
        BUSY[page] -= 1
        raise ConnectionError("busy")
    return f"the {page} page"


async def fetch_or_retry(page: str) -> str:
    try:
        return await fetch(page)
    except ConnectionError as exc:
        raise RetriableError(exc) from exc


async def main() -> None:
    # max_attempts counts retries: a task that always fails runs 1 + 2 times.
    retry = RetryConfig.exponential(max_attempts=2, jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=retry) as cm:
            for page in SECONDS:
                await cm.run(fetch_or_retry, page, name=page)
    for outcome in cm.outcomes():
        match outcome:
            case Success(value=text, name=name, retries=retries):
                print(f"{name}: {text}, retries: {retries}")
            case Failure(error=error, name=name, reason=reason, history=history):
                print(f"{name}: {error!r}, {reason.value}")
                for retried in history:
                    error_type, message = retried.error_type, retried.message
                    print(f"  {error_type}: {message}, retried after {retried.delay} s")


trio.run(main)
