"""Who has which job, and since when; and what a manager that comes back may keep of what it names.

Owns `leases`. Nothing here sends, reads a clock or knows a socket; `now` is monotonic time, in seconds.
"""

from __future__ import annotations

from collections import Counter

from eventmq.broker import lifecycle
from eventmq.broker.attempts import Attempt, Attempts
from eventmq.broker.intake import Intake, error_of, moved
from eventmq.broker.joblogs import JobLogs
from eventmq.broker.policy import Policy
from eventmq.broker.pool import Crew, Incarnation, Manager
from eventmq.protocol import v2
from eventmq.protocol.v2 import Job, options_of
from eventmq.store.base import Record, Store

Lease = tuple[Job, Manager, float]
"""One hand-out: the job, who has it, since when (monotonic). Not a class: one is made for every job."""


class Leases(Intake):
    """The hand-outs.

    Attributes:
        leases: Running jobs by id.
        progress: How far running jobs say they are, by id, packed.
        logs: What jobs have logged lately.
        attempts: How attempts ended lately after which the job was tried again.
        absent: Holds the jobs in doubt until a manager names them, or the wait for managers is over.
        next_lease: The number given out last.
        first_lease: Leases below it were handed out before memory was made from the store.
    """

    def __init__(self, store: Store, policy: Policy, now: float, wall: float, first_lease: int) -> None:
        super().__init__(store, policy, wall)
        self.leases: dict[str, Lease] = {}
        self.progress: dict[str, bytes] = {}
        self.logs = JobLogs()
        self.attempts = Attempts()
        self.first_lease = self.next_lease = max(first_lease, self.epoch << 32)
        self.absent = Manager(b"", 2, Incarnation("", ""), Crew(()), now)
        for job in self.in_doubt:
            job.lease = job.started
            self.leases[job.id] = (job, self.absent, now)

    def find(self, ids: list[str]) -> dict[str, Record]:
        """Jobs by id as the store has them."""
        return {record.job.id: record for record in self.store.find(ids)}

    def held_by(self, manager: Manager) -> list[Job]:
        """What is handed out to a manager. Looks at all leases: for rare events and people."""
        return [job for job, holder, _ in self.leases.values() if holder is manager]

    def running(self) -> Counter[str]:
        """How many jobs are handed out, by queue. Looks at all leases, too."""
        return Counter(job.queue for job, _, _ in self.leases.values())

    def _lend(self, job: Job, lease: int, manager: Manager, since: float, now: float) -> None:
        """The manager has the job, since monotonic time `since`."""
        job.lease = lease
        self.leases[job.id] = (job, manager, since)
        if manager.crew.fair is not None:
            manager.crew.fair.lent(job.queue, 1, now)

    def _take_back(self, job: Job) -> None:
        """Nobody has the job any more."""
        self.progress.pop(job.id, None)
        lease = self.leases.pop(job.id, None)
        if lease is not None and lease[1].crew.fair is not None:
            lease[1].crew.fair.given_back(job.queue)

    def _remember_attempt(self, job: Job, cause: v2.Failure, wall: float, run_s: float | None) -> None:
        """The attempt before the one that the job waits for now has ended."""
        worker, started = self.leases[job.id][1].incarnation.name, None if run_s is None else wall - run_s
        self.attempts.add(job.id, Attempt(job.attempt - 1, started, wall, worker, error_of(cause)))

    def _mark(self, job: Job) -> None:
        """That a job which may begin only once is handed out is stored before it leaves."""
        if not options_of(job.options).redeliver:
            job.started = job.lease
            self.changes.moved.append(moved(job))

    def take_reports(self, reports: list[v2.Report], manager: Manager) -> None:
        """What a manager's jobs say of themselves. Of a hand-out that is not current, nothing is kept."""
        for report in reports:
            lease = self.leases.get(report.id)
            if lease is None or lease[0].lease != report.lease or lease[1] is not manager:
                continue
            if report.value:
                self.progress[report.id] = report.value
            if report.lines:
                self.logs.add(report.id, lease[0].attempt, report.lines, report.skipped)

    def adopt(self, id: str, lease: int, manager: Manager, now: float) -> str:
        """A returning manager holds this hand-out. `keep`: it is (again) the current one; `kill`: it is not; `done`:
        the job has ended. To be called when all changes are applied."""
        if not 0 < lease <= self.next_lease:
            return "kill"  # no Router has ever handed that out
        current = self.leases.get(id)
        if current is not None:
            job, holder, since = current
            same = job.lease == lease and holder.incarnation == manager.incarnation
            found = holder is self.absent and job.lease <= lease
            if not (same or found or job.lease < lease < self.first_lease):
                return "kill"
            # Of hand-outs from before a restart the last one counts, whoever is back first.
            self._take_back(job)
            self._lend(job, lease, manager, since, now)
            return "keep"
        idle = self.live.get(id)
        if idle is None:
            record = next(iter(self.store.find([id])), None)
            if record is None:
                return "kill"
            if record.state in lifecycle.TERMINAL:
                return "done"
            idle = record.job
        if lease <= idle.settled:
            return "kill"  # its outcome is known, and the job is to run again
        self.fetch(idle)
        idle.due = 0.0
        self.held_back.pop(id, None)
        self._lend(idle, lease, manager, now, now)
        self._mark(idle)
        return "keep"
