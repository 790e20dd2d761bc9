"""The docs tell the truth: their scripts print what the pages show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trio_conman
from tests.pages import DOCS, PAGES, ROOT, Block, Shown, blocks, printed, printed_on_virtual_clock, shown

EXAMPLES = DOCS / "examples"
README = ROOT / "README.md"

# What may stand on a page: scripts with their output, and what is no code.
KINDS = {
    "{literalinclude}",
    "text",
    "{eval-rst}",
    "{glossary}",
    "{include}",
    "{raw}",
    "{timeline}",
    "{toctree}",
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


@pytest.mark.parametrize("example", EXAMPLES_SHOWN, ids=str)
def test_script_prints_what_is_shown(example: Shown) -> None:
    assert printed_on_virtual_clock(example.script) == example.output


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
