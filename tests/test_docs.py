"""The docs tell the truth: their scripts print what the pages show."""

from __future__ import annotations

import inspect
import json
import math
import re
from itertools import takewhile
from pathlib import Path

import attrs
import pytest

import trio_conman
from tests.pages import DOCS, PAGES, ROOT, Block, Shown, blocks, printed, printed_on_virtual_clock, shown
from tests.planted import BUGS
from tests.test_planted import HISTORIES
from trio_conman import ConMan, RetryConfig

EXAMPLES = DOCS / "examples"
README = ROOT / "README.md"

# What may stand on a page: scripts with their output, and what is no code.
KINDS = {
    "{literalinclude}",
    "sh",
    "text",
    "{bars}",
    "{eval-rst}",
    "{limit-figures}",
    "{limit-plot}",
    "{limits}",
    "{neighbours}",
    "{neighbours-list}",
    "{figures}",
    "{glossary}",
    "{include}",
    "{raw}",
    "{timeline}",
    "{toctree}",
    "{tried}",
}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def readme_output() -> Shown:
    (block,) = [block for block in blocks(README) if block.kind == "text"]
    return Shown(EXAMPLES / "readme.py", block.content, README)


EXAMPLES_SHOWN = [each for each in shown() if each.script.parent == EXAMPLES] + [readme_output()]


def test_every_script_is_shown_once() -> None:
    assert sorted(each.script.name for each in EXAMPLES_SHOWN) == sorted(
        p.name for p in EXAMPLES.glob("*.py")
    )


@pytest.fixture(scope="module")
def outputs() -> dict[Path, str]:
    return printed_on_virtual_clock(example.script for example in EXAMPLES_SHOWN)


@pytest.mark.parametrize("example", EXAMPLES_SHOWN, ids=str)
def test_script_prints_what_is_shown(example: Shown, outputs: dict[Path, str]) -> None:
    assert outputs[example.script] == example.output


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES_SHOWN, ids=str)
def test_script_prints_what_is_shown_on_the_wall_clock(example: Shown) -> None:
    assert printed(example.script) == example.output


def test_all_code_of_the_pages_is_in_scripts() -> None:
    kinds = {block.kind for page in PAGES if page != README for block in blocks(page)}
    assert kinds == KINDS


def test_readme_shows_its_example_as_it_is_checked() -> None:
    (block,) = [block for block in blocks(README) if block.kind == "python"]
    assert block.content == (EXAMPLES / "readme.py").read_text(encoding="utf-8")


def test_readme_starts_with_the_demo_and_the_tests() -> None:
    assert [block for block in blocks(README) if block.kind == "sh"] == [
        Block(
            "sh",
            "",
            "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/python -m trio_conman\n",
        ),
        Block("sh", "", "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox\n"),
    ]


@pytest.mark.parametrize(
    "target", sorted({t for t in LINK.findall(README.read_text(encoding="utf-8")) if "://" not in t})
)
def test_file_that_readme_names_exists(target: str) -> None:
    path, _, anchor = target.partition("#")
    assert not anchor
    assert (ROOT / path).is_file()


def test_the_reference_has_every_public_name() -> None:
    directive = re.compile(r"^\.\. auto\w+:: (\w+)$", re.MULTILINE)
    documented = directive.findall((DOCS / "reference.md").read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(trio_conman.__all__)


def table(page: Path, corner: str) -> list[list[str]]:
    """The rows of the table whose first cell begins so, without its head."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {corner}"):
            break
    next(lines)
    rows = takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_options_is_that_of_open() -> None:
    parameters = inspect.signature(ConMan.open).parameters
    rows = table(DOCS / "reference.md", "option of {meth}")
    assert [row[0] for row in rows] == [f"`{name}`" for name in parameters if name != "nursery"]
    shown = {row[0].strip("`"): row[1] for row in rows}
    for name in ("limit", "attempt_timeout", "task_timeout", "timeout"):
        assert parameters[name].default == {"10": 10, "`math.inf`": math.inf}[shown[name]]
    own = inspect.signature(ConMan.start_soon).parameters
    assert [row[2].startswith("yes") for row in rows] == [row[0].strip("`") in own for row in rows]


def test_the_table_of_presets_is_true() -> None:
    presets = (RetryConfig.exponential(), RetryConfig.linear(), RetryConfig.none())
    assert RetryConfig() == presets[0]
    shown = {name.strip("`"): cells for name, *cells in table(DOCS / "reference.md", "field")}
    assert shown.pop("strategy") == [f'"{preset.strategy}"' for preset in presets]
    assert shown == {
        field.name: [repr(getattr(preset, field.name)) for preset in presets]
        for field in attrs.fields(RetryConfig)
        if field.name != "strategy"
    }


def test_the_speed_page_begins_with_what_is_true_of_every_bar() -> None:
    files = [*DOCS.glob("figures/*.json")]
    assert files
    for file in files:
        tables = json.loads(file.read_text(encoding="utf-8"))["tables"]
        for table in (tables["side_by_side"], tables["asyncio"]):
            assert all(row["µs a task"]["median"] < 100 for row in table["rows"].values())


def test_the_page_of_what_is_tested_has_every_session() -> None:
    page = (DOCS / "tested.md").read_text(encoding="utf-8")
    named = {name for names in re.findall(r"`nox -s ([\w ]+)`", page) for name in names.split()}
    sessions = r"^@nox\.session\b.*\ndef (\w+)"
    assert named == set(re.findall(sessions, (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    for path in re.findall(r"tests/\w+\.py", page):
        assert (ROOT / path).is_file()


def test_the_page_of_what_is_tested_has_the_figures_of_the_commands() -> None:
    page = (DOCS / "tested.md").read_text(encoding="utf-8")
    executors = json.loads((DOCS / "executors.json").read_text(encoding="utf-8"))
    for figure in (f"{len(BUGS)} bugs", f"{HISTORIES:,} of them", f"{len(executors)} rows of"):
        assert figure in page
    for path, option, figure in (
        ("tests/simulate.py", '"--histories", type=int, default=100_000', "100,000 random programs"),
        ("tests/soak/kills.py", '"--kills", type=int, default=200', "killed 200 times"),
        ("tests/soak/__main__.py", '"--minutes", type=float, default=3.0', "three minutes of"),
    ):
        assert option in (ROOT / path).read_text(encoding="utf-8")
        assert figure in page


def test_every_page_is_reached_from_the_first_one() -> None:
    reached: list[Path] = []

    def follow(page: Path) -> None:
        reached.append(page)
        for block in blocks(page):
            if block.kind == "{toctree}":
                for name in block.content.splitlines():
                    if name and not name.startswith(":"):
                        follow((page.parent / f"{name}.md").resolve())

    follow(DOCS / "index.md")
    assert sorted(reached) == [page for page in PAGES if page != README]
