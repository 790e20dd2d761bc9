"""What a Ctrl-C shows of the library, where the program does nothing about it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trio_conman

PACKAGE = Path(trio_conman.__file__).parent
PROGRAM = Path(__file__).with_name("programs") / "interrupted.py"
MOST = 10  # lines
FILE = re.compile(r'[ |]*File "(.*)", line \d+, in ')


def own_lines(shown: str) -> list[str]:
    """The lines of a traceback that show frames of the package, with their source and what marks it."""
    lines: list[str] = []
    is_own = False
    for line in shown.splitlines():
        if found := FILE.match(line):
            is_own = Path(found[1]).is_relative_to(PACKAGE)
        elif not line.strip("| ").startswith(("^", "~")) and lines and not FILE.match(lines[-1]):
            is_own = False
        if is_own:
            lines.append(line)
    return lines


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal cannot be sent to one process")
def test_it_shows_ten_lines_of_it_at_most() -> None:
    # All at once: most of their time goes to imports.
    children = {
        where: subprocess.Popen(
            [sys.executable, PROGRAM, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for where in ("task", "map", "shutdown")
    }
    try:
        for where, child in children.items():
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGINT)
            _, shown = child.communicate(timeout=60)
            assert "KeyboardInterrupt" in shown, where
            lines = own_lines(shown)
            assert 2 <= len(lines) <= MOST, shown
            assert shown.count(", in _live\n") <= 1, shown
    finally:
        for child in children.values():
            child.kill()
            child.communicate()


def test_lines_of_the_library_are_told_from_others() -> None:
    own, other = (
        f'  | File "{PACKAGE}/_engine/block.py", line 1, in _host',
        '  | File "/x/trio/run.py", line 1, in f',
    )
    assert own_lines(
        f"{own}\n  |   call()\n  |   ~~~~^^\n{other}\n  |   raise\n{own}\n  |   raise\n  | Error\n"
    ) == [
        own,
        "  |   call()",
        "  |   ~~~~^^",
        own,
        "  |   raise",
    ]
