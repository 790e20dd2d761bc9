"""Each recipe is a program that does what its page says; `nox -s recipes` runs them with the built wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import DOCS, Shown, blocks, printed, printed_on_virtual_clock, shown

RECIPES = DOCS / "recipes"
SHOWN = [each for each in shown() if each.script.parent == RECIPES]

# These deal with sockets, signals, threads or processes, which do not wait for a virtual clock.
REAL = {
    "background_jobs",
    "crawler",
    "dask_cluster",
    "downloads",
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
