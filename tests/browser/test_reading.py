"""Every page can be read on a phone and on a wide screen, in light and in dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.built import PAGES, WIDTHS
from tests.browser.conftest import SCHEMES, Scheme

HERE = Path(__file__).parent
LAYOUT = (HERE / "layout.js").read_text(encoding="utf-8")
CONTRAST = (HERE / "contrast.js").read_text(encoding="utf-8")
FIRST_SCREEN = 900  # pixels
LEAST_CONTRAST = 4.5  # what WCAG 2 asks for at level AA


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_into_the_window(tab: Callable[..., Page], path: str, width: int) -> None:
    page = tab(width)
    page.goto(path)
    faults = page.evaluate(LAYOUT)
    assert not faults, "\n".join(faults)


def test_a_table_that_is_too_wide_becomes_cards_that_say_their_columns(tab: Callable[..., Page]) -> None:
    page = tab(WIDTHS[0])
    page.goto("why.html")
    table = page.locator("article table")
    expect(table).to_have_class(re.compile(r"\bcards\b"))
    cells = table.locator("tbody tr").first.locator("td")
    assert [cell.get_attribute("data-column") for cell in cells.all()][:2] == ["", "trio-conman"]
    page.set_viewport_size({"width": WIDTHS[-1], "height": 844})
    expect(table).not_to_have_class(re.compile(r"\bcards\b"))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_screen_tells_how_to_install_it_and_shows_a_picture(
    tab: Callable[..., Page], width: int
) -> None:
    page = tab(width)
    page.goto("index.html")
    for shown in (page.get_by_text("pip install .").first, page.locator("article figure svg").first):
        box = shown.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= FIRST_SCREEN


@pytest.mark.parametrize("path", PAGES)
def test_a_wide_window_shows_the_navigation(tab: Callable[..., Page], path: str) -> None:
    page = tab(WIDTHS[-1])
    page.goto(path)
    expect(page.locator(".sidebar-tree a").first).to_be_in_viewport()


@pytest.mark.parametrize("path", PAGES)
def test_a_button_opens_the_navigation_in_a_narrow_window(tab: Callable[..., Page], path: str) -> None:
    page = tab(WIDTHS[0])
    page.goto(path)
    link = page.locator(".sidebar-tree a").first
    expect(link).not_to_be_in_viewport()
    page.locator("header label[for=__navigation]").click()
    expect(link).to_be_in_viewport(ratio=1)
    link.click()
    expect(page.get_by_role("main")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
def test_text_stands_out_from_its_background(tab: Callable[..., Page], path: str, scheme: Scheme) -> None:
    page = tab(scheme=scheme)
    page.goto(path)
    faults = page.evaluate(CONTRAST, LEAST_CONTRAST)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_so_do_links_that_were_followed(tab: Callable[..., Page], scheme: Scheme) -> None:
    page = tab(scheme=scheme)
    page.goto("index.html")
    # A browser tells no script which links were followed: give the others their colour.
    page.add_style_tag(content="article a.reference { color: var(--color-link--visited) !important }")
    faults = page.evaluate(CONTRAST, LEAST_CONTRAST)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_scheme_is_the_one_that_the_system_asks_for(tab: Callable[..., Page], scheme: Scheme) -> None:
    page = tab(scheme=scheme)
    page.goto("index.html")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (brightness < 3 * 128) == (scheme == "dark")
