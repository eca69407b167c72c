"""The verbs `eventmq manager …`."""

from __future__ import annotations

from typing import Any

import click

from eventmq.cli import ask, completion
from eventmq.cli.ask import asks, shows
from eventmq.cli.ending import NotFound
from eventmq.cli.flags import HELP, InOrder
from eventmq.cli.tables import Told, facts, some
from eventmq.client.admin import Admin

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
    told = _known(name, [each for each in admin.managers() if each["name"] == name])
    return Told(told[0], facts("Job manager", {**told[0], **told[0]["about"]}))


@verbs.command(**HELP)
@named
@asks
def drain(admin: Admin, name: str) -> Told:
    """Let a job manager finish what it runs, give back the rest, and end; `eventmq manager list` lists the names.

    \b
    eventmq manager drain host-4711
    """
    told = _known(name, admin.ask("DRAIN_MANAGER", manager=name))
    return Told(told, text=f"{name}: told to leave; it has {some(sum(told.values()), 'job')}.")


def _known(name: str, told: Any) -> Any:
    if not told:
        raise NotFound(f"no job manager named {name!r} is connected; `eventmq manager list` lists their names")
    return told
