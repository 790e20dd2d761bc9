import json
import tempfile
from pathlib import Path

import trio

from trio_conman import ConMan, RateLimiter

DAY = 24 * 60 * 60


def opened(file: Path) -> RateLimiter:
    """The rate as the last run has left it."""
    if file.exists():
        return RateLimiter.restore(json.loads(file.read_text()))
    # 1000 a day: 50 at once, and the others evenly.
    return RateLimiter(950, per=DAY, burst=50)


def save(rate: RateLimiter, file: Path) -> None:
    """Write it down whole, or not at all."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(rate.snapshot()))
    beside.replace(file)


async def main(file: Path) -> None:
    rate = opened(file)

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
    # Three runs of the program, on the same day.
    for _ in range(3):
        trio.run(main, Path(folder, "quota.json"))
