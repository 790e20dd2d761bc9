#!/usr/bin/env bash
# tenacity 9.2.1, stamina 26.1.0: to retry on all errors but one retries a cancelled task, too, and sys.exit().
#
# By default only an Exception is retried. `retry_if_not_exception_type(ValueError)` takes all that is no ValueError:
# asyncio's CancelledError, SystemExit, KeyboardInterrupt. So a task that was cancelled, or is past its time limit, goes on
# with the next attempt, and ends well. stamina asks a function that is given as `on=` about them as well. On trio a
# cancelled scope stays so, and the sleep before the next attempt ends it.
#
# Seen:
#   asyncio, tenacity, by default: CancelledError after 1 attempt
#   asyncio, tenacity, not ValueError: done after 2 attempts
#   asyncio, stamina, not ValueError: done after 2 attempts
#   trio, tenacity, not ValueError: cancelled after 1 attempt
#   sys.exit(), tenacity, not ValueError: done after 2 attempts
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tenacity==9.2.1 stamina==26.1.0 trio==0.35.0
cat >main.py <<'PY'
import asyncio
import sys
from collections.abc import Callable

import stamina
import tenacity
import trio

BY_DEFAULT = tenacity.retry(stop=tenacity.stop_after_attempt(3))
NOT_VALUE_ERROR = tenacity.retry(
    retry=tenacity.retry_if_not_exception_type(ValueError), stop=tenacity.stop_after_attempt(3)
)
STAMINA = stamina.retry(on=lambda error: not isinstance(error, ValueError), attempts=3, wait_max=0.01)


class Job:
    def __init__(self, retry: Callable) -> None:
        self.attempts = 0
        self.run = retry(self.attempt)

    async def attempt(self) -> str:
        self.attempts += 1
        if self.attempts == 1:
            await (trio.sleep_forever() if trio.lowlevel.in_trio_run() else asyncio.Future())
        return "done"

    def told(self, end: str) -> str:
        return f"{end} after {self.attempts} attempt{'s' if self.attempts > 1 else ''}"


async def on_asyncio(retry: Callable) -> str:
    job = Job(retry)
    task = asyncio.create_task(job.run())
    while not job.attempts:
        await asyncio.sleep(0)
    task.cancel()
    (end,) = await asyncio.gather(task, return_exceptions=True)
    return job.told(end if isinstance(end, str) else type(end).__name__)


async def on_trio(retry: Callable) -> str:
    job = Job(retry)
    end = "cancelled"
    with trio.move_on_after(0.1):
        end = await job.run()
    return job.told(end)


def exits(retry: Callable) -> str:
    attempts = 0

    @retry
    def attempt() -> str:
        nonlocal attempts
        attempts += 1
        return sys.exit() if attempts == 1 else "done"

    return f"{attempt()} after {attempts} attempts"


stamina.instrumentation.set_on_retry_hooks([])
print(f"asyncio, tenacity, by default: {asyncio.run(on_asyncio(BY_DEFAULT))}")
print(f"asyncio, tenacity, not ValueError: {asyncio.run(on_asyncio(NOT_VALUE_ERROR))}")
print(f"asyncio, stamina, not ValueError: {asyncio.run(on_asyncio(STAMINA))}")
print(f"trio, tenacity, not ValueError: {trio.run(on_trio, NOT_VALUE_ERROR)}")
print(f"sys.exit(), tenacity, not ValueError: {exits(NOT_VALUE_ERROR)}")
PY
seen=$(venv/bin/python main.py)
echo "tenacity 9.2.1, stamina 26.1.0"
echo "$seen"
[ "$seen" = "asyncio, tenacity, by default: CancelledError after 1 attempt
asyncio, tenacity, not ValueError: done after 2 attempts
asyncio, stamina, not ValueError: done after 2 attempts
trio, tenacity, not ValueError: cancelled after 1 attempt
sys.exit(), tenacity, not ValueError: done after 2 attempts" ]
