"""What the pages of the docs show, and the scripts behind it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if DOCS / "_build" not in p.parents)]

FENCE = re.compile(r"^```(\S*)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Runs a script as a user would, but on a clock that jumps over every sleep.
LAUNCHER = """
import functools, runpy, sys, trio, trio.testing
trio.run = functools.partial(trio.run, clock=trio.testing.MockClock(autojump_threshold=0))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@attrs.frozen
class Block:
    """A fenced block of a page."""

    kind: str  # language or directive
    argument: str
    content: str


@attrs.frozen
class Shown:
    """A script that a page includes, and the output that is said to be its own."""

    script: Path
    output: str
    page: Path

    def __str__(self) -> str:
        return self.script.stem


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def shown() -> list[Shown]:
    """All scripts that pages show, each with the block of output that follows it."""
    found = []
    for page in PAGES:
        fenced = blocks(page)
        for block, after in zip(fenced, [*fenced, Block("", "", "")][1:], strict=True):
            if block.kind == "{literalinclude}":
                assert after.kind == "text", f"{page} shows {block.argument} without its output"
                found.append(Shown((page.parent / block.argument).resolve(), after.content, page))
    return found


# Warnings are errors, but for one that CPython 3.15 gives where a spawned process formats a traceback with a
# frame of the script: as an error it ends the process, and breaks its pool. A script has no spec; linecache
# excuses `__main__` from that, and not `__mp_main__`, as it is called there. May go once it does.
WARNINGS = ["-W", "error", "-W", "ignore:Module globals is missing a __spec__.loader:DeprecationWarning"]


def printed(*arguments: str | Path) -> str:
    """What Python prints, started with these arguments, and nothing but that."""
    # A script may not depend on what lies beside it, nor on the directory it is started in.
    env = os.environ | {"PYTHONSAFEPATH": "1"}
    ran = subprocess.run(
        [sys.executable, *WARNINGS, *arguments], capture_output=True, text=True, check=False, env=env
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def printed_on_virtual_clock(script: Path) -> str:
    return printed("-c", LAUNCHER, script)
