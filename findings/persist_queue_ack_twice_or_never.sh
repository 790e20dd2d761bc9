#!/usr/bin/env bash
# persist-queue 1.1.0: of its queues with acknowledgement, one gives out work twice, and one drops what it had before.
#
# A SQLiteAckQueue that is opened puts back all that was given out and not acknowledged, as if the worker had died. So a
# second worker that starts gets what the first is at work on, and both do it. Only the first to open may do this, the
# others need `auto_resume=False`. A UniqueAckQ compares what is put with all it ever had, not with what waits: an item
# that was done, or failed, is dropped for good. put() then returns None, and there is no error. clear_acked_data() does
# not help by default, as it keeps the last 1,000, and all that failed; with `keep_latest=0` and `clear_ack_failed=True`
# it does.
#
# Seen:
#   SQLiteAckQueue: the first worker has job 1, the second that starts gets job 1
#   SQLiteAckQueue, the second with auto_resume=False: the first worker has job 1, the second that starts gets nothing
#   UniqueAckQ: put, done, put again: taken False, waiting 0
#   UniqueAckQ: put, failed, put again: taken False, waiting 0
#   UniqueAckQ: put, done, clear_acked_data(), put again: taken False, waiting 0
#   UniqueAckQ: put, failed, all cleared, put again: taken True, waiting 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check persist-queue==1.1.0
cat >second.py <<'PY'
import sys

from persistqueue import Empty, SQLiteAckQueue

_, path, *no_resume = sys.argv
queue = SQLiteAckQueue(path, auto_resume=not no_resume)
try:
    print(queue.get(block=False))
except Empty:
    print("nothing")
PY
cat >main.py <<'PY'
import subprocess
import sys
from importlib.metadata import version

from persistqueue import SQLiteAckQueue, UniqueAckQ


def two_workers(path: str, *no_resume: str) -> str:
    queue = SQLiteAckQueue(path)
    queue.put("job 1")
    job = queue.get(block=False)
    second = subprocess.check_output([sys.executable, "second.py", path, *no_resume], text=True).strip()
    return f"the first worker has {job}, the second that starts gets {second}"


def again(path: str, end: str, **clear: object) -> str:
    queue = UniqueAckQ(path)
    assert queue.put("page 1") is not None
    getattr(queue, end)(queue.get(block=False))
    if clear.pop("clears", False):
        queue.clear_acked_data(**clear)
    return f"put again: taken {queue.put('page 1') is not None}, waiting {queue.qsize()}"


print(f"persist-queue {version('persist-queue')}")
print("SQLiteAckQueue:", two_workers("a"))
print("SQLiteAckQueue, the second with auto_resume=False:", two_workers("b", "no"))
print("UniqueAckQ: put, done,", again("c", "ack"))
print("UniqueAckQ: put, failed,", again("d", "ack_failed"))
print("UniqueAckQ: put, done, clear_acked_data(),", again("e", "ack", clears=True))
cleared = again("f", "ack_failed", clears=True, keep_latest=0, clear_ack_failed=True)
print("UniqueAckQ: put, failed, all cleared,", cleared)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "persist-queue 1.1.0
SQLiteAckQueue: the first worker has job 1, the second that starts gets job 1
SQLiteAckQueue, the second with auto_resume=False: the first worker has job 1, the second that starts gets nothing
UniqueAckQ: put, done, put again: taken False, waiting 0
UniqueAckQ: put, failed, put again: taken False, waiting 0
UniqueAckQ: put, done, clear_acked_data(), put again: taken False, waiting 0
UniqueAckQ: put, failed, all cleared, put again: taken True, waiting 1" ]
