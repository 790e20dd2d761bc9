"""The docs tell the truth: their scripts print what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\S*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

# Runs a script as a user would, but on a clock that jumps over every sleep.
LAUNCHER = """
import functools, runpy, sys, trio, trio.testing
trio.run = functools.partial(trio.run, clock=trio.testing.MockClock(autojump_threshold=0))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def blocks(text: str) -> list[tuple[str, str, str]]:
    """The fenced blocks of a page: language or directive, its argument, content."""
    return FENCE.findall(text)


def shown() -> list[tuple[str, str]]:
    """The scripts that the pages include, each with the output block that follows."""
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        fenced = blocks(page.read_text(encoding="utf-8"))
        for (kind, argument, _), (next_kind, _, output) in zip(
            fenced, [*fenced[1:], ("", "", "")], strict=True
        ):
            if kind == "{literalinclude}":
                assert next_kind == "text", f"{argument} is shown in {page.name} without its output"
                found.append((argument.removeprefix("examples/"), output))
    (output,) = [content for kind, _, content in blocks(README) if kind == "text"]
    return [*found, ("readme.py", output)]


def output_of(*arguments: str | Path) -> str:
    # A script may not depend on what lies beside it, nor on the directory it is started in.
    env = os.environ | {"PYTHONSAFEPATH": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", *arguments], capture_output=True, text=True, check=False, env=env
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_every_script_is_shown_once() -> None:
    assert sorted(script for script, _ in shown()) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("script, output", [pytest.param(*pair, id=pair[0]) for pair in shown()])
def test_script_prints_what_is_shown(script: str, output: str) -> None:
    assert output_of("-c", LAUNCHER, EXAMPLES / script) == output


@pytest.mark.slow
@pytest.mark.parametrize("script, output", [pytest.param(*pair, id=pair[0]) for pair in shown()])
def test_script_prints_what_is_shown_on_the_wall_clock(script: str, output: str) -> None:
    assert output_of(EXAMPLES / script) == output


def test_readme_shows_its_example_as_it_is_checked() -> None:
    (code,) = [content for kind, _, content in blocks(README) if kind == "python"]
    assert code == (EXAMPLES / "readme.py").read_text(encoding="utf-8")


def test_readme_starts_with_the_demo_and_the_tests() -> None:
    assert [content for kind, _, content in blocks(README) if kind == "sh"] == [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/python -m trio_conman\n",
        "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox\n",
    ]


@pytest.mark.parametrize("target", sorted({t for t in LINK.findall(README) if "://" not in t}))
def test_file_that_readme_names_exists(target: str) -> None:
    path, _, anchor = target.partition("#")
    assert not anchor
    assert (ROOT / path).is_file()
