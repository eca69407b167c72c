"""The pages about jobs: the list, one job, and the list as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import msgspec

from eventmq.client import query
from eventmq.client.admin import Admin
from eventmq.errors import NotFound
from eventmq.limits import ID_CHARS_MAX, NEWEST
from eventmq.protocol.administration import STATES, Selection
from eventmq.protocol.answers import ListedJob
from eventmq.web import charts
from eventmq.web.ask import Ask, Page, Wrong
from eventmq.web.bulk import Act
from eventmq.web.limits import QUERY_CHARS_MAX, ROWS, SEARCH_S
from eventmq.web.redaction import Redaction


def selection_of(ask: Ask) -> Selection:
    """What the query box says.

    Raises:
        Wrong: It cannot be read, or asks for an argument that is hidden.
    """
    text = ask.text("q", QUERY_CHARS_MAX)
    try:
        selection = query.parse(text, ask.now)
    except ValueError as error:
        raise Wrong(str(error)) from None
    hidden = [path for path in selection.arguments if Redaction(ask.settings.web_hidden).hides(path)]
    if hidden:
        raise Wrong(f"the argument {hidden[0]!r} is hidden, and cannot be searched for")
    return selection


def jobs(ask: Ask) -> Page:
    """What the query box selects, newest first: a full page, or as far as the search came in SEARCH_S. Beside it what
    happened to jobs of the same queue and name; of other filters nobody keeps sums."""
    selection = selection_of(ask)
    before = ask.number("before", NEWEST)
    found: list[ListedJob] = []
    following = before
    began = monotonic()
    while len(found) < ROWS:
        wanted = msgspec.structs.replace(selection, before=following, limit=ROWS - len(found))
        page = ask.admin.page(wanted)
        found += page.jobs
        following = page.next
        if following is None or monotonic() - began > SEARCH_S:
            break
    words: dict[str, list[str]] = {word: [] for word in query.WORDS}
    return {
        "q": ask.text("q", QUERY_CHARS_MAX),
        "words": words | {"state": list(STATES), "queue": sorted(ask.admin.ask("QUEUES"))},
        "states": [_tab(selection, state) for state in STATES],
        "jobs": found,
        "before": before,
        "next": following,
        "searched_on": following is not None and len(found) < ROWS,
        **charts.past(ask, selection.queue, selection.name),
    }


def _tab(selection: Selection, state: str) -> dict[str, Any]:
    """A state, whether it is asked for, and the query in which that is changed."""
    states = [each for each in STATES if (each in selection.states) != (each == state)]
    q = query.text_of(msgspec.structs.replace(selection, states=states))
    return {"state": state, "chosen": state in selection.states, "q": q}


def lines(admin: Admin, selection: Selection) -> Iterator[bytes]:
    """All that is selected, a job in each line."""
    return (msgspec.json.encode(job) + b"\n" for job in admin.jobs(selection))


# ---- one job -----------------------------------------------------------------------------------------------


def job(ask: Ask) -> Page:
    """Everything about one job; arguments and value without what is hidden.

    Raises:
        NotFound: There is none.
    """
    id = ask.text("id", ID_CHARS_MAX, needed=True)
    told = ask.admin.job(id)
    redaction = Redaction(ask.settings.web_hidden)
    shown = told | {"arguments": redaction.of(told["arguments"]), "value": redaction.of(told["value"])}
    return {
        "job": shown,
        "steps": _steps(told, ask.now),
        "why": ask.admin.why(id),
        "log": ask.admin.logs(id).lines,
        "editable": msgspec.json.format(msgspec.json.encode(shown["arguments"]), indent=2).decode(),
    }


def _steps(told: dict[str, Any], now: float) -> list[dict[str, Any]]:
    """The moments in a job's life, and how long until the next; one that is tried again keeps only its last run."""
    moments = [("accepted", told["created"])]
    if told["finished"] and told["run_s"]:
        moments.append(("started", told["finished"] - told["run_s"]))
    elif told["started"]:
        moments.append(("started", told["started"]))
    if told["finished"]:
        moments.append((told["state"], told["finished"]))
    elif told["due"]:
        moments.append(("due", told["due"]))
    ends = [at for _, at in moments[1:]] + [None if told["finished"] or told["due"] else now]
    return [
        {"what": what, "at": at, "lasted_s": None if end is None else max(end - at, 0.0)}
        for (what, at), end in zip(moments, ends, strict=True)
    ]


# ---- many jobs -----------------------------------------------------------------------------------------------


def act(ask: Ask) -> Page:
    """An act on many jobs by its id, as far as it is.

    Raises:
        NotFound: There is none.
    """
    found = find_act(ask)
    return {name: getattr(found, name) for name in ("id", "do", "words", "phase", "jobs", "done", "error")}


def find_act(ask: Ask) -> Act:
    """The act that is named.

    Raises:
        NotFound: There is none.
    """
    found = ask.bulk.find(ask.text("id", ID_CHARS_MAX, needed=True))
    if found is None:
        raise NotFound("there is no such act: the dashboard was restarted, or many others came after it")
    return found
