"""The jobs that a manager has and no worker holds: first come, first out, and how long the first has waited. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from itertools import islice

from eventmq import limits
from eventmq.protocol.v2 import Job

WAIT_S = 0.05
"""A job that no worker could take for this long goes back to the Router: another manager may be free."""


class Backlog:
    """Jobs in order.

    Ages are kept by batch, not by job: a mark (time, position) says when the jobs up to that position came. Positions
    count the jobs that ever were here; `_gone` is the position of the last that left.

    Attributes:
        jobs: Read only to others.
    """

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self._gone = 0
        self._marks: deque[tuple[float, int]] = deque()

    def add(self, jobs: Sequence[Job], now: float) -> None:
        """Jobs that have come."""
        self.jobs.extend(jobs)
        self._marks.append((now, self._gone + len(self.jobs)))

    def put_back(self, jobs: Sequence[Job], now: float) -> None:
        """Jobs that a worker did not begin: first in line again."""
        if jobs:
            self._marks.appendleft((now, self._gone))
            self._gone -= len(jobs)
            self.jobs.extendleft(reversed(jobs))

    def take_while(self, fits: Callable[[Job], bool], room: int) -> list[Job]:
        """The first jobs while they fit, at most `room`, and about `BATCH_BYTES`. Whether one fits depends on its name
        and options."""
        size = count = 0
        name, options = "", b""
        for job in islice(self.jobs, max(0, room)):
            if size >= limits.BATCH_BYTES:
                break
            if job.name != name or job.options != options:
                if not fits(job):
                    break
                name, options = job.name, job.options
            size += len(job.payload)
            count += 1
        self._gone += count
        return [self.jobs.popleft() for _ in range(count)]

    def take_first(self) -> list[Job]:
        """The first job, if there is one."""
        if not self.jobs:
            return []
        self._gone += 1
        return [self.jobs.popleft()]

    def take_all(self) -> list[Job]:
        """Everything."""
        taken = list(self.jobs)
        self._gone += len(taken)
        self.jobs.clear()
        self._marks.clear()
        return taken

    def take(self, which: Callable[[Job], bool]) -> list[Job]:
        """Those, wherever they are."""
        return self.remove({job.lease for job in self.jobs if which(job)})

    def remove(self, leases: Container[int]) -> list[Job]:
        """Take these out."""
        removed = [job for job in self.jobs if job.lease in leases]
        if removed:
            self.jobs = deque(job for job in self.jobs if job.lease not in leases)
            self._gone += len(removed)
        return removed

    def is_stale(self, now: float) -> bool:
        """Whether the first job has waited for `WAIT_S`."""
        while self._marks and self._marks[0][1] <= self._gone:
            self._marks.popleft()
        return bool(self._marks) and now - self._marks[0][0] >= WAIT_S
