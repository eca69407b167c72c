"""The verbs `eventmq job …`: ask the Router, act through it, and tell what came of it.

An act on jobs that nobody has named one by one states their number and asks first, and shows the number as it goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import click

from eventmq.cli.ask import asks, shows
from eventmq.cli.ending import FAILED, OK, Mistake
from eventmq.cli.flags import HELP, InOrder, options
from eventmq.cli.tables import Moment, Table, Told, facts, some
from eventmq.client.admin import Admin, Count, ListedJob
from eventmq.errors import JobNotFound
from eventmq.limits import LIST_JOBS_MAX, NEWEST
from eventmq.protocol.administration import STATES, Selection

filters = options(
    click.option("--queue", metavar="NAME", default="", help="Jobs of this queue only."),
    click.option("--name", metavar="CALL", default="", help="Jobs that call this only: module.function."),
    click.option("--error", metavar="TEXT", default="", help="Jobs with this in their failure's type or message only."),
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")

verbs = InOrder(**HELP)


def _state(states: tuple[str, ...], help: str) -> Callable[[Any], Any]:
    return click.option("--state", "states", type=click.Choice(states), multiple=True, help=help)


# ---- one by one -------------------------------------------------------------------------------------------


@verbs.command("list", **HELP)
@_state(STATES, "Jobs in this state only; may be given several times.")
@filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Jobs to list at most.")
@shows
def list_(admin: Admin, limit: int, **filters: Any) -> Told:
    """List jobs, newest first. All filters have to fit.

    \b
    eventmq job list --state dead                          what failed for good
    eventmq job list --state dead --error ConnectionError  … because of the network
    eventmq job list --queue email --limit 1000 --json     for a program
    """
    selection = _selection((), filters, ())
    selection.limit = min(limit, LIST_JOBS_MAX)
    jobs = list(islice(admin.jobs(selection), limit))
    columns = ("id", "state", "queue", "name", "attempt", "since", "error")
    return Told(jobs, Table("Jobs", columns, [_row(job) for job in jobs]))


def _row(job: ListedJob) -> tuple[Any, ...]:
    since = job["finished"] or job["started"] or job["created"]
    start = (job["id"], job["state"], job["queue"], job["name"], job["attempt"])
    return (*start, Moment(since), job["error"] or "")


@verbs.command(**HELP)
@click.argument("id")
@shows
def show(admin: Admin, id: str) -> Told:
    """Show everything about one job: arguments, times, value, failure with its traceback.

    \b
    eventmq job show 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    """
    told = admin.job(id)
    if told is None:
        raise JobNotFound(f"there is no job {id}: never accepted, forgotten since, or purged", id)
    failure = told["failure"] or {}
    known = {what: value for what, value in told.items() if what != "failure"}
    known |= {f"failure {what}": failure[what] for what in ("type", "message") if failure}
    return Told(told, facts("Job", known), failure.get("traceback", ""))


@verbs.command(**HELP)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@asks
def cancel(admin: Admin, ids: tuple[str, ...]) -> Told:
    """Call jobs off: what waits does not run, and what runs is stopped.

    It does not wait for that: `stopping` is a job that runs and is told to stop. It does not count any more, and is
    killed if it has not stopped within 5 s.

    \b
    eventmq job cancel 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    """
    told = admin.cancel_named(list(ids))
    table = Table("Jobs", ("id", "what became of it"), list(told.items()))
    return Told(told, table, code=FAILED if "unknown" in told.values() else OK)


# ---- many -------------------------------------------------------------------------------------------------


class Act(NamedTuple):
    """Something that is done to many jobs.

    Attributes:
        question: As in `Requeue 12 jobs?`.
        done: As in `requeued 12 jobs`; in JSON, the key of the number.
        method: What does it.
    """

    question: str
    done: str
    method: Callable[..., int]


REQUEUE = Act("Requeue", "requeued", Admin.requeue)
PURGE = Act("Forget", "purged", Admin.purge)
CALL_OFF = Act("Cancel", "cancelled", Admin.cancel)


@verbs.command(**HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_state(("dead", "lost", "expired"), "Default: dead.")
@filters
@yes
@asks
def requeue(admin: Admin, ids: tuple[str, ...], yes: bool, **filters: Any) -> Told:
    """Let jobs that died, were lost or expired wait again: those with these IDs, or all that fit.

    Each keeps its id and has all its retries before it again.

    \b
    eventmq job requeue 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job requeue --queue email --error ConnectionError
    eventmq job requeue --name shop.tasks.charge --yes
    """
    return act(admin, REQUEUE, ids, filters, yes)


@verbs.command(**HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_state(STATES[3:], "Default: dead.")
@filters
@yes
@asks
def purge(admin: Admin, ids: tuple[str, ...], yes: bool, **filters: Any) -> Told:
    """Forget jobs that have ended, for good: those with these IDs, or all that fit.

    \b
    eventmq job purge 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job purge --queue email --error "no such user"
    eventmq job purge --state cancelled --yes
    """
    return act(admin, PURGE, ids, filters, yes)


def act(admin: Admin, what: Act, ids: Sequence[str], filters: Mapping[str, Any], yes: bool) -> Told:
    """Does something to the jobs with these ids, or to all that fit, after asking.

    Raises:
        Mistake: There is nobody to ask.
    """
    selection = _selection(ids, filters, ("dead",))
    count = Count(NEWEST, NEWEST)
    if not ids and not yes:
        if not sys.stdin.isatty():
            instead = "" if what is CALL_OFF else ", or name ids"
            raise Mistake(f"this concerns {_named(filters, selection)}, and there is nobody to ask; add --yes{instead}")
        count = admin.count(selection)
        if not click.confirm(f"{what.question} {some(count.jobs, 'job')}: {_named(filters, selection)}?"):
            return Told({what.done: 0}, text="Nothing was changed.", code=FAILED)
    selection.before = count.newest
    done = what.method(admin, selection, _going(what.done) if sys.stderr.isatty() else None, count.jobs)
    left = max(len(set(ids)) - done, 0)
    text = f"{what.done} {some(done, 'job')}" + (f"; not {left:,}, unknown or in another state" if left else "")
    return Told({what.done: done}, text=text, code=FAILED if left else OK)


def _named(filters: Mapping[str, Any], selection: Selection) -> str:
    """A selection in words."""
    state = " or ".join(selection.states)
    given = {"state": state, **{name: value for name, value in filters.items() if value and name != "states"}}
    return "all jobs with " + ", ".join(f"{name} {value!r}" for name, value in given.items())


def _selection(ids: Sequence[str], filters: Mapping[str, Any], states: Sequence[str]) -> Selection:
    """What the flags select; `states` if they say no state and name no ids."""
    given = {name: value for name, value in filters.items() if value}
    said = given.pop("states", () if ids else states)
    return Selection(states=list(said), ids=list(ids) or None, **given)


def _going(done: str) -> Callable[[int], None]:
    """Shows a number that grows, on a line that it takes away with the next one."""
    return lambda count: print(f"{done} {some(count, 'job')} so far\r", end="", file=sys.stderr, flush=True)
