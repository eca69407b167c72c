"""The jobs that do not run: taken in, put where they belong, fetched back from the store in time.

Owns `live` (every job in memory, running ones too), the backlogs, the timers, and the turn's `Changes`. A job that does
not run is in a backlog (waiting), in `timers` (delayed), or only in the store. Nothing here sends, reads a clock or
knows a manager; `wall` is wall time, in seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from math import inf
from typing import NamedTuple

from eventmq import limits
from eventmq.broker import backlog as backlogs
from eventmq.broker import timers
from eventmq.broker.admission import alike, fault
from eventmq.broker.backlog import Backlog, Room
from eventmq.broker.lifecycle import move
from eventmq.broker.policy import Policy
from eventmq.broker.rules import Rules
from eventmq.broker.timers import Expiries, Timers
from eventmq.broker.uniques import Uniques
from eventmq.protocol import v2
from eventmq.protocol.v2 import Failure, Job, Refusal, options_of
from eventmq.store.base import Changes, Moved, Store

SAME_S = 1e-3
"""Two clocks that differ by less agree."""


class Accepted(NamedTuple):
    """What became of new jobs; those in neither list are accepted.

    Attributes:
        refusals: Those that are not, and why.
        existing: (id, other id): in the way of the first was the other, which stands for it unless it is refused, too.
    """

    refusals: list[Refusal]
    existing: list[tuple[str, str]]


class Intake(ABC):
    """Jobs on their way to being handed out.

    Attributes:
        live: Jobs in memory by id.
        backlogs: Waiting jobs by queue.
        timers: Delayed jobs.
        uniques: Who holds which key.
        changes: What this turn wants remembered.
        let_go: Jobs that left memory in this turn by id; the store may not have them yet.
        counts: Since start: `accepted`, `duplicates`, and what the ledger counts.
        held_back: Jobs that may run on where we do not see it, by id: the monotonic time until which they are delayed.
        in_doubt: Jobs that may begin only once and may have, at a manager of before this start.
        epoch: How often this store was opened by a Router.
        facts: What was remembered besides jobs when the Router started.
        rules: What operators have said about queues.
        changed_queues: Queues that got waiting jobs since the last dispatch.
        short_queues: Queues whose head may want a page.
    """

    def __init__(self, store: Store, policy: Policy, wall: float) -> None:
        self.store = store
        self.policy = policy
        self.live: dict[str, Job] = {}
        self.changes = Changes()
        self.let_go: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        snapshot = store.load()
        self.epoch = snapshot.epoch
        self.facts = snapshot.facts
        self.rules = Rules(snapshot.facts, policy.queue_jobs_max)
        self.next_seq = snapshot.next_seq
        self.uniques = Uniques(store, self.live, snapshot.next_seq)
        self.room = Room(Expiries(self.live))
        self.backlogs = {queue: self._paged_backlog(queue, paged) for queue, paged in snapshot.paged.items()}
        first = store.due(timers.FIRST, 1) if snapshot.delayed else []
        self.timers = Timers(sum(snapshot.delayed.values()), (first[0].due, first[0].seq) if first else None)
        for queue, delayed in snapshot.delayed.items():
            self.backlog(queue).delayed = delayed
        self.changed_queues: dict[str, None] = {}
        self.short_queues: dict[str, None] = dict.fromkeys(self.backlogs)
        self.held_back: dict[str, float] = {}
        self.in_doubt: list[Job] = []
        for job in snapshot.jobs:
            self.live[job.id] = job
            if job.started > job.settled:
                self.in_doubt.append(job)
            elif job.due > wall:
                self.delay(job)
            else:
                job.due = 0.0
                self.put_back(job)

    def _paged_backlog(self, queue: str, paged: int) -> Backlog:
        (first,) = self.store.page(queue, backlogs.FIRST, 1)
        return Backlog(queue, self.room, paged, backlogs.key(first))

    # ---- in ----------------------------------------------------------------------------------------

    def accept(self, jobs: list[Job], wall: float, recovering: bool = False) -> Accepted:
        """Takes in new jobs; what is there already under the same id is accepted again without effect.

        Args:
            jobs: From a client.
            wall: Wall time.
            recovering: The Router was restarted, and jobs may run without its knowing.
        """
        if len(jobs) > 1 and self._accept_alike(jobs, wall):
            return Accepted([], [])
        good, refusals = self._checked(jobs)
        existing: list[tuple[str, str]] = []
        live, let_go = self.live, self.let_go
        known = {each.job.id: each.job for each in self.store.find([job.id for job in good if job.id not in live])}
        added = self.changes.added
        backlog: Backlog | None = None
        room = 0.0
        for job in good:
            other = known.get(job.id) if known else None
            other = other or live.get(job.id) or let_go.get(job.id)
            if other is not None:
                self.counts["duplicates"] += 1
                if other.name != job.name or other.payload != job.payload or other.queue != job.queue:
                    refusals.append(Refusal(job.id, "conflict", "this id belongs to another job already"))
                continue
            if backlog is None or backlog.name != job.queue:
                backlog = self.backlog(job.queue)
                self.changed_queues[job.queue] = None
                room = self._room(backlog)
            if room < 1:
                room = self._room(backlog)  # what was replaced may have left some
            full = room < 1 and not (job.unique and self._makes_room(job, room, wall, recovering))
            if job.unique and (rival := self._rival(job, wall, recovering, full)) is not None:
                existing.append((job.id, rival))
                if options_of(job.options).on_conflict == "raise":
                    refusals.append(Refusal(job.id, "duplicate", f"job {rival} has the same key, {job.unique!r}"))
                continue
            room -= 1
            if full:
                refusals.append(self._full(job))
                continue
            self._begin(job, wall)
            if job.options:
                job.due = self._due(job, wall)
            if job.due:
                self._accept_delayed(job)
            elif backlog.edge is None and not backlog.full:
                backlog.push(job)
                live[job.id] = job
                added.append(job)
            else:
                self._place(backlog, job)
            if job.unique:
                self.uniques.added(job)
        self.counts["accepted"] += len(jobs) - len(refusals)
        return Accepted(refusals, existing)

    def _accept_alike(self, jobs: list[Job], wall: float) -> bool:
        """Takes in all of these at once, as they come in bulk: new, `alike`, due, all for memory, which has room for
        them, or behind what is only in the store."""
        most = alike(jobs)
        if most is None or fault(most) or self._no_room(most) or self._due(most, wall):
            return False
        backlog, ids, size = self.backlog(most.queue), [job.id for job in jobs], sum([len(job.payload) for job in jobs])
        behind = backlog.edge is not None and (-most.priority, self.next_seq) >= backlog.edge
        if self._room(backlog) < len(jobs) or not (behind or backlog.holds(len(jobs), size)):
            return False
        if self.live.keys() & ids or self.let_go.keys() & ids or len(set(ids)) < len(ids) or self.store.find(ids):
            return False
        for job in jobs:
            self._begin(job, wall)
        if behind:
            backlog.paged += len(jobs)
        else:
            backlog.push_all(jobs, size)
        (self.let_go if behind else self.live).update(zip(ids, jobs, strict=True))
        (self.changes.spilled if behind else self.changes.added).extend(jobs)
        self.counts["accepted"] += len(jobs)
        self.changed_queues[most.queue] = None
        return True

    def _begin(self, job: Job, wall: float) -> None:
        """A new job is accepted, whatever its client has written where the Router writes."""
        if job.attempt != 1 or job.lease or job.crashes or job.failures or job.due or job.settled or job.started:
            job.attempt, job.lease, job.crashes, job.failures = 1, 0, 0, 0
            job.due, job.settled, job.started = 0.0, 0, 0
        job.created, job.seq = wall, self.next_seq
        self.next_seq += 1

    def _checked(self, jobs: list[Job]) -> tuple[list[Job], list[Refusal]]:
        """Jobs that are acceptable by themselves, and why the others are not."""
        faults = [fault(job) or self._no_room(job) for job in jobs]
        good = [job for job, refusal in zip(jobs, faults, strict=True) if refusal is None]
        return good, [refusal for refusal in faults if refusal is not None]

    def _rival(self, job: Job, wall: float, recovering: bool, full: bool) -> str | None:
        """The job in the way of a new one with a key. Those that it is to replace are in its way no more, unless
        its queue is `full`: then it will be refused."""
        known = self.uniques.answer(job.id)
        if known is not None:
            return known
        replaces = options_of(job.options).on_conflict == "replace"
        rivals = [] if replaces and full else self.uniques.rivals(job, wall, recovering, self.changes)
        if replaces or not rivals:
            for rival in rivals:
                self.cancel(rival.id, wall)
                self.counts["replaced"] += 1
            return None
        self.uniques.answered(job.id, rivals[0].id)
        return rivals[0].id

    def _makes_room(self, job: Job, room: float, wall: float, recovering: bool) -> bool:
        """Whether those that a new job is to replace leave enough in its queue; one that runs takes none there."""
        if options_of(job.options).on_conflict != "replace":
            return False
        rivals = self.uniques.rivals(job, wall, recovering, Changes())
        there = [rival.id for rival in rivals if rival.queue == job.queue]
        return room + sum(id not in self.live or not self.live[id].lease for id in there) >= 1

    @abstractmethod
    def cancel(self, id: str, wall: float) -> str:
        """Ends a job wherever it is."""

    def _room(self, backlog: Backlog) -> float:
        """How many new jobs a queue takes now."""
        if self.rules.of(backlog.name).draining:
            return -inf
        jobs_max = self.rules.jobs_max(backlog.name)
        return inf if jobs_max is None else jobs_max - len(backlog) - backlog.delayed

    def _full(self, job: Job) -> Refusal:
        if self.rules.of(job.queue).draining:
            return Refusal(job.id, "queue_draining", f"queue {job.queue!r} takes nothing new until it is resumed")
        text = f"{self.rules.jobs_max(job.queue)} jobs wait in queue {job.queue!r}, which is its bound"
        return Refusal(job.id, "queue_full", text)

    def _no_room(self, job: Job) -> Refusal | None:
        if job.queue in self.backlogs or len(self.backlogs) < limits.QUEUES_MAX:
            return None
        return Refusal(job.id, "too_large", f"there are {limits.QUEUES_MAX} queues already")

    def _place(self, backlog: Backlog, job: Job) -> None:
        """A new job of a queue whose head is full: into the store only, or in place of the last one in memory."""
        if backlog.belongs_in_store(job):
            backlog.page_out(job)
            self.let_go[job.id] = job
            self.changes.spilled.append(job)
            return
        self.live[job.id] = job
        self.changes.added.append(job)
        backlog.push(job)
        self._trim(backlog)

    def _trim(self, backlog: Backlog) -> None:
        """Memory lets go of the last job of a head that has become too long."""
        if backlog.full:
            last = backlog.pop_last()
            self._page_out(backlog, last)

    def _page_out(self, backlog: Backlog, job: Job) -> None:
        """Memory lets go of a waiting job. The store learns that it is due, if it was not: a paged job waits."""
        self._let_go(job)
        backlog.page_out(job)
        if job.options:
            self.changes.moved.append(moved(job))
        self.changes.paged_out.append(job.seq)

    def _let_go(self, job: Job) -> None:
        self.let_go[job.id] = self.live.pop(job.id)
        if job.seq in self.changes.paged_in:
            self.changes.paged_in.remove(job.seq)

    def put_back(self, job: Job) -> None:
        """A job in memory waits, at the place of its acceptance: in memory or, behind the edge, in the store."""
        backlog = self.backlog(job.queue)
        if backlog.belongs_in_store(job):
            self._page_out(backlog, job)
        else:
            backlog.push_back(job)
            self._trim(backlog)
        if backlog.edge is not None:
            self.short_queues[job.queue] = None
        self.changed_queues[job.queue] = None

    # ---- later -------------------------------------------------------------------------------------

    def _due(self, job: Job, wall: float) -> float:
        """Wall time at which a new job is due, 0 if that is now."""
        options = options_of(job.options)
        due = options.due or wall + options.delay_s
        return due if due > wall else 0.0

    def _accept_delayed(self, job: Job) -> None:
        if self.timers.belongs_in_store(job):
            self.timers.page_out(job)
            self.backlog(job.queue).delayed += 1
            self.let_go[job.id] = job
            self.changes.delayed.append(job)
        else:
            self.live[job.id] = job
            self.changes.added.append(job)
            self.delay(job)

    def delay(self, job: Job) -> None:
        """A job in memory is delayed; memory may have to let go of the one that is due last, be it this one."""
        self.backlog(job.queue).delayed += 1
        last: Job | None = job
        if self.timers.belongs_in_store(job):
            self.timers.page_out(job)
        else:
            last = self.timers.push(job)
        if last is not None:
            self._let_go(last)
            self.changes.put_off.append(last.seq)

    def wake(self, now: float, wall: float) -> None:
        """Delayed jobs that are due wait from now on, each in the place of its acceptance."""
        for job in self.timers.pop_due(wall):
            self.backlogs[job.queue].delayed -= 1
            left_s = self.held_back.pop(job.id, now) - now
            if left_s > SAME_S:  # the wall clock was set forward, which stops no run
                self.held_back[job.id] = now + left_s
                job.due = wall + left_s
                self.changes.moved.append(moved(job))
                self.delay(job)
                continue
            move(job, "wake")
            job.due = 0.0
            self.put_back(job)

    def take_out(self, job: Job) -> None:
        """A job in memory leaves the place in which it is delayed or waits."""
        if job.due:
            self.timers.remove(job)
            self.backlogs[job.queue].delayed -= 1
        else:
            self.backlogs[job.queue].remove(job)
            self.short_queues[job.queue] = None

    def fetch(self, job: Job) -> None:
        """A job that is delayed or waits, in memory or only in the store, leaves its place and is in memory."""
        if job.id in self.live:
            self.take_out(job)
            return
        self.live[job.id] = job
        self.changes.paged_in.append(job.seq)
        if job.due:
            self.timers.paged -= 1
            self.backlogs[job.queue].delayed -= 1
        else:
            self.backlogs[job.queue].paged -= 1
            self.short_queues[job.queue] = None

    def backlog(self, queue: str) -> Backlog:
        """The backlog of a queue, made when the queue is first heard of."""
        backlog = self.backlogs.get(queue)
        if backlog is None:
            backlog = self.backlogs[queue] = Backlog(queue, self.room)
        return backlog

    def refill(self, wall: float) -> None:
        """Reads pages for heads that have become short. To be called when all changes are applied."""
        for queue in self.short_queues:
            backlog = self.backlogs[queue]
            jobs: list[Job] = []
            while backlog.wants_page and not jobs:
                asked = self.room.page_jobs
                page = self.store.page(queue, backlog.before_edge, asked)
                jobs = self._new_in_memory(page)
                backlog.fill(jobs, page[-1] if len(page) == asked else None)
            self.changed_queues[queue] = None
        self.short_queues = {}
        if self.timers.wants_page(wall):
            page = self.store.due(self.timers.before_edge, limits.PAGE_JOBS)
            self.timers.fill(self._new_in_memory(page), page[-1] if len(page) == limits.PAGE_JOBS else None)

    def _new_in_memory(self, page: list[Job]) -> list[Job]:
        """Those of a page that memory did not have. The others were read before and are handed out: the store is not
        told of that, and the edge may have come back before them since."""
        enter = self.live.setdefault
        return [job for job in page if enter(job.id, job) is job]


def moved(job: Job, failure: Failure | None = None) -> Moved:
    """What the store is to know of a job that goes back, or goes out and may begin only once."""
    packed = v2.pack(failure) if failure else b""
    counters = (job.seq, job.attempt, job.crashes, job.failures)
    return Moved(*counters, job.due, packed, job.settled, error_of(failure), job.started)


def error_of(failure: Failure | None) -> str:
    """A failure as lists show it."""
    return f"{failure.type}: {failure.message}"[: limits.ERROR_CHARS_MAX] if failure else ""
