"""Ctrl-C while the demo, or what only looks like it, still imports, and when it has ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trio_conman._base import starting

PROGRAM = [sys.executable, "-X", "utf8", "-m", "trio_conman", "--help"]


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """What Python does at a Ctrl-C, before and after."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], tuple[int, bytes, bytes]]:
    """Run it with something that Python runs first of all, and give its status and what it wrote."""

    def run(first: str) -> tuple[int, bytes, bytes]:
        (tmp_path / "sitecustomize.py").write_text(first, encoding="utf-8")
        paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            PROGRAM,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    "module",
    ["trio", "trio_conman._base.errors", "trio_conman._manager.conman", "trio_conman._leaves.demo_report"],
)
def test_it_ends_quietly(module: str, program: Callable[[str], tuple[int, bytes, bytes]]) -> None:
    first = f"""\
import signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
"""
    assert program(first) == (130, b"", b"")


def test_it_is_told_when_the_program_is_there(program: Callable[[str], tuple[int, bytes, bytes]]) -> None:
    first = """\
import argparse, signal
argparse.ArgumentParser.format_help = lambda *_: signal.raise_signal(signal.SIGINT)
"""
    assert program(first) == (130, b"", b"Interrupted." + os.linesep.encode())


def test_one_that_comes_when_all_is_said_changes_nothing(
    program: Callable[[str], tuple[int, bytes, bytes]],
) -> None:
    first = """\
import signal, sys
class Late:
    def __del__(self, interrupt=signal.raise_signal, number=signal.SIGINT):
        interrupt(number)  # Python's own handler is gone already
sys.late = Late()
"""
    status, out, errors = program(first)
    assert (status, errors) == (0, b"")
    assert out.startswith(b"usage: ")


@pytest.mark.parametrize("options", [["-X", "utf8", "-m"], ["-um"]])
def test_it_is_as_ever_when_the_program_is_there(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *options, "trio_conman", "--help"])
    starting.guard()
    assert signal.getsignal(signal.SIGINT) is starting.end
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    signal.raise_signal(signal.SIGINT)
    assert exits == [130]
    starting.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    "argv, original",
    [
        ([PROGRAM[0]], PROGRAM),  # imported by the program of somebody else
        (["-m", "trio_conman"], [sys.executable, "-m", "somebody", "trio_conman"]),
        (["-m", "-m", "trio_conman"], [sys.executable, "-m", "somebody", "-m", "trio_conman"]),
        (["-m"], [sys.executable, "-m", "trio_conman.journal"]),
        ([], [sys.executable]),
    ],
)
def test_others_have_their_interrupts(
    argv: list[str], original: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    starting.guard()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    starting.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_ignores_them_goes_on_to_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "orig_argv", PROGRAM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in the background
    starting.guard()
    starting.release()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
