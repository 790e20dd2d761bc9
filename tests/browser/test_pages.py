"""Every page loads whole, without the network, and no link leads nowhere."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

from tests.browser.built import PAGES, internal_and_external, is_dead


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_without_a_fault(tab: Callable[..., Page], path: str) -> None:
    faults: list[str] = []
    page = tab()

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(f"raised: {error}"))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.goto(path, wait_until="networkidle")
    assert faults == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_the_network_for_nothing(tab: Callable[..., Page], path: str) -> None:
    outside: list[str] = []
    page = tab()

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and parts.hostname != "127.0.0.1":
            outside.append(request.url)

    page.on("request", on_request)
    page.goto(path, wait_until="networkidle")
    assert outside == []


@pytest.mark.parametrize("path", PAGES)
def test_links_into_the_site_lead_somewhere(path: str) -> None:
    internal, _ = internal_and_external(path)
    assert internal
    assert [link for link in internal if is_dead(link)] == []


def test_links_that_leave_the_site_are_https() -> None:
    """Whether they lead somewhere is for a check with a network to say."""
    external = {link for path in PAGES for link in internal_and_external(path)[1]}
    assert external
    assert sorted(link for link in external if urlsplit(link).scheme != "https") == []
