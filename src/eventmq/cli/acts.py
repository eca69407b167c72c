"""What the verbs of `operate` do: ask the Router, act through it, and show what came of it.

An act on jobs that nobody has named one by one states their number and asks first, and shows the number as it goes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import click

from eventmq import values
from eventmq.cli.ask import connected, said_about
from eventmq.cli.ending import FAILED, OK, Mistake
from eventmq.cli.tables import Table, printable, show, show_json, span
from eventmq.client.admin import Admin, ListedJob
from eventmq.errors import EventMQError, JobNotFound
from eventmq.limits import LIST_JOBS_MAX
from eventmq.protocol.administration import Selection


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
CALL_OFF = Act("Cancel", "cancelled", Admin.purge)


# ---- jobs ------------------------------------------------------------------------------------------------


def list_jobs(addr: str, timeout_s: float, filters: Mapping[str, Any], limit: int, as_json: bool) -> int:
    """Prints the newest jobs that fit."""
    selection = _selection((), filters, "")
    selection.limit = min(limit, LIST_JOBS_MAX)
    with connected(addr, timeout_s) as admin:
        jobs = list(islice(admin.jobs(selection), limit))
    if as_json:
        show_json(jobs)
        return OK
    now = time.time()
    columns = ("id", "state", "queue", "name", "attempt", "since", "error")
    show(Table("Jobs", columns, [_row(job, now) for job in jobs]))
    return OK


def _row(job: ListedJob, now: float) -> tuple[Any, ...]:
    since = job["finished"] or job["started"] or job["created"]
    start = (job["id"], job["state"], job["queue"], job["name"], job["attempt"])
    return (*start, span(max(now - since, 0.0)), job["error"] or "")


def show_job(addr: str, timeout_s: float, id: str, as_json: bool) -> int:
    """Prints everything about a job.

    Raises:
        JobNotFound: There is no such job.
    """
    with connected(addr, timeout_s) as admin:
        told = admin.job(id)
    if told is None:
        raise JobNotFound(f"there is no job {id}: never accepted, forgotten since, or purged", id)
    if as_json:
        show_json(told)
        return OK
    failure = told.pop("failure") or {}
    rows = [(what, _text(what, value)) for what, value in told.items() if value is not None]
    rows += [(f"failure {what}", failure[what]) for what in ("type", "message") if failure]
    show(Table("Job", ("what", "value"), rows))
    for line in failure.get("traceback", "").splitlines():
        print(printable(line))
    return OK


def _text(what: str, value: Any) -> Any:
    if what in ("arguments", "options", "value"):
        return json.dumps(value, ensure_ascii=False)
    if what in ("created", "due", "started", "finished", "kept_until"):
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))
    return value


def cancel(addr: str, timeout_s: float, ids: Sequence[str], as_json: bool) -> int:
    """Calls jobs off and prints what became of each; unknown ones are a failure."""
    with connected(addr, timeout_s) as admin:
        told = admin.cancel(list(ids))
    if as_json:
        show_json(told)
    else:
        show(Table("Jobs", ("id", "what became of it"), list(told.items())))
    return FAILED if "unknown" in told.values() else OK


# ---- many jobs -------------------------------------------------------------------------------------------


def act(
    what: Act,
    addr: str,
    timeout_s: float,
    ids: Sequence[str],
    filters: Mapping[str, Any],
    yes: bool,
    as_json: bool,
) -> int:
    """Does something to the jobs with these ids, or to all that fit, after asking.

    Raises:
        Mistake: There is nobody to ask.
    """
    selection = _selection(ids, filters, "dead")
    asks = not ids and not yes
    if asks and not sys.stdin.isatty():
        raise Mistake(f"this concerns {_named(filters, selection)}, and there is nobody to ask; add --yes, or name ids")
    with connected(addr, timeout_s) as admin:
        if asks and not _agreed(admin, what, selection, filters):
            print("Nothing was changed.")
            return FAILED
        done = what.method(admin, selection, _going(what.done) if sys.stderr.isatty() else None)
    if as_json:
        show_json({what.done: done})
    else:
        print(f"{what.done} {_jobs(done)}")
    return OK


def _agreed(admin: Admin, what: Act, selection: Selection, filters: Mapping[str, Any]) -> bool:
    count = sum(1 for _ in admin.jobs(selection))
    if what is CALL_OFF:
        count += sum(1 for _ in admin.jobs(Selection(state="delayed", queue=selection.queue)))
    return click.confirm(f"{what.question} {_jobs(count)}: {_named(filters, selection)}?")


def _named(filters: Mapping[str, Any], selection: Selection) -> str:
    """A selection in words."""
    given = {"state": selection.state, **{name: value for name, value in filters.items() if value}}
    return "all jobs with " + ", ".join(f"{name} {value!r}" for name, value in given.items())


def _selection(ids: Sequence[str], filters: Mapping[str, Any], state: str) -> Selection:
    """What the flags select; `state` if they say no state and name no ids."""
    given = {name: value for name, value in filters.items() if value}
    if ids:
        return Selection(ids=list(ids), **given)
    return Selection(**{"state": state, **given})


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def _going(done: str) -> Callable[[int], None]:
    """Shows a number that grows, on a line that it takes away with the next one."""

    def show_number(count: int) -> None:
        print(f"{done} {_jobs(count)} so far\r", end="", file=sys.stderr, flush=True)

    return show_number


# ---- queues ----------------------------------------------------------------------------------------------


def tell_queue(verb: str, addr: str, timeout_s: float, queue: str, as_json: bool) -> int:
    """Pauses, resumes or drains a queue, and prints how it is then."""
    method = {"pause": Admin.pause, "resume": Admin.resume, "drain": Admin.drain}[verb]
    with connected(addr, timeout_s) as admin:
        return _show_queue(queue, method(admin, queue), as_json)


def limit_queue(addr: str, timeout_s: float, queue: str, jobs: str, as_json: bool) -> int:
    """Bounds a queue, and prints how it is then.

    Raises:
        Mistake: Not a number.
    """
    try:
        jobs_max = None if jobs == "default" else values.whole(0, values.JOBS_MAX)(jobs)
    except ValueError as error:
        raise Mistake(f"a limit is {error}, or the word default, not {jobs!r}") from None
    with connected(addr, timeout_s) as admin:
        return _show_queue(queue, admin.limit(queue, jobs_max), as_json)


def drain_manager(addr: str, timeout_s: float, name: str, as_json: bool) -> int:
    """Tells the job managers of a name to leave, and prints how many jobs they have to finish.

    Raises:
        EventMQError: There is none.
    """
    with connected(addr, timeout_s) as admin:
        told = admin.ask("DRAIN_MANAGER", manager=name)
    if not told:
        raise EventMQError(f"no job manager named {name!r} is connected; `eventmq workers` lists their names")
    if as_json:
        show_json(told)
    else:
        print(f"{name}: told to leave; it has {sum(told.values())} jobs.")
    return OK


def _show_queue(name: str, queue: Mapping[str, Any], as_json: bool) -> int:
    if as_json:
        show_json(queue)
        return OK
    said = said_about(queue) or "open"
    print(
        f"{printable(name)} is {said}: {_jobs(queue['waiting'])} waiting, {queue['delayed']:,} delayed, "
        f"{queue['running']:,} running, {queue['managers']:,} job managers"
    )
    return OK
