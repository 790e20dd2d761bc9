#!/usr/bin/env bash
# tricycle 0.4.1: readers of an RWLock go on waiting for a writer that was cancelled, while only readers hold the lock.
#
# While a writer waits, new readers wait behind it, so that it gets its turn. When that writer gives up, as by a time
# limit, there is no writer any more, and nobody looks at who waits behind it: the readers that wait stay there until
# the last of those that hold the lock lets go, though a reader that comes only now is let in at once. So a read that
# takes a minute, and a write that gave up after a second, keep all those that came in that second from reading for a
# minute. Whoever gives up can set `read_biased` to True and back, which wakes them. Time is virtual here.
#
# Seen on trio, a reader that has the lock from 0 s to 60 s, a writer that waits from 1 s to 2 s, and three more readers:
#   a writer that gives up: came at 0.5 s: after 0 s; came at 1.5 s: after 58.5 s; came at 2.5 s: after 0 s
#   the same, and it wakes them: came at 0.5 s: after 0 s; came at 1.5 s: after 0.5 s; came at 2.5 s: after 0 s
#   no writer: came at 0.5 s: after 0 s; came at 1.5 s: after 0 s; came at 2.5 s: after 0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tricycle==0.4.1 trio==0.35.0
cat >main.py <<'PY'
from importlib.metadata import version

import trio
import trio.testing
from tricycle import RWLock


async def main(writes: bool, wakes: bool) -> str:
    lock = RWLock()
    waited = {}

    async def read(comes: float, takes: float) -> None:
        await trio.sleep(comes)
        start = trio.current_time()
        async with lock.read_locked():
            waited[comes] = f"came at {comes:g} s: after {trio.current_time() - start:g} s"
            await trio.sleep(takes)

    async def write() -> None:
        await trio.sleep(1)
        with trio.move_on_after(1):
            async with lock.write_locked():
                pass
        if wakes:
            lock.read_biased = True
            lock.read_biased = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 0, 60)
        for comes in 0.5, 1.5, 2.5:
            nursery.start_soon(read, comes, 0)
        if writes:
            nursery.start_soon(write)
    return "; ".join(waited[comes] for comes in (0.5, 1.5, 2.5))


print(f"tricycle {version('tricycle')} on trio")
for name, writes, wakes in (
    ("a writer that gives up", True, False),
    ("the same, and it wakes them", True, True),
    ("no writer", False, False),
):
    print(f"{name}: {trio.run(main, writes, wakes, clock=trio.testing.MockClock(autojump_threshold=0))}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "tricycle 0.4.1 on trio
a writer that gives up: came at 0.5 s: after 0 s; came at 1.5 s: after 58.5 s; came at 2.5 s: after 0 s
the same, and it wakes them: came at 0.5 s: after 0 s; came at 1.5 s: after 0.5 s; came at 2.5 s: after 0 s
no writer: came at 0.5 s: after 0 s; came at 1.5 s: after 0 s; came at 2.5 s: after 0 s" ]
