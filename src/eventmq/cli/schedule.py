"""The verbs `eventmq schedule …`: what is due when, and what operators do about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import click

from eventmq.cli import completion
from eventmq.cli.ask import asks, shows
from eventmq.cli.ending import Mistake
from eventmq.cli.enqueue import json_as, sending
from eventmq.cli.flags import InOrder, config, frontend, options, output
from eventmq.cli.tables import Moment, Table, Told, tell
from eventmq.client.admin import Admin
from eventmq.errors import InvalidSchedule
from eventmq.schedules.due import coming
from eventmq.schedules.rule import MISFIRES, OVERLAPS, Rule, words

verbs = InOrder()
named = click.argument("id", shell_complete=completion.schedules)


@verbs.command("list")
@shows
def list_(admin: Admin) -> Told:
    """List the schedules: when each runs next, when it ran last, and what came of that.

    \b
    eventmq schedule list
    eventmq schedule list --watch
    eventmq schedule list -o json
    """
    told = [each | {"words": words(Rule(**each["rule"]))} for each in admin.schedules()]
    columns = ("id", "when", "calls", "next", "last run", "outcome", "state")
    return Told(told, Table("Schedules", columns, [_row(each) for each in told]))


def _row(told: Mapping[str, Any]) -> tuple[Any, ...]:
    last = told["last_run"]
    ran = (Moment(last["at"]), last["state"]) if last else ("never", "")
    due = "" if told["next"] is None else Moment(told["next"])
    states = {"paused": told["paused"], "OVERDUE": told["overdue"]}
    states["no scheduler"] = not (told["assigned"] or told["paused"])
    state = ", ".join(word for word, is_so in states.items() if is_so)
    return (told["id"], told["words"], told["name"], due, *ran, state)


@verbs.command
@click.argument("target", metavar="CALL")
@click.option("--every", "interval_secs", metavar="SPAN", help="At once, then this often: 90, 5m, 1h30m.")
@click.option("--cron", metavar="EXPRESSION", help="Five or six fields, or @hourly and its kin.")
@click.option("--tz", metavar="ZONE", help="Time zone of the expression. Default: UTC.")
@click.option("--name", metavar="NAME", help="Its name. Default: a key made of the call.")
@click.option("--args", metavar="JSON", default="[]", help="Positional arguments, as a list.")
@click.option("--kwargs", metavar="JSON", default="{}", help="Named arguments, as an object.")
@click.option("--queue", metavar="NAME", help="Queue of its jobs.")
@click.option("--run-count", type=click.IntRange(1), help="End after so many runs.")
@click.option("--nohaste", is_flag=True, default=None, help="Of --every: not at once.")
@click.option("--jitter", metavar="SPAN", help="Put each run off by up to this long.")
@click.option("--misfire", type=click.Choice(MISFIRES), help="What becomes of runs that are too late.")
@click.option("--grace", metavar="SPAN", help="How late is not too late. Default: 60.")
@click.option("--overlap", type=click.Choice(OVERLAPS), help="What happens when the run before has not ended.")
@options(frontend, config, output)
def add(config: str | None, scheduler_addr: str | None, form: str, target: str, **given: Any) -> int:
    """Have a job run again and again.

    \b
    eventmq schedule add shop.jobs.clean --every 5m
    eventmq schedule add shop.jobs.report --cron "0 9 * * 1-5" --tz Europe/Prague --name daily --args '["all"]'
    """
    from eventmq.client.schedules import schedule

    sending(config, scheduler_addr)
    args, kwargs = (json_as(f"--{name}", given.pop(name), kind) for name, kind in (("args", list), ("kwargs", dict)))
    try:
        id = schedule(target, None, args, kwargs, **given)
    except (InvalidSchedule, TypeError) as error:
        raise Mistake(str(error)) from None
    return tell(Told({"id": id}, text=id), form)


def _act(verb: str, done: str, help: str) -> None:
    @verbs.command(verb, help=f"{help}\n\n\b\neventmq schedule {verb} daily")
    @named
    @asks
    def act(admin: Admin, id: str) -> Told:
        return Told(admin.schedule(id, verb), text=f"schedule {id} {done}")


_act("remove", "is removed", "End a schedule. Jobs that it has made go on.")
_act("pause", "is paused", "Run nothing of a schedule until it is resumed, not even after a restart or a deploy.")
_act("resume", "runs again", "Let a schedule run again, from now on.")
_act("run", "runs now", "Run a schedule once, now, beside its times.")


@verbs.command("next")
@named
@click.argument("count", type=click.IntRange(1, 1_000), default=10)
@shows
def next_(admin: Admin, id: str, count: int) -> Told:
    """Show when a schedule runs next, COUNT times.

    \b
    eventmq schedule next daily 5
    """
    told = admin.schedule(id)
    shown = [*islice(coming(Rule(**told["rule"]), told, time.time()), count)]
    return Told(shown, text="\n".join(shown))
