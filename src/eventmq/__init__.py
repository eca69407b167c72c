"""EventMQ: background jobs for Python with nothing else to run.

What user code imports. Importing this package opens no socket, starts no thread and does not load ZeroMQ: each name
below is loaded from its own module when it is first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventmq.client.client import Client
    from eventmq.client.default import configure
    from eventmq.client.enqueue import adefer_job, defer_job
    from eventmq.client.handles import JobHandle, JobHandles
    from eventmq.client.jobs import Job, job
    from eventmq.client.retry import Retry
    from eventmq.client.schedules import aschedule, aunschedule, schedule, unschedule
    from eventmq.errors import (
        BrokerUnavailable,
        DuplicateJob,
        EnqueueError,
        EventMQError,
        InvalidJob,
        InvalidSchedule,
        JobCancelled,
        JobCrashed,
        JobError,
        JobExpired,
        JobFailed,
        JobLost,
        JobNotFound,
        JobRefused,
        JobTimeout,
        QueueFull,
        SoftTimeout,
        Terminated,
    )
    from eventmq.schedules.rule import Cron, Every
    from eventmq.workers.context import current_job

__version__ = "1.0.0.dev0"

__all__ = [
    "BrokerUnavailable",
    "Client",
    "Cron",
    "DuplicateJob",
    "EnqueueError",
    "EventMQError",
    "Every",
    "InvalidJob",
    "InvalidSchedule",
    "Job",
    "JobCancelled",
    "JobCrashed",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobHandles",
    "JobLost",
    "JobNotFound",
    "JobRefused",
    "JobTimeout",
    "QueueFull",
    "Retry",
    "SoftTimeout",
    "Terminated",
    "adefer_job",
    "aschedule",
    "aunschedule",
    "configure",
    "current_job",
    "defer_job",
    "job",
    "schedule",
    "unschedule",
]

_HOMES = {
    name: f"eventmq.{home}"
    for home, names in {
        "client.client": "Client",
        "client.default": "configure",
        "client.enqueue": "adefer_job defer_job",
        "client.handles": "JobHandle JobHandles",
        "client.jobs": "Job job",
        "client.retry": "Retry",
        "client.schedules": "aschedule aunschedule schedule unschedule",
        "schedules.rule": "Cron Every",
        "workers.context": "current_job",
    }.items()
    for name in names.split()
}
"""Where the names of `__all__` live; those that are not here are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'eventmq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, "eventmq.errors")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
