"""The verbs `eventmq schedule …`: what is due when, and what operators do about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from eventmq.cli.ask import asks
from eventmq.cli.flags import HELP, InOrder
from eventmq.cli.tables import Table, Told, span
from eventmq.client.admin import Admin
from eventmq.errors import JobNotFound
from eventmq.schedules import due as dues
from eventmq.schedules.rule import Rule, words, zone

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
    return (
        told["id"],
        told["words"],
        told["name"],
        due,
        *ran,
        ", ".join(word for word, is_so in states.items() if is_so),
    )


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
