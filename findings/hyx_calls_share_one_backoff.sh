#!/usr/bin/env bash
# hyx 0.0.2: calls that fail at once share one series of delays, so that of five first retries the last waits 16 s.
#
# A decorated function has one backoff for all its calls. Each call takes its next delay from it, and each new call sets
# it back to the start for the others as well. So five tasks that meet the same outage do not wait 1, 2, 4 s each: the
# first retries wait 1, 2, 4, 8, 16 s, the second ones up to 512 s, and a list of delays is dealt out among the tasks.
# Its other limits have surprises, too. A token bucket that has rested before it was emptied lets in what is left in it
# and as many again, twice its size at most. And a bulkhead that is used with `async with` never gets back the place of a
# task that was cancelled, or timed out, while it waited: after as many of these as may wait, nobody may wait any more;
# as a decorator it does. The delays are written down in place of being waited for, and the clock is set by hand.
#
# Seen:
#   retry, expo(min_delay_secs=1, base=2), one call waits: 1 2 4
#   retry, expo(min_delay_secs=1, base=2), five at once wait: 1 32 1024, 2 64 2048, 4 128 4096, 8 256 8192, 16 512 16384
#   retry, [1, 2, 3], three at once wait: 1 1 1, 2 2 2, 3 3 3
#   tokenbucket(10, 1), used as soon as it is made: 10 at once; 60 s later: 20 at once
#   bulkhead(1, 3) beside one that runs: may wait 2; after two waits that were cancelled: may wait 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hyx==0.0.2
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version
from unittest.mock import patch

from hyx.bulkhead import bulkhead
from hyx.bulkhead.exceptions import BulkheadFull
from hyx.ratelimit import tokenbucket
from hyx.ratelimit.exceptions import RateLimitExceeded
from hyx.retry import retry
from hyx.retry.backoffs import expo


async def retries(calls: int, backoff: object) -> str:
    waited = {}

    async def wait(delay: float) -> None:
        waited.setdefault(asyncio.current_task(), []).append(f"{delay:g}")
        await asyncio.sleep(0)

    with patch("hyx.retry.manager.wait", wait):

        @retry(attempts=3, backoff=backoff)
        async def ask() -> None:
            await asyncio.sleep(0)
            raise ConnectionError

    await asyncio.gather(*(ask() for _ in range(calls)), return_exceptions=True)
    return ", ".join(" ".join(each) for each in waited.values())


async def at_once(rest: float) -> int:
    now = 1000.0
    with patch.object(asyncio.get_running_loop(), "time", lambda: now):
        bucket = tokenbucket(max_executions=10, per_time_secs=1)
        now += rest
        entered = 0
        try:
            while True:
                async with bucket:
                    entered += 1
        except RateLimitExceeded:
            return entered


async def may_wait(cancelled: int) -> int:
    limit = bulkhead(max_concurrency=1, max_capacity=3)

    async def enter() -> None:
        async with limit:
            pass

    async with limit:
        for _ in range(cancelled):
            waiter = asyncio.create_task(enter())
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
        waiters = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    return sum(not isinstance(end, BulkheadFull) for end in ends)


async def main() -> None:
    print(f"hyx {version('hyx')}")
    for calls, words in (1, "one call waits"), (5, "five at once wait"):
        name = "expo(min_delay_secs=1, base=2)"
        print(f"retry, {name}, {words}: {await retries(calls, expo(min_delay_secs=1, base=2))}")
    print(f"retry, [1, 2, 3], three at once wait: {await retries(3, [1, 2, 3])}")
    soon, later = await at_once(0), await at_once(60)
    print(f"tokenbucket(10, 1), used as soon as it is made: {soon} at once; 60 s later: {later} at once")
    before, after = await may_wait(0), await may_wait(2)
    print(f"bulkhead(1, 3) beside one that runs: may wait {before}; after two waits that were cancelled: may wait {after}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "hyx 0.0.2
retry, expo(min_delay_secs=1, base=2), one call waits: 1 2 4
retry, expo(min_delay_secs=1, base=2), five at once wait: 1 32 1024, 2 64 2048, 4 128 4096, 8 256 8192, 16 512 16384
retry, [1, 2, 3], three at once wait: 1 1 1, 2 2 2, 3 3 3
tokenbucket(10, 1), used as soon as it is made: 10 at once; 60 s later: 20 at once
bulkhead(1, 3) beside one that runs: may wait 2; after two waits that were cancelled: may wait 0" ]
