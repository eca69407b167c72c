"""The store's contract: what the Router asks of whoever remembers its jobs.

The Router is the only caller and the only writer, from one thread. In each turn of its loop it decides in memory,
notes what must outlive it in one `Changes`, and calls `apply` once; nothing becomes visible outside before `apply`
has returned. Reads see what has been applied, not what is still in a `Changes`.

A live job is `waiting` here whether it is delayed, waits or runs: handing a job out writes nothing, unless it may begin
only once (`started`). It is either held in the Router's memory too, or only here: *paged*, read back in dispatch
order by `page`, or *put off*, read back in order of its time by `due`. Dispatch order is (rank, seq) ascending, rank
being minus the priority.

One test suite (`tests/test_store.py`) runs over every implementation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, NamedTuple, Protocol

from eventmq.protocol.calls import has_arguments
from eventmq.protocol.v2 import Body, Job

DEAD_LETTERS = ("dead", "lost")
"""Terminal states of jobs that operators look after: kept apart from all other ended ones, so that successes never push
out failures."""

Durability = Literal["full", "process", "none"]
"""What an applied change survives: `full` a power cut (synced), `process` kill -9 of the Router, `none` nothing."""


class Ended(Body):
    """The end of one job.

    Attributes:
        seq: The job's row.
        state: A terminal state (`broker.lifecycle`).
        finished: Wall time, seconds.
        expires: Wall time after which the row may be forgotten.
        attempt: The attempt that decided.
        crashes: Worker processes that died under it.
        run_s: How long the deciding attempt ran; a finite number.
        worker: Name of the manager that ran it, empty if none did.
        value: msgpack of what it returned.
        failure: msgpack of a `v2.Failure`, or empty.
        error: Type and message of the failure, at most `ERROR_CHARS_MAX`.
    """

    seq: int
    state: str
    finished: float
    expires: float
    attempt: int
    crashes: int
    run_s: float
    worker: str
    value: bytes
    failure: bytes
    error: str = ""


class Moved(NamedTuple):
    """What changed about a live job that goes back to waiting, is delayed or due now, or goes out and may begin only
    once. Memory holds it from then on, unless `paged_out` or `put_off` of the same changes say otherwise.

    Attributes:
        due: Wall time before which it is not to run; 0 = it is due.
        failure: msgpack of the `v2.Failure` of its last run, or empty.
        settled: Lease of its last hand-out whose outcome is known.
        error: Type and message of that failure, at most `ERROR_CHARS_MAX`.
        started: Lease of its last hand-out, if it may begin only once.
    """

    seq: int
    attempt: int
    crashes: int
    failures: int = 0
    due: float = 0.0
    failure: bytes = b""
    settled: int = 0
    error: str = ""
    started: int = 0


class Requeued(NamedTuple):
    """An ended job that waits again, held in memory too. Its counters start anew; its last failure stays known.

    Attributes:
        state: The terminal state that it is in.
        attempt: The attempt that comes next.
        created: Wall time from which it counts as accepted.
        settled: No hand-out up to this lease counts any more.
    """

    seq: int
    state: str
    attempt: int
    created: float
    settled: int


class Holder(NamedTuple):
    """A job that holds its key (`Job.unique`), as the store has it: it is live, or has ended and was not `released`."""

    id: str
    seq: int
    created: float
    due: float
    options: bytes
    ended: bool
    queue: str


class Record(NamedTuple):
    """Everything the store knows of one job, live or ended."""

    job: Job
    state: str
    finished: float
    expires: float
    run_s: float
    worker: str
    value: bytes
    failure: bytes


class Wanted(NamedTuple):
    """Which jobs to list: those for which all that is given holds.

    Attributes:
        states: It is in one of these: `waiting`, `delayed` (its time has not come), or terminal states; empty = any.
        queue: Its queue.
        name: Its name.
        worker: Name of the manager that ran it last; a live job has none here.
        error: Stands somewhere in the type or message of its last failure.
        ids: It is one of these; None = any.
        since: Wall time at which it counts as accepted, at the earliest.
        until: The same; before this.
        arguments: (path, text) of arguments that it has, see `calls.has_arguments`.
        stop: Not a condition: whatever stands behind (by `seq`) a job that was accepted before this wall time was
            accepted before `since`, so that a list may end there. Who asks sees to it that no job was requeued since.
    """

    states: tuple[str, ...] = ()
    queue: str = ""
    name: str = ""
    worker: str = ""
    error: str = ""
    ids: tuple[str, ...] | None = None
    since: float = -inf
    until: float = inf
    arguments: tuple[tuple[str, str], ...] = ()
    stop: float = -inf

    @property
    def only_unsuccessful(self) -> bool:
        """Whether all states are terminal, and none is `succeeded`."""
        return bool(self.states) and not {"waiting", "delayed", "succeeded"}.intersection(self.states)

    def fits(self, line: Line, payload: bytes) -> bool:
        """Whether all of it holds of a job, whose payload is looked at last."""
        return (
            (not self.states or line.state in self.states)
            and self.queue in ("", line.queue)
            and self.name in ("", line.name)
            and self.worker in ("", line.worker)
            and self.error in line.error
            and (self.ids is None or line.id in self.ids)
            and self.since <= line.created < self.until
            and (not self.arguments or has_arguments(payload, self.arguments))
        )


class Line(NamedTuple):
    """One job in a list: what is told without opening what may be large."""

    seq: int
    id: str
    queue: str
    name: str
    priority: int
    attempt: int
    failures: int
    crashes: int
    created: float
    due: float
    state: str
    finished: float
    run_s: float
    worker: str
    error: str
    payload_bytes: int


class Page(NamedTuple):
    """Some jobs of a list, newest first; `before` is where to go on, 0 = that was all."""

    lines: list[Line]
    before: int


@dataclass(slots=True)
class Changes:
    """What one turn wants remembered, applied in the order of the fields, all or nothing.

    Attributes:
        requeued: Ended jobs that wait again.
        added: New jobs, held in memory too.
        spilled: New jobs that memory has no room for.
        delayed: New jobs that are due later than memory cares about.
        moved: Live jobs whose counters changed.
        paged_out: `seq` of waiting jobs that memory lets go of; from now on they come back by `page`.
        put_off: `seq` of delayed jobs that memory lets go of; from now on they come back by `due`.
        paged_in: `seq` of jobs that were only here and that memory holds from now on.
        ended: Jobs that ended.
        released: `seq` of jobs that have ended, now or before, and hold their key no longer.
        forgotten: (seq, state) of ended jobs that are to be forgotten.
        facts: Small named facts; None removes one.
    """

    requeued: list[Requeued] = field(default_factory=list)
    added: list[Job] = field(default_factory=list)
    spilled: list[Job] = field(default_factory=list)
    delayed: list[Job] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    paged_out: list[int] = field(default_factory=list)
    put_off: list[int] = field(default_factory=list)
    paged_in: list[int] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    forgotten: list[tuple[int, str]] = field(default_factory=list)
    facts: dict[str, bytes | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(map(self.__getattribute__, self.__slots__))


class Snapshot(NamedTuple):
    """What a starting Router gets back.

    Attributes:
        epoch: How often this store was opened by a Router, this time included; it is durable before it is returned.
        next_seq: Above every `seq` in use.
        jobs: Live jobs that are in memory, by seq. Their `lease` is 0.
        paged: Number of waiting jobs that are only here, by queue.
        delayed: Number of delayed jobs that are only here, by queue.
        facts: All facts.
    """

    epoch: int
    next_seq: int
    jobs: list[Job]
    paged: dict[str, int]
    delayed: dict[str, int]
    facts: dict[str, bytes]


Series = tuple[str, str]
"""Whose past it is: a queue and a name; either may be empty, for all."""


class Point(NamedTuple):
    """What has happened to a series in a step of time.

    Attributes:
        series: Whose past it is.
        length_s: How long the step is: one of `HISTORY_STEPS`.
        start: Wall time at which it began.
        data: Whatever is to be said of it.
    """

    series: Series
    length_s: int
    start: int
    data: bytes


class Past(Protocol):
    """What has happened, in points. Of no use to any job, so a store without room keeps no more of it."""

    def series(self) -> list[Series]:
        """All that have points, or had them when they were looked at last by `forget`."""

    def read(self, series: Series, length_s: int, since: int, until: int) -> list[tuple[int, bytes]]:
        """(start, data) of the points with since <= start < until, oldest first."""

    def write(self, points: list[Point]) -> None:
        """New points, or such as take the place of another one of the same series, length and start."""

    def forget(self, now: float) -> list[Series]:
        """Forgets points of one series, of another one each time, that ended longer before wall time `now` than
        `HISTORY_STEPS` says. Returns the series if it has no more."""


class Store(Protocol):
    """See the module's text. Any method may raise `StoreError`; the Router then stops."""

    @property
    def past(self) -> Past:
        """What has happened."""

    def load(self) -> Snapshot:
        """Everything a Router needs to go on, and a new epoch. Called first, and again when memory is to be made anew;
        then, if there is no room to write a new one, the epoch stays."""

    def apply(self, changes: Changes) -> None:
        """Makes `changes` true, all or nothing, as durable as the store was opened for.

        Raises:
            StorageFull: No room; nothing was applied, and the store can be used further.
            StoreError: The state of the disk is unknown, or `changes` changes a job that is not in the state it says,
                or adds one that exists, as far as that is seen: who adds looks with `find` first. The store must not
                be used further.
        """

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        """The next paged live jobs of a queue behind `after` = (rank, seq), in dispatch order."""

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        """The next delayed jobs that are only here, behind `after` = (due, seq), earliest first."""

    def find(self, ids: list[str]) -> list[Record]:
        """The jobs with these ids, in no order; ids that are not known are left out."""

    def holders(self, name: str, unique: str) -> list[Holder]:
        """The jobs of this name that hold this key, newest first."""

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        """The newest `limit` wanted jobs among the next `rows` rows below `seq` = `before`: rows of the wanted states
        if all are terminal and none is `succeeded`, else of any. So a page may be empty and not the last one. Ids are
        all looked up, however many. Jobs that have no row are looked at, too, but fewer of them. Where arguments are
        wanted, a page also ends when `SEARCH_BYTES` of them were read. `now` is wall time: it tells delayed jobs from
        waiting ones."""

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        """Looks at the next `rows` rows, round and round, and forgets ended jobs whose time is over at wall time
        `now`; forgets the oldest (by `seq`) of the `DEAD_LETTERS` beyond `dead_max`, `ACT_JOBS_MAX` at a time, and of
        all other ended ones beyond `results_max`, `rows` at a time. Jobs that have succeeded may be kept together:
        then they go with the last of them, about a minute later at most, and the order is that of those groups. A
        store without room to do so forgets none. Returns how many are forgotten."""

    def upkeep(self) -> None:
        """To be called after each turn, when nobody waits: what `apply` has left to do later."""

    def info(self) -> dict[str, Any]:
        """`url`, `bytes`, `schema`, `durability`, `room` (whether new jobs can be stored), `dead` (number of
        `DEAD_LETTERS`), `results` (number of all other ended jobs), and what else there is to tell operators."""

    def close(self) -> None:
        """Flushes and lets go. Idempotent."""
