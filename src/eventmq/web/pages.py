"""What stands on each page but those about jobs: one function a page, from a question to plain data.

The same data becomes the page and its JSON.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from eventmq import __version__
from eventmq.broker.lifecycle import TERMINAL
from eventmq.cli import doctor
from eventmq.client.answers import ListedJob, Problem, ShownQueue
from eventmq.client.charts import FailureGroup, History, JobType
from eventmq.protocol.administration import Selection
from eventmq.schedules.due import coming
from eventmq.schedules.rule import Rule, words
from eventmq.settings import table
from eventmq.web import charts
from eventmq.web.ask import Ask, Missing
from eventmq.web.limits import ROWS

NEXT_RUNS = 5
"""Runs of a schedule that are told ahead."""

SKIP_MAX = 1_000_000
"""Rows before a page of queues or failures, which are in memory; jobs are paged by key."""


class Page(msgspec.Struct, frozen=True):
    """Base of what stands on a page. Times are wall times, in seconds since the epoch."""


# ---- overview --------------------------------------------------------------------------------------------


class Overview(Page, frozen=True):
    """How everything is."""

    jobs: dict[str, int]
    slots: dict[str, int]
    oldest_s: float
    problems: list[Problem]
    window: str
    totals: dict[str, int]
    history: History
    status: dict[str, Any]


def overview(ask: Ask) -> Overview:
    """Numbers, problems, and what happened lately."""
    status = ask.admin.ask("STATUS")
    free = sum(each["available_slots"] for each in ask.admin.managers())
    window = ask.choice("window", list(charts.WINDOWS))
    told = charts.history(ask.admin, window, ask.now)
    return Overview(
        jobs=status["jobs"] | {"dead": status["store"]["dead"]},
        slots={"busy": status["jobs"]["running"], "free": free},
        oldest_s=max((queue["oldest_s"] for queue in ask.admin.queues().values()), default=0.0),
        problems=ask.admin.problems(),
        window=window,
        totals=charts.totals(told),
        history=told,
        status={name: status[name] for name in ("managers", "schedulers", "uptime_s", "draining", "expected_managers")},
    )


# ---- queues ----------------------------------------------------------------------------------------------


class QueueRow(msgspec.Struct, frozen=True):
    """One queue in the list."""

    name: str
    queue: ShownQueue
    rate_in: float
    rate_out: float
    history: History


class Queues(Page, frozen=True):
    """Some queues: those with most that waits first."""

    queues: list[QueueRow]
    total: int
    skip: int


def queues(ask: Ask) -> Queues:
    """All queues, a page of them."""
    skip = ask.number("skip", SKIP_MAX) or 0
    told = ask.admin.queues()
    ranked = sorted(told, key=lambda name: (-told[name]["waiting"], name))[skip : skip + ROWS]
    return Queues([_queue_row(ask, name, told[name]) for name in ranked], len(told), skip)


def _queue_row(ask: Ask, name: str, told: ShownQueue) -> QueueRow:
    past = charts.history(ask.admin, "15m", ask.now, queue=name)
    sums, minutes = charts.totals(past), len(past["enqueued"]) or 1
    ended = sum(sums[outcome] for outcome in TERMINAL)
    return QueueRow(name, told, sums["enqueued"] / minutes, ended / minutes, past)


class Queue(Page, frozen=True):
    """One queue."""

    name: str
    queue: ShownQueue
    servers: list[dict[str, Any]]
    window: str
    totals: dict[str, int]
    history: History


def queue(ask: Ask) -> Queue:
    """A queue by its name.

    Raises:
        Missing: There is none.
    """
    name = ask.text("name", needed=True)
    told = ask.admin.queue(name)
    if told is None:
        raise Missing(f"there is no queue {name!r}: nothing is in it, and nobody serves it")
    window = ask.choice("window", list(charts.WINDOWS))
    past = charts.history(ask.admin, window, ask.now, queue=name)
    serving = [
        {"name": worker["name"], "weight": weight, "running": worker["running"]}
        for worker in ask.admin.managers()
        for weight, served in worker["queues"]
        if served == name
    ]
    return Queue(name, told, serving, window, charts.totals(past), past)


# ---- workers ---------------------------------------------------------------------------------------------


class Worker(msgspec.Struct, frozen=True):
    """A job manager, as the Router tells of it, and what it runs."""

    manager: dict[str, Any]
    jobs: list[ListedJob]


class Workers(Page, frozen=True):
    """All job managers, and those that a restarted Router waits for."""

    workers: list[Worker]
    expected: list[str]


def workers(ask: Ask) -> Workers:
    """The job managers, by name."""
    running = ask.admin.page(Selection(states=["running"])).jobs
    told = sorted(ask.admin.managers(), key=lambda each: str(each["name"]))
    rows = [Worker(each, [job for job in running if job["worker"] == each["name"]]) for each in told]
    return Workers(rows, ask.admin.ask("STATUS")["expected_managers"])


# ---- schedules -------------------------------------------------------------------------------------------


class ShownSchedule(msgspec.Struct, frozen=True):
    """A schedule, in words, with its next runs."""

    schedule: dict[str, Any]
    words: str
    next: list[str]


class Schedules(Page, frozen=True):
    """Some schedules."""

    schedules: list[ShownSchedule]
    after: str
    next: str | None


def schedules(ask: Ask) -> Schedules:
    """The schedules, a page of them in order of their ids."""
    after = ask.text("after")
    told = [*islice(ask.admin.schedules(after=after), ROWS + 1)]
    shown = [_schedule(each, ask.now) for each in told[:ROWS]]
    return Schedules(shown, after, told[ROWS - 1]["id"] if len(told) > ROWS else None)


def _schedule(told: dict[str, Any], now: float) -> ShownSchedule:
    rule = Rule(**told["rule"])
    return ShownSchedule(told, words(rule), [] if told["paused"] else [*islice(coming(rule, told, now), NEXT_RUNS)])


# ---- what went wrong, and how long it takes --------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True):
    """What went wrong in one place; `recent` counts failed attempts of the same job type over a day."""

    group: FailureGroup
    recent: list[int]


class Failures(Page, frozen=True):
    """What went wrong, by exception and place."""

    failures: list[Failure]
    total: int
    skip: int


def failures(ask: Ask) -> Failures:
    """Failures in groups, the newest first, a page of them."""
    skip = ask.number("skip", SKIP_MAX) or 0
    told = ask.admin.failures()
    shown = [
        Failure(group, charts.history(ask.admin, "24h", ask.now, name=group["name"])["failed"])
        for group in told[skip : skip + ROWS]
    ]
    return Failures(shown, len(told), skip)


class JobTypes(Page, frozen=True):
    """How long jobs wait and run, by what they call."""

    window: str
    types: list[JobType]


def types(ask: Ask) -> JobTypes:
    """Job types, those that run most first."""
    window = ask.choice("window", list(charts.WINDOWS))
    told = ask.admin.types(since=ask.now - charts.WINDOWS[window].seconds)
    return JobTypes(window, sorted(told, key=lambda each: -each["runs"]))


# ---- the system ------------------------------------------------------------------------------------------


class System(Page, frozen=True):
    """The Router, its store, who is connected, what `eventmq doctor` finds; each setting: value, origin, meaning."""

    version: str
    findings: list[dict[str, Any]]
    status: dict[str, Any]
    workers: int
    schedulers: list[dict[str, Any]]
    settings: dict[str, tuple[Any, str, str]]


def system(ask: Ask) -> System:
    """The Router as it is, and the settings as they are read here."""
    findings = [finding._asdict() for finding in (*doctor.of_router(ask.admin), *doctor.of_machine())]
    shown = ask.settings.shown()
    rows = {row.name: (shown[row.name], ask.settings.origin(row.name), row.metadata["help"]) for row in table()}
    status = ask.admin.ask("STATUS")
    schedulers = ask.admin.ask("SCHEDULERS")["connected_schedulers"].values()
    return System(__version__, findings, status, status["managers"], list(schedulers), rows)
