"""A worker that ends gracefully: on a first signal it takes on nothing more, and finishes what it has begun;
on a second one it ends at once. In both cases it says what it did, and its status is of the first signal.

    python graceful.py SECONDS GRACE

SECONDS is how long one piece of work takes, GRACE how long it may take once a signal has come.
"""

import itertools
import signal
import sys

import trio

from trio_conman import ConMan, Failure
from trio_conman.signals import shutdown_on_signal


def say(text: str) -> None:
    print(text, flush=True)


async def work(number: int) -> int:
    say(f"started {number}")
    await trio.sleep(float(sys.argv[1]))
    say(f"finished {number}")
    return number


async def tell(came: list[signal.Signals]) -> None:
    while not came:
        await trio.sleep(0.01)
    for _ in range(2):
        await trio.lowlevel.checkpoint()  # in the first of these turns the shutdown begins
    say("draining")


async def main() -> int:
    async with trio.open_nursery() as nursery:
        async with ConMan[int].open(nursery, 3) as cm:
            async with shutdown_on_signal(cm, grace=float(sys.argv[2])) as came:
                nursery.start_soon(tell, came)
                for number in itertools.count():
                    await cm.run(work, number)
        for outcome in cm.outcomes():
            if isinstance(outcome, Failure):
                say(f"{outcome.error}")
        say(f"{len(cm.outputs())} done, {len(cm.errors())} failed, {' '.join(each.name for each in came)}")
    return 128 + came[0]


sys.exit(trio.run(main))
