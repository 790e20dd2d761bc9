import trio

from trio_conman import ConMan, Failure, RetriableError, RetryConfig


async def fetch(page: str) -> str:
    await trio.sleep(0.1)
    if page == "news":
        # The error's own config.
        raise RetriableError("busy", retry_config=RetryConfig.linear(max_attempts=2))
    raise ConnectionError("busy")


async def main() -> None:
    # The manager's config, with plain errors to retry.
    retry = RetryConfig.exponential(
        max_attempts=3, jitter=False, retry_on=ConnectionError
    )
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=4, retry=retry) as cm:
            await cm.run(fetch, "home", name="home: the manager's")
            await cm.run(fetch, "news", name="news: the error's")
            # The task's config stands in for all of the manager's, retry_on included.
            once = RetryConfig.none(max_attempts=1, retry_on=OSError)
            await cm.run(fetch, "shop", name="shop: the task's", retry=once)
            never = RetryConfig.none(max_attempts=1)
            await cm.run(fetch, "blog", name="blog: the task's", retry=never)
    for outcome in sorted(cm.outcomes(), key=lambda outcome: outcome.index):
        if isinstance(outcome, Failure):
            delays = [retried.delay for retried in outcome.history]
            print(f"{outcome.name}, retried after {delays}, {outcome.reason.value}")


trio.run(main)
