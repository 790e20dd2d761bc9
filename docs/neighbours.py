"""What was run beside the library, for Sphinx: tables from docs/neighbours.json.

`nox -s neighbours` writes that. ``neighbours`` with the name of a group shows a row for each neighbour of it,
``neighbours-list`` a row for each thing that was seen.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).with_name("neighbours.json")
HEADS = {"answers": "100 tasks, half of them cancelled: the answers"}


def table(head: list[str], body: list[list[str]]) -> nodes.raw:
    columns = "".join(f"<th>{escape(each)}</th>" for each in head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body)
    inside = f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody>"
    return nodes.raw(
        "", f'<div class="figures"><table class="docutils">{inside}</table></div>', format="html"
    )


class Neighbours(SphinxDirective):
    """``neighbours``, with the name of a group."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        rows: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))[self.arguments[0]]
        return [self.drawn(rows)]

    def drawn(self, rows: dict[str, dict[str, str]]) -> nodes.raw:
        (keys,) = {tuple(row) for row in rows.values()}
        head = ["", *(HEADS.get(key, key) for key in keys)]
        return table(head, [[name, *row.values()] for name, row in rows.items()])


class NeighboursList(Neighbours):
    """``neighbours-list``, with the name of a group."""

    def drawn(self, rows: dict[str, dict[str, str]]) -> nodes.raw:
        body = [
            [name, row["version"], key, seen]
            for name, row in rows.items()
            for key, seen in row.items()
            if key != "version"
        ]
        return table(["", "version", "what was tried", "what was seen"], body)


def setup(app: Sphinx) -> None:
    app.add_directive("neighbours", Neighbours)
    app.add_directive("neighbours-list", NeighboursList)
