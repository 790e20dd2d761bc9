#!/usr/bin/env bash
# chanio 0.1.0: `select` takes what two channels have, gives one, and drops the other; and `after` waits by itself.
#
# It says that it is a select as in Go, where one case happens and no other does. But where it has to wait, a task
# waits at each channel, and the first one that is done cancels the others. When two values are there by then, both
# have been taken, and what the second task has is thrown away, with no error: a job is gone, and who sent it was told
# that it arrived. In the same way two cases that send both send, and one is told. `after(5)` is said to give a channel
# that closes after 5 s, which would be a case for a time limit. It waits for the 5 s itself, and then gives a channel
# that has closed: a select with it begins only then, and where nothing has come it raises EndOfStream. `move_on_after`
# around the select helps against this one. Time is virtual here.
#
# Seen on trio:
#   two channels have a value, then select: told 1 value, left in the channels 1
#   select waits, then each of two gets a value: told 1 value, left in the channels 0
#   select waits to send on one of two, then both are received from: told 1, arrived 2
#   a value after 1 s, select with after(5): a value after 5 s
#   nothing comes, select with after(5): EndOfStream after 5 s
#   a value after 1 s, select without it: a value after 1 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 chanio==0.1.0 trio==0.35.0
cat >main.py <<'PY'
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import trio
import trio.testing
from anyio import EndOfStream
from chanio import Channel, after, select


async def left(*channels: Channel) -> int:
    count = 0
    for channel in channels:
        with trio.move_on_after(1):
            await channel.recv()
            count += 1
    return count


async def there_before() -> str:
    a, b = Channel(1), Channel(1)
    await a.send("job 1")
    await b.send("job 2")
    await select(a, b)
    return f"told 1 value, left in the channels {await left(a, b)}"


async def there_later() -> str:
    a, b = Channel(1), Channel(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(select, a, b)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(a.send, "job 1")
        nursery.start_soon(b.send, "job 2")
    return f"told 1 value, left in the channels {await left(a, b)}"


async def sent() -> str:
    a, b = Channel(), Channel()
    arrived = []

    async def receive(channel: Channel) -> None:
        with trio.move_on_after(1):
            arrived.append(await channel.recv())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(select, (a, "job 1"), (b, "job 1"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(receive, a)
        nursery.start_soon(receive, b)
    return f"told 1, arrived {len(arrived)}"


async def limited(comes: float, seconds: float) -> str:
    start = trio.current_time()
    channel = Channel(1)

    async def send() -> None:
        await trio.sleep(comes)
        await channel.send("job 1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        cases = [channel, await after(seconds)] if seconds else [channel]
        try:
            await select(*cases, priority=True)
            end = "a value"
        except EndOfStream:
            end = "EndOfStream"
        nursery.cancel_scope.cancel()
    return f"{end} after {trio.current_time() - start:.0f} s"


def tell(name: str, function: Callable[..., Awaitable[str]], *args: object) -> None:
    print(f"{name}: {trio.run(function, *args, clock=trio.testing.MockClock(autojump_threshold=0))}")


print(f"chanio {version('chanio')} on trio")
tell("two channels have a value, then select", there_before)
tell("select waits, then each of two gets a value", there_later)
tell("select waits to send on one of two, then both are received from", sent)
tell("a value after 1 s, select with after(5)", limited, 1, 5)
tell("nothing comes, select with after(5)", limited, 100, 5)
tell("a value after 1 s, select without it", limited, 1, 0)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "chanio 0.1.0 on trio
two channels have a value, then select: told 1 value, left in the channels 1
select waits, then each of two gets a value: told 1 value, left in the channels 0
select waits to send on one of two, then both are received from: told 1, arrived 2
a value after 1 s, select with after(5): a value after 5 s
nothing comes, select with after(5): EndOfStream after 5 s
a value after 1 s, select without it: a value after 1 s" ]
