#!/usr/bin/env bash
# cachier 4.2.0 with `next_time=True`: while an old value is being calculated anew, each further call calculates it, too.
#
# The documentation says that calls which are made meanwhile will not start it again. But the entry, which is marked as
# being calculated, loses its mark as soon as the work is handed to a thread, and not when it ends: each call finds an
# old value at which nobody is at work, and hands it to a thread again. So where a value takes a second and is asked for
# a hundred times a second, the service behind it gets a hundred requests for one, eight at a time, in place of the one
# that it was meant to get, at the moment when it is slow. Where there is no value yet the mark stays, and others wait.
# The calculations meet at a barrier here, which they pass only when all of them run at the same time.
#
# Seen, with next_time=True:
#   memory, value too old: 5 calls get the old value, calculations under way at the same time: 5
#   pickle, value too old: 5 calls get the old value, calculations under way at the same time: 5
#   memory, no value yet: 5 calls get the value, calculations: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cachier==4.2.0
cat >main.py <<'PY'
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version

from cachier import cachier

CALLS = 5


def next_time(backend: str) -> str:
    barrier = threading.Barrier(CALLS + 1)
    values = iter(range(CALLS + 1))

    @cachier(backend=backend, cache_dir="cache", stale_after=timedelta(milliseconds=1), next_time=True)
    def rate() -> str:
        if number := next(values):
            barrier.wait(timeout=20)
        return f"value {number}"

    rate()
    time.sleep(0.01)
    got = [rate() for _ in range(CALLS)]
    barrier.wait(timeout=20)
    assert got == ["value 0"] * CALLS
    return f"{CALLS} calls get the old value, calculations under way at the same time: {barrier.parties - 1}"


def none_yet() -> str:
    calculations = 0
    begun, go = threading.Event(), threading.Event()

    @cachier(backend="memory", next_time=True)
    def price() -> str:
        nonlocal calculations
        calculations += 1
        begun.set()
        go.wait(timeout=20)
        return "value 0"

    with ThreadPoolExecutor(CALLS) as threads:
        first = threads.submit(price)
        begun.wait(timeout=20)
        others = [threads.submit(price) for _ in range(CALLS - 1)]
        go.set()
    assert [call.result() for call in (first, *others)] == ["value 0"] * CALLS
    return f"{CALLS} calls get the value, calculations: {calculations}"


print(f"cachier {version('cachier')}, with next_time=True")
for backend in "memory", "pickle":
    print(f"{backend}, value too old: {next_time(backend)}")
print(f"memory, no value yet: {none_yet()}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "cachier 4.2.0, with next_time=True
memory, value too old: 5 calls get the old value, calculations under way at the same time: 5
pickle, value too old: 5 calls get the old value, calculations under way at the same time: 5
memory, no value yet: 5 calls get the value, calculations: 1" ]
