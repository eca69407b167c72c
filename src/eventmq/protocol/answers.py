"""What the Router answers on its administrative socket: what it makes there, and `Admin` hands on. Types only."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict


class ListedJob(TypedDict):
    """One job in a list. Times are wall times, in seconds since the epoch."""

    id: str
    state: str
    queue: str
    name: str
    priority: int
    attempt: int
    failures: int
    crashes: int
    due: float | None
    created: float
    started: float | None
    finished: float | None
    run_s: float | None
    worker: str | None
    error: str | None
    payload_bytes: int


class JobsPage(NamedTuple):
    """Some jobs of a list, newest first; `next` is where to go on, None = that was all."""

    jobs: list[ListedJob]
    next: int | None


class LoggedLine(TypedDict):
    """One record of a job's log; `n` counts them from 0."""

    n: int
    at: float
    level: str
    attempt: int
    text: str


class LogPage(NamedTuple):
    """What a job has logged. `next` is where to go on; `missed` lines before these are not kept any more."""

    lines: list[LoggedLine]
    next: int
    missed: int


class ShownQueue(TypedDict):
    """One queue: what is in it, who serves it, what was said about it."""

    waiting: int
    delayed: int
    running: int
    processed: int
    managers: int
    free_slots: int
    oldest_s: float
    paused: bool
    draining: bool
    jobs_max: int | None


class Why(TypedDict):
    """Why a job is where it is.

    `state` is one of a job's, or `unknown`; `reason` one word out of the table in `docs/protocol.md`, 3.4; `text` the
    sentence for people; `details` the numbers and names in it.
    """

    id: str
    state: str
    reason: str
    text: str
    details: dict[str, Any]


class Problem(TypedDict):
    """Something that an operator should look at. `level` is `critical` where jobs do not run, or are not accepted, else
    `warning`; `key` says of what kind it is, `about` which `queue`, `schedule` or `manager` it concerns, if any."""

    key: str
    level: str
    text: str
    about: dict[str, str]


class Count(NamedTuple):
    """How many jobs are selected.

    Attributes:
        jobs: So many.
        newest: As `before` of a selection, it leaves out what was accepted after the count.
    """

    jobs: int
    newest: int


class EventsPage(NamedTuple):
    """Some events, in order; what each tells says the table in `docs/protocol.md`, 3.4: `n` counts them, `at` is a wall
    time. `next` is where to go on; `missed` of those since the page before are not told."""

    events: list[dict[str, Any]]
    next: int
    missed: int
