#!/usr/bin/env bash
# trio 0.35.0: a Ctrl-C while the main task awaits `nursery.start` may come as an internal error, which is an Exception.
#
# Until a task has called `started()` it is in a nursery of its own, inside `start`. An interrupt goes to that nursery,
# which cancels the task. If the task then fails to close what it has open, the nursery has two errors. `start` takes
# more than one for somebody's tasks in this nursery, says so in a TrioInternalError, and leaves the interrupt in the
# `__cause__`. A task that does nothing wrong, but takes its time to close, has the same effect if a time limit around
# it all ends meanwhile. Neither `except KeyboardInterrupt` nor `except* KeyboardInterrupt` sees it, and a loop that
# logs each Exception and tries again goes on. With `start_soon` both errors arrive, in a group.
#
# Seen, Ctrl-C after 1 s, within a time limit of 4 s:
#   start_soon, closes at once: KeyboardInterrupt
#   start_soon, closes after 2 s: KeyboardInterrupt
#   start_soon, closes after 5 s: KeyboardInterrupt
#   start_soon, fails to close: KeyboardInterrupt, OSError
#   start, closes at once: KeyboardInterrupt
#   start, closes after 2 s: KeyboardInterrupt
#   start, closes after 5 s: TrioInternalError
#   start, fails to close: TrioInternalError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check trio==0.35.0
cat >main.py <<'PY'
import signal
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from trio import Nursery, TaskStatus
from trio.testing import MockClock

Close = Callable[[], Awaitable[None]]


# Protected, so that trio hands it to the main task, as when it arrives while all tasks wait.
@trio.lowlevel.enable_ki_protection
def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


async def after(seconds: float) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def fails() -> None:
    raise OSError


async def serve(close: Close, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    try:
        await trio.sleep_forever()  # the server comes up
        task_status.started()
    finally:
        await close()


async def start(nursery: Nursery, close: Close) -> None:
    await nursery.start(serve, close)


async def start_soon(nursery: Nursery, close: Close) -> None:
    nursery.start_soon(serve, close)
    await trio.sleep_forever()


async def main(begin: Callable[[Nursery, Close], Awaitable[None]], close: Close) -> None:
    async def user() -> None:
        await trio.sleep(1)
        press_ctrl_c()

    with trio.move_on_after(4):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(user)
            await begin(nursery, close)


print(f"trio {trio.__version__}")
for begin in start_soon, start:
    for name, close in {
        "closes at once": partial(after, 0),
        "closes after 2 s": partial(after, 2),
        "closes after 5 s": partial(after, 5),
        "fails to close": fails,
    }.items():
        seen = []
        try:
            trio.run(main, begin, close, clock=MockClock(autojump_threshold=0))
        except* KeyboardInterrupt:
            seen.append("KeyboardInterrupt")
        except* Exception as group:
            seen += [type(error).__name__ for error in group.exceptions]
        print(f"{begin.__name__}, {name}: {', '.join(seen)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "trio 0.35.0
start_soon, closes at once: KeyboardInterrupt
start_soon, closes after 2 s: KeyboardInterrupt
start_soon, closes after 5 s: KeyboardInterrupt
start_soon, fails to close: KeyboardInterrupt, OSError
start, closes at once: KeyboardInterrupt
start, closes after 2 s: KeyboardInterrupt
start, closes after 5 s: TrioInternalError
start, fails to close: TrioInternalError" ]
