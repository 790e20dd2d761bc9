#!/usr/bin/env bash
# anyioutils 0.7.4: a time limit around the wait for a task that was just made ends the task, and the whole group with it.
#
# `create_task` is documented to schedule the task in the group, and `wait` to wait for it, as in asyncio. But the first
# one who calls `wait` runs the task, in its own place: mostly that is the group, but where the maker of a task waits for
# it at once, it is the maker. Then the time limit, or the cancel scope, that is around that wait is around the task, and
# ends it. It counts as done, and not as cancelled; and the Cancelled of that scope is kept as its error, and raised again
# for each that waits for the task, and for the group, where no scope takes it any more. With any checkpoint between the
# two lines all is well. Time is virtual here.
#
# Seen on trio, of a task that takes 5 s, with a limit of 1 s for the first wait, and a second wait:
#   waited for after a checkpoint: result value, done() True, cancelled() False, ended 1
#   waited for at once: Cancelled, done() True, cancelled() False, ended 0
#   at once, without a limit: result value, done() True, cancelled() False, ended 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 anyioutils==0.7.4 trio==0.35.0
cat >main.py <<'PY'
from importlib.metadata import version

import trio
import trio.testing
from anyioutils import TaskGroup

ended = 0


async def work() -> str:
    global ended
    await trio.sleep(5)
    ended += 1
    return "value"


async def told(checkpoint: bool, limit: float) -> str:
    try:
        async with TaskGroup() as group:
            task = group.create_task(work())
            if checkpoint:
                await trio.sleep(0.1)
            if limit:
                with trio.move_on_after(limit):
                    await task.wait()
            words = f"result {await task.wait()}"
    except BaseException as error:
        words = type(error).__name__
    return f"{words}, done() {task.done()}, cancelled() {task.cancelled()}"


def tell(name: str, checkpoint: bool, limit: float = 0) -> None:
    global ended
    ended = 0
    words = trio.run(told, checkpoint, limit, clock=trio.testing.MockClock(autojump_threshold=0))
    print(f"{name}: {words}, ended {ended}")


print(f"anyioutils {version('anyioutils')} on trio")
tell("waited for after a checkpoint", True, 1)
tell("waited for at once", False, 1)
tell("at once, without a limit", False)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anyioutils 0.7.4 on trio
waited for after a checkpoint: result value, done() True, cancelled() False, ended 1
waited for at once: Cancelled, done() True, cancelled() False, ended 0
at once, without a limit: result value, done() True, cancelled() False, ended 1" ]
