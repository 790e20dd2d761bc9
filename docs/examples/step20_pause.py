import trio

from trio_conman import ConMan

SECONDS = {"home": 0.2, "news": 0.3, "shop": 0.2, "blog": 0.3}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2) as cm:
            for page in SECONDS:
                cm.start_soon(fetch, page, name=page)
            await trio.sleep(0.1)
            cm.pause()
            await cm.wait_running()
            now = cm.statistics()
            print(
                f"{now.succeeded} succeeded, {now.running} running, {now.queued} queued"
            )
            await trio.sleep(0.3)  # the service is maintained
            cm.resume()
    for outcome in cm.outcomes():
        print(
            f"{outcome.name} waited {outcome.waited:.1f} s, took {outcome.elapsed:.1f} s"
        )


trio.run(main)
