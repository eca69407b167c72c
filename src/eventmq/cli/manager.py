"""The verbs `eventmq manager …`."""

from __future__ import annotations

import click

from eventmq.cli import ask, completion
from eventmq.cli.ask import asks, shows
from eventmq.cli.flags import HELP, InOrder
from eventmq.cli.tables import Told, facts, some
from eventmq.client.admin import NO_MANAGER, Admin
from eventmq.errors import NotFound

verbs = InOrder(**HELP)
named = click.argument("name", metavar="NAME", shell_complete=completion.managers)


@verbs.command("list", **HELP)
@shows
def list_(admin: Admin) -> Told:
    """List the job managers that are connected: what they serve, run, and have free.

    \b
    eventmq manager list
    eventmq manager list --watch 2
    eventmq manager list -o id                      their names
    """
    told = admin.managers()
    return Told(told, ask.managers(told))


@verbs.command(**HELP)
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


@verbs.command(**HELP)
@named
@asks
def drain(admin: Admin, name: str) -> Told:
    """Let a job manager finish what it runs, give back the rest, and end; `eventmq manager list` lists the names.

    \b
    eventmq manager drain host-4711
    """
    jobs = admin.drain_manager(name)
    return Told({"name": name, "jobs": jobs}, text=f"{name}: told to leave; it has {some(jobs, 'job')}.")
