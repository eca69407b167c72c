"""The jobs: who is accepted, where each one stands, how it moves, what the store must remember of it.

Owns every job's state and the turn's `Changes`. A job is in exactly one place: in a backlog (waiting), in `leases`
(running), only in the store (waiting, paged), or ended. `live` finds those that are in memory. Nothing here sends,
reads a clock or knows a socket; `now` is monotonic time, `wall` is wall time, both in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.backlog import Backlog, Room, key
from eventmq.broker.pool import Crew, Manager, Pool
from eventmq.protocol import v2
from eventmq.protocol.v2 import Failure, Job, Options, Outcome, Refusal
from eventmq.store.base import Changes, Ended, Moved, Record, Store

Lease = tuple[Job, Manager, float]
"""One hand-out: the job, who has it, since when (monotonic). Not a class: one is made for every job."""

Ending = tuple[str, bytes, Failure | None, int]
"""How a job ended: state, value, failure, attempt."""


@lru_cache(maxsize=1024)
def options_of(packed: bytes) -> Options:
    """A job's options. Jobs of one function mostly carry the same bytes, so few are decoded twice.

    Raises:
        msgspec.MsgspecError: Not options.
    """
    if not packed:
        return Options()
    return v2.decode(packed, Options)


class Latency:
    """Times from hand-out to outcome of one queue, in seconds."""

    __slots__ = ("count", "max", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.max = 0.0


class Ledger:
    """All jobs.

    Attributes:
        live: Jobs in memory, waiting and running, by id.
        leases: Running jobs by id.
        backlogs: Waiting jobs by queue.
        changes: What this turn wants remembered.
        ended: What ended in this turn, by id: for those who wait for it.
        kept: Ended jobs that the store still keeps.
        counts: Since start: `accepted`, `duplicates`, `stale`, `redelivered`, `crashes`, and each terminal state.
        processed: Jobs handed out, by queue.
        latencies: How long they took, by queue.
        changed_queues: Queues that got waiting jobs since the last dispatch.
        changed_crews: Crews that got credit or members since then.
        short_queues: Queues whose head may want a page.
    """

    def __init__(self, store: Store, pool: Pool, result_ttl_s: float, crash_limit: int) -> None:
        self.store = store
        self.pool = pool
        self.result_ttl_s = result_ttl_s
        self.crash_limit = crash_limit
        self.live: dict[str, Job] = {}
        self.leases: dict[str, Lease] = {}
        self.changes = Changes()
        self.ended: dict[str, Ending] = {}
        self.counts: Counter[str] = Counter()
        self.processed: Counter[str] = Counter()
        self.latencies: dict[str, Latency] = {}
        snapshot = store.load()
        self.epoch = snapshot.epoch
        self.facts = snapshot.facts
        self.kept = snapshot.ended
        self.next_seq = snapshot.next_seq
        self.next_lease = snapshot.epoch << 32
        self.room = Room()
        self.backlogs = {queue: Backlog(queue, self.room, paged) for queue, paged in snapshot.paged.items()}
        for job in snapshot.jobs:
            self.live[job.id] = job
            self.backlog(job.queue).push(job)
        self.changed_queues: dict[str, None] = {}
        self.changed_crews: dict[Crew, None] = {}
        self.short_queues: dict[str, None] = dict.fromkeys(self.backlogs)

    # ---- in ----------------------------------------------------------------------------------------

    def accept(self, jobs: list[Job], wall: float) -> list[Refusal]:
        """Takes in new jobs; what is there already under the same id is accepted again without effect.

        Returns:
            Those that are not accepted, and why.
        """
        refusals = []
        good = []
        for job in jobs:
            fault = self._fault(job)
            if fault is None:
                good.append(job)
            else:
                refusals.append(fault)
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
            job.created, job.attempt, job.lease, job.crashes = wall, 1, 0, 0
            job.seq = self.next_seq
            self.next_seq += 1
            if backlog is None or backlog.name != job.queue:
                backlog = self.backlog(job.queue)
                self.changed_queues[job.queue] = None
            if backlog.edge is None and not backlog.full:
                backlog.push(job)
                live[job.id] = job
                added.append(job)
            else:
                self._place(backlog, job)
        self.counts["accepted"] += len(good)
        return refusals

    def _fault(self, job: Job) -> Refusal | None:
        """What is wrong with a job that a client sent, if anything."""
        if not 0 < len(job.id) <= limits.ID_CHARS_MAX:
            shown = job.id[: limits.ID_CHARS_MAX]
            return Refusal(shown, "invalid_job", f"an id has 1 to {limits.ID_CHARS_MAX} characters")
        if not 0 < len(job.queue) <= limits.NAME_CHARS_MAX or not 0 < len(job.name) <= limits.NAME_CHARS_MAX:
            return Refusal(job.id, "invalid_job", f"queue and name have 1 to {limits.NAME_CHARS_MAX} characters")
        if len(job.payload) > limits.PAYLOAD_BYTES_MAX:
            text = f"the payload has {len(job.payload)} bytes, the limit is {limits.PAYLOAD_BYTES_MAX}"
            return Refusal(job.id, "too_large", text)
        if job.queue not in self.backlogs and len(self.backlogs) >= limits.QUEUES_MAX:
            return Refusal(job.id, "too_large", f"there are {limits.QUEUES_MAX} queues already")
        if not -100 <= job.priority <= 100:
            return Refusal(job.id, "invalid_job", f"priority is {job.priority}, expected -100 to 100")
        if job.options:
            if len(job.options) > limits.OPTIONS_BYTES_MAX:
                return Refusal(job.id, "too_large", f"options have at most {limits.OPTIONS_BYTES_MAX} bytes")
            try:
                options_of(job.options)
            except msgspec.MsgspecError as error:
                return Refusal(job.id, "invalid_job", f"options: {error}")
        return None

    def _known(self, jobs: list[Job]) -> dict[str, Job]:
        """Those of the ids that are not in memory but exist: in the store, or spilled in this turn."""
        live = self.live
        records = self.store.find([job.id for job in jobs if job.id not in live])
        known = {record.job.id: record.job for record in records}
        for job in self.changes.spilled:
            known[job.id] = job
        return known

    def _place(self, backlog: Backlog, job: Job) -> None:
        """A new job of a queue whose head is full: into the store only, or in place of the last one in memory."""
        if backlog.belongs_in_store(job):
            backlog.page_out(job)
            self.changes.spilled.append(job)
            return
        backlog.push(job)
        self.live[job.id] = job
        self.changes.added.append(job)
        if backlog.full:
            last = backlog.pop_last()
            del self.live[last.id]
            backlog.page_out(last)
            self.changes.paged_out.append(last.seq)

    def backlog(self, queue: str) -> Backlog:
        """The backlog of a queue, made when the queue is first heard of."""
        backlog = self.backlogs.get(queue)
        if backlog is None:
            backlog = self.backlogs[queue] = Backlog(queue, self.room)
        return backlog

    def refill(self) -> bool:
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
        return filled

    # ---- out ---------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> list[tuple[Manager, list[Job]]]:
        """Hands waiting jobs to managers with credit until one or the other runs out."""
        crews = self.changed_crews
        for queue in self.changed_queues:
            for crew in self.pool.crews_of(queue):
                if self.backlogs[queue].head:
                    crew.has_work(queue)
                crews[crew] = None
        self.changed_queues, self.changed_crews = {}, {}
        handed: list[tuple[Manager, list[Job]]] = []
        for crew in crews:
            while (manager := crew.next_idle()) and (wanted := crew.next_queue()):
                jobs = self._take(wanted, crew, manager.credit)
                if jobs:
                    self._hand_out(jobs, manager, now)
                    crew.served(wanted)
                    crew.used(manager)
                    handed.append((manager, jobs))
        return handed

    def welcome(self, crew: Crew) -> None:
        """A crew that may be new: it learns which of its queues have work."""
        for queue in crew.weights:
            if queue in self.backlogs and self.backlogs[queue].head:
                crew.has_work(queue)

    def _take(self, queue: str, crew: Crew, credit: int) -> list[Job]:
        """A manager's share of a queue: all it may have when there is plenty, else an equal part."""
        backlog = self.backlogs[queue]
        idle = len(crew.idle)
        share = credit if idle == 1 else max(1, min(credit, len(backlog) // idle))
        jobs = backlog.pop(share)
        if not backlog.head:
            for other in self.pool.crews_of(queue):
                other.no_work(queue)
        if backlog.edge is not None:
            self.short_queues[queue] = None
        return jobs

    def _hand_out(self, jobs: list[Job], manager: Manager, now: float) -> None:
        lease = self.next_lease
        leases = self.leases
        for job in jobs:
            lease += 1
            job.lease = lease
            leases[job.id] = (job, manager, now)
        self.next_lease = lease
        manager.sent += len(jobs)
        self.processed[jobs[0].queue] += len(jobs)

    def held_by(self, manager: Manager) -> list[Job]:
        """What is handed out to a manager. Looks at all leases: for rare events and people."""
        return [job for job, holder, _ in self.leases.values() if holder is manager]

    # ---- back --------------------------------------------------------------------------------------

    def settle(self, outcomes: list[Outcome], manager: Manager, now: float, wall: float) -> None:
        """What a manager says of its hand-outs. One that is not current changes nothing."""
        leases = self.leases
        for outcome in outcomes:
            lease = leases.get(outcome.id)
            if lease is None or lease[0].lease != outcome.lease or lease[1] is not manager:
                self.counts["stale"] += 1
                continue
            job, _, since = lease
            if outcome.state == "returned":
                self.give_back([job])
                continue
            self._observe(job.queue, now - since)
            if outcome.state == "succeeded":
                self._end(job, manager, "succeed", wall, outcome.value, None, outcome.run_s)
            elif outcome.state == "crashed":
                self._crashed(job, manager, outcome, wall)
            else:
                failure = outcome.failure or Failure("eventmq.JobFailed", f"reported as {outcome.state[:40]!r}")
                self._end(job, manager, "fail", wall, b"", failure, outcome.run_s)

    def _observe(self, queue: str, seconds: float) -> None:
        latency = self.latencies.get(queue)
        if latency is None:
            latency = self.latencies[queue] = Latency()
        latency.count += 1
        latency.total += seconds
        if seconds > latency.max:
            latency.max = seconds

    def _crashed(self, job: Job, manager: Manager, outcome: Outcome, wall: float) -> None:
        job.crashes += 1
        self.counts["crashes"] += 1
        limit = options_of(job.options).crash_limit
        if job.crashes < (self.crash_limit if limit is None else limit):
            self.give_back([job], begun=True)
            return
        cause = outcome.failure or Failure("eventmq.JobCrashed", "worker process died")
        failure = Failure(cause.type, f"{cause.message}; crash {job.crashes} of this job", cause.traceback)
        self._end(job, manager, "fail", wall, b"", failure, outcome.run_s)

    def give_back(self, jobs: Iterable[Job], begun: bool = False) -> None:
        """Running jobs wait again, at their old place. `begun`: they may have run in part, so the attempt counts."""
        for job in sorted(jobs, key=key, reverse=True):
            lifecycle.next_state(self.state(job), "give_back")
            del self.leases[job.id]
            job.lease = 0
            if begun:
                job.attempt += 1
                self.counts["redelivered"] += 1
                self.changes.moved.append(Moved(job.seq, job.attempt, job.crashes))
            self.backlog(job.queue).push_back(job)
            self.changed_queues[job.queue] = None

    def refuse_to_run(self, job: Job, failure: Failure, wall: float) -> None:
        """A job that was just handed out turns out to be impossible to send: it is dead."""
        self._end(job, self.leases[job.id][1], "fail", wall, b"", failure, 0.0)

    def _end(
        self, job: Job, manager: Manager, event: str, wall: float, value: bytes, failure: Failure | None, run_s: float
    ) -> None:
        """Running to a terminal state: the only way out of the ledger."""
        id = job.id
        state = lifecycle.next_state(lifecycle.RUNNING, event)
        del self.leases[id]
        del self.live[id]
        manager.finished += 1
        self.counts[state] += 1
        self.kept += 1
        self.ended[id] = (state, value, failure, job.attempt)
        ttl = options_of(job.options).result_ttl_s if job.options else None
        if ttl is None:
            ttl = self.result_ttl_s
        expires = wall + (ttl if ttl > limits.DEDUPE_S else limits.DEDUPE_S)
        kept_value, kept_failure = value if ttl else b"", v2.pack(failure) if failure else b""
        name = manager.incarnation.name
        self.changes.ended.append(
            Ended(job.seq, state, wall, expires, job.attempt, job.crashes, run_s, name, kept_value, kept_failure)
        )

    # ---- reconciliation ------------------------------------------------------------------------------

    def adopt(self, id: str, lease: int, manager: Manager, now: float) -> str:
        """A returning manager holds this hand-out. `keep`: it is (again) the current one; `kill`: it is not; `done`:
        the job has ended. To be called when all changes are applied."""
        current = self.leases.get(id)
        if current is not None:
            job, holder, since = current
            if job.lease != lease or holder.incarnation != manager.incarnation:
                return "kill"
            self.leases[id] = (job, manager, since)
            return "keep"
        waiting = self.live.get(id)
        if waiting is not None:
            job = waiting
            self.backlogs[job.queue].remove(job)
        else:
            record = next(iter(self.store.find([id])), None)
            if record is None:
                return "kill"
            if record.state in lifecycle.TERMINAL:
                return "done"
            job = record.job
            self.live[id] = job
            self.backlog(job.queue).paged -= 1
            self.short_queues[job.queue] = None
            self.changes.paged_in.append(job.seq)
        job.lease = lease
        self.leases[id] = (job, manager, now)
        return "keep"

    # ---- questions -----------------------------------------------------------------------------------

    def state(self, job: Job) -> str:
        """The state of a job in memory."""
        return lifecycle.RUNNING if job.lease else lifecycle.WAITING

    def find(self, ids: list[str]) -> dict[str, Record]:
        """Jobs by id as the store has them; to be called when all changes are applied."""
        return {record.job.id: record for record in self.store.find(ids)}

    def applied(self) -> None:
        """The turn's changes are durable."""
        self.changes = Changes()
        self.ended = {}
