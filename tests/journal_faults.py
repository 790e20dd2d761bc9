"""Runs a job with a journal in a process of its own, in which everything goes wrong."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
PROGRAM = Path(__file__).parent / "programs" / "journaling.py"


@attrs.define
class Ran:
    """What a program said, and how it ended."""

    lines: list[str]
    errors: str
    status: int
    killed: float = 0.0

    def items(self, verb: str) -> dict[int, float]:
        """The items of a kind, in the order of their publication, and when that was."""
        found: dict[int, float] = {}
        for line in self.lines:
            word, *rest = line.split()
            if word == verb:
                assert int(rest[0]) not in found
                found[int(rest[0])] = float(rest[1])
        return found


def start(path: Path, items: int, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, PROGRAM, path, str(items), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # Coverage's own file would meet the limits of size.
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        | (env or {}),
    )


def finished(path: Path, items: int, *options: str, env: dict[str, str] | None = None) -> Ran:
    with start(path, items, *options, env=env) as child:
        out, errors = child.communicate(timeout=120)
    return Ran(out.splitlines(), errors, child.returncode)


def killed(path: Path, items: int, lines: int, *options: str, later: float = 0) -> Ran:
    """A run that is killed so many seconds after it has said so many lines; all that it said counts."""
    with start(path, items, *options) as child:
        watchdog = threading.Timer(120, child.kill)
        watchdog.start()
        assert child.stdout is not None and child.stderr is not None
        said: list[str] = []
        while len(said) < lines and (line := child.stdout.readline()):
            said.append(line)
        time.sleep(later)
        now = time.monotonic()
        child.kill()
        said += child.stdout.readlines()
        watchdog.cancel()
        return Ran([line for line in said if line.endswith("\n")], child.stderr.read(), child.wait(), now)


def recorded(path: Path) -> list[int]:
    """The items that the file has, in its own order."""
    with closing(sqlite3.connect(path)) as connection:
        return [int(key) for (key,) in connection.execute("SELECT key FROM records_1 ORDER BY rowid")]


def kill_again_and_again(
    path: Path, items: int, times: int, rng: random.Random, *options: str
) -> list[tuple[float, float]]:
    """Start a job anew whenever it was killed, so many times at most, and then let it end.

    Returns:
        of each item that was published and ran again: when it was published, and when that run was killed.
    """
    published: dict[int, tuple[float, float]] = {}
    lost: list[tuple[float, float]] = []
    for _ in range(times):
        lines, later = rng.randrange(1, items // 4), rng.random() / 10
        ran = killed(path, items, lines, *options, later=later)
        assert ran.items("failed") == {}
        lost += [published[item] for item in ran.items("ran") if item in published]
        published |= {item: (when, ran.killed) for item, when in ran.items("ran").items()}
    ran = finished(path, items, *options)
    assert (ran.status, ran.errors) == (0, "")
    lost += [published[item] for item in ran.items("ran") if item in published]
    assert len(ran.items("ran")) + len(ran.items("recalled")) == items
    # None twice.
    assert sorted(recorded(path)) == [*range(items)]
    return lost
