"""What forms do. Each function acts, and says what it did and which page shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventmq.client import ids, query
from eventmq.client.acts import KINDS, Kind
from eventmq.errors import EventMQError
from eventmq.limits import ID_CHARS_MAX, PAYLOAD_BYTES_MAX
from eventmq.protocol.administration import Selection
from eventmq.values import JOBS_MAX, some
from eventmq.web.ask import Ask, Wrong
from eventmq.web.bulk import Act
from eventmq.web.guard import may
from eventmq.web.jobs import find_act, selection_of
from eventmq.web.limits import ROWS, SEARCH_S
from eventmq.web.redaction import Redaction
from eventmq.web.show import url


class Forbidden(EventMQError):
    """The role is not enough."""


class Done(NamedTuple):
    """What an act has to say, and the page to go to, below our path."""

    text: str
    to: str


# ---- queues, workers, schedules --------------------------------------------------------------------------


def on_queue(what: str, done: str) -> Callable[[Ask], Done]:
    """An act on one queue, by the method of `Admin`."""

    def act(ask: Ask) -> Done:
        name = ask.text("name", needed=True)
        getattr(ask.admin, what)(name)
        return Done(f"Queue {name} {done}.", url("", "/queue", name=name))

    return act


def limit(ask: Ask) -> Done:
    """How many jobs may wait in a queue."""
    name, jobs_max = ask.text("name", needed=True), ask.number("jobs_max", JOBS_MAX)
    ask.admin.limit(name, jobs_max)
    text = "is bound as the settings say" if jobs_max is None else f"is bound to {some(jobs_max, 'waiting job')}"
    return Done(f"Queue {name} {text}.", url("", "/queue", name=name))


def purge(ask: Ask) -> Done:
    """Cancels what waits or is delayed in a queue whose name has been typed.

    Raises:
        Wrong: It was not, or another one.
    """
    name = ask.text("name", needed=True)
    if ask.text("typed") != name:
        raise Wrong(f"to cancel all that waits in {name}, type its name")
    selection = Selection(states=["waiting", "delayed"], queue=name)
    act = ask.bulk.begin(Act("cancel", selection, query.text_of(selection)), SEARCH_S)
    return Done("", url("", "/act", id=act.id))


def drain_worker(ask: Ask) -> Done:
    """A job manager is to finish what it runs, and leave.

    Raises:
        NotFound: There is none of that name.
    """
    name = ask.text("name", needed=True)
    return Done(f"Job manager {name} finishes {some(ask.admin.drain_manager(name), 'job')} and leaves.", "/workers")


def on_schedule(what: str, done: str) -> Callable[[Ask], Done]:
    """An act on one schedule."""

    def act(ask: Ask) -> Done:
        id = ask.text("id", needed=True)
        ask.admin.schedule(id, what)
        return Done(f"Schedule {id} {done}.", "/schedules")

    return act


# ---- jobs ------------------------------------------------------------------------------------------------


def on_job(do: str) -> Callable[[Ask], Done]:
    """An act on one job."""

    def act(ask: Ask) -> Done:
        id, kind = ask.text("id", ID_CHARS_MAX, needed=True), KINDS[do]
        if not getattr(ask.admin, do)(Selection(ids=[id], states=list(kind.states))):
            raise Wrong(f"job {id} cannot be {kind.done} as it is now")
        return Done(f"Job {id} is {kind.done}.", "/jobs" if do == "purge" else url("", "/job", id=id))

    return act


def begin(ask: Ask) -> Done:
    """Counts the jobs that are selected, or all that the query box selects; the next page states the number and asks.

    Raises:
        Forbidden: The role is not enough.
        Wrong: Nothing is selected, or to nothing of it can that be done.
    """
    do = ask.choice("do", list(KINDS))
    kind = KINDS[do]
    _check_role(ask, kind)
    if ask.choice("which", ("selected", "all")) == "all":
        selection = selection_of(ask)
        states = [state for state in kind.states if not selection.states or state in selection.states]
        if not states:
            raise Wrong(f"none of these jobs can be {kind.done}: those can that are {', '.join(kind.states)}")
        selection = msgspec.structs.replace(selection, states=states)
        words = query.text_of(selection)
    else:
        ids = list(ask.given.get("id", ()))[:ROWS]
        if not ids or max(map(len, ids)) > ID_CHARS_MAX:
            raise Wrong("no job is selected")
        selection, words = Selection(ids=ids, states=list(kind.states)), f"{some(len(ids), 'selected job')}"
    act = ask.bulk.begin(Act(do, selection, words), SEARCH_S)
    return Done("", url("", "/act", id=act.id))


def _check_role(ask: Ask, kind: Kind) -> None:
    if not may(ask.role, kind.role):
        raise Forbidden(f"to {kind.verb.lower()} jobs takes the role {kind.role}")


def go(ask: Ask) -> Done:
    """Does what was counted.

    Raises:
        Forbidden: The role is not enough.
    """
    act = find_act(ask)
    _check_role(ask, act.kind)
    ask.bulk.go(act)
    return Done("", url("", "/act", id=act.id))


def stop(ask: Ask) -> Done:
    """An act goes no further."""
    act = find_act(ask)
    ask.bulk.stop(act)
    return Done("", url("", "/act", id=act.id))


def rerun(ask: Ask) -> Done:
    """A new job like one that there is, with the same arguments or others.

    Raises:
        NotFound: There is no such job.
        Wrong: The arguments are none.
    """
    like = ask.text("id", ID_CHARS_MAX, needed=True)
    edited = ask.text("arguments", PAYLOAD_BYTES_MAX)
    original = ask.admin.job(like)["arguments"]
    given = _arguments(edited, original, Redaction(ask.settings.web_hidden)) if edited else None
    id = ids.new_id()
    ask.admin.rerun(like, id, given)
    return Done(f"Job {id} runs what {like} ran.", url("", "/job", id=id))


def _arguments(edited: str, original: Any, redaction: Redaction) -> dict[str, Any] | None:
    """The arguments that were typed; None = they are the old ones."""
    try:
        given = json.loads(edited)
        msgspec.msgpack.encode(given)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Wrong(f"the arguments are no JSON that a job can be called with: {error}") from None
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("args"), list)
        or not isinstance(given.get("kwargs"), dict)
    ):
        raise Wrong('expected {"args": [...], "kwargs": {...}}')
    filled: dict[str, Any] = redaction.filled(given, original)
    return None if filled == original else filled
