import itertools

import trio

from trio_conman import ConMan, Failure, Success


async def fetch(number: int) -> str:
    await trio.sleep(9.0 if number == 1 else 0.2)
    return f"page {number}"


async def stop(cm: ConMan[str]) -> None:
    await trio.sleep(0.5)  # stands for the wait for a signal
    print("shutting down")
    await cm.shutdown(grace=0.3)
    print("all tasks have ended")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, name="pages") as cm:
            nursery.start_soon(stop, cm)
            for number in itertools.count(1):
                await cm.run(fetch, number)
    for outcome in cm.outcomes():
        match outcome:
            case Success(value=text):
                print(text)
            case Failure(error=error, reason=reason):
                print(f"{reason.name}: {error}")


trio.run(main)
