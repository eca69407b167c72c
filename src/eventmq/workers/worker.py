"""One worker process as its manager's deciding code has it: the jobs that it holds, what it may get, how it ended."""

from __future__ import annotations

from typing import NamedTuple

from eventmq.protocol.v2 import Job, Outcome


class Death(NamedTuple):
    """How a worker process ended.

    Attributes:
        text: `signal 9 (SIGKILL)` or `exit code 3`.
        clean: Exit code 0.
        outcomes: What its board held; some of it may have been received before.
        running: Lease of the job that ran.
    """

    text: str
    clean: bool = False
    outcomes: list[Outcome] = []
    running: int | None = None


class Worker:
    """One worker process.

    Attributes:
        jobs: What it was given and has not answered for, by lease, in order.
        ready: It has imported the user's modules.
        stuck: It has been on one job for long: it gets nothing more before that has ended, and gives back the rest.
        alone: It was given a job that has it to itself.
        recalled: What it gives back is for others than this manager's workers.
        taken: Jobs it was given and did not give back, over its life.
        retiring: It gets no more jobs.
        kill_at: When it is killed if it has not gone by then.
        sentence: Why we have killed it: "" = we have not, else the state for what it runs, `timeout` or `interrupted`.
        failed: Lease for which it was sentenced; None = whatever runs.
    """

    __slots__ = ("alone", "failed", "jobs", "kill_at", "ready", "recalled", "retiring", "sentence", "stuck", "taken")

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready = False
        self.stuck = False
        self.alone = False
        self.recalled = False
        self.taken = 0
        self.retiring = False
        self.kill_at: float | None = None
        self.sentence = ""
        self.failed: int | None = None
