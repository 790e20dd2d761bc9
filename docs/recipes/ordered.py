import trio

from trio_conman import ConMan, Failure, Success

SECONDS = {"title": 0.3, "intro": 0.1, "chapter 1": 0.4, "chapter 2": 0.1, "index": 0.2}


async def translate(part: str) -> str:
    await trio.sleep(SECONDS[part])  # stands for a request
    if part == "intro":
        raise ConnectionError("busy")
    return part.upper()


async def main() -> None:
    start = trio.current_time()
    async with (
        trio.open_nursery() as nursery,
        ConMan[str].open(nursery, limit=3) as cm,
        cm.map(translate, SECONDS, ordered=True) as outcomes,
    ):
        async for outcome in outcomes:
            after = f"{trio.current_time() - start:.1f} s"
            match outcome:
                case Success(value=text):
                    print(f"{after}: {text}")
                case Failure(error=error):
                    print(f"{after}: {outcome.args[0]} is missing: {error}")

    # Tasks that were handed in one by one have an index in that order too.
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=3) as cm:
            for part in SECONDS:
                await cm.run(translate, part)
    in_order = sorted(cm.outcomes(), key=lambda outcome: outcome.index)
    print(
        [outcome.value if isinstance(outcome, Success) else None for outcome in in_order]
    )


trio.run(main)
