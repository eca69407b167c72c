"""What is under way between a client and the Router: calls that callers await, messages that await their answers.

Only `exchange` changes them; drivers and callers read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eventmq.errors import BrokerUnavailable, DuplicateJob, EnqueueError, JobRefused, QueueFull
from eventmq.limits import BATCH_JOBS_MAX
from eventmq.protocol import v2

JOB_BYTES = 100
"""What a job takes in a REQUEST besides its texts, payload and options; generous."""

NEVER = float("inf")

Frames = list[bytes]


class Call:
    """What one caller awaits.

    Attributes:
        deadline: When it ends without an answer.
        done: It has ended.
        error: Why it has no answer.
        notify: Called when it ends; the driver's way to wake the caller.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.key = 0
        self.done = False
        self.error: Exception | None = None
        self.notify: Callable[[], object] | None = None


class Delivery(Call):
    """Jobs to be stored. Its deadline moves on with each ACK, so it bounds silence, not the time for all of them.

    Attributes:
        existing: By id of those in whose way another job was: that job's id.
        full_until: When a queue that is full is no longer waited for.
        put_off: Why the Router would not take some of them for the time being.
        trial: How many of those kept for later are taken again at a time.
        timed: There is a time at which that is to be.
    """

    def __init__(self, jobs: Sequence[v2.Job], now: float, timeout_s: float, full_until: float) -> None:
        super().__init__(now + timeout_s)
        self.begun = now
        self.timeout_s = timeout_s
        self.full_until = full_until
        self.total = self.unanswered = len(jobs)
        self.refusals: list[v2.Refusal] = []
        self.existing: dict[str, str] = {}
        self.put_off: v2.Refusal | None = None
        self._jobs = jobs
        self._taken = 0
        self._again: list[v2.Job] = []
        self.trial = self.total
        self.timed = False

    @property
    def has_more(self) -> bool:
        """There are jobs that no message has taken."""
        return self._taken < len(self._jobs)

    def take(self, count: int, size: int) -> tuple[list[v2.Job], int]:
        """The next jobs for a message that has room for `count` jobs and `size` bytes, and the room then left."""
        jobs = list(self._jobs[self._taken : self._taken + count])
        for place, job in enumerate(jobs):
            size -= JOB_BYTES + len(job.payload) + len(job.name) + len(job.queue) + len(job.options) + len(job.unique)
            if size < 0 and (place or count < BATCH_JOBS_MAX):
                del jobs[place:]
                break
        self._taken += len(jobs)
        return jobs, size

    def try_later(self, jobs: list[v2.Job]) -> None:
        """Keeps jobs until `take_again`."""
        self._again += jobs

    @property
    def keeps(self) -> bool:
        """Jobs are kept, and nothing says until when."""
        return bool(self._again) and not self.timed

    def take_again(self) -> None:
        """Some of the jobs kept are for messages to take once more."""
        self._jobs = [*self._jobs[self._taken :], *self._again[: self.trial]]
        self._again = self._again[self.trial :]
        self._taken, self.timed = 0, False

    def refused(self) -> EnqueueError | None:
        """The error when all jobs were answered and some refused."""
        if not self.refusals:
            return None
        first = self.refusals[0]
        text = f"job {first.id}: {_reason(first)}"
        if self.total > 1:
            text = f"{len(self.refusals)} of {self.total} jobs were refused, the others are stored; first {text}"
        if first.reason == "duplicate":
            return DuplicateJob(text, self.existing.get(first.id, ""))
        return QueueFull(text) if first.reason == "queue_full" else JobRefused(text, first.reason)

    def late(self, where: str, said: str) -> EnqueueError:
        """The error when the deadline has passed."""
        stored = self.total - self.unanswered
        part = f"; {stored} of {self.total} jobs were stored" if stored else ""
        if self.put_off is not None:
            text = f"the Router at {where} refused for {self.timeout_s:g} s: {_reason(self.put_off)}{part}"
            return JobRefused(text, self.put_off.reason)
        return BrokerUnavailable(
            f"the Router at {where} did not answer within {self.timeout_s:g} s{part}{said}. "
            "Is it running there? `eventmq status` tells"
        )


class Query(Call):
    """A question: a command, and its body, given its number.

    Attributes:
        answer: What the Router says; None = it knows nothing.
    """

    def __init__(self, command: bytes, body: Callable[[int], v2.Body], deadline: float) -> None:
        super().__init__(deadline)
        self.command = command
        self.body = body
        self.answer: Any = None


class Waiting(Call):
    """Outcomes to come. At its deadline it ends with those that have come.

    Attributes:
        missing: Jobs that have not ended.
        results: The outcomes so far.
    """

    def __init__(self, ids: Iterable[str], deadline: float) -> None:
        super().__init__(deadline)
        self.missing = dict.fromkeys(ids)
        self.results: dict[str, v2.Result] = {}


class Message:
    """A numbered message under way: a REQUEST with the jobs of its deliveries, or an INFO with its query."""

    __slots__ = ("first_sent", "frames", "parts", "query", "sends", "sent")

    def __init__(self, frames: Frames, parts: list[tuple[Delivery, list[v2.Job]]], query: Query | None) -> None:
        self.frames = frames
        self.parts = parts
        self.query = query
        self.sends = 0
        self.sent = self.first_sent = -NEVER

    @property
    def wanted(self) -> bool:
        """Somebody still awaits its answer."""
        return (self.query is not None and not self.query.done) or any(not part[0].done for part in self.parts)


def _reason(refusal: v2.Refusal) -> str:
    return f"{refusal.reason} ({refusal.text})" if refusal.text else refusal.reason
