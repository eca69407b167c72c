"""Whether a job that failed is tried again, and when. A function of its options and what went wrong, nothing else."""

from __future__ import annotations

from zlib import crc32

from eventmq.protocol.v2 import Failure, Job, Options


def wanted(options: Options, job: Job, state: str, failure: Failure) -> bool:
    """Whether to try again.

    Args:
        options: Of the job.
        job: With `failures` so far, this one not counted.
        state: `failed`, `timeout` or `retry`.
        failure: What went wrong.
    """
    if job.failures >= options.retries:
        return False
    if state == "retry":
        return True
    kinds = {failure.type, *failure.bases}
    if kinds.intersection(options.retry_not_on):
        return False
    if state == "timeout":
        return options.retry_timeout
    return not options.retry_on or bool(kinds.intersection(options.retry_on))


def delay_s(options: Options, job: Job) -> float:
    """Seconds until the next try; `job.failures` counts the failure that it follows."""
    delays = options.retry_delays_s
    if not delays:
        return 0.0
    delay = delays[min(job.failures, len(delays)) - 1]
    return delay * (0.5 + _share(job)) if options.retry_jitter else delay


def _share(job: Job) -> float:
    """0 to 1, the same for the same job and failure: chance without a source of chance."""
    return crc32(f"{job.id}#{job.failures}".encode()) / 2**32
