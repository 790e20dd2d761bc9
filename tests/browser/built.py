"""The built site as files: its pages, and what they link to."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "docs" / "_build" / "html"
# Every page as a URL would name it; `_static` and its like hold none.
PAGES = sorted(
    path.as_posix()
    for path in (found.relative_to(SITE) for found in SITE.rglob("*.html"))
    if not path.parts[0].startswith("_")
)
WIDTHS = (390, 1280)  # a phone, and a small laptop


class Markup(HTMLParser):
    """What a page links to or loads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {"", "top"}  # both are the start of any page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src"):
                self.targets.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)


@cache
def markup(page: str) -> Markup:
    parsed = Markup()
    parsed.feed((SITE / page).read_text(encoding="utf-8"))
    return parsed


def internal_and_external(page: str) -> tuple[list[str], list[str]]:
    """The links of a page: those into the site, as seen from its root, and those that leave it."""
    internal, external = [], []
    for target in dict.fromkeys(markup(page).targets):
        if urlsplit(target).scheme or target.startswith("//"):
            external.append(target)
        else:
            internal.append(urljoin(page, target))
    return internal, external


def is_dead(link: str) -> bool:
    parts = urlsplit(link)
    path = SITE / unquote(parts.path)
    if path.is_dir():
        path /= "index.html"
    if not path.is_relative_to(SITE) or ".." in path.parts or not path.is_file():
        return True
    if path.suffix != ".html":
        return False
    return unquote(parts.fragment) not in markup(path.relative_to(SITE).as_posix()).anchors
