"""The verbs `eventmq schedule …`: what is due when, and what operators do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from eventmq.cli.ask import asks
from eventmq.cli.ending import Mistake
from eventmq.cli.flags import HELP, InOrder, as_json, config, load, options
from eventmq.cli.tables import Table, Told, span, tell
from eventmq.client.admin import Admin
from eventmq.errors import InvalidSchedule, JobNotFound
from eventmq.schedules import due as dues
from eventmq.schedules.rule import MISFIRES, OVERLAPS, Rule, words, zone

verbs = InOrder()


@verbs.command("list", **HELP)
@asks
def list_(admin: Admin) -> Told:
    """List the schedules: when each runs next, when it ran last, and what came of that."""
    told = [each | {"words": words(Rule(**each["rule"]))} for each in admin.schedules()]
    now = time.time()
    columns = ("id", "when", "calls", "next", "last run", "outcome", "state")
    return Told(told, Table("Schedules", columns, [_row(each, now) for each in told]))


def _row(told: Mapping[str, Any], now: float) -> tuple[str, ...]:
    last = told["last_run"]
    ran = (f"{span(max(now - last['at'], 0.0))} ago", last["state"]) if last else ("never", "")
    due = "" if told["next"] is None else f"in {span(told['next'] - now)}" if told["next"] > now else "now"
    states = {"paused": told["paused"], "OVERDUE": told["overdue"]}
    states["no scheduler"] = not (told["assigned"] or told["paused"])
    state = ", ".join(word for word, is_so in states.items() if is_so)
    return (told["id"], told["words"], told["name"], due, *ran, state)


@verbs.command(**HELP)
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
@click.option("-B", "--broker-addr", "scheduler_addr", metavar="ADDR", help="The Router's frontend address.")
@options(config, as_json)
def add(config: str | None, scheduler_addr: str | None, as_json: bool, target: str, **given: Any) -> int:
    """Have a job run again and again.

    \b
    eventmq schedule add shop.jobs.clean --every 5m
    eventmq schedule add shop.jobs.report --cron "0 9 * * 1-5" --tz Europe/Prague --name daily --args '["all"]'
    """
    from eventmq.client.default import configure
    from eventmq.client.schedules import schedule
    from eventmq.net import address

    given_addr = scheduler_addr or load("client", config).broker_addr or None
    settings = load("scheduler", config, scheduler_addr=given_addr)
    configure(broker_addr=address.reachable(settings.scheduler_addr))
    args, kwargs = (_json(f"--{name}", given.pop(name), kind) for name, kind in (("args", list), ("kwargs", dict)))
    try:
        id = schedule(target, None, args, kwargs, **given)
    except (InvalidSchedule, TypeError) as error:
        raise Mistake(str(error)) from None
    return tell(Told({"id": id}, text=id), as_json)


def _json(flag: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise Mistake(f"{flag} is {text!r}, expected a JSON {'list' if kind is list else 'object'}")
    return value


def _act(verb: str, done: str, help: str) -> None:
    @verbs.command(verb, help=help, **HELP)
    @click.argument("id")
    @asks
    def act(admin: Admin, id: str) -> Told:
        return Told(_known(id, admin.schedule(id, verb.removesuffix("-now"))), text=f"schedule {id} {done}")


_act("remove", "is removed", "End a schedule. Jobs that it has made go on.")
_act("pause", "is paused", "Run nothing of a schedule until it is resumed, not even after a restart or a deploy.")
_act("resume", "runs again", "Let a schedule run again, from now on.")
_act("run-now", "runs now", "Run a schedule once, now, beside its times.")


@verbs.command("next", **HELP)
@click.argument("id")
@click.argument("count", type=click.IntRange(1, 1_000), default=10)
@asks
def next_(admin: Admin, id: str, count: int) -> Told:
    """Show when a schedule runs next, COUNT times."""
    told = _known(id, next(admin.schedules(id), None))
    rule = Rule(**told["rule"])
    behind = max(told["last"], time.time() - rule.grace_s) if told["runs"] else told["last"]
    place = zone(rule.tz) if rule.cron else UTC
    coming = islice(dues.times(rule, told["anchor"], behind), count)
    shown = [datetime.fromtimestamp(due, place).isoformat(" ", "seconds") for due in coming]
    return Told(shown, text="\n".join(shown))


def _known(id: str, told: dict[str, Any] | None) -> dict[str, Any]:
    if told is None:
        raise JobNotFound(f"there is no schedule {id}; `eventmq schedules` lists them", id)
    return told
