"""What the dashboard costs with many dead and many waiting jobs: its pages, and the jobs that run while it is watched.

    python bench/dashboard.py [--dead 200000] [--waiting 1000000] [--phases 10] [--quick]

Starts a Router on a store that is filled beforehand, a job manager and a dashboard, all of its own, and prints

    pages      ms from the request to the whole answer, as HTML and as JSON, while jobs run: the median and the worst
    watched    jobs/s, CPU of the Router per job, and of the dashboard, with nobody and with three browsers in turns

A browser here does what `dashboard.js` does: it fetches its page again when the event stream says so, and then rests.
What a real one takes to draw the page is its own machine's. Compare within one run, and CPU rather than rates.
`bench/operators.py` has what single answers take of the Router's loop.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import noop
from operators import filled
from throughput import HERE, cpu_s, ended, until

from eventmq import configure
from eventmq.cli import system
from eventmq.cli.children import Children
from eventmq.client.admin import Admin

JOB = f"{1:032x}"
"""A dead job, the oldest of all."""

LISTS = (
    "",
    "state:dead",
    "state:waiting",
    "state:dead queue:rare",
    "queue:nowhere",
    "name:nothing.such",
    "worker:nobody",
    "state:dead error:TypeError",
    "since:1s",
    "until:2000-01-01",
    "state:dead arg.0:8",
    "arg.user.id:43",
    "state:succeeded",
    f"id:{JOB}",
)
"""What is asked for in the query box: much of it is nowhere, or only at the far end."""

PAGES = (
    "/",
    "/failures",
    "/queues",
    "/queue?name=email",
    "/workers",
    "/schedules",
    "/types",
    "/system",
    f"/job?id={JOB}",
    *(f"/jobs?q={query}" for query in LISTS),
)

WATCHED = ("/", "/jobs", "/queues")
BACKLOG_JOBS = 20_000
REST = 20
"""As in `dashboard.js`."""


class Site(NamedTuple):
    """What is measured."""

    url: str
    addr: str
    admin: Admin
    router: int
    web: int


@contextmanager
def running(dead: int, waiting: int) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="eventmq-bench-") as scratch:
        filled(f"{scratch}/bench.db", dead, waiting).close()
        addresses = system.scratch_addresses()
        web = system.web_address("http://127.0.0.1:*")
        settings = {
            "store": f"sqlite:///{scratch}/bench.db",
            "dead_max": 10**6,
            "modules": "noop",
            "concurrent_jobs": 2,
        }
        environ = system.environ_of(os.environ | {"PYTHONPATH": str(HERE)}, addresses, **settings, **web)
        with (
            Children(0.0, say=lambda _: None, log=Path(scratch, "log"), environ=environ) as children,
            Admin(addresses["administrative_addr"]) as admin,
        ):
            router = system.start_router(children, addresses)
            system.start_manager(children, addresses)
            dashboard = children.start("dashboard", "web")
            until(lambda: _lives(web["web_addr"]))
            configure(broker_addr=addresses["frontend_addr"], enqueue_timeout=60)
            yield Site(web["web_addr"], addresses["administrative_addr"], admin, router, dashboard)


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False


# ---- pages -----------------------------------------------------------------------------------------------


def pages(site: Site, rounds: int) -> float:
    """Prints how long each page takes while jobs run; the worst of the medians, in ms."""
    stop = threading.Event()
    load = threading.Thread(target=_load, args=(stop,))
    load.start()
    try:
        with httpx.Client(base_url=site.url, timeout=30) as client:
            return max(_page(client, page, rounds) for page in PAGES)
    finally:
        stop.set()
        load.join()


def _load(stop: threading.Event) -> None:
    """A thousand jobs a second."""
    while not stop.wait(0.1):
        noop.noop.map([()] * 100)


def _page(client: httpx.Client, page: str, rounds: int) -> float:
    medians = []
    said = ""
    for accept in ("text/html", "application/json"):
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = client.get(page, headers={"Accept": accept})
            times.append(1e3 * (time.perf_counter() - began))
            answer.raise_for_status()
            time.sleep(0.5 / rounds)  # answers are shared for a while: another browser would come later
        medians.append(statistics.median(times))
        said += f"{medians[-1]:8.1f} {max(times):8.1f} "
    print(f"{page:44} {said} {len(answer.content):9,} bytes", flush=True)
    return max(medians)


# ---- watched ---------------------------------------------------------------------------------------------


class Browser(threading.Thread):
    """Watches one page whenever it is told to."""

    def __init__(self, url: str, page: str, watching: threading.Event, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.page, self.watching, self.stop = url, page, watching, stop
        self.fetched = 0

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self.stop.is_set():
                if self.watching.wait(0.1):
                    self._watch(client)

    def _watch(self, client: httpx.Client) -> None:
        due = 0.0
        with client.stream("GET", "/events") as stream:
            for line in stream.iter_lines():
                if self.stop.is_set() or not self.watching.is_set():
                    return
                if line == "event: changed" and time.monotonic() >= due:
                    began = time.monotonic()
                    client.get(self.page, headers={"HX-Request": "true"}).raise_for_status()
                    self.fetched += 1
                    due = time.monotonic() + REST * (time.monotonic() - began)


class Phase(NamedTuple):
    """What one stretch of time was like."""

    rate: float
    router_us: float
    web_share: float


def watched(site: Site, phases: int, phase_s: float) -> float:
    """Prints what it costs to be watched; by how much of its CPU for a job the Router needs more."""
    watching, stop = threading.Event(), threading.Event()
    browsers = [Browser(site.url, page, watching, stop) for page in WATCHED]
    for browser in browsers:
        browser.start()
    load = threading.Thread(target=_backlog, args=(site, stop))
    load.start()
    found: dict[bool, list[Phase]] = {False: [], True: []}
    for number in range(phases):
        (watching.set if number % 2 else watching.clear)()
        time.sleep(0.6)
        found[bool(number % 2)].append(_phase(site, phase_s))
    stop.set()
    for thread in (load, *browsers):
        thread.join()
    alone, seen = (Phase(*map(statistics.median, zip(*found[on], strict=True))) for on in (False, True))
    for name, phase in (("nobody watches", alone), ("three browsers", seen)):
        print(
            f"{name:16} {phase.rate:9,.0f} jobs/s, Router {phase.router_us:5.2f} us a job, "
            f"dashboard {100 * phase.web_share:4.1f} % of a core"
        )
    print(f"{sum(browser.fetched for browser in browsers)} pages fetched; ", end="")
    print(f"rate {seen.rate / alone.rate - 1:+.1%}, Router {seen.router_us / alone.router_us - 1:+.1%}", flush=True)
    return seen.router_us / alone.router_us - 1


def _backlog(site: Site, stop: threading.Event) -> None:
    """There is always something to run."""
    while not stop.wait(0.05):
        with Admin(site.addr) as admin:
            waiting = admin.queues()["default"]["waiting"]
        if waiting < BACKLOG_JOBS:
            noop.noop.map([()] * BACKLOG_JOBS)


def _phase(site: Site, phase_s: float) -> Phase:
    jobs, router, web, began = ended(site.admin), cpu_s(site.router), cpu_s(site.web), time.monotonic()
    time.sleep(phase_s)
    ran, took = ended(site.admin) - jobs, time.monotonic() - began
    return Phase(ran / took, 1e6 * (cpu_s(site.router) - router) / ran, (cpu_s(site.web) - web) / took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dead", type=int, default=200_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--phases", type=int, default=10, help="in every second of which three browsers watch")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    given = parser.parse_args()
    less = 10 if given.quick else 1
    with running(given.dead // less, given.waiting // less) as site:
        pages(site, 3 if given.quick else 7)
        watched(site, 4 if given.quick else given.phases, 2.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
