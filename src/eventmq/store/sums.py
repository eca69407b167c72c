"""What a row says, summed up (CRC-32), so that a byte that has changed on the disk is seen when the row is read.

Four kinds of statement write a row, and none of them knows what the others wrote; so there are four sums:

    sum_job      what a job is: written when it is added, or made anew when it is requeued
    sum_retry    failures, due, settled, started
    sum_end      state, attempt, crashes, and how it ended
    sum_failure  failure, error

The last three are 0 for a new job, which costs no byte of the file. `paged` and `holds` have none: each is said again
by an index over the rows that have it, and SQLite's own check compares the two.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from eventmq.protocol.v2 import Job, pack
from eventmq.store.base import Holder, Record


class Damaged(Exception):
    """What is read is not what was written."""


def of(*values: Any) -> int:
    """The sum of anything that msgpack can say."""
    return crc32(pack(values))


def of_job(job: Job) -> int:
    what = job.id, job.queue, job.name, job.payload, job.priority, job.options, job.unique
    return of(job.seq, what, job.created + 0.0)


def of_retry(failures: int, due: float, settled: int, started: int) -> int:
    if (failures, due, settled, started) == (0, 0, 0, 0):
        return 0
    return of(failures, due + 0.0, settled, started) ^ _NEW_RETRY


def of_waiting(attempt: int, crashes: int) -> int:
    """`of_end` of a live job."""
    return of_end("waiting", attempt, crashes, 0.0, 0.0, 0.0, "", b"") if (attempt, crashes) != (1, 0) else 0


def of_end(
    state: str, attempt: int, crashes: int, finished: float, expires: float, run_s: float, worker: str, value: bytes
) -> int:
    return of(state, attempt, crashes, finished + 0.0, expires + 0.0, run_s + 0.0, worker, value) ^ _NEW_END


def of_failure(failure: bytes, error: str) -> int:
    return of(failure, error) ^ _NEW_FAILURE if (failure, error) != (b"", "") else 0  # '' and NULL are no b''


_JOB = len(Job.__struct_fields__)
_NEW_RETRY = of(0, 0.0, 0, 0)
_NEW_END = of("waiting", 1, 0, 0.0, 0.0, 0.0, "", b"")
_NEW_FAILURE = of(b"", "")
# `+ 0.0` makes a float of a whole number, as SQLite does, and 0.0 of -0.0.


def job_of(row: tuple[Any, ...]) -> Job:
    """A live job from a row: its fields and three sums.

    Raises:
        Damaged: It is not what was written.
    """
    job = Job(*row[:_JOB])
    try:
        if row[_JOB:] == (of_job(job), retry_of(job), of_waiting(job.attempt, job.crashes)):
            return job
    except TypeError:  # a number has become text
        pass
    raise _damaged(job)


def record_of(row: tuple[Any, ...]) -> Record:
    """The same of any job from a row: its fields, how it ended, and four sums."""
    job, ending = Job(*row[:_JOB]), row[_JOB:]
    state, finished, expires, run_s, worker, value, failure, error = ending[:-4]
    try:
        end = of_end(state, job.attempt, job.crashes, finished, expires, run_s, worker, value)
        if ending[-4:] == (of_job(job), retry_of(job), end, of_failure(failure, error)):
            return Record(job, state, finished, expires, run_s, worker, value, failure)
    except TypeError:
        pass
    raise _damaged(job)


def retry_of(job: Job) -> int:
    return of_retry(job.failures, job.due, job.settled, job.started)


def _damaged(job: Job) -> Damaged:
    return Damaged(f"the row of job {job.id!r} (seq {job.seq}) is not what was written")


def holder_of(row: tuple[Any, ...]) -> Holder:
    """The same, as far as who wants its key has to know."""
    job, state, *_ = record_of(row)
    return Holder(job.id, job.seq, job.created, job.due, job.options, state != "waiting", job.queue)


def checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rest of a row whose last field is its sum."""
    *values, found = row
    if found != of(*values):
        raise Damaged(f"the row {values[0]!r}, … is not what was written")
    return tuple(values)
