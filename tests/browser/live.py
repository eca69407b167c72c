"""A whole system with a dashboard, in which everything that a page can show has happened.

`live_site` starts it; the tests that drive a browser and the screenshots of the docs share it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from ports import free_ports
from system.processes import JOBS, RUN, Process, System, until

import eventmq

sys.path.append(str(JOBS))

from system_jobs import advance, complain, double, hold, rest

BROKEN = 12
"""Jobs that are dead when the site is up."""

PARKED = "parked"
"""A queue that is paused when the site is up."""


class Live(System):
    """A Router, a manager of two workers, a scheduler and a dashboard."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.gate = folder / "gate"
        self.web: Process

    def start_web(self) -> Process:
        """A dashboard that answers."""
        command = [sys.executable, "-c", RUN.format("main"), "web"]
        self.web = self.start("web", command, self.environ({"EVENTMQ_WEB_ADDR": self.url}))
        until(lambda: self._shows() or not self.web.running, "the dashboard answers")
        assert self.web.running, self.web.log
        return self.web

    def _shows(self) -> bool:
        try:
            return httpx.get(f"{self.url}/overview.json").status_code == 200
        except httpx.TransportError:
            return False

    def populate(self) -> None:
        """Something of everything."""
        succeeded = double.map([(number,) for number in range(40)])
        complain.map([(number,) for number in range(BROKEN)])
        until(lambda: self.count("dead") == BROKEN and self.count("succeeded") == len(succeeded), "jobs have ended")
        self.ask("PAUSE", queue=PARKED)
        rest.options(queue=PARKED).map([(0.0,) for _ in range(25)])
        double.options(countdown=3600).delay(1)
        advance.delay(str(self.journal()), str(self.gate))
        until(lambda: self.ask("STATUS")["jobs"]["running"] == 1, "a job runs")
        eventmq.schedule(double, cron="0 9 * * 1-5", tz="Europe/Prague", args=(1,), name="workdays")
        eventmq.schedule(double, interval_secs=3600, args=(2,), name="hourly")
        until(lambda: sum(self.schedulers().values()) == 2, "the scheduler ticks both")

    def hold(self, gate: Path, queue: str = "default") -> str:
        """The id of a job that runs until the file `gate` is there."""
        return str(hold.options(queue=queue).delay(str(self.journal()), str(gate)))


@contextmanager
def live_site(folder: Path) -> Iterator[Live]:
    """Up, populated, and gone afterwards."""
    site = Live(folder)
    eventmq.configure(broker_addr=site.frontend, enqueue_timeout=20)
    try:
        site.start_router()
        site.start_manager(EVENTMQ_QUEUES=f"default:10,{PARKED}:10")
        site.start_scheduler()
        site.start_web()
        site.populate()
        yield site
    finally:
        site.gate.touch()
        site.close()
        eventmq.configure()
