"""The delayed jobs: those that are due next in memory, the rest in the store. And when waiting ones are to expire.

As a queue's backlog, cut by an `edge`, but in order of (due, seq): jobs before it are in memory, jobs at or behind it
are only in the store. Knows no clock; whoever calls says what time it is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heappush

from eventmq import limits
from eventmq.protocol.v2 import Job, options_of

Key = tuple[float, int]
"""(due, seq)."""

FIRST: Key = (float("-inf"), -1)
"""Before every job."""


class Timers:
    """Delayed jobs.

    Attributes:
        edge: Key of the first job that is only in the store; None = all are in memory.
        paged: Number of those that are only in the store.
    """

    def __init__(self, paged: int = 0, edge: Key | None = None) -> None:
        self.edge = edge
        self.paged = paged
        self._jobs: list[tuple[float, int, Job]] = []

    def __len__(self) -> int:
        return len(self._jobs) + self.paged

    def belongs_in_store(self, job: Job) -> bool:
        """Whether a job has to go to the store only: it is due behind everything that memory has room for."""
        place = (job.due, job.seq)
        if self.edge is not None:
            return place >= self.edge
        return len(self._jobs) >= limits.TIMERS_MAX and place > self._jobs[-1][:2]

    def page_out(self, job: Job) -> None:
        """Counts a job that is only in the store from now on."""
        place = (job.due, job.seq)
        self.paged += 1
        if self.edge is None or place < self.edge:
            self.edge = place

    def push(self, job: Job) -> Job | None:
        """Takes in a job; the last one if that is one too many, which then is only in the store."""
        self._jobs.insert(bisect_left(self._jobs, (job.due, job.seq), key=_place), (job.due, job.seq, job))
        if len(self._jobs) <= limits.TIMERS_MAX:
            return None
        last = self._jobs.pop()[2]
        self.page_out(last)
        return last

    def pop_due(self, wall: float) -> list[Job]:
        """The jobs that are due at wall time `wall`, earliest first, as many as one turn has time for."""
        count = min(bisect_right(self._jobs, wall, key=_due), limits.PAGE_JOBS)
        due = [job for _, _, job in self._jobs[:count]]
        del self._jobs[:count]
        return due

    def remove(self, job: Job) -> None:
        """Takes one job out of memory."""
        del self._jobs[bisect_left(self._jobs, (job.due, job.seq), key=_place)]

    @property
    def next_due(self) -> float | None:
        """Wall time at which the next job in memory is due."""
        return self._jobs[0][0] if self._jobs else None

    def wants_page(self, wall: float) -> bool:
        """Whether memory has become short of jobs that are due soon, while the store holds more."""
        if self.edge is None or len(self._jobs) > limits.TIMERS_MAX // 2:
            return False
        return not self._jobs or self._jobs[-1][0] - wall < limits.TIMERS_AHEAD_S

    @property
    def before_edge(self) -> Key:
        """What to ask the store for: delayed jobs behind this key."""
        assert self.edge is not None
        return (self.edge[0], self.edge[1] - 1)

    def fill(self, jobs: list[Job], last: Job | None) -> None:
        """Takes in what was only in the store of the page behind `before_edge`; `last` is the last job of that page,
        None if the store holds no other page."""
        self._jobs += [(job.due, job.seq, job) for job in jobs]
        self.paged -= len(jobs)
        if last is not None:
            self.edge = (last.due, last.seq + 1)
        else:
            self.paged, self.edge = 0, None


def _place(entry: tuple[float, int, Job]) -> Key:
    return entry[:2]


def _due(entry: tuple[float, int, Job]) -> float:
    return entry[0]


class Expiries:
    """Waiting jobs in memory that end when they have not begun by their time.

    Args:
        live: Jobs in memory by id, read only. What waits there no longer is dropped when there is too much of it.
    """

    def __init__(self, live: dict[str, Job]) -> None:
        self._live = live
        self._heap: list[tuple[float, int, str]] = []  # (wall time, seq, id)
        self._clean_at = limits.EXPIRIES_SPARE

    def add(self, job: Job) -> None:
        """A job waits."""
        expires_s = options_of(job.options).expires_s
        if expires_s is None:
            return
        if len(self._heap) >= self._clean_at:
            self._heap = [place for place in set(self._heap) if self._waiting(place)]  # those that came back, once
            heapify(self._heap)
            self._clean_at = 2 * len(self._heap) + limits.EXPIRIES_SPARE
        heappush(self._heap, (job.created + expires_s, job.seq, job.id))

    def pop_over(self, wall: float) -> Job | None:
        """A job that waits and whose time is over at wall time `wall`."""
        while self._heap and self._heap[0][0] <= wall:
            if job := self._waiting(heappop(self._heap)):
                return job
        return None

    def _waiting(self, place: tuple[float, int, str]) -> Job | None:
        at, seq, id = place
        job = self._live.get(id)
        if job is None or job.seq != seq or job.lease or job.due:
            return None
        return job if at == job.created + (options_of(job.options).expires_s or 0.0) else None

    @property
    def next(self) -> float | None:
        """Wall time at which the next one may be over."""
        return self._heap[0][0] if self._heap else None
