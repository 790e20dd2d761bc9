"""Tries the executors of others, and compares with what is written down in docs/executors.json.

    python -m tests.tried [--write] [NAME...]

Each is tried by probe.py in a process, and a folder, of its own; those that are not installed are left out.
The status is 1 when something else was seen than is written down, figures and versions aside, or when a loop
was held up for long. `--write` writes it down instead.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.tried.makers import ROWS
from tests.tried.probe import GAP
from tests.tried.refused import REFUSED

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docs" / "executors.json"
PATIENCE = 600  # seconds for one executor
FIGURES = {"first_ms", "submits_ms", "gap_ms"}
ASIDE = {"version", "python", *FIGURES}


def version(package: str) -> str | None:
    """As it is installed; that of Python for the standard library."""
    try:
        return importlib.metadata.version(package) if package else platform.python_version()
    except importlib.metadata.PackageNotFoundError:
        return None


def run(module: str, *arguments: str, launcher: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """What a probe has seen, or None if it did not come to an end."""
    with tempfile.TemporaryDirectory() as directory:
        # What is installed beside this Python is found first.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": directory, "TMPDIR": directory, "PATH": path}
        command = [*(launcher or [sys.executable]), "-m", f"tests.tried.{module}", *arguments, directory]
        with (Path(directory) / "log").open("w+") as log:
            probe = subprocess.Popen(
                command, cwd=directory, env=env, stdout=log, stderr=log, start_new_session=True
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    probe.wait(PATIENCE)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(probe.pid, signal.SIGKILL)  # whatever it has left
                probe.wait()
            seen = Path(directory) / "seen.json"
            if seen.exists():
                found: dict[str, Any] = json.loads(seen.read_text())
                return found
            log.seek(0)
            print(log.read()[-3000:], file=sys.stderr)
            return None


def seen_of(name: str) -> dict[str, Any] | None:
    """The row of an executor, or None if it is not installed."""
    row = ROWS.get(name)
    installed = version(REFUSED[name].package if row is None else row.package)
    if installed is None or (name == "InterpreterPoolExecutor" and sys.version_info < (3, 14)):
        return None
    found = run("refused", name) if row is None else run("probe", name, launcher=row.launcher)
    return {"version": installed, "python": platform.python_version()} | (found or {"results": "no end"})


def differences(name: str, row: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """What is other than it is written down, and what nobody should have to write down."""
    changed = [
        f"{name}: {key}: was {known.get(key)!r}, is {row.get(key)!r}"
        for key in sorted((known.keys() | row.keys()) - ASIDE)
        if known.get(key) != row.get(key)
    ]
    held_up = [f"{name}: the loop was held up for {row['gap_ms']} ms"] if row.get("gap_ms", 0.0) > GAP else []
    return changed + held_up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tried")
    parser.add_argument("--write", action="store_true", help=f"write down what is seen, in {FILE.name}")
    parser.add_argument("names", nargs="*", help="which to try; all that are installed by default")
    options = parser.parse_args()
    known: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    faults: list[str] = []
    for name in options.names or [*ROWS, *REFUSED]:
        print(f"{name}: ", end="", flush=True)
        if (row := seen_of(name)) is None:
            print("not installed")
            continue
        print(json.dumps(row))
        faults += differences(name, row, known.get(name, {}))
        known[name] = row
    if options.write:
        ordered = {name: known[name] for name in [*ROWS, *REFUSED] if name in known}
        FILE.write_text(json.dumps(ordered, indent=1) + "\n")
    print(*faults, sep="\n")
    return 1 if faults and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
