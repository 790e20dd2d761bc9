#!/usr/bin/env bash
# rich 15.0.0: the speed and the time left of a progress bar are those of its last 1,000 updates.
#
# `speed_estimate_period`, 30 s by default, says over how long the speed is estimated. But a task keeps 1,000 of its
# updates, and forgets older ones. A bar that is advanced for each item of a fast job so tells the speed of the last
# moment: here 100 items a second for 20 s, then 1,000 in one second, and it says 1,000 a second. Advanced once for ten
# items, the same job at the same times gives the 143 a second that it made in the 21 s. So advance a bar in larger steps.
#
# Seen:
#   rich 15.0.0, advanced by 1: 1000 items a second, 98 s left
#   rich 15.0.0, advanced by 10: 143 items a second, 679 s left
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check rich==15.0.0
cat >main.py <<'PY'
import io
from importlib.metadata import version

from rich.console import Console
from rich.progress import Progress

ITEMS = 100_000


def tell(step: int) -> None:
    now = 0.0
    progress = Progress(
        console=Console(file=io.StringIO()), get_time=lambda: now, auto_refresh=False, speed_estimate_period=30
    )
    task = progress.add_task("items", total=ITEMS)
    for a_second, seconds in (100, 20), (1000, 1):
        for _ in range(a_second * seconds // step):
            now += step / a_second
            progress.advance(task, step)
    (seen,) = progress.tasks
    print(
        f"rich {version('rich')}, advanced by {step}: {seen.speed:.0f} items a second,"
        f" {seen.time_remaining:.0f} s left"
    )


tell(1)
tell(10)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "rich 15.0.0, advanced by 1: 1000 items a second, 98 s left
rich 15.0.0, advanced by 10: 143 items a second, 679 s left" ]
