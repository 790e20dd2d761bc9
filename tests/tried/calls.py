"""What the workers call; they import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NoReturn


def square(n: int) -> int:
    return n * n


def fail_here(text: str) -> NoReturn:
    raise ValueError(text)


def die() -> NoReturn:
    """As a process does that is killed for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def type_name(value: object) -> str:
    return type(value).__name__


def touch(path: str) -> str:
    Path(path).touch()
    return path


def wait_for(started: str, gate: str, ended: str) -> str:
    """Say that it has started, wait until it may go on, and say that it has ended."""
    Path(started).touch()
    for _ in range(12_000):
        if Path(gate).exists():
            Path(ended).touch()
            return "a result"
        time.sleep(0.005)
    raise TimeoutError
