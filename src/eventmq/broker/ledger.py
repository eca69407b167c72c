"""The jobs that are handed out: to whom, what comes back, how each one ends.

With what `Leases` and `Intake` own, a job is in exactly one place: in `timers` (delayed), in a backlog (waiting), in
`leases` (running), only in the store (delayed or waiting), or ended. Nothing here sends, reads a clock or knows a
socket; `now` is monotonic time, `wall` is wall time, both in seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

from eventmq import limits
from eventmq.broker import lifecycle, retries
from eventmq.broker.admission import overdue
from eventmq.broker.backlog import key
from eventmq.broker.intake import error_of, moved
from eventmq.broker.latency import Latency, observe
from eventmq.broker.leases import Leases
from eventmq.broker.lifecycle import move
from eventmq.broker.policy import Policy
from eventmq.broker.pool import Crew, Manager, Pool
from eventmq.protocol import v2
from eventmq.protocol.v2 import Failure, Held, Job, Outcome, options_of
from eventmq.store.base import DEAD_LETTERS, Changes, Ended, Record, Requeued, Store

REQUEUED_FACT = "requeued"

Ending = tuple[str, bytes, Failure | None, int]
"""How a job ended: state, value, failure, attempt."""


@lru_cache(maxsize=1024)
def _ends_plainly(options: bytes) -> bool:
    """Whether these options say nothing about what becomes of a job that succeeds."""
    opened = options_of(options)
    return opened.result_ttl_s is None and not opened.schedule


class Ledger(Leases):
    """All jobs.

    Attributes:
        ended: What ended in this turn, by id: for those who wait for it.
        runs_ended: Of those, the runs of schedules: (schedule, job, state), cleared by whoever reads them.
        handed: Jobs handed out in this turn, in batches.
        over: Jobs that ended in this turn, as `changes.ended` has them.
        failed: Attempts that failed in this turn: job, why, how many seconds it ran.
        kills: Hand-outs of jobs that were cancelled in this turn: who is to stop them.
        counts: Of `Intake`, and `stale`, `redelivered`, `retried`, `requeued`, `crashes`, and each terminal state.
        processed: Jobs handed out, by queue.
        latencies: How long they took, by queue.
        changed_crews: Crews that got credit or members since the last dispatch.
        requeued_at: Wall time of the last requeue: of what counts as accepted later, older means smaller `seq`.
    """

    def __init__(self, store: Store, pool: Pool, policy: Policy, now: float, wall: float, first_lease: int = 0) -> None:
        super().__init__(store, policy, now, wall, first_lease)
        self.pool = pool
        self.ended: dict[str, Ending] = {}
        self.runs_ended: list[tuple[str, str, str]] = []
        self.handed: list[list[Job]] = []
        self.over: list[Job] = []
        self.failed: list[tuple[Job, Failure, float]] = []
        self.kills: list[tuple[Manager, Held]] = []
        self.processed: Counter[str] = Counter()
        self.latencies: dict[str, Latency] = {}
        self.changed_crews: dict[Crew, None] = {}
        self.requeued_at = float(v2.unpack(self.facts.get(REQUEUED_FACT, v2.pack(0.0))))

    # ---- out ---------------------------------------------------------------------------------------

    def dispatch(self, now: float, wall: float) -> list[tuple[Manager, list[Job]]]:
        """Hands waiting jobs to managers with credit until one or the other runs out."""
        crews = self.changed_crews
        for queue in self.changed_queues:
            for crew in self.pool.crews_of(queue):
                if self._has_work(queue):
                    crew.turns.has_work(queue)
                crews[crew] = None
        self.changed_queues, self.changed_crews = {}, {}
        handed: list[tuple[Manager, list[Job]]] = []
        for crew in crews:
            while (manager := crew.next_idle()) and (wanted := crew.turns.next(now)):
                jobs = self._unexpired(self._take(wanted, crew, manager.credit), wall)
                if jobs:
                    self._hand_out(jobs, manager, now)
                    crew.turns.served(wanted)
                    crew.used(manager)
                    handed.append((manager, jobs))
        return handed

    def welcome(self, crew: Crew) -> None:
        """A crew that may be new: it learns which of its queues have work."""
        for queue in crew.weights:
            if self._has_work(queue):
                crew.turns.has_work(queue)

    def _has_work(self, queue: str) -> bool:
        """Whether there is something to hand out, and it may be."""
        backlog = self.backlogs.get(queue)
        return backlog is not None and backlog.head > 0 and not self.rules.of(queue).paused

    def say(self, queue: str, **what: Any) -> None:
        """An operator says something about a queue, see `Rules.change`."""
        fact, value = self.rules.change(queue, **what)
        self.changes.facts[fact] = value
        for crew in self.pool.crews_of(queue):
            crew.turns.no_work(queue)
        self.changed_queues[queue] = None

    def _take(self, queue: str, crew: Crew, credit: int) -> list[Job]:
        """The next jobs of a queue for a manager with this credit, as many as it should have."""
        backlog = self.backlogs[queue]
        jobs = backlog.pop(crew.part(credit, len(backlog)))
        if not backlog.head:
            for other in self.pool.crews_of(queue):
                other.turns.no_work(queue)
        if backlog.edge is not None:
            self.short_queues[queue] = None
        return jobs

    def expire(self, wall: float) -> None:
        """Some of the waiting jobs that have not begun in time end. Not while managers may run what seems to wait."""
        for job in islice(iter(lambda: self.room.expiries.pop_over(wall), None), limits.ACT_JOBS_MAX):
            self.take_out(job)
            self._end(job, None, "expire", wall)

    def _unexpired(self, jobs: list[Job], wall: float) -> list[Job]:
        """Those that may still begin; the others end."""
        left = []
        for job in jobs:
            if job.options and overdue(options_of(job.options), job.created, wall):
                self._end(job, None, "expire", wall)
            else:
                left.append(job)
        return left

    def _hand_out(self, jobs: list[Job], manager: Manager, now: float) -> None:
        lease = self.next_lease
        leases = self.leases
        for job in jobs:
            lease += 1
            job.lease = lease
            leases[job.id] = (job, manager, now)
            if job.options:
                self._mark(job)
        self.next_lease = lease
        self.handed.append(jobs)
        if manager.crew.fair is not None:
            manager.crew.fair.lent(jobs[0].queue, len(jobs), now)
        manager.sent += len(jobs)
        self.processed[jobs[0].queue] += len(jobs)

    # ---- back --------------------------------------------------------------------------------------

    def settle(self, outcomes: list[Outcome], manager: Manager, now: float, wall: float) -> None:
        """What a manager says of its hand-outs. One that is not current changes nothing."""
        leases, took_s = self.leases, defaultdict[str, list[float]](list)
        plain: list[tuple[Job, Outcome]] = []
        for outcome in outcomes:
            lease = leases.get(outcome.id)
            if lease is None or lease[0].lease != outcome.lease or lease[1] is not manager:
                self.counts["stale"] += 1
                continue
            job, _, since = lease
            job.settled = outcome.lease
            if not 0.0 <= outcome.run_s <= limits.FUTURE_S_MAX:
                outcome.run_s = 0.0  # nobody can say that in JSON, and SQLite has no NaN
            if outcome.state == "returned":
                self.give_back([job])
                continue
            took_s[job.queue].append(now - since)
            if outcome.state == "succeeded" and not job.unique and (not job.options or _ends_plainly(job.options)):
                del leases[outcome.id]
                plain.append((job, outcome))
            elif outcome.state == "succeeded":
                self._end(job, manager, "succeed", wall, outcome.value, None, outcome.run_s)
            elif outcome.state == "crashed":
                self._crashed(job, manager, outcome, wall)
            elif outcome.state == "interrupted":
                self.cut_short([job], outcome.failure or Failure("eventmq.JobLost", "its manager stopped it"), wall)
            else:
                self._failed(job, manager, outcome, wall)
        observe(self.latencies, took_s)
        if plain:
            self._succeed(plain, manager, wall)

    def _succeed(self, plain: list[tuple[Job, Outcome]], manager: Manager, wall: float) -> None:
        """What `_end` does, for many at once about which nothing is special, and which `leases` has no longer."""
        live, progress, ended, fair = self.live, self.progress, self.ended, manager.crew.fair
        name, ttl_s = manager.incarnation.name, self.policy.result_ttl_s
        expires, state = wall + max(ttl_s, limits.DEDUPE_S), lifecycle.SUCCEEDED
        end = self.changes.ended.append
        for job, outcome in plain:
            id, value, kept = job.id, outcome.value, outcome.value if ttl_s else b""
            del live[id]
            if progress:
                progress.pop(id, None)
            if fair is not None:
                fair.given_back(job.queue)
            ended[id] = (state, value, None, job.attempt)
            end(Ended(job.seq, state, wall, expires, job.attempt, job.crashes, outcome.run_s, name, kept, b""))
        self.over += [job for job, _ in plain]
        manager.finished += len(plain)
        self.counts[state] += len(plain)

    def _failed(self, job: Job, manager: Manager, outcome: Outcome, wall: float) -> None:
        failure = outcome.failure or Failure("eventmq.JobFailed", f"reported as {outcome.state[:40]!r}")
        self.failed.append((job, failure, outcome.run_s))
        options = options_of(job.options)
        if not retries.wanted(options, job, outcome.state, failure):
            self._end(job, manager, "fail", wall, b"", failure, outcome.run_s)
            return
        job.failures += 1
        job.attempt += 1
        self.counts["retried"] += 1
        given = outcome.delay_s
        # 0.0 first: a NaN is 0, too
        delay_s = retries.delay_s(options, job) if given is None else min(max(0.0, given), limits.FUTURE_S_MAX)
        self._try_again(job, wall + delay_s if delay_s else 0.0, failure, wall, outcome.run_s)

    def _try_again(self, job: Job, due: float, cause: Failure, wall: float, run_s: float | None = None) -> None:
        """Running to delayed, or straight back to waiting when `due` is 0. Without `run_s` it was cut short."""
        self._remember_attempt(job, cause, wall, run_s)
        move(job, "put_off" if due else "give_back")
        self._take_back(job)
        job.lease, job.due = 0, due
        self.changes.moved.append(moved(job, None if run_s is None else cause))
        if not due:
            self.put_back(job)
        else:
            self.delay(job)

    def _crashed(self, job: Job, manager: Manager, outcome: Outcome, wall: float) -> None:
        job.crashes += 1
        self.counts["crashes"] += 1
        options = options_of(job.options)
        limit = self.policy.crash_limit if options.crash_limit is None else options.crash_limit
        cause = outcome.failure or Failure(lifecycle.CRASHED, "worker process died")
        self.failed.append((job, cause, outcome.run_s))
        if job.crashes < limit or not options.redeliver:
            self.cut_short([job], cause, wall)
            return
        failure = Failure(cause.type, f"{cause.message}; crash {job.crashes} of this job", cause.traceback)
        self._end(job, manager, "fail", wall, b"", failure, outcome.run_s)

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Handed out and known not to have begun: they wait again at their old place, and no attempt is counted."""
        for job in sorted(jobs, key=key, reverse=True):
            move(job, "give_back")
            if job.started:
                job.settled = job.lease
                self.changes.moved.append(moved(job))
            self._take_back(job)
            job.lease = 0
            self.put_back(job)

    def cut_short(
        self, jobs: Iterable[Job], cause: Failure, wall: float, now: float = 0.0, left_s: float = 0.0
    ) -> None:
        """Runs that may have begun are over, or out of our sight. The jobs wait again, at their old place, and the
        attempt counts; those that may begin only once are lost for this cause. From monotonic time `now` a manager that
        is cut off has `left_s` to stop those with `on_partition="stop"`."""
        for job in sorted(jobs, key=key, reverse=True):
            options = options_of(job.options)
            if not options.redeliver:
                self._end(job, self.leases[job.id][1], "lose", wall, b"", cause)
                continue
            job.attempt += 1
            self.counts["redelivered"] += 1
            held_back = options.on_partition == "stop" and left_s > 0
            if held_back:
                self.held_back[job.id] = now + left_s
            self._try_again(job, wall + left_s if held_back else 0.0, cause, wall)

    def refuse_to_run(self, job: Job, failure: Failure, wall: float) -> None:
        """A job that was just handed out turns out to be impossible to send: it is dead."""
        self.failed.append((job, failure, 0.0))
        self._end(job, self.leases[job.id][1], "fail", wall, b"", failure, 0.0)

    def _end(
        self,
        job: Job,
        manager: Manager | None,
        event: str,
        wall: float,
        value: bytes = b"",
        failure: Failure | None = None,
        run_s: float = 0.0,
    ) -> None:
        """To a terminal state: the only way out of the ledger. Whoever calls has taken the job out of its place,
        unless that is its lease."""
        id = job.id
        state = move(job, event)
        self._take_back(job)
        self.live.pop(id, None)
        if self.held_back:
            self.held_back.pop(id, None)
        name = ""
        if manager is not None:
            manager.finished += 1
            name = manager.incarnation.name
        self.counts[state] += 1
        self.ended[id] = (state, value, failure, job.attempt)
        options = options_of(job.options)
        if options.schedule:
            self.runs_ended.append((options.schedule, id, state))
        own = options.result_ttl_s
        ttl = self.policy.result_ttl_s if own is None else own
        kept_value, kept_failure = value if ttl else b"", v2.pack(failure) if failure else b""
        if state in DEAD_LETTERS:
            ttl = max(self.policy.dead_ttl_s, own or 0.0)
        expires = wall + (ttl if ttl > limits.DEDUPE_S else limits.DEDUPE_S)
        if job.unique:
            expires = max(expires, job.created + (options.unique_for_s or 0.0))
            self.uniques.ended(job, state, self.changes)
        self.over.append(job)
        kept = (kept_value, kept_failure, error_of(failure))
        self.changes.ended.append(Ended(job.seq, state, wall, expires, job.attempt, job.crashes, run_s, name, *kept))

    def cancel(self, id: str, wall: float, records: dict[str, Record] | None = None) -> str:
        """Ends a job wherever it is; who runs it is named in `kills`.

        Args:
            id: The job.
            wall: Wall time.
            records: What the store has, if that was looked up already (`stored`): many at once cost less.

        Returns:
            `cancelled`, `stopping` (it ran), the state in which it had ended, or `unknown`.
        """
        if id in self.ended:
            return self.ended[id][0]
        job = self.live.get(id)
        if job is None:
            job = self.let_go.get(id)
            if job is None:
                record = (self.stored([id]) if records is None else records).get(id)
                if record is None:
                    return lifecycle.UNKNOWN
                if record.state in lifecycle.TERMINAL:
                    return record.state
                job = record.job
            self.fetch(job)
        elif not job.lease:
            self.take_out(job)
        self.let_go[id] = job  # should its REQUEST come again in this turn
        if job.lease:
            manager = self.leases[id][1]
            held = Held(id, job.lease)
            self._end(job, manager, "cancel", wall)
            if manager is self.absent:
                return lifecycle.CANCELLED  # whoever runs it is told when it names it
            self.kills.append((manager, held))
            return lifecycle.STOPPING
        self._end(job, None, "cancel", wall)
        return lifecycle.CANCELLED

    # ---- what has ended ------------------------------------------------------------------------------

    def requeue(self, record: Record, wall: float) -> bool:
        """A job that has ended waits again, at its old place, and counts as accepted now; unless another live job holds
        its key. To be called when all changes are applied, but for those of other jobs that are requeued.

        Returns:
            Whether it waits.
        """
        job = record.job
        if job.unique and self.uniques.is_held(job):
            return False
        move(job, "requeue", record.state)
        job.created, job.attempt, job.crashes, job.failures, job.due = wall, job.attempt + 1, 0, 0, 0.0
        job.settled = self.next_lease
        self.live[job.id] = job
        self.changes.requeued.append(Requeued(job.seq, record.state, job.attempt, wall, job.settled))
        self.requeued_at = max(self.requeued_at, wall)
        self.changes.facts[REQUEUED_FACT] = v2.pack(self.requeued_at)
        self.counts["requeued"] += 1
        if job.unique:
            self.uniques.added(job)
        self.put_back(job)
        return True

    # ---- questions -----------------------------------------------------------------------------------

    def stored(self, ids: Iterable[str]) -> dict[str, Record]:
        """What the store has, by id, of those of these jobs that memory does not know."""
        return self.find([id for id in ids if id not in self.live and id not in self.let_go and id not in self.ended])

    def applied(self) -> None:
        """The turn's changes are durable."""
        self.changes = Changes()
        self.let_go = {}
        self.ended = {}
        self.handed, self.over, self.failed, self.kills = [], [], [], []
        self.uniques.applied()
