"""The worker processes of one job manager, and which jobs each holds: who gets what, and what a death means.

Pure: told what happened, it says what to do (`effects`) and what became of jobs (`outcomes`). Owns every job between
its arrival and its outcome. A job is in `backlog` or in exactly one worker's `jobs`.

    spawn ─▶ starting ─▶ ready ─▶ retiring (max_job_count, drain) ─▶ gone
                            └──── dies ──▶ gone: what ran is charged, the rest goes to others, a new one is spawned

Rules. A worker gets a job that does not go ahead (`Lookahead`) only when it holds nothing, and then only that one.
When it gives jobs back it gets no more until it has finished what it runs. A death is charged to the one job that the
board shows running, and to no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventmq import limits
from eventmq.protocol import v2
from eventmq.protocol.scheduling import Declared
from eventmq.protocol.v2 import Failure, Held, Job, Outcome, options_of
from eventmq.workers import messages, stops
from eventmq.workers.backlog import Backlog
from eventmq.workers.effects import Effect, Kill, Report, Spawn, Stop, Tell, Terminate
from eventmq.workers.lookahead import Lookahead
from eventmq.workers.stops import Stops
from eventmq.workers.worker import Death, Worker

RESPAWN_S = 0.1
RESPAWN_S_MAX = 5.0
"""Pause before replacing a worker that died before it was ready; doubles each time in a row."""


class Pool:
    """The workers and their jobs.

    Attributes:
        workers: By number; a number is never used again.
        backlog: Jobs that no worker has.
        effects: To be carried out in order, and cleared by whoever does.
        outcomes: To be told to the Router, and cleared by whoever does.
        reports: What running jobs say of themselves; the same.
        declared: The schedules that stand in the modules, as the first worker found them.
        start_error: Why no worker can start at all; the manager should end.
    """

    def __init__(self, size: int, max_job_count: int, job_timeout_s: float, returns: bool = True) -> None:
        self.workers: dict[int, Worker] = {}
        self.backlog = Backlog()
        self.effects: list[Effect] = []
        self.outcomes: list[Outcome] = []
        self.reports: list[v2.Report] = []
        self.declared: list[Declared] = []
        self.start_error: str | None = None
        self.lookahead = Lookahead()
        self.returns = returns
        self._size = size
        self._max_job_count = max_job_count
        self._job_timeout_s = job_timeout_s
        self._numbers = 0
        self._stops = Stops()
        self._ever_ready = False
        self._false_starts = 0
        self._respawn_at: float | None = None
        self.draining = False

    # ---- what the Router wants -----------------------------------------------------------------

    def add(self, jobs: list[Job], now: float) -> None:
        """Jobs to run, after those that wait."""
        self.backlog.add(jobs, now)

    def held(self) -> Iterable[Job]:
        """Every job that is here and has no outcome."""
        yield from self.backlog.jobs
        for worker in self.workers.values():
            yield from worker.jobs.values()

    def outstanding(self) -> int:
        """Their number."""
        return len(self.backlog.jobs) + sum(len(worker.jobs) for worker in self.workers.values())

    def stop(self, unwanted: Iterable[Held], now: float, grace_s: float, report: bool) -> None:
        """Stop these hand-outs.

        Args:
            grace_s: How long those that run have before they are killed.
            report: Tell how each was stopped; else nothing more is told of it.
        """
        leases = {held.lease for held in unwanted}
        removed = self.backlog.remove(leases)
        if report:
            self.outcomes += [Outcome(job.id, job.lease, "returned") for job in removed]
        for key, worker in self.workers.items():
            mine = leases & worker.jobs.keys()
            if mine:
                self._stops.order(mine, now, grace_s, report)
                self.effects.append(Tell(key, messages.encode(messages.Return())))

    def recall(self) -> None:
        """Give back to the Router what has not begun."""
        self._return_backlog()
        for key, worker in self.workers.items():
            if len(worker.jobs) > 1 and not worker.sentence:
                worker.recalled = True
                self.effects.append(Tell(key, messages.encode(messages.Return())))

    def capacity(self) -> int:
        """Jobs that may be here at a time."""
        if self.draining:
            return 0
        window = self.lookahead.window
        return sum(self._capacity_of(worker, window) for worker in self.workers.values())

    def _capacity_of(self, worker: Worker, window: int) -> int:
        held = len(worker.jobs)
        if not worker.ready or worker.retiring or worker.sentence:
            return held
        if worker.alone or worker.stuck:
            return max(1, held)
        if self._max_job_count:
            return min(1 + window, held + self._max_job_count - worker.taken)
        return 1 + window

    # ---- what workers say ----------------------------------------------------------------------------

    def start(self) -> None:
        """Spawn the workers."""
        for _ in range(self._size):
            self._spawn()

    def _spawn(self) -> None:
        self._numbers += 1
        self.workers[self._numbers] = Worker()
        self.effects.append(Spawn(self._numbers))

    def on_event(self, key: int, event: messages.Event, now: float) -> None:
        """A message from a worker."""
        worker = self.workers[key]
        match event:
            case messages.Done(outcomes):
                self._on_done(worker, outcomes)
            case messages.Returned(leases):
                self._on_returned(worker, leases, now)
            case messages.Progress(reports):
                self.reports += [report for report in reports if report.lease in worker.jobs]
            case messages.Ready(declared):
                if not self._ever_ready:
                    self.declared = declared
                worker.ready = self._ever_ready = True
                self._false_starts = 0
            case messages.Unready(error):
                self._on_unready(error)

    def _on_unready(self, error: str) -> None:
        if self._ever_ready:
            self.effects.append(Report("error", "a new worker process cannot start; trying again", error))
        else:
            self.start_error = error

    def _on_done(self, worker: Worker, outcomes: list[Outcome]) -> None:
        jobs = worker.jobs
        name, runs, total_s = "", 0, 0.0
        finished = self.outcomes
        for outcome in outcomes:
            job = jobs.pop(outcome.lease, None)
            if job is None:
                continue  # sent once and found on the board again
            if job.name != name:
                if runs:
                    self.lookahead.learn(name, runs, total_s)
                name, runs, total_s = job.name, 0, 0.0
            runs += 1
            total_s += outcome.run_s
            if self.draining and _wants_another(outcome, job):
                outcome = Outcome(outcome.id, outcome.lease, "interrupted", b"", outcome.failure, outcome.run_s)
            finished.append(outcome)
        if runs:
            self.lookahead.learn(name, runs, total_s)
        if self._stops:
            finished[:] = [told for outcome in finished if (told := self._stops.settle(outcome)) is not None]
        worker.stuck = False
        if not jobs:
            worker.alone = worker.recalled = False

    def _on_returned(self, worker: Worker, leases: list[int], now: float) -> None:
        jobs = [job for lease in leases if (job := worker.jobs.pop(lease, None)) is not None]
        worker.taken -= len(jobs)
        worker.stuck = bool(worker.jobs)  # what it was to be stuck on may have ended meanwhile
        worker.alone = worker.alone and worker.stuck
        self._requeue(jobs, now)
        if worker.recalled:
            worker.recalled = False
            self._return_backlog()

    def _requeue(self, jobs: list[Job], now: float) -> None:
        """Jobs that did not begin go first in line again."""
        self.backlog.put_back([job for job in jobs if job.lease not in self._stops], now)
        for job in jobs if self._stops else ():
            if job.lease in self._stops:
                self._tell(Outcome(job.id, job.lease, "returned"))

    def _tell(self, outcome: Outcome) -> None:
        told = self._stops.settle(outcome)
        if told is not None:
            self.outcomes.append(told)

    # ---- deaths -------------------------------------------------------------------------------------

    def on_death(self, key: int, death: Death, now: float) -> None:
        """A worker process has ended; everything that it had sent was reported before."""
        worker = self.workers.pop(key)
        self._on_done(worker, death.outcomes)
        cut = worker.jobs.pop(death.running, None) if death.running is not None else None
        if cut is not None:
            self._on_cut(worker, cut, death.text)
        self._requeue(list(worker.jobs.values()), now)
        if not worker.retiring:
            if not death.clean and not worker.sentence and cut is None:
                self.effects.append(Report("warning", f"a worker died: {death.text}"))
            self._replace(worker, death, now)

    def _on_cut(self, worker: Worker, job: Job, death: str) -> None:
        """The job that ran when its worker died."""
        if job.lease in self._stops:
            self._tell(Outcome(job.id, job.lease, "killed" if worker.sentence else "crashed"))
            return
        state, failure = "crashed", Failure("eventmq.JobCrashed", f"worker process died: {death}")
        if worker.sentence == "timeout" and worker.failed == job.lease:
            text = f"ran longer than its timeout of {self.timeout_of(job):g} s and was killed"
            state, failure = "timeout", Failure("eventmq.JobTimeout", text)
        elif worker.sentence:  # killed for another's sake, because the manager leaves, or is cut off from the Router
            state, failure = "interrupted", Failure("eventmq.JobLost", "its job manager stopped it while it ran")
        self.outcomes.append(Outcome(job.id, job.lease, state, b"", failure))
        if state != "interrupted":
            self.effects.append(Report("warning", f"{job.name}[{job.id} #{job.attempt}] {failure.message}"))

    def _replace(self, worker: Worker, death: Death, now: float) -> None:
        if self.draining:
            return
        if worker.ready:
            self._spawn()
            return
        self._false_starts += 1
        if not self._ever_ready:
            if self.start_error is None:
                self.start_error = f"a worker process died before it was ready: {death.text}"
            return
        pause_s = min(RESPAWN_S_MAX, RESPAWN_S * 2 ** min(self._false_starts, 10))
        self._respawn_at = now + pause_s

    # ---- time ----------------------------------------------------------------------------------------

    def timeout_of(self, job: Job) -> float:
        """Seconds that a job may run; 0 = for ever."""
        timeout_s = options_of(job.options).timeout_s
        return self._job_timeout_s if timeout_s is None else timeout_s

    def tick(self, now: float, running: Mapping[int, tuple[int, float]]) -> None:
        """Look at the clock.

        Args:
            running: Lease and start of what each worker runs, by worker.
        """
        for key, (lease, started) in running.items():
            worker = self.workers[key]
            job = worker.jobs.get(lease)
            if job is None or worker.sentence:
                continue
            if now - started >= limits.STUCK_S:
                worker.stuck = True
            if lease in self._stops:
                self._press(key, worker, lease, now)
            timeout_s = self.timeout_of(job)
            if timeout_s and now - started >= timeout_s:
                self._sentence(key, worker, "timeout", lease)
        for key, worker in self.workers.items():
            if worker.kill_at is not None and now >= worker.kill_at and not worker.sentence:
                self._sentence(key, worker, "interrupted", None)
        if self._respawn_at is not None and now >= self._respawn_at:
            self._respawn_at = None
            while sum(not worker.retiring for worker in self.workers.values()) < self._size and not self.draining:
                self._spawn()
        if self.returns and self.backlog.is_stale(now):
            self._return_backlog()

    def _press(self, key: int, worker: Worker, lease: int, now: float) -> None:
        """Take the next step in stopping a hand-out that runs."""
        match self._stops.next_step(lease, now):
            case stops.ASK:
                self.effects.append(Stop(key, lease))
            case stops.TERMINATE:
                self.effects.append(Terminate(key))
            case stops.KILL:
                self._sentence(key, worker, "returned", lease)

    def _sentence(self, key: int, worker: Worker, state: str, lease: int | None) -> None:
        if not worker.sentence:
            worker.sentence, worker.failed = state, lease
            self.effects.append(Kill(key))

    def _return_backlog(self) -> None:
        """Give what waits back to the Router, where another manager may take it."""
        self.outcomes += [Outcome(job.id, job.lease, "returned") for job in self.backlog.take_all()]

    # ---- giving jobs out -----------------------------------------------------------------------------

    def assign(self) -> None:
        """Give what waits to workers with room: first one each, so that all run, then ahead in equal shares."""
        if self.draining:
            self._return_backlog()
            return
        window = self.lookahead.window
        waiting = self.backlog.jobs
        takers = self._takers(window) if waiting else []
        while waiting and takers:
            takers.sort(key=lambda taker: len(taker[1].jobs))
            share = -(-len(waiting) // len(takers))
            takers = [(key, worker) for key, worker in takers if self._give(key, worker, share, window)]

    def _takers(self, window: int) -> list[tuple[int, Worker]]:
        return [
            (key, worker)
            for key, worker in self.workers.items()
            if worker.ready
            and not (worker.retiring or worker.sentence or worker.stuck or worker.alone)
            and len(worker.jobs) <= window
        ]

    def _give(self, key: int, worker: Worker, share: int, window: int) -> bool:
        """Give a worker its share; whether it may take more."""
        goes_ahead = self.lookahead.goes_ahead
        room = min(share, window + 1 - len(worker.jobs))
        if self._max_job_count:
            room = min(room, self._max_job_count - worker.taken)
        batch = self.backlog.take_while(goes_ahead, room)
        if not batch and not worker.jobs:
            batch = self.backlog.take_first()
            worker.alone = bool(batch) and not goes_ahead(batch[0])
        if not batch:
            return False
        worker.jobs.update({job.lease: job for job in batch})
        worker.taken += len(batch)
        self.effects.append(Tell(key, messages.encode(messages.Run(batch))))
        if self._max_job_count and worker.taken >= self._max_job_count:
            self._spawn()
            worker.retiring = True
        return not worker.alone and not worker.retiring and len(worker.jobs) <= window

    def retire_finished(self, now: float) -> None:
        """Send away the retiring workers that have nothing left to do."""
        for key, worker in self.workers.items():
            if worker.retiring and not worker.jobs and worker.kill_at is None:
                worker.kill_at = now + limits.KILL_GRACE_S
                self.effects.append(Tell(key, messages.encode(messages.Stop())))

    # ---- leaving --------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take nothing more, finish what runs, give back what does not."""
        self.draining = True
        for key, worker in self.workers.items():
            worker.retiring = True
            self.effects.append(Stop(key, None))
            if not worker.ready:
                self._sentence(key, worker, "interrupted", None)
            elif worker.jobs:
                self.effects.append(Tell(key, messages.encode(messages.Return())))

    def halt(self) -> None:
        """While draining: kill the workers; what they run goes back to the Router."""
        for key, worker in self.workers.items():
            self._sentence(key, worker, "interrupted", None)

    def cut_off(self) -> None:
        """The Router may give jobs with `on_partition="stop"` to others now: stop them, begun or not. Such a job is
        alone in its worker, so no other is stopped with it."""
        self.outcomes += [Outcome(job.id, job.lease, "returned") for job in self.backlog.take(_stops)]
        for key, worker in self.workers.items():
            stopped = [job for job in worker.jobs.values() if _stops(job)]
            if stopped and not worker.sentence:
                self._sentence(key, worker, "interrupted", None)
                name = f"{stopped[0].name}[{stopped[0].id} #{stopped[0].attempt}]"
                self.effects.append(Report("warning", f"{name} is stopped: cut off from the Router"))


def _wants_another(outcome: Outcome, job: Job) -> bool:
    """Whether it asks for another manager, as this one leaves; one that may begin only once cannot have that."""
    return outcome.state == "retry" and not outcome.delay_s and options_of(job.options).redeliver


def _stops(job: Job) -> bool:
    return options_of(job.options).on_partition == "stop"
