"""A real Chromium without a window, and pages in it that complain of everything that a user's browser would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

from .live import Live, live_site

NAMES = ("chromium", "chromium-browser", "google-chrome")
VIOLATION = (
    "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective}`, e.blockedURI))"
)


expect.set_options(timeout=15_000)  # a page that is dear to make is made seldom


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The one that is installed; nothing is downloaded."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here; as root: apt-get install chromium")
    with sync_playwright() as playwright:
        # as root, as in a container, Chromium has no sandbox
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The system that all tests look at; each leaves it as it was, but for jobs that have ended."""
    with live_site(tmp_path_factory.mktemp("live")) as site:
        yield site


class Complaints:
    """What a browser finds wrong with the pages that it loads.

    Attributes:
        found: One line each.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def watch(self, page: Page) -> None:
        """From now on."""
        page.add_init_script(VIOLATION)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.found.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"console: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.found.append(f"{response.status}: {response.url}")


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """There are none when the test is over."""
    complaints = Complaints()
    yield complaints
    assert complaints.found == []


@pytest.fixture
def page(browser: Browser, live: Live, complaints: Complaints) -> Iterator[Page]:
    """An empty tab of a browser that has not been here yet."""
    context = browser.new_context(base_url=live.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints.watch(page)
    yield page
    context.close()
