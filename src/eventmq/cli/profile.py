"""`eventmq profile`: where the time of a running Router goes, from what it says of its loop at two times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from eventmq.broker.lifecycle import TERMINAL
from eventmq.cli.ask import asks
from eventmq.cli.flags import verb
from eventmq.cli.tables import Table, Told
from eventmq.client.admin import Admin


@verb
@click.option("--seconds", type=click.FloatRange(0.01), default=5.0, show_default=True, help="How long to look.")
@asks
def profile(admin: Admin, seconds: float) -> Told:
    """Show where the Router's time goes: receive, decide, commit, answer, send.

    \b
    eventmq profile --seconds 10
    eventmq profile --json
    """
    before = admin.ask("STATUS")
    time.sleep(seconds)
    return _told(between(before, admin.ask("STATUS")))


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What happened between two answers to STATUS of one Router.

    Returns:
        `seconds`, `turns`, `accepted`, `handed_out` and `ended` (jobs), `jobs_per_turn`, `busy` (the share of time that
        was not spent waiting), and `steps`: by step `share`, `us_per_turn`, `us_per_job`. A job is one of those that
        ended or that were accepted, whichever were more.
    """
    seconds, turns = after["uptime_s"] - before["uptime_s"], after["turns"] - before["turns"]
    accepted = _grown(before["counts"], after["counts"], "accepted")
    ended = _grown(before["counts"], after["counts"], *TERMINAL)
    processed = before["processed_messages_by_queue"], after["processed_messages_by_queue"]
    handed_out = _grown(*processed, *processed[1])
    jobs = max(accepted, ended)
    spent_s = {step: after["spent_s"][step] - before["spent_s"][step] for step in after["spent_s"]}
    whole_s = sum(spent_s.values()) or 1.0
    steps = {
        step: {
            "share": spent / whole_s,
            "us_per_turn": 1e6 * spent / max(turns, 1),
            "us_per_job": 1e6 * spent / jobs if jobs else None,
        }
        for step, spent in spent_s.items()
    }
    return {
        "seconds": seconds,
        "turns": turns,
        "accepted": accepted,
        "handed_out": handed_out,
        "ended": ended,
        "jobs_per_turn": jobs / max(turns, 1),
        "busy": 1 - spent_s["wait"] / whole_s,
        "steps": steps,
    }


def _grown(before: Mapping[str, int], after: Mapping[str, int], *names: str) -> int:
    return sum(after.get(name, 0) - before.get(name, 0) for name in names)


def _told(found: dict[str, Any]) -> Told:
    rows = [
        (
            step,
            f"{each['share']:.1%}",
            round(each["us_per_turn"], 1),
            "" if each["us_per_job"] is None else round(each["us_per_job"], 2),
        )
        for step, each in found["steps"].items()
    ]
    text = (
        f"{found['busy']:.0%} busy in {found['seconds']:.1f} s: {found['turns']:,} turns of "
        f"{found['jobs_per_turn']:.1f} jobs; "
        f"{found['accepted']:,} accepted, {found['handed_out']:,} handed out, {found['ended']:,} ended"
    )
    return Told(found, Table("The Router's loop", ("step", "share", "us/turn", "us/job"), rows), text)
