"""Which job runs here: for `current_job()` in user code and for the lines that user code logs.

Imports nothing that a user's module would not want to pay for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from eventmq import limits
from eventmq.client import tracing
from eventmq.protocol import arguments, v2

running: ContextVar[v2.Job | None] = ContextVar("eventmq_job", default=None)
"""The job as it came over the wire. Set by the worker before each job; a context costs less than a lock."""


class Host(Protocol):
    """The worker process around a job."""

    def deadline_of(self, job: v2.Job) -> float | None:
        """Wall time at which a running job is killed."""

    def should_stop(self, lease: int) -> bool:
        """Whether the job of this lease was asked to stop."""

    def progress(self, job: v2.Job, value: bytes) -> None:
        """How far this job says it is, packed."""


host: Host | None = None
"""None where `.delay()` runs jobs in place."""


class CurrentJob(NamedTuple):
    """The job that runs.

    Attributes:
        id: The same in every attempt.
        name: What was called.
        queue: The queue that it came through.
        attempt: 1 for the first run.
        lease: Number of this hand-out; grows from one to the next.
        deadline: Wall time at which it is killed, its `timeout`; None = never.
    """

    id: str
    name: str
    queue: str
    attempt: int
    lease: int
    deadline: float | None = None

    @property
    def idempotency_key(self) -> str:
        """Its id, under the name that other systems ask for: the same in every attempt."""
        return self.id

    @property
    def should_stop(self) -> bool:
        """Whether it is to stop soon: it was cancelled, or its job manager drains.

        A job that was cancelled just ends; nobody looks at how. One whose manager drains may go on to its end within
        `drain_s`, or `raise Retry` without a delay: then it is handed out again, and that uses up no retry.
        """
        return host is not None and host.should_stop(self.lease)

    def progress(self, done: Any, total: float | None = None, text: str = "") -> None:
        """Shows how far the job is: `handle.info()["progress"]`, until the run ends. Never waits, and may be called as
        often as you like: the latest value leaves the worker at most every `PROGRESS_S`.

        Args:
            done: How much is done; without `total` a share from 0 to 1, or any plain data.
            total: How much there is to do.
            text: What it does now. All together packed at most `PROGRESS_BYTES_MAX` bytes.

        Raises:
            TypeError: Not plain data.
            ValueError: Too large.
        """
        value = done if total is None and not text else {"done": done, "total": total, "text": text}
        try:
            packed = v2.pack(value)
        except arguments.UNSENDABLE as error:
            raise TypeError(f"progress of a {type(value).__name__} cannot be sent: {error}; give plain data") from None
        if len(packed) > limits.PROGRESS_BYTES_MAX:
            raise ValueError(f"progress of {len(packed)} bytes packed, the limit is {limits.PROGRESS_BYTES_MAX}")
        job = running.get()
        if host is not None and job is not None:
            host.progress(job, packed)


def current_job() -> CurrentJob | None:
    """The job that this code runs in; None outside of one. Where `.delay()` runs a job in place there is one, too; it
    has no deadline, is never asked to stop, and its progress goes nowhere."""
    job = running.get()
    if job is None:
        return None
    return CurrentJob(job.id, job.name, job.queue, job.attempt, job.lease, host.deadline_of(job) if host else None)


def about() -> dict[str, str | int]:
    """What log lines of user code say of its job; empty outside of one."""
    job = running.get()
    if job is None:
        return {}
    said: dict[str, str | int] = {
        "job_id": job.id,
        "job_name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
    }
    if trace_id := tracing.trace_id(job):
        said["trace_id"] = trace_id
    return said
