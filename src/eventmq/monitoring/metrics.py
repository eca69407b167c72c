"""The Router's metrics: their names, and the Prometheus text that is made of the answer to METRICS at each scrape.

`METRICS` is the table; the one in `docs/operations.md` says the same, and a test compares them. Labels are names that
people give (queues, functions, schedules), never ids, and only so many of them as `limits` says.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from eventmq import __version__

Numbers = dict[str, Any]
Samples = Iterable[tuple[Any, ...]]
"""Of each series the values of its labels, then its value: a number, or a histogram as METRICS has it."""

FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class Row(NamedTuple):
    """One metric: its name, kind, labels, meaning, and where its samples are."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    samples: Callable[[Numbers], Samples]


def _one(*path: str) -> Callable[[Numbers], Samples]:
    return lambda numbers: [(reduce(lambda found, key: found.get(key, 0), path, numbers),)]


def _each(*keys: str) -> Callable[[Numbers], Samples]:
    """What stands in maps, by their keys; with several maps their names come first."""
    if len(keys) == 1:
        return lambda numbers: numbers[keys[0]].items()
    return lambda numbers: [(key, *item) for key in keys for item in numbers[key].items()]


def _some(map: str, *keys: str) -> Callable[[Numbers], Samples]:
    """What stands in a map under some keys, which are a label."""
    return lambda numbers: [(key, numbers[map].get(key, 0)) for key in keys]


def _rows(key: str, *fields: str) -> Callable[[Numbers], Samples]:
    """Some fields of each row; a row's labels stand before it, and with several fields their names are another."""
    return lambda numbers: [
        (*labels, *[field] * (len(fields) > 1), row[field])
        for *labels, row in (numbers[key].items() if isinstance(numbers[key], dict) else numbers[key])
        for field in fields
        if row[field] is not None
    ]


METRICS = (
    Row("eventmq_build_info", "gauge", ("version", "python"), "Versions; always 1.",
        lambda numbers: [(__version__, platform.python_version(), 1)]),
    Row("eventmq_router_uptime_seconds", "gauge", (), "Time since the Router started.", _one("uptime_s")),
    Row("eventmq_router_draining", "gauge", (), "1 while the Router ends: it accepts nothing new.", _one("draining")),
    Row("eventmq_problems", "gauge", ("level",), "What `eventmq check` tells as problems.", _each("problems")),
    Row("eventmq_jobs_enqueued_total", "counter", ("queue", "name"), "Jobs that were stored.",
        _rows("types", "enqueued")),
    Row("eventmq_jobs_finished_total", "counter", ("queue", "name", "outcome"),
        "Jobs that succeeded, are dead, cancelled, expired or lost.",
        _rows("types", "succeeded", "dead", "cancelled", "expired", "lost")),
    Row("eventmq_jobs_failed_total", "counter", ("queue", "name"), "Attempts that failed, tried again or not.",
        _rows("types", "failed")),
    Row("eventmq_job_wait_seconds", "histogram", ("queue",), "From when a job was due until its first attempt.",
        _each("waits")),
    Row("eventmq_job_run_seconds", "histogram", ("queue", "name"), "Attempts that succeeded or failed.",
        _rows("types", "run")),
    Row("eventmq_jobs_again_total", "counter", ("cause",),
        "Jobs retried (they failed), redelivered (their run was lost) or requeued.",
        _some("counts", "retried", "redelivered", "requeued")),
    Row("eventmq_worker_crashes_total", "counter", (), "Worker processes that died under a job.",
        _one("counts", "crashes")),
    Row("eventmq_outcomes_stale_total", "counter", (), "Outcomes of hand-outs that were not current.",
        _one("counts", "stale")),
    Row("eventmq_queues", "gauge", (), "Queues that the Router knows.", _one("queues_total")),
    Row("eventmq_queue_jobs", "gauge", ("queue", "state"), "Jobs waiting, delayed and running.",
        _rows("queues", "waiting", "delayed", "running")),
    Row("eventmq_queue_oldest_age_seconds", "gauge", ("queue",), "How long the oldest waiting job has waited.",
        _rows("queues", "oldest_s")),
    Row("eventmq_queue_managers", "gauge", ("queue",), "Job managers that serve the queue.",
        _rows("queues", "managers")),
    Row("eventmq_queue_paused", "gauge", ("queue",), "1 while an operator has it paused.", _rows("queues", "paused")),
    Row("eventmq_queue_draining", "gauge", ("queue",), "1 while an operator lets it run empty.",
        _rows("queues", "draining")),
    Row("eventmq_managers", "gauge", ("state",),
        "Job managers; gone ones may be back, expected ones were there before a restart.",
        _each("managers")),
    Row("eventmq_workers", "gauge", (), "Worker processes that job managers say they have.", _one("workers")),
    Row("eventmq_schedulers", "gauge", (), "Schedulers that are connected.", _one("schedulers")),
    Row("eventmq_leases", "gauge", (), "Jobs that are handed out.", _one("leases")),
    Row("eventmq_credits", "gauge", (), "Jobs that managers would take now.", _one("credits")),
    Row("eventmq_refusals_total", "counter", ("reason",), "Messages and jobs refused.", _each("refusals")),
    Row("eventmq_router_messages_total", "counter", ("direction", "type"),
        "Messages received and understood, and sent.", _each("received", "sent")),
    Row("eventmq_router_loop_seconds_total", "counter", ("step",),
        "What the loop does: wait, receive, decide, commit, answer, send, upkeep.", _each("spent_s")),
    Row("eventmq_router_turn_seconds", "histogram", (), "What turns took, without the waiting.", _one("turns")),
    Row("eventmq_store_commit_seconds", "histogram", (), "What commits took, the sync included.", _one("commits")),
    Row("eventmq_store_bytes", "gauge", (), "Size of the store.", _one("store", "bytes")),
    Row("eventmq_store_jobs", "gauge", ("kept",), "Ended jobs in the store: results, and dead or lost ones.",
        _some("store", "results", "dead")),
    Row("eventmq_store_room", "gauge", (), "0 while the disk has no room for new jobs.", _one("store", "room")),
    Row("eventmq_schedules", "gauge", ("state",), "Schedules: total, and of those paused, unassigned, overdue.",
        _some("schedules", "total", "paused", "unassigned", "overdue")),
    Row("eventmq_schedule_next_run_timestamp_seconds", "gauge", ("schedule",), "When it is due next.",
        _rows("each_schedule", "next")),
    Row("eventmq_schedule_last_run_timestamp_seconds", "gauge", ("schedule",), "When it was run last.",
        _rows("each_schedule", "last")),
    Row("eventmq_schedule_missed", "gauge", ("schedule",), "Due times since its last success.",
        _rows("each_schedule", "missed")),
)  # fmt: skip


class RouterCollector(Collector):
    """The table, filled in with the answer to METRICS."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            family = FAMILIES[row.kind](row.name, row.help, labels=row.labels)
            for *labels, value in row.samples(self._numbers):
                if row.kind == "histogram":
                    bounds = [*map(str, value["bounds_s"]), "+Inf"]
                    family.add_metric(labels, list(zip(bounds, value["counts"], strict=True)), value["sum_s"])
                else:
                    family.add_metric(labels, value)
            yield family


def text_of(numbers: Numbers, inside: bool) -> tuple[bytes, str]:
    """The metrics as text, and its content type.

    Args:
        numbers: The answer to METRICS.
        inside: This process is the Router's: what Python and the kernel tell of it is said, too.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RouterCollector(numbers))
    if inside:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
