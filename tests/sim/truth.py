"""What really happened, seen from outside: which jobs were made, which runs began and ended, and what went wrong when.

A second run of a job needs a cause: something that went wrong with the manager or worker of an earlier run, about the
time of that run. Restarts, stops and pauses of the Router are never a cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from eventmq.protocol import v2
from sim.timeline import Timeline, Violation

LEASE_OVER = "its manager was cut off"
"""Also by the Router's own absence: that is what `on_partition="stop"` asks for."""

AFTERMATH_S = 40.0
"""What went wrong may show this long after: silence, reconnecting, and a second look at both."""

HEED_S = 1.0
"""A worker that is told to return or stop a job does so within this time."""


@dataclass
class Plan:
    """A job as its client wants it: what each run does, one after another, the last one for ever.

    `runs` are (what, seconds), what one of `ok`, `fail`, `retry`, `crash`, `stuck`; `gil`: it lets no other thread run.
    """

    job: v2.Job
    runs: list[tuple[str, float]]
    gil: bool = False


@dataclass
class Run:
    """One START, and its END if it came to that.

    Attributes:
        value: What it returned; None = it did not return.
        how: `ok`, `fail`, `retry`, `stop` when it did as it was asked, or `cut` when its worker died under it.
    """

    manager: str
    lease: int
    attempt: int
    began: float
    ended: float | None = None
    how: str = ""
    value: bytes = b""


@dataclass
class Cause:
    """Something that went wrong: with a manager, or with one job alone."""

    what: str
    subject: str
    begin: float
    end: float


