"""Which job runs here: for `current_job()` in user code and for the lines that user code logs.

Imports nothing that a user's module would not want to pay for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from eventmq.protocol import v2

running: ContextVar[v2.Job | None] = ContextVar("eventmq_job", default=None)
"""The job as it came over the wire. Set by the worker before each job; a context costs less than a lock."""


class CurrentJob(NamedTuple):
    """The job that runs.

    Attributes:
        id: The same in every attempt: an idempotency key for what the job does outside.
        name: What was called.
        queue: The queue that it came through.
        attempt: 1 for the first run.
        lease: Number of this hand-out; grows from one to the next.
    """

    id: str
    name: str
    queue: str
    attempt: int
    lease: int


def current_job() -> CurrentJob | None:
    """The job that this code runs in; None outside of one, also where `.delay()` ran the function in place."""
    job = running.get()
    return CurrentJob(job.id, job.name, job.queue, job.attempt, job.lease) if job else None


def origin() -> str:
    """What stands in log lines of user code: `tasks.add[<id> #1]`; empty outside of a job."""
    job = running.get()
    return f"{job.name}[{job.id} #{job.attempt}]" if job else ""
