"""`eventmq doctor`: looks at everything that can be seen from here, with a Router or without, and says what to do.

Each check yields findings, and goes on where one is bad. What only the Router knows is asked of it alone.
"""

from __future__ import annotations

import platform
import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eventmq import __version__
from eventmq.cli.ask import listened_to, router
from eventmq.cli.ending import FAILED, OK, UNREACHABLE, Mistake
from eventmq.cli.flags import asking, load, options, output, verb
from eventmq.cli.tables import Table, Told, some, span, tell
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.net import address
from eventmq.settings import COMPONENTS, Settings

OK_, WARNING, ERROR = "ok", "warning", "error"

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


@verb
@options(asking, output)
def doctor(config: str | None, addr: str | None, timeout: float, form: str) -> int:
    """Look for what is wrong: settings, versions, limits, clocks, the store, peers. Each finding says what to do.

    Exit code 1 if one of them is an error; 69 if no Router answers: then it says what can be seen without one.

    \b
    eventmq doctor
    eventmq doctor -C /etc/eventmq.conf -a tcp://127.0.0.1:47293
    eventmq doctor -o json
    """
    found = [*of_machine(), *_settings(config)]
    code = OK
    try:
        with router(config, addr, timeout) as admin:
            found += of_router(admin)
    except Mistake:
        pass  # told among the settings
    except (BrokerUnavailable, TimeoutError) as error:
        code = UNREACHABLE
        found.append(Finding(ERROR, "Router", str(error), "eventmq up starts all there is"))
        found += _without_router(config)
    if code == OK and any(each.level == ERROR for each in found):
        code = FAILED
    rows = [(each.level, each.what, "; ".join(filter(None, (each.text, each.advice)))) for each in found]
    table = Table("Findings", ("level", "what", "finding; what to do"), rows, folds=True)
    return tell(Told([each._asdict() for each in found], table, code=code), form)


# ---- here ------------------------------------------------------------------------------------------------


def of_machine() -> Iterator[Finding]:
    """What this process runs on."""
    import msgspec
    import zmq

    versions = f"EventMQ {__version__}, Python {platform.python_version()}, pyzmq {zmq.__version__}"
    libraries = f"libzmq {zmq.zmq_version()}, SQLite {sqlite3.sqlite_version}, msgspec {msgspec.__version__}"
    yield Finding(OK_, "versions", f"{versions} ({libraries}) on {platform.platform()}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < FILES_MIN
    advice = f"for a Router: ulimit -n {FILES_MIN}, or LimitNOFILE= in its unit" if few else ""
    yield Finding(WARNING if few else OK_, "limits", f"{soft:,} open files, at most {hard:,}", advice)


def _settings(config: str | None) -> Iterator[Finding]:
    """Where each setting that is no default comes from; what is wrong in them."""
    told: set[tuple[str, str]] = set()
    for component in COMPONENTS:
        try:
            settings = load(component, config)
        except Mistake as error:
            yield Finding(ERROR, f"settings of {component}", str(error), "correct it; nothing of it starts before")
            continue
        assert settings.source is not None
        for note in settings.source.notes:
            yield Finding(WARNING, "settings", note)
        for name, place in sorted(settings.source.origins.items()):
            text = f"{name} = {settings.shown()[name]!r}, from {place}"
            if (name, text) not in told:
                told.add((name, text))
                yield Finding(OK_, "setting", text)


def _without_router(config: str | None) -> Iterator[Finding]:
    try:
        settings = load("router", config)
    except Mistake:
        return
    for name in ("frontend_addr", "backend_addr", "administrative_addr"):
        text = getattr(settings, name)
        taken = listened_to(address.parse(address.reachable(text)))
        used = "somebody listens there; a Router of ours could not" if taken else "nobody listens there"
        yield Finding(WARNING if taken else OK_, "ports", f"{name} {text}: {used}")
    path = _path_of(settings)
    if path is not None:
        there = f"{path.stat().st_size:,} bytes" if path.exists() else "not there yet; a Router makes it"
        yield Finding(OK_, "store", f"{path}: {there}")
        if path.parent.is_dir():
            yield _free_space(shutil.disk_usage(path.parent).free)


def _path_of(settings: Settings) -> Path | None:
    return Path(settings.store.removeprefix("sqlite:///")) if settings.store.startswith("sqlite:///") else None


def _free_space(free_bytes: float) -> Finding:
    low = free_bytes < FREE_BYTES_MIN
    advice = "make room: without it new jobs are refused" if low else ""
    return Finding(WARNING if low else OK_, "disk", f"{free_bytes / 2**30:.1f} GiB free on the store's disk", advice)


# ---- the Router --------------------------------------------------------------------------------------------


def of_router(admin: Admin) -> Iterator[Finding]:
    """How the Router is, its store and its peers."""
    asked = time.time(), time.monotonic()
    status = admin.ask("STATUS")
    took_s = time.monotonic() - asked[1]
    text = f"EventMQ {status['version']}, up {span(status['uptime_s'])}, answered in {1e3 * took_s:.1f} ms"
    slow = took_s > ANSWER_S_MAX
    advice = "look where its time goes: eventmq profile" if slow else ""
    yield Finding(WARNING if slow else OK_, "Router", text, advice)
    if status["version"] != __version__:
        yield Finding(WARNING, "Router", f"this command line is {__version__}", "run the same release everywhere")
    yield _skew("Router", status["wall"] - asked[0] - took_s / 2)
    yield from _store(status["store"])
    yield from _peers(admin, status)
    for each in admin.problems():
        yield Finding(ERROR if each["level"] == "critical" else WARNING, "problem", each["text"])


def _skew(who: str, skew_s: float) -> Finding:
    text = f"the clock of the {who} is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) > SKEW_S_MAX:
        return Finding(WARNING, "clock", text, "set both by NTP; times of jobs and schedules go by the Router's")
    return Finding(OK_, "clock", text)


def _store(store: Mapping[str, Any]) -> Iterator[Finding]:
    held = f"{some(store['results'], 'result')} and {some(store['dead'], 'dead job')}"
    facts = (
        f"{store['url']}: schema {store['schema']}, durability {store['durability']}, {store['bytes']:,} bytes, {held}"
    )
    yield Finding(OK_, "store", facts)
    if store["durability"] == "none" or store["url"] == "memory:":
        yield Finding(WARNING, "store", "jobs do not survive the Router's end", "durability = full, in a file")
    if store["free_bytes"] is not None:
        yield _free_space(store["free_bytes"])


def _peers(admin: Admin, status: Mapping[str, Any]) -> Iterator[Finding]:
    managers = admin.managers()
    peers = f"{some(len(managers), 'job manager')}, {some(status['schedulers'], 'scheduler')}"
    idle = "start one: eventmq jobmanager MODULE" if not managers else ""
    yield Finding(OK_ if managers else WARNING, "peers", peers, idle)
    for each in managers:
        version = each["about"].get("version", __version__ if each["wire"] == "2.0" else "of 2020")
        if version != status["version"]:
            yield Finding(WARNING, "peers", f"{each['name']} is EventMQ {version}", "run the same release everywhere")
        if abs(each["skew_s"]) > SKEW_S_MAX:
            yield _skew(f"job manager {each['name']}", each["skew_s"])
