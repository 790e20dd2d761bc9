#!/usr/bin/env bash
# pebble 5.2.3: a call that was cancelled before it started is made all the same.
#
# The futures of its ProcessPool say that the calls were cancelled before they ran: running() is False, cancel()
# is True, cancelled() is True. But the pool has sent them ahead to a worker, which makes each when its turn
# comes. Who cancels what must not happen, such as a call that will be handed in again, must not count on it.
# The standard library's futures refuse (cancel() is False) for a call that was sent ahead.
#
# Seen:
#   running [False, False, False], cancelled [True, True, True], made one or more: True
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install -q --disable-pip-version-check pebble==5.2.3
cat >"$directory/cancelled.py" <<'PY'
import sys
import time
from pathlib import Path

from pebble import ProcessPool


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    marks = [directory / f"made{n}" for n in range(3)]
    with ProcessPool(1) as pool:
        first = pool.submit(wait_for, None, directory / "gate")
        while not first.running():
            time.sleep(0.01)
        futures = [pool.submit(Path.touch, None, mark) for mark in marks]
        time.sleep(2)
        running = [future.running() for future in futures]
        for future in futures:
            future.cancel()
        cancelled = [future.cancelled() for future in futures]
        (directory / "gate").touch()
        first.result()
        pool.submit(Path.touch, None, directory / "last").result()
    # A worker that is at work on a cancelled call is ended, where the call takes long enough for that.
    made = any(mark.exists() for mark in marks)
    print(f"running {running}, cancelled {cancelled}, made one or more: {made}")
PY
seen=$("$directory/venv/bin/python" "$directory/cancelled.py" "$directory")
echo "pebble 5.2.3"
echo "$seen"
[ "$seen" = "running [False, False, False], cancelled [True, True, True], made one or more: True" ]
