#!/usr/bin/env bash
# aiojobs 1.4.0: a job that waits for its turn starts at once when who waits for it gives up, whatever the limit is.
#
# `job.wait(timeout=...)` is to cancel the job when the time is over. With one that has started, it does, and raises
# TimeoutError. One that waits for its turn is started, only to be cancelled. But the time limit has cancelled the
# future that tells of the start, so that there is an InvalidStateError, when the job has become a task, and before that
# is cancelled. So with a limit of one, five run at once, and those that were given up are carried out. The scheduler
# tells that one is active. `close()` does what it says. No clock is waited for here. The script fails when it is not so
# any more.
#
# Seen, with a limit of 1, one job that runs and four that wait:
#   wait(timeout=0) for each of the four: InvalidStateError; then 5 running, said to be 1; in the end 5 carried out
#   close() of each of the four: no error; then 1 running, said to be 1; in the end 1 carried out
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiojobs==1.4.0
cat >main.py <<'PY'
import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiojobs import Job, Scheduler


async def tell(name: str, give_up: Callable[[Job], Awaitable[None]]) -> None:
    running = carried_out = 0
    end = asyncio.Event()

    async def work() -> None:
        nonlocal running, carried_out
        running += 1
        try:
            await end.wait()
            carried_out += 1
        finally:
            running -= 1

    async with Scheduler(limit=1, wait_timeout=None) as scheduler:
        jobs = [await scheduler.spawn(work()) for _ in range(5)]
        await asyncio.sleep(0)
        errors = set()
        for job in jobs[1:]:
            try:
                await give_up(job)
            except Exception as error:
                errors.add(type(error).__name__)
        await asyncio.sleep(0)
        told = f"{running} running, said to be {scheduler.active_count}"
        end.set()
        while running:
            await asyncio.sleep(0)
    print(f"{name}: {', '.join(errors) or 'no error'}; then {told}; in the end {carried_out} carried out")


async def main() -> None:
    print(f"aiojobs {version('aiojobs')}, a limit of 1, one job that runs and four that wait")
    await tell("wait(timeout=0) for each of the four", lambda job: job.wait(timeout=0))
    await tell("close() of each of the four", lambda job: job.close())


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "aiojobs 1.4.0, a limit of 1, one job that runs and four that wait
wait(timeout=0) for each of the four: InvalidStateError; then 5 running, said to be 1; in the end 5 carried out
close() of each of the four: no error; then 1 running, said to be 1; in the end 1 carried out" ]
