"""The verbs `eventmq manager …`."""

from __future__ import annotations

import click

from eventmq.cli.ask import asks
from eventmq.cli.flags import HELP, InOrder
from eventmq.cli.tables import Told, some
from eventmq.client.admin import Admin
from eventmq.errors import EventMQError

verbs = InOrder()


@verbs.command(**HELP)
@click.argument("name", metavar="NAME")
@asks
def drain(admin: Admin, name: str) -> Told:
    """Let a job manager finish what it runs, give back the rest, and end; `eventmq workers` lists the names."""
    told = admin.ask("DRAIN_MANAGER", manager=name)
    if not told:
        raise EventMQError(f"no job manager named {name!r} is connected; `eventmq workers` lists their names")
    return Told(told, text=f"{name}: told to leave; it has {some(sum(told.values()), 'job')}.")
