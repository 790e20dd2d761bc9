#!/usr/bin/env bash
# slurry 1.3.1: in half of all runs a tap gives the items in reverse, and it takes all of them while the first is read.
#
# A pipeline sends each item to its taps in a task of its own, and waits for none. Trio runs the tasks that are ready
# in the one order or in the other, by chance. So of a source that has its items at hand, with no checkpoint between
# them, all sends are ready together, and in half of the runs the reader gets the last first. With a section between
# source and tap, such as a Map, the items come one by one, and the order is right. But there is no backpressure in
# either case, though the tap has a buffer of 0 by default: the source is read to its end, and each item that nobody
# has read yet is a task that waits. A trio memory channel with a buffer of 0 lets the source be one ahead. So put a
# section before the tap, and where a source must not run ahead, let the reader give it leave, as by a semaphore. Time
# is virtual here. The script fails when it is not so any more. Run on Python 3.11 and 3.12; the trio that slurry asks
# for cannot be imported on 3.13.
#
# Seen on trio, of 40 runs with 3 items each:
#   a channel: 123
#   tap(): 123 or 321
#   tap() after Map: 123
# and with 1000 items, how many the source has given when the reader has worked for a minute on the first:
#   a channel: 2
#   tap(): 1000
#   tap() after Map: 1000
#   tap() after Map, with a semaphore: 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check slurry==1.3.1 trio==0.21.0
cat >main.py <<'PY'
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

import trio
import trio.testing
from slurry import Pipeline
from slurry.sections import Map


class Run:
    def __init__(self, items: int) -> None:
        self.items = items
        self.given = self.given_by_then = 0
        self.leave = trio.Semaphore(items)
        self.got: list[int] = []

    async def source(self) -> AsyncIterator[int]:
        while self.given < self.items:
            await self.leave.acquire() if self.leave.value == 0 else self.leave.acquire_nowait()
            self.given += 1
            yield self.given

    async def read(self, channel: trio.MemoryReceiveChannel) -> None:
        async for item in channel:
            self.got.append(item)
            await trio.sleep(60)
            if len(self.got) == 1:
                self.given_by_then = self.given
            self.leave.release()

    async def send(self, channel: trio.MemorySendChannel) -> None:
        async with channel:
            async for item in self.source():
                await channel.send(item)


async def channel(run: Run) -> None:
    sender, receiver = trio.open_memory_channel(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.send, sender)
        await run.read(receiver)


async def tap(run: Run, *sections: object) -> None:
    async with Pipeline.create(run.source(), *sections) as pipeline:
        await run.read(pipeline.tap())


async def tap_after_map(run: Run) -> None:
    await tap(run, Map(lambda item: item))


async def tap_with_semaphore(run: Run) -> None:
    run.leave = trio.Semaphore(2)
    await tap_after_map(run)


def run_by(way: Callable[[Run], Awaitable[None]], items: int) -> Run:
    run = Run(items)
    trio.run(way, run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert sorted(run.got) == list(range(1, items + 1))
    return run


print(f"slurry {version('slurry')} on trio")
WAYS = {"a channel": channel, "tap()": tap, "tap() after Map": tap_after_map}
for name, way in WAYS.items():
    orders = {"".join(map(str, run_by(way, 3).got)) for _ in range(40)}
    print(f"{name}: {' or '.join(sorted(orders))}")
for name, way in {**WAYS, "tap() after Map, with a semaphore": tap_with_semaphore}.items():
    print(f"{name}: {run_by(way, 1000).given_by_then}")
PY
seen=$(venv/bin/python -W ignore main.py)
echo "$seen"
[ "$seen" = "slurry 1.3.1 on trio
a channel: 123
tap(): 123 or 321
tap() after Map: 123
a channel: 2
tap(): 1000
tap() after Map: 1000
tap() after Map, with a semaphore: 2" ]
