"""The built site, served on the loopback interface and opened in a headless Chromium."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.built import PAGES, SITE, WIDTHS

Scheme = Literal["dark", "light"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
# Nothing here needs a graphics card, and a browser under test calls nobody.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def executable() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise pytest.UsageError(
            "no Chromium was found: install one (Debian's package is `chromium`), "
            "or set the environment variable CHROMIUM to the path of its executable"
        )
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots",
        type=Path,
        metavar="DIR",
        help="save every page there, as it looks in each width and colour scheme",
    )


def pytest_configure() -> None:
    executable()
    if "index.html" not in PAGES:
        raise pytest.UsageError("the site is not built: run `nox -s docs_browser`, which builds it first")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is that of the base
        """What was asked for in vain is found by the tests."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    # Chromium refuses to run as root inside its sandbox.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=flags)
        yield browser
        browser.close()


def new_context(chromium: Browser, site: str, width: int, scheme: Scheme) -> BrowserContext:
    context = chromium.new_context(
        base_url=site, viewport={"width": width, "height": 844}, color_scheme=scheme
    )
    context.set_default_timeout(10_000)
    return context


@pytest.fixture
def tab(chromium: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """Opens an empty tab; paths that it goes to are those of the site."""
    contexts: list[BrowserContext] = []

    def open_tab(width: int = WIDTHS[-1], scheme: Scheme = "light") -> Page:
        contexts.append(new_context(chromium, site, width, scheme))
        return contexts[-1].new_page()

    yield open_tab
    for context in contexts:
        context.close()


@pytest.fixture(scope="session", autouse=True)
def screenshots(pytestconfig: pytest.Config, chromium: Browser, site: str) -> None:
    """Take the pictures that were asked for."""
    directory: Path | None = pytestconfig.getoption("screenshots")
    if directory is None:
        return
    for width in WIDTHS:
        for scheme in SCHEMES:
            context = new_context(chromium, site, width, scheme)
            page = context.new_page()
            for path in PAGES:
                page.goto(path, wait_until="networkidle")
                name = path.removesuffix(".html").replace("/", "-")
                page.screenshot(path=directory / f"{name}-{width}-{scheme}.png", full_page=True)
            context.close()
