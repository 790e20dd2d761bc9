import itertools

import trio

from trio_conman import ConMan, Failure


async def fetch(number: int) -> str:
    await trio.sleep(0.1 * number)
    return f"page {number}"


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, name="pages") as cm:
            for number in itertools.count(1):
                await cm.run(fetch, number)
                if len(cm.outputs()) == 3:
                    cm.cancel("three are enough")
        print("The nursery is still open.")
    print(cm.outputs())
    for outcome in sorted(cm.outcomes(), key=lambda outcome: outcome.index):
        if isinstance(outcome, Failure):
            print(f"{outcome.args}: {outcome.error}")


trio.run(main)
