import math

import trio

from trio_conman import ConMan, Failure, RetriableError

SECONDS = {"home": 9.0, "news": 9.0, "shop": 9.0, "blog": 0.1}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    raise RetriableError(ConnectionError("busy, come back in 5 s"), retry_after=5.0)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=4, attempt_timeout=0.3, timeout=1.0
        ) as cm:
            await cm.run(fetch, "home", name="home")
            await cm.run(
                fetch, "news", name="news", attempt_timeout=math.inf, task_timeout=0.6
            )
            await cm.run(fetch, "shop", name="shop", attempt_timeout=math.inf)
            await cm.run(fetch, "blog", name="blog")
    for outcome in cm.outcomes():
        if isinstance(outcome, Failure):
            print(f"{outcome.elapsed:.1f} s, {outcome.name}: {outcome.reason.name}")
            print(f"  {type(outcome.error).__name__}: {outcome.error}")
    print("timed out:", cm.timed_out)


trio.run(main)
