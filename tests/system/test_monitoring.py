"""Real processes as monitoring systems and systemd see them: metrics, health, ready, alive, at their end."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from system_jobs import note, recount

from .processes import System, free_ports, until

JSON = {"EVENTMQ_LOG_FORMAT": "json"}


class Systemd:
    """Its end of the wire, of one service that it looks at every 0.4 s."""

    def __init__(self, path: Path) -> None:
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wire.bind(str(path))
        self._wire.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        self.told: list[str] = []

    def hears(self, line: str) -> bool:
        """Whether a line has come since it was last asked for."""
        try:
            while True:
                self.told += self._wire.recv(4096).decode().split("\n")
        except BlockingIOError:
            found = line in self.told
            self.told.clear()
            return found

    def close(self) -> None:
        self._wire.close()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Systemd]]:
    services = [Systemd(tmp_path / name) for name in ("r", "m", "s")]
    yield services
    for each in services:
        each.close()


def test_router_manager_and_scheduler_tell_how_they_are(system: System, services: list[Systemd]) -> None:
    http, health = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    of_router, of_manager, of_scheduler = services
    router = system.start_router(EVENTMQ_HTTP_ADDR=http, **JSON, **of_router.environ)
    manager = system.start_manager(EVENTMQ_HEALTH_ADDR=health, **JSON, **of_manager.environ)
    scheduler = system.start_scheduler(**of_scheduler.environ)
    for service in services:
        until(lambda service=service: service.hears("READY=1"), "it is ready")
        for _ in range(2):
            until(lambda service=service: service.hears("WATCHDOG=1"), "its watchdog is fed while it idles")
    journal, gate = system.journal(), system.folder / "gate"
    note.delay(str(journal)).result()
    held = recount.delay(str(gate), 1)
    until(lambda: "line 0 of 1" in manager.log, "it runs")

    got = httpx.get(f"{http}/metrics")
    assert got.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(got.text)
        for sample in family.samples
    }
    assert samples["eventmq_jobs_enqueued_total", "system_jobs.note", "default"] == 1
    assert samples["eventmq_jobs_finished_total", "system_jobs.note", "succeeded", "default"] == 1
    assert samples["eventmq_job_wait_seconds_count", "default"] == 2
    assert 0 < samples["eventmq_job_run_seconds_sum", "system_jobs.note", "default"] < 1
    assert samples["eventmq_queue_jobs", "default", "running"] == 1
    assert samples["eventmq_store_commit_seconds_sum",] > 0
    assert samples["eventmq_router_messages_total", "received", "REQUEST"] == 2
    assert samples["eventmq_router_messages_total", "sent", "REQUEST"] == 2, "one to a manager for each from a client"
    assert samples["eventmq_router_turn_seconds_count",] > samples["eventmq_store_commit_seconds_count",] > 0
    assert samples["process_resident_memory_bytes",] > 1 << 20
    for place in (http, health):
        for page in ("livez", "readyz", "healthz"):
            assert httpx.get(f"{place}/{page}").status_code == 200, page
    assert httpx.get(f"{health}/metrics").status_code == 404

    manager.signal(signal.SIGTERM)
    until(lambda: of_manager.hears("EXTEND_TIMEOUT_USEC=5200000"), "systemd is asked for time to drain")
    answer = httpx.get(f"{health}/readyz")
    assert (answer.status_code, answer.text) == (503, "[-] registered: it drains\nfailed\n")
    assert httpx.get(f"{health}/livez").status_code == 200
    gate.touch()
    assert manager.wait() == 0

    assert scheduler.terminate() == 0
    until(lambda: of_scheduler.hears("STOPPING=1"), "the scheduler says that it ends")
    assert router.terminate() == 0
    assert of_router.hears("STOPPING=1")
    for process in (router, manager):
        lines = [json.loads(line) for line in process.log.splitlines()]
        assert lines[-1]["message"] == "ended"
        assert {"time", "level", "logger", "message"} <= lines[0].keys()
    (line,) = [line for line in lines if line["message"] == "the end"]
    expected = {"level": "WARNING", "logger": "shop", "job_id": held, "job_name": "system_jobs.recount"}
    assert (expected | {"queue": "default", "attempt": 1}).items() <= line.items()
