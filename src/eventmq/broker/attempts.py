"""How earlier attempts of jobs ended, for people: the last ones of each, of the last jobs that were tried again.

In memory only, and bounded: a restart forgets it, and so does time; a job's counters and its last failure are durable.
Knows no clock and nobody who sends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, NamedTuple

ATTEMPTS_MAX = 20
"""Attempts kept of one job, the last ones: what fits on a screen."""

JOBS_MAX = 10_000
"""Jobs whose attempts are kept, those tried last: about 10 MB when each has failed three times."""

ALL_MAX = 50_000
"""Attempts kept of all jobs together: 20 MB of usual ones."""

ERROR_CHARS = 200
"""Of what an attempt ended with: a line."""


class Attempt(NamedTuple):
    """One attempt that was not the last. Times are wall times, in seconds; of a run that was cut short nobody has said
    when it began."""

    attempt: int
    started: float | None
    ended: float
    worker: str
    error: str


class Attempts:
    """The attempts by job, that of the job which was tried again last at the end."""

    def __init__(self) -> None:
        self._by_job: OrderedDict[str, deque[Attempt]] = OrderedDict()
        self._count = 0

    def add(self, id: str, attempt: Attempt) -> None:
        """One has ended, and the job is tried again."""
        kept = self._by_job.setdefault(id, deque(maxlen=ATTEMPTS_MAX))
        self._count += len(kept) < ATTEMPTS_MAX
        kept.append(attempt._replace(error=attempt.error[:ERROR_CHARS]))
        self._by_job.move_to_end(id)
        while len(self._by_job) > JOBS_MAX or self._count > ALL_MAX:
            self._count -= len(self._by_job.popitem(last=False)[1])

    def of(self, id: str) -> list[dict[str, Any]]:
        """Those of one job, the first one first."""
        return [attempt._asdict() for attempt in self._by_job.get(id, ())]
