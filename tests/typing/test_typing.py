"""Type checkers accept what users may write, and report what they may not.

A line of ``negative/`` that a checker must report ends in ``# error``, or, when only one of them does, in
``# error: pyright``. These tests need the checkers, which `nox -s types` installs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED, REFUSED = (sorted((HERE / folder).glob("*.py")) for folder in ("positive", "negative"))

# Reported for a mistake of the file, not for the line that is to be refused.
ACCIDENTS = {
    *("import-not-found", "import-untyped", "name-defined", "syntax"),
    *("reportMissingImports", "reportUndefinedVariable"),
}


class Report(NamedTuple):
    path: Path
    line: int
    rule: str
    message: str


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # 1: there is something to report. More: the checker failed.
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def mypy(cache: Path) -> list[Report]:
    # From the root, where the package is. No configuration: that is how its users check.
    options = [
        "--strict",
        "--python-version=3.11",
        "--config-file=",
        "--explicit-package-bases",
        f"--cache-dir={cache}",
        "--output=json",
    ]
    output = run("mypy", *options, HERE / "positive", HERE / "negative", cwd=ROOT)
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    return [
        Report(ROOT / each["file"], each["line"], each["code"], each["message"])
        for each in found
        if each["severity"] == "error"
    ]


def pyright(cache: Path) -> list[Report]:
    # With the configuration beside this file: strict.
    output = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", HERE, cwd=ROOT))
    assert output["summary"]["filesAnalyzed"] == len(ACCEPTED + REFUSED)
    return [
        Report(
            Path(each["file"]),
            each["range"]["start"]["line"] + 1,
            each.get("rule", "syntax"),
            each["message"],
        )
        for each in output["generalDiagnostics"]
    ]


class Checked(NamedTuple):
    checker: str
    reports: list[Report]


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    checker: Callable[[Path], list[Report]] = request.param
    return Checked(checker.__name__, checker(tmp_path_factory.mktemp("cache")))


def marked(path: Path, checker: str) -> set[int]:
    """The lines of a file that a checker must report."""
    mark = re.compile(rf"# error(: {checker})?$")
    return {n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if mark.search(line)}


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_what_users_may_write_is_accepted(checked: Checked, path: Path) -> None:
    assert marked(path, checked.checker) == set()
    assert [report for report in checked.reports if report.path == path] == []


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_what_users_may_not_write_is_reported_line_by_line(checked: Checked, path: Path) -> None:
    reports = [report for report in checked.reports if report.path == path]
    assert [report for report in reports if report.rule in ACCIDENTS] == []
    must = marked(path, checked.checker)
    assert must
    assert [report for report in reports if report.line not in must] == []
    assert sorted(must - {report.line for report in reports}) == []


def test_reports_name_the_public_class(checked: Checked) -> None:
    messages = [report.message for report in checked.reports]
    assert [each for each in messages if "Doors" in each or "Views" in each] == []
    run = [each for each in messages if '"run"' in each]
    if checked.checker == "mypy":
        assert any('"run" of "ConMan"' in each for each in run)
    assert run


def test_there_is_something_to_check() -> None:
    assert [path.name for path in ACCEPTED] == [path.name for path in REFUSED]
    assert len(ACCEPTED) >= 4


@pytest.mark.parametrize(
    "line, checkers",
    [
        ("f(1)  # error", {"mypy", "pyright"}),
        ("f(1)  # error: pyright", {"pyright"}),
        ("f(1)  # error: mypy", {"mypy"}),
        ("f(1)", set()),
        ("f(1)  # an error or two", set()),
    ],
)
def test_finds_the_marks(tmp_path: Path, line: str, checkers: set[str]) -> None:
    path = tmp_path / "example.py"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    for checker in ("mypy", "pyright"):
        assert marked(path, checker) == ({2} if checker in checkers else set())
