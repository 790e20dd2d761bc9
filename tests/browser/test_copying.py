"""A button beside a code block copies what the block shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.built import PAGES, SITE

# Read from the files, since the tests are made before a browser runs.
WITH_CODE = [page for page in PAGES if 'class="highlight"' in (SITE / page).read_text(encoding="utf-8")]
PROMPTS = ("$ ", ">>> ", "... ")


def copied(page: Page, block: Locator) -> str:
    """What the clipboard holds after a click on the button of the block."""
    page.evaluate("navigator.clipboard.writeText('nothing was copied')")
    block.hover()
    block.get_by_role("button").click()
    return str(page.evaluate("navigator.clipboard.readText()"))


def open_for_copying(page: Page, path: str) -> Locator:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(path)
    # The buttons are there when their script has run.
    page.wait_for_function("() => window.ClipboardJS !== undefined")
    return page.locator("div.highlight")


@pytest.mark.parametrize("path", WITH_CODE)
def test_a_block_is_copied_as_it_stands(tab: Callable[..., Page], path: str) -> None:
    page = tab()
    for block in open_for_copying(page, path).filter(has=page.get_by_role("button")).all():
        # The last line break stays behind, so that what is pasted into a shell does not run by itself.
        text = (block.locator("pre").text_content() or "").removesuffix("\n")
        typed = [line[line.index(" ") + 1 :] for line in text.splitlines() if line.startswith(PROMPTS)]
        assert copied(page, block) == ("\n".join(typed) if typed else text)


@pytest.mark.parametrize("path", WITH_CODE)
def test_code_has_a_button_and_printed_output_has_none(tab: Callable[..., Page], path: str) -> None:
    page = tab()
    for block in open_for_copying(page, path).all():
        printed = block.locator("xpath=..").evaluate("it => it.classList.contains('highlight-text')")
        assert block.get_by_role("button").count() == (0 if printed else 1), block.inner_text()


def test_prompts_and_what_the_shell_answers_are_not_copied(tab: Callable[..., Page]) -> None:
    page = tab()
    block = open_for_copying(page, WITH_CODE[0]).filter(has=page.get_by_role("button")).first
    block.locator("pre").evaluate(r"it => it.textContent = '$ pip install trio-conman\ndone\n$ python\n'")
    assert copied(page, block) == "pip install trio-conman\npython"
