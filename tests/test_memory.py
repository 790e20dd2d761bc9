"""Streams need no more memory for a million items than for ten thousand."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "streaming.py"

# Where a process starts another one, the new one's peak begins with what the old one has, which may be more
# than it will ever need itself, and then nothing of its own is seen. So between this large process and the
# program there is a small one.
BETWEEN = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


def peak(mode: str, count: int) -> int:
    """The peak RSS of the program, in bytes."""
    command = [sys.executable, "-S", "-c", BETWEEN, sys.executable, str(PROGRAM), mode, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    total, peak = map(int, done.stdout.split())
    # Each item is 10**6 and its number; each was doubled.
    assert total == 2 * (count * 10**6 + count * (count - 1) // 2)
    return peak if sys.platform == "darwin" else peak * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage()")
@pytest.mark.parametrize("mode", ["map", "ordered", "send_to"])
def test_a_million_items_need_no_more_memory_than_ten_thousand(mode: str) -> None:
    few, many = peak(mode, 10_000), peak(mode, 1_000_000)
    print(f"{mode}: {few / 2**20:.1f} MiB for 10,000 items, {many / 2**20:.1f} MiB for 1,000,000")
    assert many - few < 8 * 2**20
