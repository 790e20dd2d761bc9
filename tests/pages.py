"""What the pages of the docs show, and the scripts behind it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if DOCS / "_build" not in p.parents)]

FENCE = re.compile(r"^```(\S*)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Runs scripts as a user would, but on a clock that jumps over every sleep. Each has a process of its own, a
# fork, so that what all of them import is imported once; their collectors have nothing to do with that.
LAUNCHER = """
import functools, gc, os, runpy, sys, trio, trio.testing, trio_conman
trio.run = functools.partial(trio.run, clock=trio.testing.MockClock(autojump_threshold=0))
gc.freeze()
for script, printed in zip(sys.argv[1::2], sys.argv[2::2]):
    with open(printed, "wb", buffering=0) as file:
        if not os.fork():
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            del sys.argv[1:]
            runpy.run_path(script, run_name="__main__")
            sys.exit()
        if status := os.wait()[1]:
            file.write(b"status %d" % status)
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


def printed_on_virtual_clock(scripts: Iterable[Path]) -> dict[Path, str]:
    """What each of these prints, errors and all."""
    with TemporaryDirectory() as directory:
        files = {script: Path(directory) / str(number) for number, script in enumerate(scripts)}
        assert printed("-c", LAUNCHER, *chain(*files.items())) == ""
        return {script: file.read_text(encoding="utf-8") for script, file in files.items()}
