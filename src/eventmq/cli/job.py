"""The verbs `eventmq job …`: ask the Router, act through it, and tell what came of it.

Jobs are selected in the query language (`client/query.py`); flags are words of it. An act on jobs that nobody has named
one by one counts them, states their number and asks first, does it to no others, and shows how far it is.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click

from eventmq.cli import completion
from eventmq.cli.ask import asks, shows
from eventmq.cli.ending import FAILED, NOT_FOUND, OK, Mistake
from eventmq.cli.enqueue import json_as
from eventmq.cli.flags import InOrder, options
from eventmq.cli.tables import Moment, Table, Told, facts, some
from eventmq.client.acts import KINDS, Kind
from eventmq.client.admin import Admin
from eventmq.client.ids import new_id
from eventmq.client.query import WORDS, QueryError, parse, text_of
from eventmq.limits import LIST_JOBS_MAX
from eventmq.protocol.administration import STATES, Selection
from eventmq.protocol.answers import Count, ListedJob

FLAGS = {
    "queue": "Jobs of this queue only.",
    "name": "Jobs that call this only: module.function.",
    "worker": "Jobs that this job manager runs, or ran last.",
    "error": "Jobs with this in their failure's type or message only.",
    "since": "Accepted in the last 2h, or since 2026-11-01T12:00Z.",
    "until": "Accepted more than 2h ago, or before 2026-11-01T12:00Z.",
}
"""Words of the query language that are flags, too."""

filters = options(
    *(
        click.option(f"--{name}", metavar="TEXT", help=help, shell_complete=completion.OF_WORDS.get(name))
        for name, help in FLAGS.items()
    )
)
yes = options(
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Only say how many jobs it would be."),
)
words = click.argument("words", nargs=-1, metavar="[WORD]...", shell_complete=completion.words)

verbs = InOrder()


def _state(states: Sequence[str], help: str) -> Callable[[Any], Any]:
    return click.option("--state", "states", type=click.Choice(states), multiple=True, help=help)


# ---- one by one -------------------------------------------------------------------------------------------


@verbs.command("list")
@words
@_state(STATES, "Jobs in this state only; may be given several times.")
@filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Jobs to list at most.")
@shows
def list_(admin: Admin, words: Sequence[str], limit: int, **flags: Any) -> Told:
    """List jobs, newest first: those for which all words hold.

    Words are state: queue: name: worker: error: id: since: until: arg.NAME: as below, or flags. A word without a colon
    is an id, or what the job calls.

    \b
    eventmq job list state:dead,lost since:2h              what failed for good lately
    eventmq job list state:dead error:ConnectionError      … because of the network
    eventmq job list queue:email arg.user_id:42            whose argument user_id is 42
    eventmq job list shop.tasks.send "error:no such user"
    eventmq job list --queue email --limit 1000 -o jsonl   for a program
    eventmq job list state:running --watch 2
    """
    selection = _selected(words, flags)
    selection.limit = min(limit, LIST_JOBS_MAX)
    return Told(islice(admin.jobs(selection), limit), _table)


def _table(jobs: list[ListedJob]) -> Table:
    columns = ("id", "state", "queue", "name", "attempt", "since", "error")
    return Table("Jobs", columns, [_row(job) for job in jobs])


def _row(job: ListedJob) -> tuple[Any, ...]:
    since = job["finished"] or job["started"] or job["created"]
    start = (job["id"], job["state"], job["queue"], job["name"], job["attempt"])
    return (*start, Moment(since), job["error"] or "")


@verbs.command
@click.argument("id")
@shows
def show(admin: Admin, id: str) -> Told:
    """Show everything about one job: arguments, times, progress, value, failure with its traceback.

    \b
    eventmq job show 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    """
    told = admin.job(id)
    failure = told["failure"] or {}
    facts_of = {what: value for what, value in told.items() if what != "failure"}
    facts_of |= {f"failure {what}": failure[what] for what in ("type", "message") if failure}
    return Told(told, facts("Job", facts_of), failure.get("traceback", ""))


@verbs.command
@click.argument("id")
@shows
def why(admin: Admin, id: str) -> Told:
    """Say why a job is where it is: what it waits for, its place in line, where it runs, how it ended.

    \b
    eventmq why 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job why 019be0a7c1e27b60b8d2f3b0c4c1a9d5 --watch
    """
    told = admin.why(id)
    return Told(told, text=told["text"], code=NOT_FOUND if told["state"] == "unknown" else OK)


@verbs.command
@click.argument("id")
@click.option("--args", metavar="JSON", help="Positional arguments instead of its own, as a list.")
@click.option("--kwargs", metavar="JSON", help="Named arguments instead of its own, as an object.")
@asks
def again(admin: Admin, id: str, args: str | None, kwargs: str | None) -> Told:
    """Hand in a new job like one that is there, perhaps with other arguments. That one stays as it is.

    \b
    eventmq job again 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job again 019be0a7c1e27b60b8d2f3b0c4c1a9d5 --kwargs '{"width": 400}'
    """
    given = (("args", args, list), ("kwargs", kwargs, dict))
    arguments = {name: json_as(f"--{name}", text, kind) for name, text, kind in given if text}
    new = admin.rerun(id, new_id(), arguments or None)
    return Told({"id": new}, text=new)


# ---- many -------------------------------------------------------------------------------------------------


def _acts(do: str) -> Callable[[Callable[..., Told]], Callable[..., int]]:
    """What the verbs that do something to many jobs have in common."""
    kind = KINDS[do]
    usual = " and ".join(kind.usual)
    flags = options(words, _state(kind.states, f"Default: {usual}."), filters, yes)
    return lambda question: flags(asks(question))


@verbs.command
@_acts("requeue")
def requeue(admin: Admin, words: Sequence[str], yes: bool, dry_run: bool, **flags: Any) -> Told:
    """Let jobs that died, were lost or expired wait again: those with these ids, or all for which all words hold.

    Each keeps its id and has all its retries before it again. Words are those of `eventmq job list`; one without a
    colon is an id.

    \b
    eventmq job requeue 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job requeue queue:email error:ConnectionError
    eventmq job requeue state:dead,lost since:1d --dry-run
    eventmq job requeue --name shop.tasks.charge --yes
    """
    return act(admin, "requeue", words, flags, yes, dry_run)


@verbs.command
@_acts("purge")
def purge(admin: Admin, words: Sequence[str], yes: bool, dry_run: bool, **flags: Any) -> Told:
    """Forget jobs that have ended, for good: those with these ids, or all for which all words hold.

    \b
    eventmq job purge 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job purge queue:email "error:no such user"
    eventmq job purge --state cancelled --yes
    """
    return act(admin, "purge", words, flags, yes, dry_run)


@verbs.command
@_acts("cancel")
def cancel(admin: Admin, words: Sequence[str], yes: bool, dry_run: bool, **flags: Any) -> Told:
    """Call off jobs with these ids, or all for which all words hold: what waits does not run, what runs is stopped.

    It does not wait for that: `stopping` is a job that runs and is told to stop. It does not count any more, and is
    killed if it has not stopped within 5 s.

    \b
    eventmq job cancel 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq job cancel queue:email since:10m
    eventmq job cancel state:running worker:host-4711 --yes
    """
    if not words and not any(flags.values()):
        raise Mistake("say which jobs: their ids, or words such as queue:email")
    selection = _selected(words, flags, KINDS["cancel"])
    if selection.ids is None or dry_run:
        return act(admin, "cancel", words, flags, yes, dry_run)
    told = admin.cancel_named(selection.ids)
    table = Table("Jobs", ("id", "what became of it"), list(told.items()))
    return Told(told, table, code=NOT_FOUND if "unknown" in told.values() else OK)


def act(
    admin: Admin, do: str, words: Sequence[str], flags: dict[str, Any], yes: bool = False, dry_run: bool = False
) -> Told:
    """Does something to the jobs with these ids, or to all for which the words hold, after counting and asking.

    Raises:
        Mistake: There is nobody to ask.
    """
    what = KINDS[do]
    selection = _selected(words, flags, what)
    named, asked = selection.ids, text_of(selection)
    if named is None and not (yes or dry_run or sys.stdin.isatty()):
        raise Mistake(f"this concerns all jobs with {asked}, and there is nobody to ask; add --yes, or --dry-run")
    count = Count(len(set(named)), selection.before or 0) if named and not dry_run else admin.count(selection)
    if dry_run:
        return Told({what.done: 0, "selected": count.jobs}, text=f"{some(count.jobs, 'job')}: {asked}")
    if not (named or yes or click.confirm(f"{what.verb} {some(count.jobs, 'job')}: {asked}?", err=True)):
        return Told({what.done: 0}, text="Nothing was changed.", code=FAILED)
    if not named:
        selection.before = count.newest
    done = getattr(admin, do)(selection, _going(what.done, count.jobs), count.jobs)
    left = max(count.jobs - done, 0) if named else 0
    text = f"{what.done} {some(done, 'job')}" + (f"; not {left:,}, unknown or in another state" if left else "")
    if left and (calls := next((id for id in named or () if "." in id), "")):
        text += f". A word without a colon is an id; name:{calls} selects all that call it"
    return Told({what.done: done}, text=text, code=FAILED if left else OK)


def _selected(words: Sequence[str], flags: dict[str, Any], what: Kind | None = None) -> Selection:
    """What words and flags select. Of an act a word without a field is an id, and it has states of its own.

    Raises:
        Mistake: They say nothing.
    """
    fielded = [word for word in words if what is None or _field_of(word) in WORDS]
    ids = [word for word in words if word not in fielded]
    fielded += [f"{name}:{value}" for name in FLAGS if (value := flags.get(name))]
    fielded += [f"state:{','.join(states)}"] if (states := flags.get("states")) else []
    try:
        selection = parse(shlex.join(fielded), time.time())
    except QueryError as error:
        raise Mistake(str(error)) from None
    if ids:
        selection.ids = [*(selection.ids or ()), *ids]
    if what is not None and not selection.states and selection.ids is None:
        selection.states = list(what.usual)
    return selection


def _field_of(word: str) -> str:
    field, colon, _ = word.partition(":")
    return "arg." if colon and field.startswith("arg.") else field if colon else ""


def _going(done: str, of: int) -> Callable[[int], None] | None:
    """Shows a number that grows, on a line that it takes away with the next one; for people only."""
    if not sys.stderr.isatty():
        return None
    return lambda count: print(f"{done} {count:,} of {some(of, 'job')}\r", end="", file=sys.stderr, flush=True)
