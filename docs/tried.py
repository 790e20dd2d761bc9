"""The executors that were tried, for Sphinx: tables from docs/executors.json; `nox -s executors` writes it.

``tried`` with the name of a table shows a row for each executor; ``tried refused`` shows what is refused.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).with_name("executors.json")
# The keys of a row, and the heads of their columns.
TABLES = {
    "outcomes": {
        "version": "version",
        "results": "200 calls",
        "error": "an error comes as",
        "unpicklable": "an argument that cannot be pickled",
        "killed_worker": "its worker is killed",
        "after_shutdown": "after shutdown",
    },
    "cancelled": {
        "cancel_queued": "calls that wait",
        "cancel_running": "a call that runs",
        "abandoned": "the same, with abandon_on_cancel",
    },
    "times": {
        "python": "Python",
        "first_ms": "first submit",
        "submits_ms": "200 more",
        "gap_ms": "longest gap",
    },
    "refused": {"version": "version", "refused": "what is said"},
}


def table(columns: dict[str, str], rows: dict[str, dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in ["", *columns.values()])
    body = [
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(str(row[key]))}</td>' for key in columns)}</tr>"
        for name, row in rows.items()
        if columns.keys() <= row.keys()
    ]
    inside = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="figures"><table class="docutils">{inside}</table></div>'


class Tried(SphinxDirective):
    """``tried``, with the name of a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        rows = json.loads(FILE.read_text(encoding="utf-8"))
        return [nodes.raw("", table(TABLES[self.arguments[0]], rows), format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("tried", Tried)
