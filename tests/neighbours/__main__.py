"""Runs what people use beside the library, and compares with what is written down in docs/neighbours.json.

    python -m tests.neighbours [--write] [NAME...]

Each probe has a process of its own; what is not installed is left out. The status is 1 when something else
was seen than is written down, versions aside. `--write` writes it down instead.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from tests.neighbours.rows import ROWS

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docs" / "neighbours.json"
PATIENCE = 600  # seconds for one probe


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(Requirement(package).name)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(probe: str) -> dict[str, str]:
    """What a probe has seen."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # What a neighbour warns of, of itself or of another one, is no part of what was seen.
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.neighbours.probe", *probe.split(":")]
    ran = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=env, check=False, timeout=PATIENCE, cwd=ROOT
    )
    if ran.returncode:
        return {"answers": f"{probe} has failed"}
    found: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
    return found


def seen_of(name: str) -> dict[str, str] | None:
    """The row of a neighbour, or None if it is not installed."""
    row = ROWS[name]
    versions = [version(package) for package in row.packages]
    if versions[0] is None or None in versions:
        return None
    seen: dict[str, str] = {"version": versions[0]}
    for probe in row.probes:
        seen |= run(probe)
    return seen


def differences(name: str, row: dict[str, str], known: dict[str, str]) -> list[str]:
    """What is other than it is written down."""
    return [
        f"{name}: {key}: was {known.get(key)!r}, is {row.get(key)!r}"
        for key in sorted((known.keys() | row.keys()) - {"version"})
        if known.get(key) != row.get(key)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.neighbours")
    parser.add_argument("--write", action="store_true", help=f"write down what is seen, in {FILE.name}")
    parser.add_argument("names", nargs="*", help="which to run; all that are installed by default")
    options = parser.parse_args()
    written = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known: dict[str, dict[str, str]] = {name: row for rows in written.values() for name, row in rows.items()}
    faults: list[str] = []
    for name in options.names or ROWS:
        print(f"{name}: ", end="", flush=True)
        if (found := seen_of(name)) is None:
            print("not installed")
            continue
        print(json.dumps(found), flush=True)
        faults += differences(name, found, known.get(name, {}))
        known[name] = found
    if options.write:
        groups: dict[str, dict[str, dict[str, str]]] = {row.group: {} for row in ROWS.values()}
        for name in filter(known.__contains__, ROWS):
            groups[ROWS[name].group][name] = known[name]
        FILE.write_text(json.dumps(groups, indent=1) + "\n", encoding="utf-8")
    print(*faults, sep="\n")
    return 1 if faults and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
