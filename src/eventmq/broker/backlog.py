"""The waiting jobs of one queue: the head in memory, the rest in the store.

Dispatch order is (rank, seq) ascending, rank = -priority. One invariant carries everything: jobs before `edge` are in
memory, jobs at or behind it are only in the store.

      memory                      │ edge                       store (paged rows)
      p9: 3 7 8   p0: 1 2 4 5 6   │ p0: 9 10 11 12 …   p-5: …

This module never reads the store; the ledger fetches pages for it, when everything decided has been applied.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from eventmq import limits
from eventmq.broker.timers import Expiries
from eventmq.protocol.v2 import Job, ready_at

Key = tuple[int, int]
"""(rank, seq): a job's place in dispatch order."""

FIRST: Key = (-1_000_000, -1)
"""Before every job."""


def key(job: Job) -> Key:
    return (-job.priority, job.seq)


def _seq(job: Job) -> int:
    """A job's place in its lane, which is in this order: finding it there is quick, however long the queue."""
    return job.seq


class Room:
    """Jobs of all heads together, bytes of their payloads, and when they expire: shared by all backlogs, which are
    `queues`."""

    __slots__ = ("bytes", "expiries", "jobs", "queues")

    def __init__(self, expiries: Expiries) -> None:
        self.bytes = self.jobs = self.queues = 0
        self.expiries = expiries

    @property
    def full(self) -> bool:
        return self.jobs >= limits.HEAD_JOBS_MAX or self.bytes >= limits.HEADS_BYTES_MAX

    @property
    def page_jobs(self) -> int:
        """How many jobs to ask for; a queue has so many in memory even if that is full: the same for all."""
        if not self.full:
            return limits.PAGE_JOBS
        share = limits.HEAD_JOBS_MAX // self.queues if self.bytes < limits.HEADS_BYTES_MAX else 0
        return min(limits.PAGE_JOBS, max(limits.SMALL_PAGE_JOBS, share))


