"""What the benchmarks share: options, rounds that take turns, medians and spread, tables, and the JSON.

A benchmark is a module that prints its tables and, with ``--json PATH``, writes them to a file. It has a full
load and a small one: ``--quick`` shows that it works, and its figures mean nothing.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import trio

ROOT = Path(__file__).parent.parent.parent

Contender = Callable[[int, int], Awaitable[int]]
"""Runs so many tasks under such a limit, and returns how many came back."""

Timed = Callable[[], Coroutine[Any, Any, float]]

# Whose releases the figures depend on.
PACKAGES = (
    "trio-conman",
    "trio",
    "aiometer",
    "anyio",
    "async-batch-llm",
    "aqute",
    "pyarallel",
    "tasklane",
    "stamina",
    "tenacity",
    "h11",
    "httpx",
)


# Options


def options(
    doc: str | None,
    *,
    full: Mapping[str, int],
    quick: Mapping[str, int],
    flags: Mapping[str, str] | None = None,
) -> Any:
    """What the command line says: a number for each name in `full`, ``json``, ``quick`` and the flags."""
    parser = argparse.ArgumentParser(description=doc and doc.splitlines()[0])
    for name, value in full.items():
        parser.add_argument(f"--{name}", type=int, help=f"default: {value:,}; with --quick {quick[name]:,}")
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--quick", action="store_true", help="a small load, to see that it works")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the tables to this file too")
    given = parser.parse_args()
    for name, value in (quick if given.quick else full).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


# Measuring


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """The order of a round: every other one is backwards, so that nobody always runs after the same one."""
    ordered = list(names)
    return ordered if number % 2 else ordered[::-1]


def rounds_of(measures: Mapping[str, Callable[[], float]], rounds: int) -> list[dict[str, float]]:
    """Measure all of them so many times, interleaved: a machine that slows down does so for all."""
    found: list[dict[str, float]] = []
    for number in range(rounds):
        spent = {name: measures[name]() for name in in_turn(measures, number)}
        found.append({name: spent[name] for name in measures})
    return found


def per_task(contender: Contender, tasks: int, limit: int, run: Callable[[Timed], float] = trio.run) -> float:
    """Microseconds a task, without the start of the loop that `run` starts."""

    async def timed() -> float:
        start = time.perf_counter()
        done = await contender(tasks, limit)
        spent = time.perf_counter() - start
        if done != tasks:
            raise RuntimeError(f"{done} of {tasks} tasks came back")
        return spent / tasks * 1e6

    gc.collect()
    return run(timed)


def child(*command: str | Path) -> str:
    """What a child process with this Python prints, started where the modules of the benchmarks are found."""
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return done.stdout


# Figures


@attrs.frozen
class Spread:
    """The median of some values, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])

    def __str__(self) -> str:
        if self.low == self.high:
            return _short(self.median)
        return f"{_short(self.median)} ({_short(self.low)} to {_short(self.high)})"


def _short(value: float) -> str:
    """Three figures or so, which is more than a benchmark is worth."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


@attrs.frozen
class Table:
    """Figures by row and column. The first column is what was measured; others may compare."""

    title: str
    load: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Spread]]

    def __str__(self) -> str:
        width = max(map(len, self.rows), default=0)
        cells = {
            column: [str(row[column]) if column in row else "" for row in self.rows.values()]
            for column in self.columns
        }
        widths = {column: max(len(column), *map(len, shown)) + 3 for column, shown in cells.items()}
        lines = [" " * width + "".join(f"{column:>{widths[column]}}" for column in self.columns)]
        for number, name in enumerate(self.rows):
            shown = "".join(f"{cells[column][number]:>{widths[column]}}" for column in self.columns)
            lines.append(f"{name:{width}}{shown}")
        return "\n".join([self.title, self.load, "", *lines, ""])


def compared(
    rounds: Sequence[Mapping[str, float]], unit: str, bases: Mapping[str, str]
) -> dict[str, dict[str, Spread]]:
    """Rows from rounds: each figure, and its ratio to the bases of the same round, by column."""
    return {
        name: {unit: Spread.of(each[name] for each in rounds)}
        | {
            column: Spread.of(each[name] / each[base] for each in rounds)
            for column, base in bases.items()
            if base != name
        }
        for name in rounds[0]
    }


# Reporting


def about() -> dict[str, Any]:
    """What the figures depend on, the machine's name aside."""
    packages: dict[str, str] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "processors": os.cpu_count(),
        "packages": packages,
    }


def report(tables: Mapping[str, Table], json_path: Path | None) -> None:
    """Print the tables, and write them to the file if there is to be one."""
    print(f"Python {platform.python_version()}, trio {trio.__version__}; medians (least to greatest)\n")
    for table in tables.values():
        print(table)
    if json_path is not None:
        write(json_path, {"about": about(), "tables": {k: attrs.asdict(t) for k, t in tables.items()}})


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
