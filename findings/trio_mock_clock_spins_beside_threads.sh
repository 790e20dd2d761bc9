#!/usr/bin/env bash
# trio 0.35.0: beside `MockClock(autojump_threshold=0)` a thread is waited for in a busy loop, which may starve it.
#
# Such a clock jumps to the next deadline when all tasks wait. Where they wait for a thread, and there is no deadline,
# there is nothing to jump to, and the loop looks again at once, without end, though trio could sleep until the thread
# says something. Each look gives the interpreter's lock away and takes it back; a thread that lets go of that lock
# often, as `sqlite3` does in each statement, then gets it again after the switch interval of 5 ms, where both have a
# processor for themselves. Three hundred statements, which take a millisecond or two, were seen to take three seconds,
# and not to take longer than usual where another program kept one of two processors busy: a test is slow on an idle
# machine, and quick on a busy one. pytest-trio's fixture `autojump_clock` is such a clock. With a threshold above 0 the
# loop sleeps so long between two looks, and the thread has the processor.
#
# Seen, passes of trio's loop while a thread sleeps for half a second:
#   autojump_threshold=0: more than 1,000
#   autojump_threshold=0.01: at most 100
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check trio==0.35.0
cat >main.py <<'PY'
import time

import trio
from trio.testing import MockClock


class Passes(trio.abc.Instrument):
    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def amount(count: int) -> str:
    if count > 1000:
        return "more than 1,000"
    return "at most 100" if count <= 100 else str(count)


print(f"trio {trio.__version__}")
for threshold in (0, 0.01):
    passes = Passes()
    clock = MockClock(autojump_threshold=threshold)
    trio.run(trio.to_thread.run_sync, time.sleep, 0.5, clock=clock, instruments=[passes])
    print(f"autojump_threshold={threshold}: {amount(passes.count)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "trio 0.35.0
autojump_threshold=0: more than 1,000
autojump_threshold=0.01: at most 100" ]
