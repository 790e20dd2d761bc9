"""The simulation can fail: it finds bugs that are planted in a copy of the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trio_conman

from .planted import BUGS, Bug

PACKAGE = Path(trio_conman.__file__).parent
TESTS = Path(__file__).parent
HISTORIES = 3_000


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_a_bug_fits_the_core_in_one_place(bug: Bug) -> None:
    text = bug.path(PACKAGE).read_text(encoding="utf-8")
    assert text.count(bug.right) == 1
    assert bug.wrong != bug.right


@pytest.mark.slow
@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_the_simulation_finds_a_bug(bug: Bug, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "trio_conman", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for path in [*TESTS.glob("machine*.py"), TESTS / "simulate.py"]:
        shutil.copy(path, tmp_path / "tests")
    module = bug.path(tmp_path / "trio_conman")
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulate", f"--histories={HISTORIES}", "--processes=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "run it again: python -m tests.simulate --seed" in ran.stdout
