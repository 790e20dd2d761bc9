"""The table of executors that were tried has what is tried, and says what nobody need fear."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pages import DOCS
from tests.tried.makers import ROWS
from tests.tried.probe import GAP, GROUPS
from tests.tried.refused import REFUSED

SEEN: dict[str, dict[str, Any]] = json.loads((DOCS / "executors.json").read_text(encoding="utf-8"))


def test_everything_that_is_tried_is_in_the_table() -> None:
    assert list(SEEN) == [*ROWS, *REFUSED]


@pytest.mark.parametrize("name", ROWS)
def test_no_result_is_lost_and_no_loop_held_up(name: str) -> None:
    row = SEEN[name]
    assert row["results"] == "200 results"
    assert row["gap_ms"] < GAP
    assert row.keys() >= {probe for group in GROUPS for probe, _ in group}
    assert "fault" not in str(row)
    assert "ExceptionGroup" not in str(row)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    assert SEEN[name]["refused"].startswith("executor must be ")
