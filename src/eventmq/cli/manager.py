"""The verbs `eventmq manager …`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from eventmq.cli import completion
from eventmq.cli.ask import asks, shows
from eventmq.cli.flags import InOrder
from eventmq.cli.tables import Table, Told, facts, some, span
from eventmq.client.admin import NO_MANAGER, Admin
from eventmq.errors import NotFound

verbs = InOrder()
named = click.argument("name", metavar="NAME", shell_complete=completion.managers)


@verbs.command("list")
@shows
def list_(admin: Admin) -> Told:
    """List the job managers that are connected: what they serve, run, and have free.

    \b
    eventmq manager list
    eventmq manager list --watch 2
    eventmq manager list -o id                      their names
    """
    told = admin.managers()
    return Told(told, table(told))


@verbs.command
@named
@shows
def show(admin: Admin, name: str) -> Told:
    """Show all that is known of a job manager.

    \b
    eventmq manager show host-4711
    """
    told = next((each for each in admin.managers() if each["name"] == name), None)
    if told is None:
        raise NotFound(NO_MANAGER.format(name))
    return Told(told, facts("Job manager", {**told, **told["about"]}))


@verbs.command
@named
@asks
def drain(admin: Admin, name: str) -> Told:
    """Let a job manager finish what it runs, give back the rest, and end; `eventmq manager list` lists the names.

    \b
    eventmq manager drain host-4711
    """
    jobs = admin.drain_manager(name)
    return Told({"name": name, "jobs": jobs}, text=f"{name}: told to leave; it has {some(jobs, 'job')}.")


def table(told: Iterable[Mapping[str, Any]]) -> Table:
    """Job managers."""
    rows = [
        (
            each["name"],
            each["about"].get("host", ""),
            each["about"].get("pid", ""),
            ", ".join(f"{name}:{weight}" for weight, name in each["queues"]),
            each["running"],
            each["available_slots"],
            each["finished"],
            span(each["silent_s"]),
            "draining" if each["draining"] else "",
        )
        for each in told
    ]
    columns = ("name", "host", "pid", "queues", "running", "free", "finished", "heard", "state")
    return Table("Job managers", columns, sorted(rows, key=lambda row: str(row[0])))