class Backlog:
    """Waiting jobs of one queue.

    Attributes:
        name: The queue.
        edge: Key of the first job that is only in the store; None = everything is in memory.
        paged: Number of waiting jobs that are only in the store.
        head: Number of waiting jobs in memory.
        delayed: Number of delayed jobs of this queue, which are not here.
        room: What all heads share.
    """

    __slots__ = ("delayed", "edge", "head", "lanes", "name", "paged", "ranks", "room")

    def __init__(self, name: str, room: Room, paged: int = 0, edge: Key | None = None) -> None:
        self.name = name
        self.room = room
        room.queues += 1
        self.lanes: dict[int, deque[Job]] = {}
        self.ranks: list[int] = []
        self.paged = paged
        self.edge = edge
        self.head = 0
        self.delayed = 0

    def __len__(self) -> int:
        return self.head + self.paged

    @property
    def full(self) -> bool:
        return self.head >= limits.HEAD_JOBS_MAX or (self.room.full and self.head >= self.room.page_jobs)

    def oldest_s(self, wall: float) -> float:
        """How long the job that has waited longest has, of those at the head of each priority; 0 = none waits."""
        firsts = (lane[0] for lane in self.lanes.values() if lane)
        return max(0.0, wall - min(map(ready_at, firsts), default=wall))

    def belongs_in_store(self, job: Job) -> bool:
        """Whether a job has to go to the store only. Says yes for a job behind the edge, and for one behind
        everything in memory when that is full; one that overtakes what is in memory always comes in."""
        if self.edge is not None:
            return key(job) >= self.edge
        return self.full and key(job) > key(self.lanes[self.ranks[-1]][-1])

    def page_out(self, job: Job) -> None:
        """Counts a job that is only in the store from now on."""
        place = key(job)
        self.paged += 1
        if self.edge is None or place < self.edge:
            self.edge = place

    def push(self, job: Job) -> None:
        """A new job, behind all of its rank."""
        rank = -job.priority
        lane = self.lanes.get(rank)
        if lane is None:
            lane = self.lanes[rank] = deque()
            insort(self.ranks, rank)
        lane.append(job)
        self.head += 1
        self.room.jobs += 1
        self.room.bytes += len(job.payload)
        if job.options:
            self.room.expiries.add(job)

    def holds(self, count: int, payloads: int) -> bool:
        """Whether memory has room for so many jobs more, with so many bytes of payloads."""
        fits = self.room.jobs + count <= limits.HEAD_JOBS_MAX and self.room.bytes + payloads < limits.HEADS_BYTES_MAX
        return self.edge is None and fits

    def push_all(self, jobs: list[Job], payloads: int) -> None:
        """New jobs of one rank and with the same options, with so many bytes of payloads."""
        self.push(jobs[0])
        self.lanes[-jobs[0].priority].extend(jobs[1:])
        self.head += len(jobs) - 1
        self.room.jobs += len(jobs) - 1
        self.room.bytes += payloads - len(jobs[0].payload)
        for job in jobs[1:] if jobs[0].options else ():
            self.room.expiries.add(job)

    def push_back(self, job: Job) -> None:
        """A job that was here before goes back to its old place."""
        self.push(job)
        lane = self.lanes[-job.priority]
        if len(lane) > 1 and lane[-2].seq > job.seq:
            lane.pop()
            lane.insert(bisect_left(lane, job.seq, key=_seq), job)

    def pop(self, count: int) -> list[Job]:
        """Up to `count` jobs from the front, in dispatch order, from memory only."""
        taken: list[Job] = []
        while self.ranks and len(taken) < count:
            lane = self.lanes[self.ranks[0]]
            if len(lane) <= count - len(taken):
                taken.extend(lane)
                lane.clear()
            else:
                taken.extend([lane.popleft() for _ in range(count - len(taken))])
            if not lane:
                del self.lanes[self.ranks.pop(0)]
        self.head -= len(taken)
        self.room.jobs -= len(taken)
        self.room.bytes -= sum([len(job.payload) for job in taken])
        return taken

    def pop_last(self) -> Job:
        """The job that is served last of those in memory, to make room for a better one."""
        job = self.lanes[self.ranks[-1]][-1]
        self.remove(job)
        return job

    def remove(self, job: Job) -> None:
        """Takes one job out of memory, wherever it stands."""
        lane = self.lanes[-job.priority]
        place = bisect_left(lane, job.seq, key=_seq)
        assert lane[place] is job
        del lane[place]
        if not lane:
            del self.lanes[-job.priority]
            self.ranks.remove(-job.priority)
        self.head -= 1
        self.room.jobs -= 1
        self.room.bytes -= len(job.payload)

    def ahead(self, job: Job) -> tuple[int, bool]:
        """How many waiting jobs are served before this one; of one that is only in the store, those in memory. And
        whether these are all."""
        rank, seq = key(job)
        if self.edge is not None and (rank, seq) >= self.edge:
            return self.head, False
        before = sum(len(self.lanes[other]) for other in self.ranks if other < rank)
        return before + bisect_left(self.lanes.get(rank, ()), seq, key=_seq), True

    @property
    def wants_page(self) -> bool:
        """Whether the head has become short while the store holds more."""
        return self.edge is not None and self.head <= (0 if self.room.full else limits.HEAD_JOBS_MAX // 2)

    @property
    def before_edge(self) -> Key:
        """What to ask the store for: paged jobs behind this key."""
        assert self.edge is not None
        return (self.edge[0], self.edge[1] - 1)

    def fill(self, jobs: list[Job], last: Job | None) -> None:
        """Takes in what was only in the store of the page behind `before_edge`; `last` is the last job of that page,
        None if the store holds no other page."""
        if jobs and jobs[0].priority == jobs[-1].priority and len({job.options for job in jobs}) == 1:
            self.push_all(jobs, sum([len(job.payload) for job in jobs]))
        else:
            for job in jobs:
                self.push(job)
        self.paged -= len(jobs)
        if last is not None:
            rank, seq = key(last)
            self.edge = (rank, seq + 1)
        else:
            self.paged, self.edge = 0, None
