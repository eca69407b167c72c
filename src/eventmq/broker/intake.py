"""The jobs that do not run: taken in, put where they belong, fetched back from the store in time.

Owns `live` (every job in memory, running ones too), the backlogs, the timers, and the turn's `Changes`. A job that does
not run is in a backlog (waiting), in `timers` (delayed), or only in the store. Nothing here sends, reads a clock or
knows a manager; `wall` is wall time, in seconds.
"""

from __future__ import annotations

from collections import Counter

from eventmq import limits
from eventmq.broker.admission import fault, options_of
from eventmq.broker.backlog import Backlog, Room
from eventmq.broker.lifecycle import move
from eventmq.broker.timers import Timers
from eventmq.protocol.v2 import Job, Refusal
from eventmq.store.base import Changes, Moved, Store


class Intake:
    """Jobs on their way to being handed out.

    Attributes:
        live: Jobs in memory by id.
        backlogs: Waiting jobs by queue.
        timers: Delayed jobs.
        changes: What this turn wants remembered.
        counts: Since start: `accepted`, `duplicates`, and what the ledger counts.
        epoch: How often this store was opened by a Router.
        kept: Ended jobs that the store still keeps.
        facts: What was remembered besides jobs when the Router started.
        changed_queues: Queues that got waiting jobs since the last dispatch.
        short_queues: Queues whose head may want a page.
    """

    def __init__(self, store: Store, wall: float) -> None:
        self.store = store
        self.live: dict[str, Job] = {}
        self.changes = Changes()
        self.counts: Counter[str] = Counter()
        snapshot = store.load()
        self.epoch = snapshot.epoch
        self.facts = snapshot.facts
        self.kept = snapshot.ended
        self.next_seq = snapshot.next_seq
        self.room = Room()
        self.backlogs = {queue: Backlog(queue, self.room, paged) for queue, paged in snapshot.paged.items()}
        self.timers = Timers(snapshot.delayed)
        self.changed_queues: dict[str, None] = {}
        self.short_queues: dict[str, None] = dict.fromkeys(self.backlogs)
        for job in snapshot.jobs:
            self.live[job.id] = job
            if job.due > wall:
                self.delay(job)
            else:
                job.due = 0.0
                self.backlog(job.queue).push(job)

    # ---- in ----------------------------------------------------------------------------------------

    def accept(self, jobs: list[Job], wall: float) -> list[Refusal]:
        """Takes in new jobs; what is there already under the same id is accepted again without effect.

        Returns:
            Those that are not accepted, and why.
        """
        refusals = []
        good = []
        for job in jobs:
            refusal = fault(job) or self._no_room(job)
            if refusal is None:
                good.append(job)
            else:
                refusals.append(refusal)
        known = self._known(good)
        live = self.live
        added = self.changes.added
        backlog: Backlog | None = None
        for job in good:
            other = known.get(job.id) if known else None
            other = other or live.get(job.id)
            if other is not None:
                self.counts["duplicates"] += 1
                if other.name != job.name or other.payload != job.payload or other.queue != job.queue:
                    refusals.append(Refusal(job.id, "conflict", "this id belongs to another job already"))
                continue
            job.created, job.attempt, job.lease, job.crashes, job.failures = wall, 1, 0, 0, 0
            job.due = self._due(job, wall) if job.options else 0.0
            job.seq = self.next_seq
            self.next_seq += 1
            if backlog is None or backlog.name != job.queue:
                backlog = self.backlog(job.queue)
                self.changed_queues[job.queue] = None
            if job.due:
                self._accept_delayed(job)
            elif backlog.edge is None and not backlog.full:
                backlog.push(job)
                live[job.id] = job
                added.append(job)
            else:
                self._place(backlog, job)
        self.counts["accepted"] += len(good)
        return refusals

    def _no_room(self, job: Job) -> Refusal | None:
        if job.queue in self.backlogs or len(self.backlogs) < limits.QUEUES_MAX:
            return None
        return Refusal(job.id, "too_large", f"there are {limits.QUEUES_MAX} queues already")

    def _known(self, jobs: list[Job]) -> dict[str, Job]:
        """Those of the ids that are not in memory but exist: in the store, or spilled in this turn."""
        live = self.live
        records = self.store.find([job.id for job in jobs if job.id not in live])
        known = {record.job.id: record.job for record in records}
        for job in self.changes.spilled + self.changes.delayed:
            known[job.id] = job
        return known

    def _place(self, backlog: Backlog, job: Job) -> None:
        """A new job of a queue whose head is full: into the store only, or in place of the last one in memory."""
        if backlog.belongs_in_store(job):
            backlog.page_out(job)
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
            del self.live[last.id]
            backlog.page_out(last)
            self.changes.paged_out.append(last.seq)

    # ---- later -------------------------------------------------------------------------------------

    def _due(self, job: Job, wall: float) -> float:
        """Wall time at which a new job is due, 0 if that is now."""
        options = options_of(job.options)
        due = options.due or wall + options.delay_s
        return due if due > wall else 0.0

    def _accept_delayed(self, job: Job) -> None:
        if self.timers.belongs_in_store(job):
            self.timers.page_out(job)
            self.changes.delayed.append(job)
        else:
            self.live[job.id] = job
            self.changes.added.append(job)
            self.delay(job)

    def delay(self, job: Job) -> None:
        """A job in memory is delayed; memory may have to let go of the one that is due last."""
        last = self.timers.push(job)
        if last is not None:
            del self.live[last.id]
            self.changes.put_off.append(last.seq)

    def wake(self, wall: float) -> None:
        """Delayed jobs that are due wait from now on, each in the place of its acceptance."""
        for job in self.timers.pop_due(wall):
            move(job, "wake")
            job.due = 0.0
            backlog = self.backlog(job.queue)
            if backlog.belongs_in_store(job):
                del self.live[job.id]
                backlog.page_out(job)
                self.changes.moved.append(moved(job))
                self.changes.paged_out.append(job.seq)
            else:
                backlog.push_back(job)
                self._trim(backlog)
            self.changed_queues[job.queue] = None

    def backlog(self, queue: str) -> Backlog:
        """The backlog of a queue, made when the queue is first heard of."""
        backlog = self.backlogs.get(queue)
        if backlog is None:
            backlog = self.backlogs[queue] = Backlog(queue, self.room)
        return backlog

    def refill(self, wall: float) -> bool:
        """Reads pages for heads that have become short. To be called when all changes are applied.

        Returns:
            Whether there is new work in memory.
        """
        filled = False
        for queue in self.short_queues:
            backlog = self.backlogs[queue]
            if not backlog.wants_page:
                continue
            asked = backlog.page_jobs
            jobs = self.store.page(queue, backlog.before_edge, asked)
            for job in jobs:
                self.live[job.id] = job
            backlog.fill(jobs, more=len(jobs) == asked)
            self.changed_queues[queue] = None
            filled = filled or bool(jobs)
        self.short_queues = {}
        while self.timers.wants_page(wall):
            jobs = self.store.due(self.timers.before_edge, limits.PAGE_JOBS)
            self.live.update((job.id, job) for job in jobs)
            self.timers.fill(jobs, more=len(jobs) == limits.PAGE_JOBS)
        return filled


def moved(job: Job, failure: bytes = b"") -> Moved:
    """What the store is to know of a job that goes back."""
    return Moved(job.seq, job.attempt, job.crashes, job.failures, job.due, failure)
