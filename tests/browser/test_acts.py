"""What an operator does with a browser, on a real system: it happens, and the page says so by itself."""

from __future__ import annotations

import re
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from system.processes import until

from .conftest import Complaints
from .live import BROKEN, PARKED, Live, double

ENDS_S = 3.0
"""SIGTERM may take so long, whoever watches."""


def test_jobs_are_filtered_by_the_query_box_and_by_states(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_label("Which jobs").fill("state:dead name:system_jobs.complain")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"q=state"))
    expect(page.locator("#jobs tbody tr")).to_have_count(BROKEN)
    page.locator("#states").get_by_text("waiting").click()
    expect(page).to_have_url(re.compile(r"waiting"))
    page.locator("#states").get_by_text("dead").click()
    expect(page.locator("#jobs")).to_contain_text("No job matches")
    page.get_by_label("Which jobs").fill(f"queue:{PARKED}")
    page.keyboard.press("Enter")
    expect(page.locator("#jobs tbody tr")).to_have_count(25)
    page.go_back()
    expect(page.get_by_label("Which jobs")).to_have_value(re.compile("complain"))


def test_a_query_that_is_wrong_is_told_beside_it(browser: Browser, live: Live) -> None:
    with browser.new_context(base_url=live.url) as context:
        page = context.new_page()
        page.goto("/jobs?q=stat:dead")
        expect(page.locator("#problem")).to_contain_text("stat")
        page.get_by_label("Which jobs").fill("state:dead name:system_jobs.complain")
        page.keyboard.press("Enter")
        expect(page.locator("#jobs tbody tr").first).to_be_visible()


def test_all_that_match_are_requeued_after_their_number_was_stated(page: Page, live: Live) -> None:
    before = live.count("dead")
    page.goto("/jobs?q=state:dead name:system_jobs.complain")
    page.locator("#act select").select_option("requeue")
    page.get_by_role("button", name="all that match").click()
    page.get_by_role("button", name=f"Requeue {BROKEN} jobs").click()
    expect(page.locator("#phase")).to_contain_text(f"Done: {BROKEN} of {BROKEN} jobs")
    page.goto("/jobs?q=state:dead name:system_jobs.complain")
    expect(page.locator("#jobs tbody tr")).to_have_count(BROKEN)
    until(lambda: live.count("dead") == before + BROKEN, "all of them have run again")


def test_a_queue_is_paused_and_resumed(page: Page, live: Live) -> None:
    page.goto("/queue?name=default")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("default is paused")
    handle = double.delay(21)
    assert live.ask("WHY", id=str(handle))["reason"] == "paused"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_contain_text("goes on")
    assert handle.result(10) == 42


def test_a_job_goes_through_its_states_before_the_eyes_of_who_watches(page: Page, live: Live, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    live.ask("PAUSE", queue="default")
    id = live.hold(gate)
    page.goto(f"/job?id={id}")
    page.evaluate("window.marked = true")
    badge = page.locator("#live .badge").first
    expect(badge).to_have_text("waiting")
    expect(page.locator("#why")).to_have_attribute("data-reason", "paused")
    live.ask("RESUME", queue="default")
    expect(badge).to_have_text("running")
    gate.touch()
    expect(badge).to_have_text("succeeded")
    expect(page.locator("#value")).to_have_text("1")
    assert page.evaluate("window.marked"), "the page was loaded again"


def test_a_job_is_run_again_with_other_arguments(page: Page) -> None:
    handle = double.delay(4)
    assert handle.result(10) == 8
    page.goto(f"/job?id={handle}")
    page.get_by_text("Run again…").click()
    edited = page.locator("#edited")
    edited.fill(edited.input_value().replace("4", "5", 1))
    page.get_by_role("button", name="Run as a new job").click()
    expect(page.locator("h1")).not_to_contain_text(str(handle))
    expect(page.locator("#value")).to_have_text("10")


def test_what_is_wrong_with_a_form_is_told_for_as_long_as_it_takes_to_read(page: Page, complaints: Complaints) -> None:
    handle = double.delay(4)
    assert handle.result(10) == 8
    page.goto(f"/job?id={handle}")
    page.get_by_text("Run again…").click()
    page.locator("#edited").fill("{")
    page.get_by_role("button", name="Run as a new job").click()
    until(lambda: page.evaluate("performance.now()") > 1500, "its stream has told of changes")
    expect(page.locator("#problem")).to_contain_text("the arguments are no JSON")
    refused, logged = complaints.found
    assert refused.startswith("400:")
    assert "400" in logged
    complaints.found.clear()


def test_purging_a_queue_takes_its_name(page: Page, live: Live) -> None:
    live.ask("PAUSE", queue="doomed")
    double.options(queue="doomed").map([(1,), (2,)])
    page.goto("/queue?name=doomed")
    page.get_by_text("Purge…").click()
    page.get_by_label("Name").fill("doomed")
    page.get_by_role("button", name="Purge").click()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.locator("#phase")).to_contain_text("Done: 2 of 2 jobs")
    assert live.ask("JOBS", states=["waiting"], queue="doomed")["jobs"] == []


def test_the_keyboard_is_enough(page: Page) -> None:
    ready = page.locator("html[data-script=on]")
    page.goto("/")
    expect(ready).to_be_attached()
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.locator("h1")).to_have_text("Queues")
    expect(ready).to_be_attached()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Which jobs")).to_be_focused()
    page.keyboard.type("state:dead")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("state"))


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    page.goto("/")
    dark = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(dark)
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
    assert page.evaluate(dark) != before
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_everything_but_live_updates_works_without_javascript(browser: Browser, live: Live) -> None:
    with browser.new_context(base_url=live.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/jobs?q=state:dead")
        page.get_by_role("button", name="all that match").click()
        while "Counting" in page.content():
            page.reload()
        expect(page.locator("#phase")).to_contain_text("Requeue")
        page.goto("/queue?name=default")
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.get_by_role("status")).to_contain_text("is paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("status")).to_contain_text("goes on")


def test_sigterm_ends_it_in_time_while_pages_are_open(browser: Browser, live: Live) -> None:
    with browser.new_context(base_url=live.url) as context:
        pages = [context.new_page() for _ in range(3)]
        for page in pages:
            page.goto("/")
        began = time.monotonic()
        assert live.web.terminate() == 0
        assert time.monotonic() - began < ENDS_S
        expect(pages[0].locator("#stale")).to_be_visible()
        live.start_web()
        expect(pages[0].locator("#stale")).to_be_hidden(timeout=15_000)
