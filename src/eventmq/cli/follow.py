"""`eventmq logs` and `eventmq events`: what goes on, line by line as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from eventmq.broker.lifecycle import TERMINAL
from eventmq.cli import completion
from eventmq.cli.ask import asks
from eventmq.cli.flags import verb
from eventmq.cli.tables import Said, iso, printable, some
from eventmq.client.admin import Admin
from eventmq.protocol.answers import LoggedLine

ASK_AGAIN_S = 0.5
"""Time between two looks while one follows: about as quick as what is looked for arrives."""

follow = click.option("-f", "--follow", is_flag=True, help="Go on as it comes.")


@verb
@click.argument("id")
@follow
@asks
def logs(admin: Admin, id: str, follow: bool) -> Iterator[Said]:
    """Show what a job has logged, over all its runs: the last lines, which the Router keeps in memory for a while.

    \b
    eventmq logs 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq logs -f 019be0a7c1e27b60b8d2f3b0c4c1a9d5     until it has ended
    """
    after, state = 0, ""
    while state not in TERMINAL:
        state = admin.job(id)["state"]
        page = admin.logs(id, after)
        if page.missed:
            note(f"{some(page.missed, 'line')} before these are not kept any more")
        for line in page.lines:
            yield Said(line, _line(line))
        after = page.next
        if not follow:
            break
        if state not in TERMINAL:
            time.sleep(ASK_AGAIN_S)
    if not after:
        note(f"job {id} is {state}, and no lines of it are kept: it has logged none lately")
    elif follow:
        note(f"job {id} is {state}")


@verb
@follow
@click.option("--seconds", type=click.FloatRange(0), default=5.0, show_default=True, help="How long, without -f.")
@click.option("--event", "wanted", multiple=True, metavar="WORD", help="Only these: dead, started, manager_lost, …")
@click.option("--queue", default="", metavar="NAME", help="Only of this queue.", shell_complete=completion.queues)
@asks
def events(admin: Admin, follow: bool, seconds: float, wanted: Sequence[str], queue: str) -> Iterator[Said]:
    """Show what happens from now on: jobs come, begin, fail and end, managers come and go, operators say something.

    Of a busy system it is a sample: how many were left out is said on stderr.

    \b
    eventmq events -f
    eventmq events -f --event dead --event lost -o jsonl
    eventmq events --seconds 60 --queue email
    """
    page = admin.events()
    until = time.monotonic() + seconds
    while follow or time.monotonic() < until:
        time.sleep(ASK_AGAIN_S)
        page = admin.events(page.next)
        if page.missed:
            note(f"{some(page.missed, 'event')} more: too many to tell")
        for event in page.events:
            if (not wanted or event["event"] in wanted) and (not queue or event.get("queue") == queue):
                yield Said(event, _event(event))


def _event(event: Mapping[str, Any]) -> str:
    subject = next((event[name] for name in ("id", "manager", "schedule") if name in event), "")
    told = (subject, *(event.get(name, "") for name in ("queue", "name", "worker", "error")))
    return "\t".join([clock(event["at"]), event["event"], *map(printable, told)])


def _line(line: LoggedLine) -> str:
    first, *rest = line["text"].splitlines() or [""]
    head = f"{clock(line['at'])}\t{line['level']}\t#{line['attempt']}\t{printable(first)}"
    return "\n".join([head, *(f"    {printable(text)}" for text in rest)])


def clock(at: float) -> str:
    """A moment at the head of a line: the time of day for people, all of it for programs."""
    if sys.stdout.isatty():
        return datetime.fromtimestamp(at).isoformat(timespec="milliseconds")[11:]
    return iso(at)


def note(text: str) -> None:
    """What is said beside the lines."""
    print(f"eventmq: {text}", file=sys.stderr)
