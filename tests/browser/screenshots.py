"""Pictures of every page, light and dark, for the docs: `python -m browser.screenshots FOLDER` (`make screenshots`)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from system.processes import JOBS, until

from .conftest import NAMES
from .live import PARKED, Live, double, live_site, rest

PAGES = {
    "overview": "/",
    "jobs": "/jobs",
    "failures": "/failures",
    "queues": "/queues",
    "queue": f"/queue?name={PARKED}",
    "workers": "/workers",
    "schedules": "/schedules",
    "job-types": "/types",
    "system": "/system",
}


HERE = """(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());)
    node.data = node.data.replaceAll(/PLACES/g, "/srv/shop").replaceAll(/on Linux-\\S+/g, "on Linux");
})()"""
"""Where the pictures were taken is nobody's business."""


def paths(page: Page, site: Live) -> dict[str, str]:
    """Where each picture is taken; those of one job and of one act have to be found."""
    page.goto(f"{site.url}/jobs?q=state:dead")
    job = str(page.locator("#jobs tbody th a").first.get_attribute("href"))
    page.get_by_role("button", name="all that match").click()
    page.get_by_role("button", name="Requeue").wait_for()
    return PAGES | {"job": job, "act": page.url.removeprefix(site.url)}


def main(folder: Path) -> None:
    """Takes all of them."""
    program = next(filter(None, map(shutil.which, NAMES)))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, live_site(Path(scratch)) as site, sync_playwright() as playwright:
        rest.map([(number / 500,) for number in range(60)])
        double.map([(number,) for number in range(400)])
        until(lambda: site.ask("STATUS")["jobs"]["running"] == 1, "all but one have ended")
        here = HERE.replace("PLACES", "|".join(place.replace("/", r"\/") for place in (str(JOBS), scratch)))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800}, reduced_motion="reduce")
        for name, path in paths(page, site).items():
            page.goto(site.url + path)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(300)  # charts are drawn again in the other colours
                page.evaluate(here)
                page.screenshot(path=folder / f"{name}-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
