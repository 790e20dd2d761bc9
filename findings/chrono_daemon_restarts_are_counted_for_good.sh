#!/usr/bin/env bash
# chrono-daemon 0.1.1: a daemon that fails once a day, and is restarted, ends the program when it has lived long enough.
#
# With `on_error="restart"` the supervisor waits before each restart, twice as long each time, and gives up after
# `max_retries`. Neither the count nor the wait begins anew when the daemon runs well: a failure a day for four days is
# the same to it as four in a second, and so is the wait before a restart, which stays at the longest for good. The
# error then ends all other daemons, and says that `max_retries` were exceeded; by default, without `max_retries`, it
# is the wait alone. Time is virtual here.
#
# Seen on trio, with base=1, factor=10, cap=1000, max_retries=3:
#   fails at once each time: DaemonError after 111 s, restarted after 1, 10, 100 s
#   runs for a day, and fails: DaemonError after 4 days and 111 s, restarted after 1, 10, 100 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 chrono-daemon==0.1.1 trio==0.35.0
cat >main.py <<'PY'
import logging
from importlib.metadata import version

import trio
import trio.testing
from chrono_daemon import Context, Daemon, DaemonError, RestartPolicy, Supervisor

DAY = 86400


class Failing(Daemon):
    name = "failing"

    def __init__(self, runs: float) -> None:
        self.runs = runs
        self.starts: list[float] = []
        self.failures: list[float] = []

    async def on_start(self, ctx: Context) -> None:
        self.starts.append(trio.current_time())

    async def run(self, ctx: Context) -> None:
        await ctx.clock.sleep(self.runs)
        self.failures.append(trio.current_time())
        raise ConnectionError("lost")

async def told(runs: float) -> str:
    daemon = Failing(runs)
    start = trio.current_time()
    end = "no error"
    try:
        policy = RestartPolicy(base=1, factor=10, cap=1000, max_retries=3)
        async with Supervisor(on_error="restart", restart=policy) as supervisor:
            supervisor.add(daemon)
    except* DaemonError as errors:
        (error,) = errors.exceptions
        assert str(error) == "daemon 'failing' exceeded max_retries=3"
        end = type(error).__name__
    days, seconds = divmod(round(trio.current_time() - start), DAY)
    waits = [f"{up - down:.0f}" for up, down in zip(daemon.starts[1:], daemon.failures)]
    words = f"{end} after {f'{days} days and ' if days else ''}{seconds} s"
    return f"{words}, restarted after {', '.join(waits)} s"


def tell(name: str, runs: float) -> None:
    print(f"{name}: {trio.run(told, runs, clock=trio.testing.MockClock(autojump_threshold=0))}")


logging.disable()
print(f"chrono-daemon {version('chrono-daemon')} on trio")
tell("fails at once each time", 0)
tell("runs for a day, and fails", DAY)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "chrono-daemon 0.1.1 on trio
fails at once each time: DaemonError after 111 s, restarted after 1, 10, 100 s
runs for a day, and fails: DaemonError after 4 days and 111 s, restarted after 1, 10, 100 s" ]
