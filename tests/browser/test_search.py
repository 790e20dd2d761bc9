"""The search field finds the names and the words of the library."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect


def search(page: Page, word: str) -> Locator:
    """Type the word into the search field of the first page: the links of all results."""
    page.goto("index.html")
    page.get_by_role("textbox", name="Search").fill(word)
    page.keyboard.press("Enter")
    # This is said when the last result has been listed.
    expect(page.locator("#search-results")).to_contain_text(re.compile("Search finished|did not match any"))
    return page.locator("#search-results ul.search > li > a")


@pytest.mark.parametrize(
    "word, where",
    [
        ("RetryConfig", "reference"),
        ("raise_errors", "reference"),
        ("backoff", "reference"),
        ("RetryConfig", "tutorial"),
        ("cancel", "tutorial"),
        ("autojump_clock", "testing"),
    ],
)
def test_a_word_leads_to_the_page_that_has_it(tab: Callable[..., Page], word: str, where: str) -> None:
    page = tab()
    found = search(page, word)
    hrefs = [str(link.get_attribute("href")) for link in found.all()]
    leading = [place for place, href in enumerate(hrefs) if where in href]
    assert leading, hrefs
    found.nth(leading[0]).click()
    page.wait_for_url(f"**/*{where}*")
    expect(page.get_by_role("main").get_by_text(word).first).to_be_visible()


def test_a_class_is_the_first_that_its_name_finds(tab: Callable[..., Page]) -> None:
    page = tab()
    search(page, "RetryConfig").first.click()
    page.wait_for_url("**#trio_conman.RetryConfig")
    expect(page.locator(":target")).to_be_in_viewport()


def test_a_word_that_is_nowhere_finds_nothing(tab: Callable[..., Page]) -> None:
    expect(search(tab(), "zyxwvut")).to_have_count(0)
