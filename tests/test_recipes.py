"""Each recipe is a program that does what its page says; `nox -s recipes` runs them with the built wheel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import DOCS, WARNINGS, Shown, blocks, printed, printed_on_virtual_clock, shown

pytestmark = pytest.mark.unmeasured

RECIPES = DOCS / "recipes"
SHOWN = [each for each in shown() if each.script.parent == RECIPES]

# These deal with sockets, signals, threads or processes, which do not wait for a virtual clock.
REAL = {
    "background_jobs",
    "crawler",
    "dask_cluster",
    "downloads",
    "guest_mode",
    "interpreters",
    "overnight",
    "polite_client",
    "processes",
    "sigterm",
    "subprocesses",
    "threads",
    "unreliable_service",
    "web_server",
}

# As a notebook runs its cells: in the loop of asyncio that its kernel has.
IN_A_LOOP = """
import asyncio, functools, runpy, sys, trio, trio.testing
trio.run = functools.partial(trio.run, clock=trio.testing.MockClock(autojump_threshold=0))
async def main(): runpy.run_path(sys.argv[1])
asyncio.run(main())
"""

# The recipe says where it stands for a person who types Ctrl-C, and leaves it to one.
BY_A_PERSON = """
import runpy, signal, sys
signal.raise_signal = lambda number: print(signal.Signals(number).name, flush=True)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

# This one tells a rate, to a tenth.
VIRTUAL = {"progress"}


ON_VIRTUAL_CLOCK = [each for each in SHOWN if each.script.stem not in REAL]


@pytest.fixture(scope="module")
def outputs() -> dict[Path, str]:
    return printed_on_virtual_clock(recipe.script for recipe in ON_VIRTUAL_CLOCK)


@pytest.mark.parametrize("recipe", ON_VIRTUAL_CLOCK, ids=str)
def test_recipe_prints_what_its_page_shows(recipe: Shown, outputs: dict[Path, str]) -> None:
    assert outputs[recipe.script] == recipe.output


@pytest.mark.parametrize("recipe", [each for each in SHOWN if each.script.stem in REAL], ids=str)
def test_recipe_about_what_is_outside_prints_what_its_page_shows(recipe: Shown) -> None:
    assert printed(recipe.script) == recipe.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [each for each in ON_VIRTUAL_CLOCK if each.script.stem not in VIRTUAL], ids=str
)
def test_recipe_prints_what_its_page_shows_on_the_wall_clock(recipe: Shown) -> None:
    assert printed(recipe.script) == recipe.output


def test_the_notebook_runs_where_an_event_loop_runs_already() -> None:
    (notebook,) = [each for each in SHOWN if each.script.stem == "notebook"]
    assert printed("-c", IN_A_LOOP, notebook.script) == notebook.output


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal cannot be sent to one process")
def test_at_ctrl_c_in_asyncio_the_guest_cleans_up_and_keeps_its_outcomes() -> None:
    (guest_mode,) = [each for each in SHOWN if each.script.stem == "guest_mode"]
    with subprocess.Popen(
        [sys.executable, *WARNINGS, "-c", BY_A_PERSON, guest_mode.script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "SIGINT\n"
            child.send_signal(signal.SIGINT)
            told = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, *told) == (0, guest_mode.output, "")


def test_each_recipe_has_a_page_of_its_own() -> None:
    assert [each.page for each in SHOWN] == [each.script.with_suffix(".md") for each in SHOWN]
    scripts = {path.stem for path in RECIPES.glob("*.py")}
    assert {each.script.stem for each in SHOWN} == scripts
    assert {path.stem for path in RECIPES.glob("*.md")} - {"index"} == scripts


def test_the_list_of_recipes_is_complete() -> None:
    index = RECIPES / "index.md"
    (toctree,) = [block.content for block in blocks(index) if block.kind == "{toctree}"]
    listed = [name for name in toctree.splitlines() if name and not name.startswith(":")]
    assert sorted(listed) == sorted(each.script.stem for each in SHOWN)
    table = index.read_text(encoding="utf-8").partition("```")[0]
    assert [f"{{doc}}`{name}`" for name in listed] == [
        cell for line in table.splitlines() for cell in line.split() if cell.startswith("{doc}")
    ]
