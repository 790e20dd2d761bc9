import json
import tempfile
from pathlib import Path

import trio

from trio_conman import ConMan, RateLimiter

DAY = 24 * 60 * 60


def opened(file: Path, quota: int) -> RateLimiter:
    """The rate as the last run has left it, for the quota that there is now."""
    burst = quota // 20  # so many at once, and the others evenly
    if not file.exists():
        return RateLimiter(quota - burst, per=DAY, burst=burst)
    rate = RateLimiter.restore(json.loads(file.read_text()))
    rate.rate, rate.burst = quota - burst, burst  # the file has those of the last run
    return rate


def save(rate: RateLimiter, file: Path) -> None:
    """Write it down whole, or not at all."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(rate.snapshot()))
    beside.replace(file)


async def main(file: Path, quota: int) -> None:
    rate = opened(file, quota)

    async def call(number: int) -> int:
        # Before the request, so that one that was made is counted, whatever happens.
        save(rate, file)
        await trio.sleep(0.01)  # stands for the request
        return number

    async with trio.open_nursery() as nursery:
        # Who cannot have a permit within this second fails at once.
        async with ConMan[int].open(nursery, limit=10, rate=rate, task_timeout=1) as cm:
            for number in range(30):
                await cm.run(call, number)
    print(f"{len(cm.outputs())} calls, {len(cm.errors())} are left for later")


with tempfile.TemporaryDirectory() as folder:
    # Four runs of the program, on the same day; before the last the quota is doubled.
    for quota in (1000, 1000, 1000, 2000):
        trio.run(main, Path(folder, "quota.json"), quota)
