"""The tables of what was run beside the library have all of it, and what they praise is sound."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.neighbours.rows import ROWS
from tests.pages import DOCS, ROOT

SEEN: dict[str, dict[str, dict[str, str]]] = json.loads(
    (DOCS / "neighbours.json").read_text(encoding="utf-8")
)


def test_everything_that_is_run_is_in_its_table() -> None:
    assert [(group, name) for group in SEEN for name in SEEN[group]] == sorted(
        ((row.group, name) for name, row in ROWS.items()), key=lambda each: list(SEEN).index(each[0])
    )


@pytest.mark.parametrize("group", SEEN)
def test_every_table_is_on_a_page(group: str) -> None:
    pages = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("works_with.md", "testing.md"))
    assert f"```{{neighbours}} {group}\n" in pages or f"```{{neighbours-list}} {group}\n" in pages


@pytest.mark.parametrize("name", ROWS)
def test_no_task_got_the_answer_of_another(name: str) -> None:
    assert SEEN[ROWS[name].group][name].get("answers", "each its own") == "each its own"


def test_everything_that_is_needed_is_in_the_group() -> None:
    pyproject: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    group = {Requirement(each).name for each in pyproject["dependency-groups"]["neighbours"]}
    needed = {Requirement(package).name for row in ROWS.values() for package in row.packages}
    assert needed | {"pytest", "packaging"} == group
