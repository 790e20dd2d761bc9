import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, RetryConfig, Success

BUSY = 75  # the exit status that asks for another try: EX_TEMPFAIL of sysexits.h

COMMANDS = {
    "count": "print(3, 'rows')",
    "check": "import sys; sys.exit('no such table: users')",
    "export": f"""
import pathlib, sys
lock = pathlib.Path("lock")
if lock.exists():
    lock.unlink()
    sys.exit({BUSY})
print("exported")
""",
    "sync": "import time; time.sleep(60)",
}


async def run_python(code: str, directory: Path) -> str:
    completed = await trio.run_process(
        [sys.executable, "-c", code],
        capture_stdout=True,
        capture_stderr=True,
        cwd=directory,
    )
    return completed.stdout.decode().strip()


def is_busy(error: Exception) -> bool:
    return isinstance(error, subprocess.CalledProcessError) and error.returncode == BUSY


async def main(directory: Path) -> None:
    (directory / "lock").touch()  # makes the first attempt to export fail
    retry = RetryConfig.exponential(max_attempts=3, retry_on=is_busy)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, retry=retry, task_timeout=60) as cm:
            for name, code in COMMANDS.items():
                seconds = 1.0 if name == "sync" else None  # None: as the manager says
                await cm.run(run_python, code, directory, name=name, task_timeout=seconds)
    for outcome in sorted(cm.outcomes(), key=lambda outcome: outcome.index):
        match outcome:
            case Success(value=output, name=name, retries=retries):
                print(f"{name}: {output}, retries: {retries}")
            case Failure(error=subprocess.CalledProcessError() as error, name=name):
                said = error.stderr.decode().strip()
                print(f"{name}: exit status {error.returncode}, {said}")
            case Failure(error=error):
                print(f"{outcome.name}: {error}")


with tempfile.TemporaryDirectory() as directory:
    trio.run(main, Path(directory))
