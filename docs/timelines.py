"""The timelines of the pages that explain, for Sphinx.

The directive ``timeline`` runs the scenario of that name and puts an SVG picture in its place, with what it
shows as text for those who cannot see it. Its colours come from the page, light or dark.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs import scenarios
from docs.scenarios import SAID, Timeline, told

ENDS = {"success": "✓", "failure": "✗", "cancelled": "■"}

WIDTH, LEFT, RIGHT, TOP, HEIGHT = 640.0, 96.0, 120.0, 22.0, 26.0


def svg(timeline: Timeline) -> str:
    """The picture."""
    rows = list(timeline.rows.values())
    last = max([row.since for row in rows] + [when for when, _ in timeline.moments])
    bottom = TOP + HEIGHT * len(rows)

    def x(seconds: float) -> float:
        return round(LEFT + seconds * (WIDTH - LEFT - RIGHT) / last, 1)

    drawn = []
    for second in range(int(last) + 1):
        drawn.append(f'<line class="grid" x1="{x(second)}" x2="{x(second)}" y1="{TOP}" y2="{bottom}"/>')
        drawn.append(f'<text class="axis" x="{x(second)}" y="{bottom + 16}">{second} s</text>')
    for when, text in timeline.moments:
        drawn.append(f'<line class="moment" x1="{x(when)}" x2="{x(when)}" y1="{TOP - 6}" y2="{bottom}"/>')
        drawn.append(f'<text class="axis" x="{x(when)}" y="{TOP - 10}">{escape(text)}</text>')
    for number, row in enumerate(rows):
        middle = TOP + HEIGHT * (number + 0.5)
        drawn.append(f'<text class="name" x="{LEFT - 10}" y="{middle + 4}">{escape(row.name)}</text>')
        for state, since, until in row.spans:
            drawn.append(
                f'<rect class="{state.replace(" ", "-")}" x="{x(since)}" y="{middle - 8}" '
                f'width="{round(x(until) - x(since), 1)}" height="16"/>'
            )
        if row.end is not None:
            kind, _, reason = row.end
            text = f"{ENDS[kind]} {reason or kind * (kind == 'cancelled')}"
            drawn.append(f'<text class="end" x="{x(row.since) + 6}" y="{middle + 4}">{text}</text>')
    title = escape("; ".join(told(timeline)))
    box = f"0 0 {WIDTH:g} {bottom + 24:g}"
    return f'<svg role="img" viewBox="{box}"><title>{title}</title>{"".join(drawn)}</svg>'


def key(timeline: Timeline) -> str:
    """What the states in the picture look like."""
    states = dict.fromkeys(state for row in timeline.rows.values() for state, *_ in row.spans)
    return " ".join(
        f'<span><svg aria-hidden="true" viewBox="0 0 24 16"><rect class="{state.replace(" ", "-")}" y="1" '
        f'width="24" height="14"/></svg> {SAID[state]}</span>'
        for state in SAID
        if state in states
    )


class TimelineDirective(SphinxDirective):
    """``timeline``, with the name of a scenario."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(scenarios.__file__)
        timeline = scenarios.run(self.arguments[0])
        picture = f"<div>{svg(timeline)}</div><figcaption>{key(timeline)}</figcaption>"
        return [nodes.raw("", f'<figure class="timeline">{picture}</figure>', format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("timeline", TimelineDirective)
