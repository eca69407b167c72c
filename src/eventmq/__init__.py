"""EventMQ: background jobs for Python with nothing else to run.

What user code imports. Importing this package opens no socket, starts no thread and does not load ZeroMQ: each name
below is loaded from its own module when it is first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventmq.client.client import Client as Client
    from eventmq.client.default import configure as configure
    from eventmq.client.enqueue import adefer_job as adefer_job, defer_job as defer_job
    from eventmq.client.handles import JobHandle as JobHandle, JobHandles as JobHandles
    from eventmq.client.jobs import Job as Job, job as job
    from eventmq.client.retry import Retry as Retry
    from eventmq.client.schedules import (
        aschedule as aschedule,
        aunschedule as aunschedule,
        schedule as schedule,
        unschedule as unschedule,
    )
    from eventmq.errors import (
        BrokerUnavailable as BrokerUnavailable,
        DuplicateJob as DuplicateJob,
        EnqueueError as EnqueueError,
        EventMQError as EventMQError,
        InvalidJob as InvalidJob,
        InvalidSchedule as InvalidSchedule,
        JobCancelled as JobCancelled,
        JobCrashed as JobCrashed,
        JobError as JobError,
        JobExpired as JobExpired,
        JobFailed as JobFailed,
        JobLost as JobLost,
        JobNotFound as JobNotFound,
        JobRefused as JobRefused,
        JobTimeout as JobTimeout,
        QueueFull as QueueFull,
        SettingsError as SettingsError,
        SoftTimeout as SoftTimeout,
        Terminated as Terminated,
    )
    from eventmq.schedules.rule import Cron as Cron, Every as Every
    from eventmq.workers.context import CurrentJob as CurrentJob, current_job as current_job

__version__ = "1.0.0.dev0"

_HOMES = {
    "eventmq.client.client": "Client",
    "eventmq.client.default": "configure",
    "eventmq.client.enqueue": "adefer_job defer_job",
    "eventmq.client.handles": "JobHandle JobHandles",
    "eventmq.client.jobs": "Job job",
    "eventmq.client.retry": "Retry",
    "eventmq.client.schedules": "aschedule aunschedule schedule unschedule",
    "eventmq.errors": (
        "BrokerUnavailable DuplicateJob EnqueueError EventMQError InvalidJob InvalidSchedule "
        "JobCancelled JobCrashed JobError JobExpired JobFailed JobLost JobNotFound JobRefused "
        "JobTimeout QueueFull SettingsError SoftTimeout Terminated"
    ),
    "eventmq.schedules.rule": "Cron Every",
    "eventmq.workers.context": "CurrentJob current_job",
}
"""What users import, by the module in which it lives."""

_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'eventmq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
