"""A real signal to a real program: it drains, says what it did, and ends."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "graceful.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")


@contextmanager
def started(seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """The program; it is killed when the test fails, or when it hangs."""
    command = [sys.executable, str(PROGRAM), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        watchdog = threading.Timer(60, child.kill)
        watchdog.start()
        try:
            yield child
        finally:
            watchdog.cancel()
            child.kill()


def lines_to(child: "subprocess.Popen[str]", last: str) -> list[str]:
    """What the program says, up to a line."""
    assert child.stdout is not None
    lines: list[str] = []
    while last not in lines:
        line = child.stdout.readline()
        assert line, f"{last!r} is not among {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def rest_of(child: "subprocess.Popen[str]") -> list[str]:
    """What the program says until it ends, which it does without a complaint."""
    assert child.stdout is not None and child.stderr is not None
    # Not communicate(), which would miss what readline() has read ahead.
    lines = child.stdout.read().splitlines()
    assert child.stderr.read() == ""
    child.wait()
    return lines


def numbers(lines: list[str], verb: str) -> list[int]:
    return sorted(int(line.split()[1]) for line in lines if line.startswith(f"{verb} "))


def test_on_sigterm_it_finishes_what_it_has_begun_and_says_what_it_did() -> None:
    with started(0.05) as child:
        lines = lines_to(child, "started 9")
        child.send_signal(signal.SIGTERM)
        lines += lines_to(child, "draining")
        drained = rest_of(child)
    # What it had begun it has finished: three at most, which may have had their slots and not yet said so.
    begun = numbers(lines + drained, "started")
    assert begun == list(range(len(begun)))
    assert len(begun) >= 10
    assert numbers(lines + drained, "finished") == begun
    assert len(numbers(drained, "started")) <= len(numbers(drained, "finished")) <= 3
    assert drained[-1] == f"{len(begun)} done, 0 failed"
    assert child.returncode == 0


def test_a_second_sigterm_ends_it_at_once() -> None:
    with started(3600) as child:
        lines_to(child, "started 0")
        child.send_signal(signal.SIGTERM)
        lines_to(child, "draining")
        # It waits for what runs, for an hour.
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert numbers(rest_of(child), "finished") == []
    assert child.returncode == -signal.SIGTERM
