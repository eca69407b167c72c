"""What is found out about this machine and a Router by looking: `eventmq doctor` tells it, and the dashboard.

Each look yields findings, and goes on where one is bad. What only the Router knows is asked of it alone.
"""

from __future__ import annotations

import platform
import resource
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eventmq import __version__
from eventmq.client.admin import Admin
from eventmq.values import some, span

OK, WARNING, ERROR = "ok", "warning", "error"

FILES_MIN = 4_096
"""Open files that a Router with a thousand peers needs, with room to spare."""

FREE_BYTES_MIN = 1 << 30
"""Free space under which one should think about the disk; at 32 MiB the Router refuses new jobs."""

SKEW_S_MAX = 2.0
"""Clocks that agree better than this mislead nobody. Only times that people read come from the clocks of peers."""

ANSWER_S_MAX = 0.25
"""A Router that takes longer is busier than it should be."""


class Finding(NamedTuple):
    """What was found: `ok`, `warning` or `error`, about what, the fact, and what to do about it."""

    level: str
    what: str
    text: str
    advice: str = ""


def judged(bad: bool, what: str, text: str, advice: str = "") -> Finding:
    """A finding: a warning, with the advice, if it is bad."""
    return Finding(WARNING, what, text, advice) if bad else Finding(OK, what, text)


def of_machine() -> Iterator[Finding]:
    """What this process runs on."""
    import msgspec
    import zmq

    versions = f"EventMQ {__version__}, Python {platform.python_version()}, pyzmq {zmq.__version__}"
    libraries = f"libzmq {zmq.zmq_version()}, SQLite {sqlite3.sqlite_version}, msgspec {msgspec.__version__}"
    yield Finding(OK, "versions", f"{versions} ({libraries}) on {platform.platform()}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = f"for a Router: ulimit -n {FILES_MIN}, or LimitNOFILE= in its unit"
    yield judged(0 <= soft < FILES_MIN, "limits", f"{soft:,} open files, at most {hard:,}", advice)


def of_space(free_bytes: float) -> Finding:
    """How much room the store has."""
    text = f"{free_bytes / 2**30:.1f} GiB free on the store's disk"
    return judged(free_bytes < FREE_BYTES_MIN, "disk", text, "make room: without it new jobs are refused")


def of_router(admin: Admin) -> Iterator[Finding]:
    """How the Router is, its store and its peers."""
    asked = time.time(), time.monotonic()
    status = admin.ask("STATUS")
    took_s = time.monotonic() - asked[1]
    text = f"EventMQ {status['version']}, up {span(status['uptime_s'])}, answered in {1e3 * took_s:.1f} ms"
    yield judged(took_s > ANSWER_S_MAX, "Router", text, "look where its time goes: eventmq profile")
    if status["version"] != __version__:
        yield Finding(WARNING, "Router", f"this command line is {__version__}", "run the same release everywhere")
    yield _of_clock("Router", status["wall"] - asked[0] - took_s / 2)
    yield from _of_store(status["store"])
    yield from _of_peers(admin, status)
    for each in admin.problems():
        yield Finding(ERROR if each["level"] == "critical" else WARNING, "problem", each["text"])


def _of_clock(who: str, skew_s: float) -> Finding:
    text = f"the clock of the {who} is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
    advice = "set both by NTP; times of jobs and schedules go by the Router's"
    return judged(abs(skew_s) > SKEW_S_MAX, "clock", text, advice)


def _of_store(store: Mapping[str, Any]) -> Iterator[Finding]:
    kind = f"schema {store['schema']}, durability {store['durability']}, {store['bytes']:,} bytes"
    held = f"{some(store['results'], 'result')} and {some(store['dead'], 'dead job')}"
    yield Finding(OK, "store", f"{store['url']}: {kind}, {held}")
    if store["durability"] == "none" or store["url"] == "memory:":
        yield Finding(WARNING, "store", "jobs do not survive the Router's end", "durability = full, in a file")
    if store["free_bytes"] is not None:
        yield of_space(store["free_bytes"])


def _of_peers(admin: Admin, status: Mapping[str, Any]) -> Iterator[Finding]:
    managers = admin.managers()
    peers = f"{some(len(managers), 'job manager')}, {some(status['schedulers'], 'scheduler')}"
    yield judged(not managers, "peers", peers, "start one: eventmq jobmanager MODULE")
    for each in managers:
        version = each["about"].get("version", __version__ if each["wire"] == "2.0" else "of 2020")
        if version != status["version"]:
            yield Finding(WARNING, "peers", f"{each['name']} is EventMQ {version}", "run the same release everywhere")
        if abs(each["skew_s"]) > SKEW_S_MAX:
            yield _of_clock(f"job manager {each['name']}", each["skew_s"])
