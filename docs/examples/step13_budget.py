import trio

from trio_conman import ConMan, Failure, RetriableError, RetryBudget, RetryConfig


async def fetch(page: int) -> bytes:
    await trio.sleep(0.1)
    raise RetriableError(ConnectionError(f"no page {page}"))  # the service is down


async def main() -> None:
    retry = RetryConfig.exponential(jitter=False)
    budget = RetryBudget(tokens=3)
    async with trio.open_nursery() as nursery:
        async with ConMan[bytes].open(
            nursery, limit=2, retry=retry, retry_budget=budget
        ) as cm:
            for page in range(1, 10):
                await cm.run(fetch, page)
            last = await cm.run(fetch, 10)
    print(f"{len(cm.errors())} failed, {cm.statistics().retries} retries")
    if isinstance(last.outcome, Failure):
        print(f"page 10: {last.outcome.error}, {last.outcome.reason.value}")
    print(budget.statistics())


trio.run(main)
