"""The errors that EventMQ raises.

Two families. What a caller may meet and handle derives from `EventMQError`. What a peer sent and the
Router refuses is a `Refusal`: a reason from `REASONS`, counted and answered, never raised out of the loop.
"""

from __future__ import annotations


class EventMQError(Exception):
    """Base of every error that EventMQ raises on purpose."""


class _Reasoned(EventMQError):
    """Base of those whose `reason` is one of `REASONS`."""

    reason = ""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.reason


class SettingsError(EventMQError):
    """A setting is unknown, malformed or contradicts another one."""


class StoreError(EventMQError):
    """The store cannot be opened or no longer be trusted: locked, damaged, not ours, or newer than this release."""


class StorageFull(StoreError):
    """The store has no room for new jobs. What it holds is safe; nothing of the refused turn was written."""


class QuestionRefused(_Reasoned):
    """The Router refused a question or a command of an operator. `reason` is one of `REASONS`."""


class NotFound(EventMQError):
    """What an operator has named is not there."""


# ---- enqueueing -------------------------------------------------------------------------------


class EnqueueError(EventMQError):
    """A job was not accepted; it does not exist."""


class BrokerUnavailable(EnqueueError):
    """No Router answered in time. The job may or may not have been stored; sending the same id again is safe."""


class QueueFull(EnqueueError):
    """The queue has reached its bound."""


class DuplicateJob(EnqueueError):
    """A job with the same key is there already, and the new one was to be the only one. `id` is that of the other."""

    def __init__(self, message: str, id: str = "") -> None:
        super().__init__(message)
        self.id = id


class JobRefused(EnqueueError, _Reasoned):
    """The Router refused the job. `reason` is one of `REASONS`."""


class InvalidJob(EnqueueError, TypeError):
    """The call itself is wrong: arguments that do not fit the function, cannot be encoded or are too large."""


class InvalidSchedule(EnqueueError, ValueError):
    """A schedule cannot be: a wrong or impossible expression, an unknown time zone, both or neither of interval and
    cron."""


# ---- in a job ---------------------------------------------------------------------------------


class SoftTimeout(EventMQError):
    """Raised once inside a job that has run for its `soft_timeout`, so that it can clean up before its `timeout`.

    An `Exception`: `except Exception: rollback(); raise` does what it should. Who swallows it is killed at `timeout`.
    """


class Terminated(BaseException):
    """Raised inside a job that was cancelled and did not stop when it was asked, so that its `finally` blocks run. What
    it does not leave soon is killed. Not an `Exception`: it is not for handling."""


# ---- outcomes ---------------------------------------------------------------------------------


class JobError(EventMQError):
    """A job has no value to give. `job_id` names it."""

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The job raised. Carries what it raised as text, never as a rebuilt class.

    Attributes:
        type: Qualified name of the remote exception, as `builtins.ValueError`.
        message: Its text.
        traceback: Its formatted traceback.
    """

    def __init__(self, message: str, job_id: str = "", type: str = "", traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if type else message, job_id)
        self.type = type
        self.message = message
        self.traceback = traceback


class JobTimeout(JobFailed):
    """The job ran longer than its `timeout` and was killed, or let out the `SoftTimeout` of its `soft_timeout`."""


class JobCrashed(JobFailed):
    """The job took down its worker process `crash_limit` times. The message names the signal or exit code."""


class JobCancelled(JobError):
    """The job was cancelled."""


class JobExpired(JobError):
    """The job waited longer than its `expires`."""


class JobLost(JobError):
    """The job may run at most once, and the worker that ran it is gone."""


class JobNotFound(JobError):
    """No such job: never accepted, or finished so long ago that its outcome is forgotten."""


# ---- the published Router API -------------------------------------------------------------------


class InvalidMessageError(_Reasoned):
    """A message cannot be parsed. `reason` is one of `REASONS`."""

    reason = "malformed"


class NoAvailableWorkerSlotsError(EventMQError):
    """Nobody who serves the queue has a free slot."""


class UnknownQueueError(EventMQError):
    """Nobody has announced the queue."""


REASONS = {
    "malformed": "the frames do not follow the grammar of their protocol version",
    "unsupported_version": "neither eMQP/1.0 nor eMQP/2.0",
    "unknown_command": "no such command on this socket",
    "unknown_peer": "the sender must INFORM first",
    "out_of_date": "a later INFORM of this manager has been read",
    "too_large": "over a limit of size or count",
    "invalid_job": "an id, name, queue or option of the job is not acceptable",
    "conflict": "the id belongs to another job already",
    "duplicate": "a job with the same key is there already",
    "storage_full": "the store has no room; try again later",
    "queue_full": "the queue has reached its bound",
    "queue_draining": "an operator lets the queue run empty: it takes nothing new",
    "invalid_schedule": "an expression, a time or an option of the schedule is not acceptable",
    "too_early": "the time of a tick has not come",
    "draining": "the Router is shutting down; try again later",
}
"""Why the Router refuses something: the reason on the wire, in counters and in logs, and what it means."""
