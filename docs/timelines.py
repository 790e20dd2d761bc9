"""The timelines of the pages that explain, for Sphinx.

The directive ``timeline`` runs the scenarios of these names, and puts an SVG picture of each in its place,
with what it shows as text for those who cannot see it. Its colours come from the page, light or dark, and its
width too: places are percentages, so that the text is as large on a phone.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs import scenarios
from docs.scenarios import SAID, Row, Timeline, told

ENDS = {"success": "✓", "failure": "✗", "cancelled": "■", "unknown": "?"}

LINE, HEIGHT, BAR = 16, 38, 14  # pixels: of a line of text, of a row, and of the bar in it


def anchor(share: float) -> str:
    """Which end of a text is at its place, so that none leaves the picture."""
    return "start" if share < 0.1 else "end" if share > 0.9 else "middle"


def named(row: Row) -> str:
    """What is written above a bar."""
    if row.end is None:
        return escape(row.name)
    kind, _, reason = row.end
    said = reason or kind * (kind in ("cancelled", "unknown"))
    return f'{escape(row.name)}<tspan dx="6">{ENDS[kind]} {said}</tspan>'


def svg(timeline: Timeline) -> str:
    """The picture."""
    rows = list(timeline.rows.values())
    last = max([row.since for row in rows] + [when for when, _ in timeline.moments])
    top = LINE * len(timeline.moments)
    bottom = top + HEIGHT * len(rows)

    def x(seconds: float) -> str:
        return f"{seconds / last:.2%}"

    drawn = []
    for second in range(int(last) + 1):
        drawn.append(f'<line class="grid" x1="{x(second)}" x2="{x(second)}" y1="{top}" y2="{bottom}"/>')
        drawn.append(
            f'<text class="{anchor(second / last)}" x="{x(second)}" y="{bottom + LINE}">{second} s</text>'
        )
    for number, (when, text) in enumerate(timeline.moments, 1):
        side = "end" if when > last / 2 else "start"
        drawn.append(
            f'<line class="moment" x1="{x(when)}" x2="{x(when)}" y1="{LINE * number}" y2="{bottom}"/>'
        )
        drawn.append(f'<text class="{side}" x="{x(when)}" y="{LINE * number - 4}">{escape(text)}</text>')
    for number, row in enumerate(rows):
        y = top + HEIGHT * number + LINE
        drawn.append(f'<text y="{y - 1}">{named(row)}</text>')
        for state, since, until in row.spans:
            drawn.append(
                f'<rect class="{state.replace(" ", "-")}" x="{x(since)}" y="{y + 4}" '
                f'width="{x(until - since)}" height="{BAR}"/>'
            )
    title = escape("; ".join(told(timeline)))
    height = bottom + LINE + 6
    return f'<svg role="img" height="{height}"><title>{title}</title>{"".join(drawn)}</svg>'


def key(timelines: list[Timeline]) -> str:
    """What the states in the pictures look like."""
    states = {state for each in timelines for row in each.rows.values() for state, *_ in row.spans}
    return " ".join(
        f'<span><svg aria-hidden="true" viewBox="0 0 24 16"><rect class="{state.replace(" ", "-")}" y="1" '
        f'width="24" height="14"/></svg> {SAID[state]}</span>'
        for state in SAID
        if state in states
    )


class TimelineDirective(SphinxDirective):
    """``timeline``, with the name of a scenario, or those of some to be compared."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(scenarios.__file__)
        shown = {name: scenarios.run(name) for name in self.arguments[0].split()}
        heads = [f"<p>{name.replace('_', ' ')}</p>" * (len(shown) > 1) for name in shown]
        drawn = zip(heads, map(svg, shown.values()), strict=True)
        pictures = "".join(f"<div>{head}{picture}</div>" for head, picture in drawn)
        caption = f"<figcaption>{key(list(shown.values()))}</figcaption>"
        figure = f'<figure class="timeline"><div class="pictures">{pictures}</div>{caption}</figure>'
        return [nodes.raw("", figure, format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("timeline", TimelineDirective)
