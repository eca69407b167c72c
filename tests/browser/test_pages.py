"""Every page in a real browser: it shows what is there, nothing is wrong with it, and everybody can read it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fake_admin import FakeAdmin
from playwright.sync_api import Browser, Page, expect
from ports import free_ports
from web_site import CANARY, PAGES, Site

from .conftest import Complaints
from .live import PARKED, Live

SHOWN = {
    "/": "#numbers",
    "/jobs": "#jobs",
    "/failures": "#failures",
    "/queues": "#queues",
    f"/queue?name={PARKED}": "#numbers",
    "/workers": "#workers",
    "/schedules": "#schedules",
    "/types": "#types",
    "/system": "main section, main table",
}
"""Path → what it is there for."""

EVERYWHERE = [*SHOWN, "/job"]
SIGHTS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1280, "light"), (1280, "dark"), (380, "dark"))
"""Widths of the window in pixels, and what the user's system prefers."""


def address(page: Page, path: str) -> str:
    """Where a page is; that of a job, if the path says none."""
    if path != "/job":
        return path
    page.goto("/jobs?q=state:dead")
    return str(page.locator("#jobs tbody th a").first.get_attribute("href"))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_it_loads_and_shows_what_is_there(page: Page, live: Live, path: str) -> None:
    page.goto(address(page, path))
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(SHOWN.get(path, "#traceback")).first).to_be_visible()
    expect(page.locator("#stale")).to_be_hidden()


@pytest.mark.parametrize("path", EVERYWHERE)
def test_axe_finds_nothing_and_nothing_is_cut_off(page: Page, path: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(address(page, path))
    for width, scheme in SIGHTS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert not found, [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"


def test_the_overview_says_what_is_the_matter(page: Page) -> None:
    page.goto("/")
    expect(page.locator("#problems")).to_contain_text(PARKED)
    expect(page.locator("#numbers").get_by_role("link", name="dead")).to_contain_text(re.compile(r"\d+"))
    expect(page.locator("#throughput canvas")).to_be_visible()


@contextmanager
def served(site: Site, port: int) -> Iterator[None]:
    """A dashboard without a process of its own, until the end."""
    config = uvicorn.Config(site.client.app, port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    try:
        yield
    finally:
        site.dashboard.live.close()
        server.should_exit = True
        thread.join()


def test_no_text_of_anybody_becomes_markup(browser: Browser, complaints: Complaints) -> None:
    site = Site(FakeAdmin(CANARY))
    port = free_ports(1)[0]
    params = {"/job": "?id=1f", "/act": f"?id={site.act()}", "/queue": f"?name={FakeAdmin().text}"}
    with served(site, port), browser.new_context(base_url=f"http://127.0.0.1:{port}") as context:
        page = context.new_page()
        complaints.watch(page)
        for path in PAGES:
            if path == "/queue":
                page.goto("/queues")
                page.locator("#queues tbody th a").first.click()
            else:
                page.goto(path + params.get(path, ""))
            expect(page.locator("h1")).to_be_visible()
            assert page.locator("img").count() == 0, path
            assert path == "/act" or "alert(1)" in page.content(), f"{path} shows none of what was planted"
