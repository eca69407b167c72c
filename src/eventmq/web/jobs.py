"""The pages about jobs: the list, one job, and the list as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import msgspec

from eventmq.client import query
from eventmq.client.admin import Admin
from eventmq.client.answers import ListedJob, LoggedLine, Why
from eventmq.client.charts import History
from eventmq.limits import ID_CHARS_MAX, NEWEST
from eventmq.protocol.administration import STATES, Selection
from eventmq.web import charts
from eventmq.web.ask import Ask, Missing, Wrong
from eventmq.web.bulk import Act
from eventmq.web.limits import QUERY_CHARS_MAX, ROWS, SEARCH_S
from eventmq.web.pages import Page
from eventmq.web.redaction import Redaction


class StateTab(msgspec.Struct, frozen=True):
    """A state, whether it is asked for, and the query in which that is changed."""

    state: str
    chosen: bool
    q: str


class Jobs(Page, frozen=True):
    """Some jobs, newest first.

    Attributes:
        jobs: Those found on this page.
        next: Where to go on; None = that was all.
        searched_on: Whether more has to be searched before the page is full.
        window, history: What happened to jobs of the same queue and name; of other filters nobody keeps sums.
    """

    q: str
    words: dict[str, list[str]]
    states: list[StateTab]
    jobs: list[ListedJob]
    before: int | None
    next: int | None
    searched_on: bool
    window: str
    history: History


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


def jobs(ask: Ask) -> Jobs:
    """A page of what the query box selects: full, or as far as the search came in SEARCH_S."""
    selection = selection_of(ask)
    before = ask.number("before", NEWEST)
    window = ask.choice("window", list(charts.WINDOWS))
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
    past = charts.history(ask.admin, window, ask.now, queue=selection.queue, name=selection.name)
    tabs = [_tab(selection, state) for state in STATES]
    short = following is not None and len(found) < ROWS
    words: dict[str, list[str]] = {word: [] for word in query.WORDS}
    words |= {"state": list(STATES), "queue": sorted(ask.admin.ask("QUEUES"))}
    return Jobs(ask.text("q", QUERY_CHARS_MAX), words, tabs, found, before, following, short, window, past)


def _tab(selection: Selection, state: str) -> StateTab:
    chosen = state in selection.states
    states = [each for each in STATES if (each in selection.states) != (each == state)]
    return StateTab(state, chosen, query.text_of(msgspec.structs.replace(selection, states=states)))


def lines(connect: Callable[[], Admin], selection: Selection) -> Iterator[bytes]:
    """All that is selected, a job in each line."""
    with connect() as admin:
        for job in admin.jobs(selection):
            yield msgspec.json.encode(job) + b"\n"


# ---- one job -----------------------------------------------------------------------------------------------


class Step(msgspec.Struct, frozen=True):
    """One moment in a job's life, and how long it was until the next one."""

    what: str
    at: float
    lasted_s: float | None


class Job(Page, frozen=True):
    """Everything about one job; arguments and value without what is hidden."""

    job: dict[str, Any]
    steps: list[Step]
    why: Why
    log: list[LoggedLine]
    editable: str


def job(ask: Ask) -> Job:
    """A job by its id.

    Raises:
        Missing: There is none.
    """
    id = ask.text("id", ID_CHARS_MAX, needed=True)
    told = ask.admin.job(id)
    if told is None:
        raise Missing(f"there is no job {id}: never accepted, forgotten since, or purged")
    redaction = Redaction(ask.settings.web_hidden)
    shown = told | {"arguments": redaction.of(told["arguments"]), "value": redaction.of(told["value"])}
    editable = msgspec.json.format(msgspec.json.encode(shown["arguments"]), indent=2).decode()
    return Job(shown, _steps(told, ask.now), ask.admin.why(id), ask.admin.logs(id).lines, editable)


def _steps(told: dict[str, Any], now: float) -> list[Step]:
    """What is known of when: a job that is tried again keeps only its last run."""
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
        Step(what, at, None if end is None else max(end - at, 0.0))
        for (what, at), end in zip(moments, ends, strict=True)
    ]


# ---- many jobs -----------------------------------------------------------------------------------------------


class ShownAct(Page, frozen=True):
    """An act on many jobs, as far as it is: the fields of `bulk.Act` that concern people."""

    id: str
    do: str
    words: str
    phase: str
    jobs: int
    done: int
    error: str


def act(ask: Ask) -> ShownAct:
    """An act by its id.

    Raises:
        Missing: There is none.
    """
    found = find_act(ask)
    return ShownAct(*(getattr(found, name) for name in ShownAct.__struct_fields__))


def find_act(ask: Ask) -> Act:
    """The act that is named.

    Raises:
        Missing: There is none.
    """
    found = ask.bulk.find(ask.text("id", ID_CHARS_MAX, needed=True))
    if found is None:
        raise Missing("there is no such act: the dashboard was restarted, or many others came after it")
    return found
