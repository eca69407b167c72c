"""The released emq-cli on our Router: every key it was promised, and a shutdown that drains."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from .processes import Site, until

pytestmark = pytest.mark.timeout(60, func_only=True)

STATUS_KEYS = {
    "inflight_messages_by_queue",
    "latency_messages_by_queue",
    "max_latency_messages_by_queue",
    "waiting_messages_by_queue",
    "processed_messages_by_queue",
    "processed_messages_by_worker",
}


def answers(said: str) -> list[Any]:
    """The answers that emq-cli printed, each a Python literal after a prompt."""
    return [ast.literal_eval(part.strip()) for part in said.split("\n> ")[1:] if part.strip()[:1] in ("{", "[")]


def test_shows_status_workers_and_schedulers(site: Site) -> None:
    site.router()
    site.released_manager(2)
    site.released_scheduler()
    site.has_free_slots(2)
    until(lambda: site.ask("ROUTER_SHOW_SCHEDULERS")["connected_schedulers"], "the scheduler is registered")
    client = site.peer()
    client.request("add", 1, 1, headers="reply-requested")
    client.results(1)
    client.request("hold", "a")
    until(lambda: site.marks()["hold:a"], "a job runs")
    client.request("add", 1, 1, queue="nobody")
    client.receive()
    client.receive()

    status, workers, schedulers = answers("\n" + site.released_cli("status", "show_workers", "show_schedulers"))
    assert set(status) >= STATUS_KEYS
    assert status["inflight_messages_by_queue"] == {"default": 1}
    assert status["waiting_messages_by_queue"]["nobody"] == 1
    assert status["processed_messages_by_queue"] == {"default": 2}, "counted when handed out"
    assert len(status["processed_messages_by_worker"]) == 1
    assert 0 < status["latency_messages_by_queue"]["default"] <= status["max_latency_messages_by_queue"]["default"]
    (worker,) = workers["connected_workers"].values()
    assert worker["queues"] == [[10, "default"]]
    assert worker["available_slots"] == 1
    assert worker["hb"] > 0
    assert set(workers["connected_queues"]) == {"default"}
    (scheduler,) = schedulers["connected_schedulers"].values()
    assert scheduler["hb"] > 0


def test_shutdown_lets_what_runs_finish_and_the_router_exits_0(site: Site) -> None:
    router = site.router()
    site.released_manager(1)
    site.has_free_slots(1)
    client = site.peer()
    job = client.request("hold", "a", headers="reply-requested")
    until(lambda: site.marks()["hold:a"], "a job runs")

    (ack,) = answers("\n" + site.released_cli("shutdown"))
    assert ack[2] == "ACK"
    assert router.alive, "a job still runs"
    site.go()
    assert client.results(1) == {job: "a"}
    assert router.ended() == 0
