"""The figures of the benchmarks, for Sphinx: tables and bars, from the JSON files in docs/figures/.

``figures`` with the name of a table shows it once for each Python that was measured, ``bars`` draws its first
column for the newest one. ``nox -s bench`` writes the files, so no figure is copied by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILES = sorted(Path(__file__).with_name("figures").glob("*.json"), key=lambda path: path.stem.split("."))
LINE, HEIGHT, BAR = 16, 38, 14  # pixels: of a line of text, of a row, and of the bar in it


def number(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def table(figures: dict[str, Any]) -> str:
    """The median of each cell, and the least and the greatest where they differ."""
    head = "".join(f"<th>{escape(column)}</th>" for column in ["", *figures["columns"]])
    body = []
    for name, row in figures["rows"].items():
        cells = []
        for column in figures["columns"]:
            spread = row.get(column)
            text = "" if spread is None else number(spread["median"])
            if spread is not None and spread["low"] < spread["high"]:
                text += f" <small>({number(spread['low'])} to {number(spread['high'])})</small>"
            cells.append(f"<td>{text}</td>")
        body.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>")
    inside = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="figures"><table class="docutils">{inside}</table></div>'


def bars(groups: list[dict[str, Any]], first: Sequence[str]) -> str:
    """A bar for each row of some tables, by the median of the first column, and a line for the spread.

    Those that are named in `first` come first.
    """
    rows = [
        (name, row[group["columns"][0]], place)
        for place, group in enumerate(groups)
        for name, row in group["rows"].items()
    ]
    rows.sort(key=lambda row: row[0] not in first)
    most = max(spread["high"] for _, spread, _ in rows)
    unit = groups[0]["columns"][0]
    drawn, told = [], []
    for line, (name, spread, place) in enumerate(rows):
        y = HEIGHT * line + LINE
        start, median, end = (f"{spread[key] / most:.2%}" for key in ("low", "median", "high"))
        text = number(spread["median"])
        drawn.append(f'<text y="{y - 1}">{escape(name)}<tspan dx="6">{text}</tspan></text>')
        drawn.append(f'<rect class="bar-{place}" y="{y + 4}" width="{median}" height="{BAR}"/>')
        middle = y + 4 + BAR / 2
        drawn.append(f'<line class="spread" x1="{start}" x2="{end}" y1="{middle}" y2="{middle}"/>')
        told.append(f"{name}: {text}")
    title = escape(f"{unit}: {'; '.join(told)}")
    return f'<svg role="img" height="{HEIGHT * len(rows)}"><title>{title}</title>{"".join(drawn)}</svg>'


class Figures(SphinxDirective):
    """``figures``, with the name of a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        shown: list[nodes.Node] = []
        for path in FILES:
            self.env.note_dependency(str(path))
            content = json.loads(path.read_text(encoding="utf-8"))
            figures = content["tables"][self.arguments[0]]
            about = f"Python {content['about']['python']}, trio {content['about']['packages']['trio']}"
            caption = f"<p><strong>{about}</strong>: {escape(figures['load'])}</p>"
            shown.append(nodes.raw("", caption + table(figures), format="html"))
        return shown


class Bars(SphinxDirective):
    """``bars``, with the names of tables whose first columns have the same unit, and what comes first."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"first": lambda names: [name.strip() for name in names.split(",")]}

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILES[-1]))
        tables = json.loads(FILES[-1].read_text(encoding="utf-8"))["tables"]
        picture = bars([tables[name] for name in self.arguments[0].split()], self.options["first"])
        return [nodes.raw("", f'<div class="timeline bars pictures">{picture}</div>', format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("figures", Figures)
    app.add_directive("bars", Bars)
