"""100 tasks over a pool, half of them cancelled: is each answer its own?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import trio

from trio_conman import ConMan, Failure, RetryConfig, StopReason, Success, TaskHandle

TASKS = 100
LIMIT = 20  # at once
POOL = 10  # connections, where the pool lets its users wait for one
ROUNDS = 6  # with cancelled tasks; after them one without
DELAY = 0.02  # seconds, at most, that a server takes to answer
PATIENCE = 30.0
GOOD = "each its own"


def delay_of(n: int) -> float:
    """Answers come in another order than questions."""
    return DELAY * (n * 37 % TASKS) / TASKS


async def each_its_own(ask: Callable[[int], Awaitable[object]], retry: RetryConfig | None = None) -> str:
    """Ask for the numbers 0 to 99, each `ROUNDS` + 1 times; what was wrong, or `GOOD`."""
    rng = Random(1)
    faults = Counter[str]()

    async def cancel_later(handle: TaskHandle[object]) -> None:
        await trio.sleep(rng.uniform(0, DELAY * TASKS / LIMIT))
        handle.cancel()

    for cancelled in range(ROUNDS, -1, -1):
        with trio.move_on_after(PATIENCE) as scope:
            async with trio.open_nursery() as nursery:
                async with ConMan[object].open(nursery, LIMIT, retry=retry) as cm:
                    handles = [cm.start_soon(ask, n) for n in range(TASKS)]
                    if cancelled:
                        for handle in handles[::2]:
                            nursery.start_soon(cancel_later, handle)
        if scope.cancelled_caught:
            return f"answers stay away; {dict(faults)}"
        for n, handle in enumerate(handles):
            match handle.outcome:
                case Success(value=value):
                    faults["the answer of another"] += value != n
                case Failure(reason=StopReason.CANCELLED) if cancelled and n % 2 == 0:
                    pass
                case Failure(error=error):
                    faults[type(error).__qualname__] += 1
    return ", ".join(f"{fault}: {count}" for fault, count in faults.items() if count) or GOOD
