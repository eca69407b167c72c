"""The verbs `eventmq queue …`: tell the Router about a queue, and what the queue is like then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from eventmq import values
from eventmq.cli import completion
from eventmq.cli.ask import asks, said_about, shows
from eventmq.cli.ending import Mistake
from eventmq.cli.flags import InOrder
from eventmq.cli.job import act, yes
from eventmq.cli.tables import Table, Told, facts, some, span
from eventmq.client.admin import Admin

verbs = InOrder()
NUMBERS = ("waiting", "delayed", "running", "processed", "managers", "free_slots")
named = click.argument("name", metavar="QUEUE", shell_complete=completion.queues)


@verbs.command("list")
@shows
def list_(admin: Admin) -> Told:
    """List the queues: what waits, runs, and is served, and what was said about them.

    \b
    eventmq queue list
    eventmq queue list --watch 2
    eventmq queue list -o jsonl                     for a program
    """
    told = admin.queues()
    rows = [_row(name, queue) for name, queue in told.items()]
    return Told(told, Table("Queues", ("queue", *NUMBERS, "oldest", "state"), rows))


def _row(name: str, queue: Mapping[str, Any]) -> tuple[Any, ...]:
    oldest = span(queue["oldest_s"]) if queue["waiting"] else ""
    return (name, *(queue[number] for number in NUMBERS), oldest, said_about(queue))


@verbs.command
@named
@shows
def show(admin: Admin, name: str) -> Told:
    """Show all that is known of a queue.

    \b
    eventmq queue show email
    """
    queue = admin.queue(name)
    return Told({"name": name, **queue}, facts("Queue", queue))


def _say(verb: str, say: Callable[[Admin, str], Mapping[str, Any]], help: str) -> None:
    @verbs.command(verb, help=f"{help}\n\n\b\neventmq queue {verb} email")
    @named
    @asks
    def tell(admin: Admin, name: str) -> Told:
        return _told(name, say(admin, name))


_say("pause", Admin.pause, "Hand out nothing of a queue until it is resumed, over restarts too. What runs goes on.")
_say("resume", Admin.resume, "End the pausing and the draining of a queue.")
_say("drain", Admin.drain, "Accept nothing new in a queue until it is resumed; what it has is handed out.")


@verbs.command
@named
@yes
@asks
def purge(admin: Admin, name: str, yes: bool, dry_run: bool) -> Told:
    """Cancel all that waits or is delayed in a queue. What runs goes on; dead jobs stay.

    \b
    eventmq queue purge email
    eventmq queue purge email --dry-run             how many that would be
    eventmq job list queue:email state:cancelled    what that was
    """
    return act(admin, "cancel", (), {"queue": name}, yes, dry_run)


@verbs.command
@named
@click.argument("jobs", metavar="JOBS|default")
@asks
def limit(admin: Admin, name: str, jobs: str) -> Told:
    """Refuse new jobs while so many wait or are delayed in a queue; default = as `queue_jobs_max` says.

    \b
    eventmq queue limit email 10000
    eventmq queue limit email default
    """
    try:
        jobs_max = None if jobs == "default" else values.whole(0, values.JOBS_MAX)(jobs)
    except ValueError as error:
        raise Mistake(f"a limit is {error}, or the word default, not {jobs!r}") from None
    return _told(name, admin.limit(name, jobs_max))


def _told(name: str, queue: Mapping[str, Any]) -> Told:
    now = f"{some(queue['waiting'], 'job')} waiting, {queue['delayed']:,} delayed, {queue['running']:,} running"
    managers = some(queue["managers"], "job manager")
    return Told(queue, text=f"{name} is {said_about(queue) or 'open'}: {now}, {managers}")
