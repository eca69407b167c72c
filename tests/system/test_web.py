"""The dashboard as a process of its own, with a real Router and real jobs: its pages, its streams, its end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from system_jobs import complain, note

from .processes import RUN, Process, System, free_ports, until

ENDS_WITHIN_S = 3.0


class Web:
    """A dashboard and a browser without a screen."""

    def __init__(self, system: System, **settings: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        environ = system.environ({"EVENTMQ_WEB_ADDR": self.url, **settings})
        self.process: Process = system.start("web", [sys.executable, "-c", RUN.format("main"), "web"], environ)
        self.client = httpx.Client(base_url=self.url, timeout=10.0)
        until(lambda: self.live() or not self.process.running, "the dashboard answers")
        assert self.process.running, self.process.log

    def live(self) -> bool:
        try:
            return self.client.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def post(self, path: str, **fields: str) -> httpx.Response:
        token = re.search(r'name="csrf" value="(\w+)"', self.client.get("/jobs").text)
        assert token
        return self.client.post(path, data={"csrf": token[1], **fields}, follow_redirects=True)


@pytest.fixture
def web(system: System) -> Iterator[Web]:
    system.start_router()
    web = Web(system)
    yield web
    web.client.close()


def told(stream: Iterator[str], what: str, within_s: float = 10.0) -> None:
    """Reads a stream until it says that."""
    deadline = time.monotonic() + within_s
    for line in stream:
        if line == f"event: {what}":
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"the stream ended and did not say {what!r}")


def test_a_job_is_seen_told_live_requeued_and_run_again(system: System, web: Web, tmp_path: Path) -> None:
    journal = system.journal()
    job = note.options(queue="mail").delay(str(journal))
    page = web.client.get("/job", params={"id": str(job)}).text
    assert 'data-reason="no_worker"' in page
    with web.client.stream("GET", "/events", params={"job": str(job)}) as stream:
        lines = stream.iter_lines()
        next(lines)
        system.start_manager(EVENTMQ_QUEUES="mail,default")
        told(lines, "changed")
    job.result(timeout=20)
    until(lambda: 'class="badge succeeded"' in web.client.get("/job", params={"id": str(job)}).text, "it has succeeded")
    again = web.post("/job/rerun", id=str(job))
    assert again.url.params["id"] != str(job)
    until(lambda: len(journal.runs()) == 2, "it ran again")
    for path in ("/", "/jobs", "/failures", "/queues", "/workers", "/schedules", "/types", "/system"):
        assert web.client.get(path).status_code == 200, path


def test_all_that_match_are_requeued_after_their_number_was_said(system: System, web: Web) -> None:
    system.start_manager()
    for _ in range(7):
        complain.delay(3)
    until(lambda: system.ask("STATUS")["store"]["dead"] == 7, "they are dead")
    act = web.post("/acts", do="requeue", which="all", q="state:dead")
    assert "Requeue 7 jobs?" in act.text
    web.post("/act/go", id=act.url.params["id"])
    until(lambda: "Done: 7 of 7 jobs" in web.client.get(act.url).text, "all are requeued")
    assert system.count("requeued") == 7


def test_it_says_that_the_router_is_gone_and_recovers(system: System, web: Web) -> None:
    system.processes[0].kill()
    gone = web.client.get("/queues")
    assert (gone.status_code, "did not answer" in gone.text) == (503, True)
    with web.client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        system.start_router()
        told(lines, "changed")
    assert web.client.get("/queues").status_code == 200


def test_it_ends_in_time_with_streams_that_are_open(system: System, web: Web) -> None:
    with web.client.stream("GET", "/events") as one, web.client.stream("GET", "/events") as two:
        next(one.iter_lines())
        next(two.iter_lines())
        began = time.monotonic()
        assert web.process.terminate() == 0
        assert time.monotonic() - began < ENDS_WITHIN_S
    assert "Traceback" not in web.process.log


def test_it_does_not_listen_where_others_can_reach_it_unless_it_knows_who_they_are(system: System) -> None:
    refused = system.run("web", EVENTMQ_WEB_ADDR="http://0.0.0.0:1")
    assert refused.returncode == 2
    assert "web_admin_secret" in refused.stderr
    assert "Traceback" not in refused.stderr
