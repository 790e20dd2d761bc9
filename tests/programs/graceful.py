"""A worker that ends gracefully: on SIGTERM it takes on nothing more, finishes what it has begun, and says
what it did. A second SIGTERM ends it at once.

    python graceful.py SECONDS

SECONDS is how long one piece of work takes.
"""

import itertools
import signal
import sys

import trio

from trio_conman import ConMan


def say(text: str) -> None:
    print(text, flush=True)


async def work(number: int) -> int:
    say(f"started {number}")
    await trio.sleep(float(sys.argv[1]))
    say(f"finished {number}")
    return number


async def end_gracefully(cm: ConMan[int], *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            break
    # From here on the signal does again what it does by default.
    say("draining")
    await cm.shutdown()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 3) as cm:
            await nursery.start(end_gracefully, cm)
            for number in itertools.count():
                await cm.run(work, number)
        say(f"{len(cm.outputs())} done, {len(cm.errors())} failed")


trio.run(main)
