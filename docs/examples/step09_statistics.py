import trio

from trio_conman import ConMan, RetriableError, RetryConfig

SECONDS = {"home": 0.4, "news": 0.8, "shop": 0.2, "blog": 0.4}
BUSY = {"shop": 1}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    if BUSY.get(page, 0) > 0:
        BUSY[page] -= 1
        raise RetriableError(ConnectionError("busy"))
    return f"the {page} page"


async def report(cm: ConMan[str]) -> None:
    start = trio.current_time()
    await trio.sleep(0.1)
    while True:
        now = cm.statistics()
        print(
            f"{trio.current_time() - start:.1f} s: {now.running} running, "
            f"{now.backing_off} backing off, {now.waiting} waiting, "
            f"{now.succeeded} of {now.submitted} succeeded"
        )
        await trio.sleep(0.2)


async def main() -> None:
    retry = RetryConfig.exponential(initial_delay=0.2, jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=retry) as cm:
            nursery.start_soon(report, cm)
            for page in SECONDS:
                await cm.run(fetch, page)
        nursery.cancel_scope.cancel()  # ends the report
    end = cm.statistics()
    print(f"{end.succeeded} succeeded, {end.failed} failed, {end.retries} retries")


trio.run(main)
