"""What stands on each page but those about jobs: one function a page, from a question to plain data.

The same data becomes the page and its JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from eventmq import __version__
from eventmq.broker.lifecycle import TERMINAL
from eventmq.monitoring import findings
from eventmq.protocol.administration import Selection
from eventmq.protocol.answers import ShownQueue
from eventmq.schedules.due import coming
from eventmq.schedules.rule import Rule, words
from eventmq.settings import table
from eventmq.web import charts
from eventmq.web.ask import Ask, Page
from eventmq.web.limits import ROWS

NEXT_RUNS = 5
"""Runs of a schedule that are told ahead."""

SKIP_MAX = 1_000_000
"""Rows before a page of queues or failures, which are in memory; jobs are paged by key."""

T = TypeVar("T")


def overview(ask: Ask) -> Page:
    """How everything is: numbers, problems, and what happened lately."""
    status = ask.admin.ask("STATUS")
    return {
        "jobs": status["jobs"] | {"dead": status["store"]["dead"]},
        "slots": {
            "busy": status["jobs"]["running"],
            "free": sum(each["available_slots"] for each in ask.admin.managers()),
        },
        "oldest_s": max((queue["oldest_s"] for queue in ask.admin.queues().values()), default=0.0),
        "problems": ask.admin.problems(),
        "status": {
            name: status[name] for name in ("managers", "schedulers", "uptime_s", "draining", "expected_managers")
        },
        **charts.past(ask),
    }


# ---- queues ----------------------------------------------------------------------------------------------


def queues(ask: Ask) -> Page:
    """The queues, those with most that waits first, a part of them."""
    told = ask.admin.queues()
    some, part = _part(ask, sorted(told, key=lambda name: (-told[name]["waiting"], name)))
    return {"queues": [_row_of_queue(ask, name, told[name]) for name in some], **part}


def _row_of_queue(ask: Ask, name: str, told: ShownQueue) -> dict[str, Any]:
    past = charts.history(ask.admin, "15m", ask.now, queue=name)
    sums, minutes = charts.totals(past), len(past["enqueued"]) or 1
    ended = sum(sums[outcome] for outcome in TERMINAL)
    rates = {"rate_in": sums["enqueued"] / minutes, "rate_out": ended / minutes}
    return {"name": name, "queue": told, **rates, "history": past}


def _part(ask: Ask, rows: Sequence[T]) -> tuple[Sequence[T], Page]:
    """The rows on this page, and which part of all they are."""
    skip = ask.number("skip", SKIP_MAX) or 0
    return rows[skip : skip + ROWS], {"total": len(rows), "skip": skip}


def queue(ask: Ask) -> Page:
    """A queue by its name.

    Raises:
        NotFound: There is none.
    """
    name = ask.text("name", needed=True)
    servers = [
        {"name": worker["name"], "weight": weight, "running": worker["running"]}
        for worker in ask.admin.managers()
        for weight, served in worker["queues"]
        if served == name
    ]
    return {"name": name, "queue": ask.admin.queue(name), "servers": servers, **charts.past(ask, queue=name)}


# ---- workers and schedules -------------------------------------------------------------------------------


def workers(ask: Ask) -> Page:
    """The job managers, by name, with what each runs; and those that a restarted Router waits for."""
    running = ask.admin.page(Selection(states=["running"])).jobs
    rows = [
        {"manager": each, "jobs": [job for job in running if job["worker"] == each["name"]]}
        for each in sorted(ask.admin.managers(), key=lambda each: str(each["name"]))
    ]
    return {"workers": rows, "expected": ask.admin.ask("STATUS")["expected_managers"]}


def schedules(ask: Ask) -> Page:
    """The schedules in words, with their next runs, a part of them in order of their ids."""
    after = ask.text("after")
    told = [*islice(ask.admin.schedules(after=after), ROWS + 1)]
    return {
        "schedules": [_row_of_schedule(each, ask.now) for each in told[:ROWS]],
        "after": after,
        "next": told[ROWS - 1]["id"] if len(told) > ROWS else None,
    }


def _row_of_schedule(told: Mapping[str, Any], now: float) -> dict[str, Any]:
    rule = Rule(**told["rule"])
    ahead = [] if told["paused"] else [*islice(coming(rule, told, now), NEXT_RUNS)]
    return {"schedule": told, "words": words(rule), "next": ahead}


# ---- what went wrong, and how long it takes --------------------------------------------------------------


def failures(ask: Ask) -> Page:
    """What went wrong, by exception and place, the newest first, a part of it; `recent` counts failed attempts of the
    same job type over a day."""
    groups, part = _part(ask, ask.admin.failures())
    rows = [
        {"group": group, "recent": charts.history(ask.admin, "24h", ask.now, name=group["name"])["failed"]}
        for group in groups
    ]
    return {"failures": rows, **part}


def types(ask: Ask) -> Page:
    """How long jobs wait and run, by what they call, those that run most first."""
    window = ask.choice("window", list(charts.WINDOWS))
    told = ask.admin.types(since=ask.now - charts.WINDOWS[window].seconds)
    return {"window": window, "types": sorted(told, key=lambda each: -each["runs"])}


# ---- the system ------------------------------------------------------------------------------------------


def system(ask: Ask) -> Page:
    """The Router as it is, its store, who is connected, what `eventmq doctor` finds; and of each setting, as it is read
    here, its value, origin and meaning."""
    shown, status = ask.settings.shown(), ask.admin.ask("STATUS")
    return {
        "version": __version__,
        "findings": [finding._asdict() for finding in (*findings.of_router(ask.admin), *findings.of_machine())],
        "status": status,
        "workers": status["managers"],
        "schedulers": list(ask.admin.ask("SCHEDULERS")["connected_schedulers"].values()),
        "settings": {
            row.name: (shown[row.name], ask.settings.origin(row.name), row.metadata["help"]) for row in table()
        },
    }
