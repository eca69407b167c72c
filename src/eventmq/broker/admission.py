"""What is acceptable about a job that a client sent, and about a manager's queues, and what is not. Pure."""

from __future__ import annotations

import math

import msgspec

from eventmq import limits
from eventmq.errors import InvalidMessageError
from eventmq.protocol.v2 import Job, Options, Refusal, options_of

ID_MAX, NAME_MAX = limits.ID_CHARS_MAX, limits.NAME_CHARS_MAX


def overdue(options: Options, created: float, wall: float) -> bool:
    """Whether a job that has not begun at wall time `wall` must not begin any more."""
    return options.expires_s is not None and wall >= created + options.expires_s


def fault(job: Job) -> Refusal | None:
    """What is wrong with a job, if anything."""
    if not 0 < len(job.id) <= ID_MAX:
        return Refusal(job.id[:ID_MAX], "invalid_job", f"an id has 1 to {ID_MAX} characters")
    if not 0 < len(job.queue) <= NAME_MAX or not 0 < len(job.name) <= NAME_MAX:
        return Refusal(job.id, "invalid_job", f"queue and name have 1 to {NAME_MAX} characters")
    if len(job.payload) > limits.PAYLOAD_BYTES_MAX:
        text = f"the payload has {len(job.payload)} bytes, the limit is {limits.PAYLOAD_BYTES_MAX}"
        return Refusal(job.id, "too_large", text)
    if len(job.unique) > limits.UNIQUE_CHARS_MAX:
        return Refusal(job.id, "too_large", f"a key has at most {limits.UNIQUE_CHARS_MAX} characters")
    if not -100 <= job.priority <= 100:
        return Refusal(job.id, "invalid_job", f"priority is {job.priority}, expected -100 to 100")
    return _fault_of_options(job) if job.options else None


def alike(jobs: list[Job]) -> Job | None:
    """One that stands for all of these, if they have one queue, one priority and the same options and no key. Its other
    fields are their longest, so it is acceptable if they are."""
    ways = {(job.queue, job.priority, job.options, job.unique) for job in jobs}
    ids, names = [job.id for job in jobs], {job.name for job in jobs}
    if len(ways) != 1 or "" in ids or "" in names:
        return None
    ((queue, priority, options, unique),) = ways
    payload = max([job.payload for job in jobs], key=len)
    return None if unique else Job(max(ids, key=len), queue, max(names, key=len), payload, priority, options)


def _fault_of_options(job: Job) -> Refusal | None:
    if len(job.options) > limits.OPTIONS_BYTES_MAX:
        return Refusal(job.id, "too_large", f"options have at most {limits.OPTIONS_BYTES_MAX} bytes")
    try:
        options = options_of(job.options)
    except msgspec.MsgspecError as error:
        return Refusal(job.id, "invalid_job", f"options: {error}")
    times = (
        options.delay_s,
        options.due,
        options.expires_s or 0.0,
        options.unique_for_s or 0.0,
        options.soft_timeout_s or 0.0,
        *options.retry_delays_s,
    )
    if not all(0.0 <= each <= limits.FUTURE_S_MAX and math.isfinite(each) for each in times):
        return Refusal(job.id, "invalid_job", "options: a time is negative, not a number or too far away")
    if options.retries and not options.redeliver:
        return Refusal(job.id, "invalid_job", "options: retries of a job that may begin only once (redeliver is false)")
    return None


def check_queues(queues: list[tuple[int, str]]) -> None:
    """Refuses queues that nobody should announce.

    Raises:
        InvalidMessageError: Too many, or a name is not acceptable.
    """
    if len(queues) > limits.QUEUES_PER_MANAGER_MAX:
        raise InvalidMessageError(f"{len(queues)} queues, the limit is {limits.QUEUES_PER_MANAGER_MAX}", "too_large")
    for weight, name in queues:
        if not -limits.NEWEST <= weight <= limits.NEWEST:
            raise InvalidMessageError("a queue's weight has at most 62 bits")
        if not 0 < len(name) <= limits.NAME_CHARS_MAX:
            raise InvalidMessageError(f"a queue's name has 1 to {limits.NAME_CHARS_MAX} characters")
