"""`eventmq top` and `eventmq profile`: what goes on, and where the Router's time goes, from two looks at the Router.

`picture` and `between` are pure; a picture fits into the lines that there are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from eventmq.broker.lifecycle import TERMINAL
from eventmq.cli.ask import asks, router
from eventmq.cli.ending import OK
from eventmq.cli.flags import asking, options, verb
from eventmq.cli.tables import Table, Told, drawn, printable, some, span
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.limits import LIST_JOBS_MAX
from eventmq.protocol.administration import Selection
from eventmq.protocol.answers import ListedJob, Problem, ShownQueue

if TYPE_CHECKING:
    from rich.console import Group

FIRST_S = 0.5
"""The first picture comes so long after the first look: rates need two."""

PROBLEMS_SHOWN = 3
TABLE_LINES = 3
"""Lines of a table besides its rows: an empty one, title, headings."""


class Look(NamedTuple):
    """What was seen at one time: the answers to METRICS, QUEUES, WORKERS, JOBS and PROBLEMS."""

    at: float
    numbers: Mapping[str, Any]
    queues: Mapping[str, ShownQueue]
    managers: Sequence[Mapping[str, Any]]
    running: Sequence[ListedJob]
    problems: Sequence[Problem]


@verb
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between pictures.")
@click.option("--once", is_flag=True, help="One picture, and end: so it is in a pipe, too.")
@options(asking)
def top(config: str | None, addr: str | None, timeout: float, every: float, once: bool) -> int:
    """Watch the system live: problems, queues with depth, rate and oldest job, what runs, job managers. Ctrl-C ends it.

    \b
    eventmq top
    eventmq top --every 5
    eventmq top --once
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with router(config, addr, timeout) as admin:
        before = look(admin)
        time.sleep(min(every, FIRST_S))
        now = look(admin)
        if once or not sys.stdout.isatty():
            console.print(picture(before, now, *console.size))
            return OK
        try:
            with Live(picture(before, now, *console.size), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(every)
                    try:
                        before, now = now, look(admin)
                    except BrokerUnavailable as error:
                        live.update(f"{error} Trying again.", refresh=True)
                        continue
                    live.update(picture(before, now, *console.size), refresh=True)
        except KeyboardInterrupt:
            return OK


def look(admin: Admin) -> Look:
    """Asks the Router for all that is shown."""
    running = admin.page(Selection(states=["running"], limit=LIST_JOBS_MAX)).jobs
    return Look(time.time(), admin.metrics(), admin.queues(), admin.managers(), running, admin.problems())


# ---- drawing ---------------------------------------------------------------------------------------------


def picture(before: Look, now: Look, width: int, height: int) -> Group:
    """What `now` looks like in so many columns and lines; rates are what has changed since `before`."""
    from rich.console import Group
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(text, style=style, overflow="ellipsis", no_wrap=True)

    shown = [line(_headline(before, now), "bold")]
    for each in now.problems[:PROBLEMS_SHOWN]:
        style = "red" if each["level"] == "critical" else "yellow"
        shown.append(line(f"{each['level'].upper()}: {printable(each['text'])}", style))
    tables = _queues(before, now), _running(now), _managers(now)
    rooms = shared([len(table.rows) for table in tables], height - 1 - len(shown) - TABLE_LINES * len(tables))
    for table, room in zip(tables, rooms, strict=True):
        title, table = first(table, room)
        shown += [line(""), line(title, "bold"), *map(line, drawn(table, width))]
    return Group(*shown)


def shared(wanted: Sequence[int], lines: int) -> list[int]:
    """Lines for each table, at least one: equal parts, and what one does not need is for those after it."""
    given = []
    for number, want in enumerate(wanted):
        part = max(1, min(want, lines // (len(wanted) - number)))
        given.append(part)
        lines -= part
    return given


def first(table: Table, room: int) -> tuple[str, Table]:
    """The table with so many rows, and its title with its number of rows if there are more."""
    title = f"{table.title} ({room:,} of {len(table.rows):,})" if len(table.rows) > room else table.title
    return title, table._replace(rows=table.rows[:room])


def _headline(before: Look, now: Look) -> str:
    counts, then, seconds = now.numbers["counts"], before.numbers["counts"], max(now.at - before.at, 1e-3)
    came, ended = (max(_grown(then, counts, *names), 0) / seconds for names in (("accepted",), TERMINAL))
    slots = now.numbers["leases"] + now.numbers["credits"]
    return (
        f"EventMQ  up {span(now.numbers['uptime_s'])}  {now.numbers['leases']:,} of {slots:,} slots busy  "
        f"{came:,.0f} in/s  {ended:,.0f} out/s  {now.numbers['store']['dead']:,} dead  "
        f"{some(len(now.problems), 'problem')}"
    )


def _queues(before: Look, now: Look) -> Table:
    seconds = max(now.at - before.at, 1e-3)
    rows = []
    for name, each in now.queues.items():
        then = before.queues.get(name, each)
        state = "paused" if each["paused"] else "draining" if each["draining"] else ""
        rate = f"{max(each['processed'] - then['processed'], 0) / seconds:,.1f}"
        numbers = (each["waiting"], each["delayed"], each["running"])
        rows.append((name, *numbers, rate, span(each["oldest_s"]) if each["waiting"] else "", each["managers"], state))
    columns = ("queue", "waiting", "delayed", "running", "begun/s", "oldest", "workers", "state")
    return Table("Queues", columns, sorted(rows, key=lambda row: (-row[1], -row[3], row[0])))


def _running(now: Look) -> Table:
    jobs = sorted(now.running, key=lambda job: job["started"] or now.at)
    rows = [(job["id"], span(max(now.at - (job["started"] or now.at), 0.0)), job["queue"], job["name"]) for job in jobs]
    return Table("Running, longest first", ("id", "for", "queue", "calls"), rows)


def _managers(now: Look) -> Table:
    rows = [
        (each["name"], each["running"], each["available_slots"], span(each["silent_s"]), "draining" * each["draining"])
        for each in now.managers
    ]
    return Table("Job managers", ("name", "running", "free", "heard", "state"), sorted(rows))


# ---- the Router's loop -------------------------------------------------------------------------------------


@verb
@click.option("--seconds", type=click.FloatRange(0.01), default=5.0, show_default=True, help="How long to look.")
@asks
def profile(admin: Admin, seconds: float) -> Told:
    """Show where the Router's time goes: receive, decide, commit, answer, send, upkeep.

    \b
    eventmq profile --seconds 10
    eventmq profile --json
    """
    before = admin.ask("STATUS")
    time.sleep(seconds)
    return _of_loop(between(before, admin.ask("STATUS")))


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What happened between two answers to STATUS of one Router.

    Returns:
        `seconds`, `turns`, `accepted`, `handed_out` and `ended` (jobs), `jobs_per_turn`, `busy` (the share of time that
        was not spent waiting), and `steps`: by step `share`, `us_per_turn`, `us_per_job`. A job is one of those that
        ended or that were accepted, whichever were more.
    """
    seconds, turns = after["uptime_s"] - before["uptime_s"], after["turns"] - before["turns"]
    accepted = _grown(before["counts"], after["counts"], "accepted")
    ended = _grown(before["counts"], after["counts"], *TERMINAL)
    processed = before["processed_messages_by_queue"], after["processed_messages_by_queue"]
    handed_out = _grown(*processed, *processed[1])
    jobs = max(accepted, ended)
    spent_s = {step: after["spent_s"][step] - before["spent_s"][step] for step in after["spent_s"]}
    whole_s = sum(spent_s.values()) or 1.0
    steps = {
        step: {
            "share": spent / whole_s,
            "us_per_turn": 1e6 * spent / max(turns, 1),
            "us_per_job": 1e6 * spent / jobs if jobs else None,
        }
        for step, spent in spent_s.items()
    }
    return {
        "seconds": seconds,
        "turns": turns,
        "accepted": accepted,
        "handed_out": handed_out,
        "ended": ended,
        "jobs_per_turn": jobs / max(turns, 1),
        "busy": 1 - spent_s["wait"] / whole_s,
        "steps": steps,
    }


def _grown(before: Mapping[str, int], after: Mapping[str, int], *names: str) -> int:
    return sum(after.get(name, 0) - before.get(name, 0) for name in names)


def _of_loop(found: dict[str, Any]) -> Told:
    rows = [
        (
            step,
            f"{each['share']:.1%}",
            round(each["us_per_turn"], 1),
            "" if each["us_per_job"] is None else round(each["us_per_job"], 2),
        )
        for step, each in found["steps"].items()
    ]
    text = (
        f"{found['busy']:.0%} busy in {found['seconds']:.1f} s: {found['turns']:,} turns of "
        f"{found['jobs_per_turn']:.1f} jobs; "
        f"{found['accepted']:,} accepted, {found['handed_out']:,} handed out, {found['ended']:,} ended"
    )
    return Told(found, Table("The Router's loop", ("step", "share", "us/turn", "us/job"), rows), text)
