#!/usr/bin/env bash
# diskcache 5.6.3: of a limit per day that is kept on disk, all is left again each time that a process starts.
#
# `throttle` keeps in a file how many calls are left, so that all processes that decorate a function of this name share
# them. But to decorate it writes the full number there, whatever the file has. So a script that is started each hour
# has its ten calls a day each hour, and one that is restarted after a failure goes on as if it had made none. It is
# enough that another process imports the module: then one that has used up its calls has ten more, too. Time is set by
# hand here.
#
# Seen, of 10 calls a day, how many are made at once of 10 that are wanted every hour:
#   one process that goes on: 10, 0, 0, 1, 0
#   a new process each hour: 10, 10, 10, 10, 10
#   one process that goes on, and another one each hour that only imports the module: 10, 10, 10, 10, 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check diskcache==5.6.3
cat >job.py <<'PY'
import os
from pathlib import Path

from diskcache import Cache, throttle

HOUR = 60 * 60


class Later(Exception):
    pass


def time() -> float:
    return int(Path("hour").read_text()) * HOUR


def sleep(seconds: float) -> None:
    raise Later


@throttle(Cache(os.environ["CACHE"], eviction_policy="none"), 10, 24 * HOUR, time_func=time, sleep_func=sleep)
def call() -> None:
    pass


def at_once() -> int:
    for made in range(10):
        try:
            call()
        except Later:
            return made
    return 10
PY
cat >main.py <<'PY'
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def goes_on(hour: int) -> int:
    from job import at_once

    return at_once()


def new(hour: int) -> int:
    return int(process("import job; print(job.at_once())"))


def goes_on_beside_others(hour: int) -> int:
    if hour:
        process("import job")
    return goes_on(hour)


def tell(name: str, ask: Callable[[int], int]) -> None:
    os.environ["CACHE"] = ask.__name__
    sys.modules.pop("job", None)
    made = []
    for hour in range(5):
        Path("hour").write_text(str(hour))
        made.append(str(ask(hour)))
    print(f"{name}: {', '.join(made)}")


print(f"diskcache {version('diskcache')}")
tell("one process that goes on", goes_on)
tell("a new process each hour", new)
tell("one process that goes on, and another one each hour that only imports the module", goes_on_beside_others)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "diskcache 5.6.3
one process that goes on: 10, 0, 0, 1, 0
a new process each hour: 10, 10, 10, 10, 10
one process that goes on, and another one each hour that only imports the module: 10, 10, 10, 10, 10" ]
