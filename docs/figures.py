"""The figures of the benchmarks, for Sphinx: tables and bars, from the JSON files in docs/figures/.

``figures`` with the name of a table shows it once for each Python that was measured, ``bars`` draws its first
column for the newest one. ``nox -s bench`` writes the files, so no figure is copied by hand.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILES = sorted(Path(__file__).with_name("figures").glob("*.json"), key=lambda path: path.stem.split("."))
WIDTH, LEFT, RIGHT, HEIGHT = 640.0, 210.0, 60.0, 24.0


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


def bars(groups: list[dict[str, Any]]) -> str:
    """A bar for each row of some tables, by the median of the first column, and a line for the spread."""
    rows = [
        (name, row[group["columns"][0]], place)
        for place, group in enumerate(groups)
        for name, row in group["rows"].items()
    ]
    most = max(spread["high"] for _, spread, _ in rows)
    unit = groups[0]["columns"][0]
    drawn, told = [], []
    for line, (name, spread, place) in enumerate(rows):
        middle = HEIGHT * (line + 0.5)
        start, median, end = (
            round(LEFT + spread[key] / most * (WIDTH - LEFT - RIGHT), 1) for key in ("low", "median", "high")
        )
        drawn.append(f'<text class="name" x="{LEFT - 8}" y="{middle + 4}">{escape(name)}</text>')
        drawn.append(
            f'<rect class="bar-{place}" x="{LEFT}" y="{middle - 8}" width="{median - LEFT}" height="16"/>'
        )
        drawn.append(f'<line class="spread" x1="{start}" x2="{end}" y1="{middle}" y2="{middle}"/>')
        text = number(spread["median"])
        drawn.append(f'<text x="{max(median, end) + 6}" y="{middle + 4}">{text}</text>')
        told.append(f"{name}: {text}")
    title = escape(f"{unit}: {'; '.join(told)}")
    box = f"0 0 {WIDTH:g} {HEIGHT * len(rows):g}"
    return f'<svg role="img" viewBox="{box}"><title>{title}</title>{"".join(drawn)}</svg>'


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
    """``bars``, with the names of tables whose first columns have the same unit."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILES[-1]))
        tables = json.loads(FILES[-1].read_text(encoding="utf-8"))["tables"]
        picture = bars([tables[name] for name in self.arguments[0].split()])
        return [nodes.raw("", f'<div class="drawing bars">{picture}</div>', format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("figures", Figures)
    app.add_directive("bars", Bars)
