"""`eventmq logs`: what goes on, line by line as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime

import click

from eventmq.broker.lifecycle import TERMINAL
from eventmq.cli.ask import streams
from eventmq.cli.flags import verb
from eventmq.cli.job import known
from eventmq.cli.tables import Said, iso, printable, some
from eventmq.client.admin import Admin
from eventmq.client.answers import LoggedLine

ASK_AGAIN_S = 0.5
"""Time between two looks while one follows: about as quick as what is looked for arrives."""

follow = click.option("-f", "--follow", is_flag=True, help="Go on as it comes.")


@verb
@click.argument("id")
@follow
@streams
def logs(admin: Admin, id: str, follow: bool) -> Iterator[Said]:
    """Show what a job has logged, over all its runs: the last lines, which the Router keeps in memory for a while.

    \b
    eventmq logs 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq logs -f 019be0a7c1e27b60b8d2f3b0c4c1a9d5     until it has ended
    """
    after, state = 0, ""
    while state not in TERMINAL:
        state = known(id, admin.job(id))["state"]
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
