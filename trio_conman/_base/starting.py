"""A Ctrl-C while ``python -m trio_conman`` still imports ends it quietly, as one that comes later does.

Python imports the package before the program that is in it, which could not catch it.
"""

from __future__ import annotations

import os
import signal
import sys


def end(*_: object) -> None:
    """End the process, in which nothing has begun yet."""
    os._exit(130)


def guard() -> None:
    """Let Ctrl-C end the process, if it imports the package to run the program."""
    # The first argument is that while Python looks for the program, whose name comes before the others.
    is_program = sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv) :][:1] == ["trio_conman"]
    if is_program and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def release() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: the program is there."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
