"""The verbs `eventmq job`, `eventmq queue` and `eventmq manager`: their flags and help. What they do is in `acts`."""

from __future__ import annotations

from typing import Any

import click

from eventmq.cli.flags import CONTEXT, EPILOG, InOrder, as_json, asking, load, options

STATES = ("waiting", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "lost")

filters = options(
    click.option("--queue", metavar="NAME", default="", help="Jobs of this queue only."),
    click.option("--name", metavar="CALL", default="", help="Jobs that call this only: module.function."),
    click.option("--error", metavar="TEXT", default="", help="Jobs with this in their failure's type or message only."),
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _connection(flags: dict[str, Any]) -> tuple[str, float]:
    """The Router's address and the patience, out of the flags."""
    settings = load("admin", flags.pop("config"), administrative_addr=flags.pop("addr"))
    return settings.administrative_addr, flags.pop("timeout")


# ---- jobs ------------------------------------------------------------------------------------------------


@click.group(cls=InOrder, context_settings=CONTEXT, epilog=EPILOG)
def job() -> None:
    """List, show, requeue, purge and cancel jobs."""


@job.command("list", context_settings=CONTEXT, epilog=EPILOG)
@click.option("--state", type=click.Choice(STATES), help="Jobs in this state only.")
@filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Jobs to list at most.")
@options(asking, as_json)
def list_(as_json: bool, limit: int, **flags: Any) -> int:
    """List jobs, newest first. All filters have to fit.

    \b
    eventmq job list --state dead                          what failed for good
    eventmq job list --state dead --error ConnectionError  … because of the network
    eventmq job list --queue email --limit 1000 --json     for a program
    """
    from eventmq.cli import acts

    return acts.list_jobs(*_connection(flags), flags, limit, as_json)


@job.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("id")
@options(asking, as_json)
def show(as_json: bool, id: str, **flags: Any) -> int:
    """Show everything about one job: arguments, times, value, failure with its traceback."""
    from eventmq.cli import acts

    return acts.show_job(*_connection(flags), id, as_json)


@job.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--state", type=click.Choice(("dead", "lost", "expired")), help="Default: dead.")
@filters
@options(yes, asking, as_json)
def requeue(ids: tuple[str, ...], yes: bool, as_json: bool, **flags: Any) -> int:
    """Let jobs that died, were lost or expired wait again: those with these IDs, or all that fit.

    Each keeps its id and has all its retries before it again.

    \b
    eventmq job requeue 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job requeue --queue email --error ConnectionError
    eventmq job requeue --name shop.tasks.charge --yes
    """
    from eventmq.cli import acts

    return acts.act(acts.REQUEUE, *_connection(flags), ids, flags, yes, as_json)


@job.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--state", type=click.Choice(STATES[3:]), help="Default: dead.")
@filters
@options(yes, asking, as_json)
def purge(ids: tuple[str, ...], yes: bool, as_json: bool, **flags: Any) -> int:
    """Forget jobs that have ended, for good: those with these IDs, or all that fit.

    \b
    eventmq job purge 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job purge --queue email --error "no such user"
    eventmq job purge --state cancelled --yes
    """
    from eventmq.cli import acts

    return acts.act(acts.PURGE, *_connection(flags), ids, flags, yes, as_json)


@job.command(context_settings=CONTEXT, epilog=EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options(asking, as_json)
def cancel(ids: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Call jobs off: what waits does not run, and what runs is stopped."""
    from eventmq.cli import acts

    return acts.cancel(*_connection(flags), ids, as_json)


# ---- queues ----------------------------------------------------------------------------------------------


@click.group(cls=InOrder, context_settings=CONTEXT, epilog=EPILOG)
def queue() -> None:
    """List, pause, resume, drain, purge and bound queues."""


@queue.command("list", context_settings=CONTEXT, epilog=EPILOG)
@options(asking, as_json)
def list_queues(as_json: bool, **flags: Any) -> int:
    """List the queues: what waits, runs, and is served, and what was said about them."""
    from eventmq.cli import ask

    address, timeout_s = _connection(flags)
    return ask.answer("queues", address, timeout_s, as_json)


def _act_on_queue(verb: str, help: str) -> None:
    @queue.command(verb, help=help, context_settings=CONTEXT, epilog=EPILOG)
    @click.argument("name", metavar="QUEUE")
    @options(asking, as_json)
    def act(name: str, as_json: bool, **flags: Any) -> int:
        from eventmq.cli import acts

        return acts.tell_queue(verb, *_connection(flags), name, as_json)


_act_on_queue("pause", "Hand out nothing of a queue until it is resumed, not even after a restart. What runs goes on.")
_act_on_queue("resume", "End the pausing and the draining of a queue.")
_act_on_queue(
    "drain",
    """Accept nothing new in a queue until it is resumed; what it has is handed out.

    \b
    eventmq queue drain email      before its code is taken away
    eventmq queue list             until nothing waits, is delayed or runs
    eventmq queue resume email
    """,
)


@queue.command("purge", context_settings=CONTEXT, epilog=EPILOG)
@click.argument("name", metavar="QUEUE")
@options(yes, asking, as_json)
def purge_queue(name: str, yes: bool, as_json: bool, **flags: Any) -> int:
    """Cancel all that waits or is delayed in a queue. What runs goes on; dead jobs stay.

    \b
    eventmq queue purge email
    eventmq job list --queue email --state cancelled       what that was
    """
    from eventmq.cli import acts

    which = {"state": "waiting", "queue": name}
    return acts.act(acts.CALL_OFF, *_connection(flags), (), which, yes, as_json)


@queue.command("limit", context_settings=CONTEXT, epilog=EPILOG)
@click.argument("name", metavar="QUEUE")
@click.argument("jobs", metavar="JOBS|default")
@options(asking, as_json)
def limit(name: str, jobs: str, as_json: bool, **flags: Any) -> int:
    """Refuse new jobs while so many wait or are delayed in a queue; default = as `queue_jobs_max` says.

    \b
    eventmq queue limit email 10000
    eventmq queue limit email default
    """
    from eventmq.cli import acts

    return acts.limit_queue(*_connection(flags), name, jobs, as_json)


# ---- job managers ----------------------------------------------------------------------------------------


@click.group(cls=InOrder, context_settings=CONTEXT, epilog=EPILOG)
def manager() -> None:
    """Tell job managers to leave."""


@manager.command("drain", context_settings=CONTEXT, epilog=EPILOG)
@click.argument("name", metavar="NAME")
@options(asking, as_json)
def drain_manager(name: str, as_json: bool, **flags: Any) -> int:
    """Let a job manager finish what it runs, give back the rest, and end; `eventmq workers` lists the names."""
    from eventmq.cli import acts

    return acts.drain_manager(*_connection(flags), name, as_json)
