import trio

from trio_conman import ConMan, Outcome

SECONDS = {"home": 0.1, "news": 0.3, "shop": 0.1, "blog": 0.1}


async def fetch(page: str) -> str:
    await trio.sleep(SECONDS[page])
    return f"the {page} page"


async def store(outcomes: trio.MemoryReceiveChannel[Outcome[str]]) -> None:
    start = trio.current_time()
    async for outcome in outcomes:
        await trio.sleep(0.3)  # slower than the service
        print(f"{trio.current_time() - start:.1f} s: {outcome.name} stored")
    print("the channel is closed")


async def main() -> None:
    send, receive = trio.open_memory_channel[Outcome[str]](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, receive)
        start = trio.current_time()
        async with ConMan[str].open(nursery, limit=2, send_to=send) as cm:
            for page in SECONDS:
                await cm.run(fetch, page, name=page)
                print(f"{trio.current_time() - start:.1f} s: {page} started")
    print("kept:", cm.outcomes())


trio.run(main)
