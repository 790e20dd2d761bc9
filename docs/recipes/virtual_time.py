import time
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

from trio_conman import ConMan, RateLimiter, RetriableError, RetryConfig
from trio_conman.testing import FixedJitter

HOUR = 3600


async def nightly(call: Callable[[int], Awaitable[int]], calls: int) -> ConMan[int]:
    """The job to be tested: metered calls, all night."""
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(
            nursery,
            limit=20,
            rate=RateLimiter(1_000, per=HOUR, burst=20),
            retry=RetryConfig.exponential(
                max_attempts=10, initial_delay=60, max_delay=HOUR
            ),
            rng=FixedJitter(0.5),  # half of each delay
            timeout=8 * HOUR,
        ) as cm:
            for number in range(calls):
                await cm.run(call, number)
    return cm


async def test_an_outage_at_night_costs_no_call() -> None:
    start = trio.current_time()

    async def call(number: int) -> int:
        await trio.sleep(2)
        if 3 * HOUR <= trio.current_time() - start < 4 * HOUR:
            raise RetriableError(ConnectionError("down for maintenance"))
        return number

    cm = await nightly(call, 5_000)
    assert sorted(cm.outputs()) == list(range(5_000))
    assert not cm.timed_out
    hours = (trio.current_time() - start) / HOUR
    print(f"{hours:.1f} hours, {cm.statistics().retries} retries")


started = time.monotonic()
# In a file of tests, pytest-trio and its fixture `autojump_clock` do this.
trio.run(test_an_outage_at_night_costs_no_call, clock=MockClock(autojump_threshold=0))
print(f"in less than a minute: {time.monotonic() - started < 60}")
