"""Adaptive limits against simulated services, for Sphinx: from docs/adaptive.json, which
`nox -s adaptive -- --write` writes.

``limits`` with the name of a scenario shows what each rule made of it, ``limit-plot`` how the limit went, and
``limit-figures all`` what was reached with every seed.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.timelines import anchor

FILE = Path(__file__).with_name("adaptive.json")
# The keys of a row, and the heads of their columns.
COLUMNS = {
    "seeds": "seeds",
    "seconds": "seconds for 20,000 calls",
    "refused": "refused, %",
    "lost": "lost",
    "limit": "limit at the end",
    "attempt": "seconds for a call",
}
HEIGHT, TOP, BOTTOM = 240.0, 20.0, 28.0  # pixels; the width is that of the page


def table(scenario: dict[str, Any]) -> str:
    """A row for each rule."""
    head = "".join(f"<th>{escape(column)}</th>" for column in ["", *COLUMNS.values()])
    body = [
        f"<tr><td>{escape(rule)}</td>{''.join(f'<td>{row[key]:,}</td>' for key in COLUMNS)}</tr>"
        for rule, row in scenario["rows"].items()
    ]
    inside = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="figures"><table class="docutils">{inside}</table></div>'


def figures(scenarios: dict[str, Any]) -> str:
    """A row for each figure: from what to what it went, and what is allowed."""
    body = []
    for scenario in scenarios.values():
        for figure, (low, high, least, most) in scenario["figures"].items():
            cells = [scenario["title"], figure, f"{low:g} to {high:g}", f"{least:g} to {most:g}"]
            body.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ["a service that", "figure", "reached", "allowed"])
    inside = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="figures"><table class="docutils">{inside}</table></div>'


def plot(scenario: dict[str, Any]) -> str:
    """The limit, and what the service bears, over the time."""
    limit, bound = scenario["limit"], scenario["bound"]
    most: float = max(*limit, *bound)

    def y(slots: float) -> float:
        return round(HEIGHT - BOTTOM - slots * (HEIGHT - TOP - BOTTOM) / most, 1)

    levels = range(0, int(most) + 1, 10 if most < 60 else 20)
    drawn = [f'<line class="grid" x1="0" x2="100%" y1="{y(slots)}" y2="{y(slots)}"/>' for slots in levels]
    for second in range(0, len(limit), 100):
        place = second / len(limit)
        drawn.append(f'<text class="{anchor(place)}" x="{place:.2%}" y="{HEIGHT - 8}">{second} s</text>')
    drawn.append(f'<svg viewBox="0 0 {len(limit)} {HEIGHT:g}" preserveAspectRatio="none">')
    for kind, values in {"bound": bound, "limit": limit}.items():
        points = " ".join(f"{second},{y(value)}" for second, value in enumerate(values))
        drawn.append(f'<polyline class="{kind}" points="{points}"/>')
    drawn.append("</svg>")
    drawn += [f'<text class="over" y="{y(slots) - 4}">{slots}</text>' for slots in levels]
    told = "; ".join(f"at {second} s {limit[second]}" for second in range(0, len(limit), 25))
    return f'<svg role="img" height="{HEIGHT:g}"><title>The limit: {told}</title>{"".join(drawn)}</svg>'


KEY = (
    '<span><svg aria-hidden="true" viewBox="0 0 24 16"><polyline class="limit" points="0,8 24,8"/></svg> '
    'the limit</span><span><svg aria-hidden="true" viewBox="0 0 24 16"><polyline class="bound" '
    'points="0,8 24,8"/></svg> what the service bears</span>'
)


class Limits(SphinxDirective):
    """``limits`` and ``limit-plot``, with the name of a scenario, and ``limit-figures``, with all of them."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        scenarios = json.loads(FILE.read_text(encoding="utf-8"))
        if self.name == "limit-figures":
            return [nodes.raw("", figures(scenarios), format="html")]
        scenario = scenarios[self.arguments[0]]
        if self.name == "limits":
            return [nodes.raw("", table(scenario), format="html")]
        picture = f'<div class="pictures">{plot(scenario)}</div><figcaption>{KEY}</figcaption>'
        return [nodes.raw("", f'<figure class="timeline">{picture}</figure>', format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("limits", Limits)
    app.add_directive("limit-plot", Limits)
    app.add_directive("limit-figures", Limits)
