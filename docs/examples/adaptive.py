import trio

from trio_conman import AdaptiveLimit, ConMan, RetriableError


class Service:
    """Serves 30 requests at once, in half a second each, and refuses others."""

    running = 0

    async def get(self, number: int) -> int:
        if self.running >= 30:
            raise ConnectionError("busy")
        self.running += 1
        await trio.sleep(0.5)
        self.running -= 1
        return number


def is_busy(error: Exception) -> bool:
    return isinstance(error, RetriableError) and isinstance(error.err, ConnectionError)


async def main() -> None:
    service = Service()

    async def fetch(number: int) -> int:
        try:
            return await service.get(number)
        except ConnectionError as error:
            raise RetriableError(error) from None

    limit = AdaptiveLimit(initial=4, overloaded=is_busy)
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limit) as cm:
            async with cm.map(fetch, range(3000)) as outcomes:
                async for outcome in outcomes:
                    if outcome.index % 500 == 499:
                        print(f"item {outcome.index}: {cm.limit} at once")
    found = limit.statistics()
    print(f"{found.overloads} of 3000 were refused, {found.cuts} cuts")


trio.run(main)
