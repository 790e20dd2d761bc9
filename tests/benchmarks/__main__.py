"""All benchmarks, one after another, in processes of their own.

Run it with ``nox -s bench``, or ``python -m tests.benchmarks``; ``--json PATH`` writes all tables to one
file, ``--quick`` shows that everything works.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .measuring import ROOT, about, write

BENCHMARKS = ("run", "growth", "retry", "memory", "import", "journal", "http")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small loads, to see that it works")
    path = ROOT / "build" / "bench" / f"{platform.python_version()}.json"
    parser.add_argument("--json", type=Path, metavar="PATH", default=path, help="default: %(default)s")
    given = parser.parse_args()
    tables: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in BENCHMARKS:
            path = Path(directory, f"{name}.json")
            command = [sys.executable, "-m", f"tests.benchmarks.bench_{name}", "--json", str(path)]
            subprocess.run([*command, *["--quick"] * given.quick], check=True, cwd=ROOT)
            tables |= json.loads(path.read_text(encoding="utf-8"))["tables"]
    few = ["--calls", "4", "--milliseconds", "1", "--rounds", "1"]
    executors = [sys.executable, "-m", "tests.benchmarks.bench_executors"]
    subprocess.run([*executors, *(few if given.quick else [])], check=True, cwd=ROOT)
    write(given.json, {"about": about(), "tables": tables})


if __name__ == "__main__":
    main()
