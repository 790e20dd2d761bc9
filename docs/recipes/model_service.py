import random

import trio

from trio_conman import ConMan, RateLimiter, RetriableError

QUOTA = 600_000  # tokens a minute that the service allows
BURST = 10_000  # at once; no call may cost more


def estimate(prompt: str, longest: int) -> float:
    """Tokens of a prompt, roughly, and of the longest answer that was asked for."""
    return len(prompt) / 4 + longest


requests = RateLimiter(3_000, per=60, burst=10)
tokens = RateLimiter(QUOTA - BURST, per=60, burst=BURST, cost=estimate)


async def ask(prompt: str, longest: int) -> int:
    reply = await service.answer(prompt, longest)
    if reply.wait:
        tokens.charge(-estimate(prompt, longest))  # a refused call has cost none
        raise RetriableError("too many requests", retry_after=reply.wait)
    tokens.charge(reply.tokens - estimate(prompt, longest))  # what it really cost
    return reply.tokens


async def main() -> None:
    rng = random.Random(7)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, limit=20, rate=(requests, tokens)) as cm:
            for _ in range(80):
                await cm.run(
                    ask, "x" * rng.randrange(400, 4000), rng.choice([200, 500, 2000])
                )
    seconds = trio.current_time() - start
    used = cm.outputs()
    print(f"{len(used)} answers, {sum(used)} tokens, {service.refused} calls refused")
    print(f"{seconds:.0f} s")


class Reply:
    def __init__(self, tokens: int, wait: float = 0) -> None:
        self.tokens, self.wait = tokens, wait


class Service:
    """Stands for the service: counts what was asked for in a minute, refuses more."""

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.spent: list[tuple[float, int]] = []
        self.refused = 0

    async def answer(self, prompt: str, longest: int) -> Reply:
        now = trio.current_time()
        size = len(prompt) // 4 + round(longest * self.rng.uniform(0.1, 1))
        lately = sum(tokens for when, tokens in self.spent if when > now - 60)
        if lately + size > QUOTA:
            self.refused += 1
            return Reply(0, wait=1)
        self.spent.append((now, size))
        await trio.sleep(0.1 + size / 20_000)
        return Reply(size)


service = Service()
trio.run(main)