@dataclass
class Truth:
    """The record.

    Attributes:
        plans: Every job that a client made.
        runs: By job, in order.
        causes: By manager or job.
        acked: Jobs whose client was told that they are stored, by id: when.
        results: What clients were told, by id and attempt.
        cancelled: Jobs that somebody wanted cancelled.
        killed: Hand-outs that their manager was told to stop: when, and when they were to be killed.
        look: Called when a run has begun or ended.
        booted: When a Router has loaded the store last.
        pauses: When each manager went on after it had stood still.
        awaited: Jobs whose outcome a client wants to be told.
        told: Jobs whose client was told an outcome, or that they are forgotten.
        forgotten: Jobs that the store has forgotten as it may.
        requeued: How often an operator has let a job run again, by id.
        fences: By job: the last hand-out of its life before, when it was requeued.
        lives: By job: how many runs there had been when it was requeued or forgotten last.
        repeats: Runs that were not the first of their job, and no retries.
        stopped: Runs after one that its manager stopped because it was cut off, as the job wants it.
    """

    timeline: Timeline
    plans: dict[str, Plan] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    causes: dict[str, list[Cause]] = field(default_factory=dict)
    acked: dict[str, float] = field(default_factory=dict)
    results: dict[str, dict[int, v2.Result]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    killed: dict[int, tuple[float, float]] = field(default_factory=dict)
    look: Callable[[], None] = lambda: None
    booted: float = 0.0
    pauses: dict[str, list[float]] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    requeued: Counter[str] = field(default_factory=Counter)
    fences: dict[str, int] = field(default_factory=dict)
    lives: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    stopped: int = 0

    def cause(self, what: str, subject: str, lasting_s: float = 0.0) -> None:
        now = self.timeline.now
        self.causes.setdefault(subject, []).append(Cause(what, subject, now, now + lasting_s))
        self.timeline.say(f"cause {what}: {subject} for {lasting_s:.3f} s")

    def start(self, manager: str, job: v2.Job) -> tuple[str, float, Run]:
        """A worker begins a job; what the run will do, and how long it takes."""
        now = self.timeline.now
        runs = self.runs.setdefault(job.id, [])
        if any(run.lease == job.lease for run in runs):
            raise Violation(f"hand-out {job.lease:#x} of {job.id} was run twice")
        fence = self.fences.get(job.id, 0)
        earlier = [run for run in runs[self.lives[job.id] :] if run.lease > fence]
        told, _ = self.killed.get(job.lease, (now, now))
        if now > told + HEED_S:
            raise Violation(f"{job.id} began as {job.lease:#x}, and was called off {now - told:.2f} s before")
        if earlier and job.lease > fence:
            self._judge_again(job, earlier)
            self._excuse(manager, job, earlier)
        run = Run(manager, job.lease, job.attempt, now)
        runs.append(run)
        plan = self.plans.get(job.id)
        if plan is None:
            raise Violation(f"{job.id} was run and nobody has enqueued it")
        what, seconds = plan.runs[min(len(runs), len(plan.runs)) - 1]
        self.timeline.say(f"START {job.id} #{job.attempt} {job.lease:#x} at {manager}: {what} {seconds:.4f} s")
        return what, seconds, run

    def end(self, id: str, run: Run, how: str) -> None:
        run.ended, run.how = self.timeline.now, how
        if how != "cut":
            told, dead = self.killed.get(run.lease, (0.0, 0.0))
            stood_still = any(end > told for end in self.pauses.get(run.manager, ()))
            if run.began < told and dead < run.ended - HEED_S and not stood_still:
                raise Violation(f"{id} {run.lease:#x} went on for {run.ended - dead:.2f} s after it was to be killed")
        self.timeline.say(f"END {id} {run.lease:#x} at {run.manager}: {how}")

    def _judge_again(self, job: v2.Job, earlier: list[Run]) -> None:
        options = v2.options_of(self.plans[job.id].job.options)
        if not options.redeliver:
            raise Violation(f"{job.id} may begin only once and has begun before: {earlier}")
        both = [run for run in earlier if run.ended is None]
        if options.on_partition == "stop" and both and not self._could_not_stop(job.id, both):
            raise Violation(f"{job.id} runs in two places, and its manager was to stop it: {both}")

    def _could_not_stop(self, id: str, runs: list[Run]) -> bool:
        """A manager that stands still stops nothing; a liar is believed; a Router that was restarted goes by a clock
        that may have been set forward (`docs/reliability.md`, not covered)."""
        stood_still = any(end > run.began for run in runs for end in self.pauses.get(run.manager, ()))
        lied = any(cause.what == "a liar claimed it" for cause in self.causes.get(id, ()))
        return stood_still or lied or (self.timeline.jumped and any(run.began < self.booted for run in runs))

    def _excuse(self, manager: str, job: v2.Job, earlier: list[Run]) -> None:
        now = self.timeline.now
        if earlier[-1].how in ("fail", "retry") or self.plans[job.id].runs[0][0] == "stuck":
            return
        if earlier[-1].how == "cut" and any(cause.what == LEASE_OVER for cause in self.causes.get(job.id, [])):
            self.stopped += 1
            return
        self.repeats += 1
        for run in earlier:
            for subject in (run.manager, manager, job.id):
                if any(
                    cause.begin <= now and run.began <= cause.end + AFTERMATH_S
                    for cause in self.causes.get(subject, [])
                ):
                    return
        now_at = f"now #{job.attempt} {job.lease:#x} at {manager}"
        raise Violation(f"{job.id} was run again without a cause: {now_at}, earlier {earlier}")

    def forget(self, id: str) -> None:
        """The store has forgotten a job that had ended, as it may. Should it come again, it is another one."""
        self.forgotten.add(id)
        self.lives[id] = len(self.runs.get(id, ()))

    def requeue(self, id: str, fence: int) -> None:
        """An operator lets a job run again that had ended; hand-outs up to `fence` are of its life before."""
        self.requeued[id] += 1
        self.fences[id] = fence
        self.lives[id] = len(self.runs.get(id, ()))

    def check_result(self, result: v2.Result) -> None:
        """What a client is told of one job is what happened, and always the same."""
        id = result.id
        told = self.results.setdefault(id, {})
        before = told.setdefault(result.attempt, result)
        differ = (before.state, before.value) != (result.state, result.value) or len(told) > 1 + self.requeued[id]
        if differ and id not in self.forgotten:
            raise Violation(f"{id} has two outcomes: {before} and {result} of {told}")
        runs = self.runs.get(id, [])
        if result.state == "succeeded" and not any(run.how == "ok" and run.value == result.value for run in runs):
            raise Violation(f"{id} is told to have returned {result.value!r}, which no run did: {runs}")
        if result.state == "cancelled" and id not in self.cancelled:
            raise Violation(f"{id} is cancelled and nobody wanted that")
