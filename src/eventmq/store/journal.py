"""Jobs that are only in the journal yet: new ones, and those of them that have succeeded since. And how jobs did that
are kept elsewhere, in segments (`segments`): a job stays there until what is here of it is retired.

One row of the journal is one commit. It says which plain jobs were new, which of them succeeded, and which became
ordinary rows; so most jobs cost a part of two rows instead of one row and an index entry, written twice. This is what
the rows of the journal come to, oldest first, kept in memory by seq and by id: what is here is nowhere else, and
whatever the rows say is here after `replay`.

What is oldest is *retired*: out of the journal into a segment if it is live, into the `archive` if it has succeeded.
That goes in whole turns, a slice at a time, so that no turn waits for it.

Knows no database. It changes with what is being committed; if that fails, it is made anew from the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from eventmq.errors import StoreError
from eventmq.protocol.v2 import Body, Job, decode, pack
from eventmq.store.base import Ended, Record

JOBS_MAX = 50_000
"""New jobs in the rows, about 500 bytes of memory each as long as they are no ordinary rows; a second of a busy
Router's, so that most have ended when they are retired."""

BYTES_MAX = 16 << 20
"""The rows, in bytes: they are read by a Router that starts."""

TURNS_MAX = 1_000
"""The rows themselves. They are few pages."""

SLICE_JOBS = 500
"""Jobs retired in one turn, unless the one before, or theirs, had more: up to 5 ms, if all are live."""

SLICE_TURNS = 250
"""Turns retired at once: the fewer there are, the better these fill rows of the archive."""

PLAIN_BYTES = 4 << 10
"""A job with a larger payload or value is an ordinary row: it would be written twice here, too."""

Opened = tuple[Job, Ended | None]
"""A job, and how it succeeded if it has."""


class Kept(NamedTuple):
    """Jobs as they go from the journal into the archive, in order of seq, by column: so most is done to many at
    a time.

    Attributes:
        seqs: Their seqs.
        names: Their ids.
        jobs: msgpack of each `Job`. As the ids, empty if they are kept elsewhere.
        ends: How they have succeeded.
    """

    seqs: list[int]
    names: list[str]
    jobs: list[bytes]
    ends: list[Ended]

    def between(self, start: int, stop: int) -> Kept:
        """Those from one place to another."""
        return Kept(self.seqs[start:stop], self.names[start:stop], self.jobs[start:stop], self.ends[start:stop])


class Elsewhere(Protocol):
    """The segments."""

    def kept(self, seqs: list[int]) -> set[int]:
        """Those of these jobs that are kept there."""

    def beside(self, seq: int) -> list[int]:
        """All that are kept in one segment with this one, by seq."""


class Retired(NamedTuple):
    """What the journal lets go of.

    Attributes:
        live: Jobs that wait.
        ended: Jobs that have succeeded.
        elsewhere: The same, of those that are kept in segments, for each of these.
    """

    live: list[Job]
    ended: Kept
    elsewhere: list[Kept]


class _Turn(Body):
    """What a row of the journal says."""

    added: list[msgspec.Raw]
    ended: list[Ended]
    left: list[int]


class Journal:
    """The jobs of the journal's rows.

    Attributes:
        first: Number of the oldest row that is not retired.
        last: No job up to this seq is new.
        ends: How jobs have succeeded, by seq: here and elsewhere.
    """

    def __init__(self, elsewhere: Elsewhere, rows: Iterable[tuple[Any, ...]] = (), last: int = 0) -> None:
        """What the rows (number, turn) come to, oldest first; `last` is the largest seq anywhere else."""
        self.first = 0
        self.last = last
        self._elsewhere = elsewhere
        self._jobs: dict[int, tuple[str, bytes]] = {}
        self.ends: dict[int, Ended] = {}
        self._seqs: dict[str, int] = {}
        self._turns: deque[tuple[int, list[int], int]] = deque()  # those that say something, with their bytes
        self._count = 0
        self._bytes = 0
        self._added: list[int] = []
        self._late: list[int] = []
        self._ended: list[Ended] = []
        self._left: list[int] = []
        for number, packed in rows:
            self.first = self.first or number
            if packed:
                self._note(number, self._replay(decode(packed, _Turn)), len(packed))
        self.last = max(last, self.last)

    def _replay(self, turn: _Turn) -> list[int]:
        """Does what a row says. Returns which jobs were new."""
        jobs = [decode(raw, Job) for raw in turn.added]
        for job, raw in zip(jobs, turn.added, strict=True):
            self._jobs[job.seq], self._seqs[job.id] = (job.id, bytes(raw)), job.seq
            self.last = job.seq
        # Of those that were elsewhere nothing else may be left, but their seqs are not to come again as long as this is
        # read: it would say that the new ones have ended.
        self.last = max([self.last, *(end.seq for end in turn.ended)])
        late = self._late_ones(turn.ended)
        self.ends.update((end.seq, end) for end in turn.ended if end.seq in self._jobs or end.seq in late)
        self._leave(turn.left)
        return [job.seq for job in jobs] + [*late]

    def _late_ones(self, ended: list[Ended]) -> set[int]:
        """Those of these jobs that are kept elsewhere."""
        jobs = self._jobs
        others = [end.seq for end in ended if end.seq not in jobs]
        return self._elsewhere.kept(others) if others else set()

    def _note(self, number: int, added: list[int], size: int) -> None:
        self._turns.append((number, added, size))
        self._count += len(added)
        self._bytes += size

    # ---- one turn --------------------------------------------------------------------------------------

    def leave(self, touched: set[int]) -> list[Opened]:
        """Lets go of jobs that are to be ordinary rows. Returns those that were here."""
        left = [seq for seq in sorted(touched) if seq in self._jobs or seq in self.ends]
        self._left += left
        return self._leave(left)

    def add(self, jobs: list[Job], touched: set[int]) -> list[Job]:
        """Takes the new jobs that are plain. Returns the others. One that is here already would be stored twice, and no
        Router could start when it is retired."""
        kept, seqs, added = self._jobs, self._seqs, self._added
        others, last = [], self.last
        for job, may_stay in zip(jobs, plain(jobs), strict=True):
            seq, id = job.seq, job.id
            if id in seqs:
                raise StoreError(f"a job with the id {id!r} is in the journal already")
            if not may_stay or seq <= last or seq in touched:
                others.append(job)
                continue
            kept[seq], seqs[id], last = (id, pack(job)), seq, seq
            added.append(seq)
        self.last = last
        return others

    def end(self, ended: list[Ended]) -> list[Ended]:
        """Takes how jobs succeeded that are here or elsewhere. Returns the others."""
        jobs, ends, late = self._jobs, self.ends, self._late_ones(ended)
        others = []
        for end in ended:
            seq = end.seq
            if seq in ends or (seq not in jobs and seq not in late):
                others.append(end)
                continue
            ends[seq] = end
            self._ended.append(end)
        self._late += late
        return others

    def turn(self, number: int) -> bytes:
        """The row of the journal that says what this turn did; empty if that is nothing."""
        added, ended, left = self._added, self._ended, self._left
        if not (added or ended or left):
            return b""
        said = b"\x93" + array_of([self._jobs[seq][1] for seq in added]) + pack(ended) + pack(left)
        self._note(number, added + self._late, len(said))
        self._added, self._late, self._ended, self._left = [], [], [], []
        return said

    def retire(self, number: int, aged: int = 0) -> Retired:
        """Lets go of the jobs of some of the oldest turns, if there are too many or these are not behind turn `aged`.
        What is elsewhere goes with all that is kept with it, also what later turns have said of that: fewer segments
        are opened, and fewer twice.

        Args:
            number: The turn that is being made, which stays.
            aged: Number of a turn.
        """
        is_full = self._is_large or number - self.first > TURNS_MAX
        if not is_full and not (self._turns and self._turns[0][0] <= aged):
            return Retired([], Kept([], [], [], []), [])
        stop = number if self._is_large else min(number, self.first + SLICE_TURNS, number if is_full else aged + 1)
        jobs, ends = self._jobs, self.ends
        seqs: list[int] = []
        while self._turns and self._turns[0][0] < stop:
            then, added, size = self._turns[0]
            here = [seq for seq in added if seq in jobs or seq in ends]
            if seqs and len(seqs) + len(here) > SLICE_JOBS and not self._is_large:
                stop = then
                break
            self._turns.popleft()
            self._count -= len(added)
            self._bytes -= size
            seqs += here
        self.first = stop
        over = [seq for seq in seqs if seq in ends and seq in jobs]
        left = [jobs.pop(seq) for seq in over]
        ended = Kept(over, [id for id, _ in left], [packed for _, packed in left], [ends.pop(seq) for seq in over])
        for id in ended.names:
            del self._seqs[id]
        elsewhere: list[Kept] = []
        for seq in seqs if len(over) < len(seqs) else ():
            if seq in ends:
                beside = [each for each in self._elsewhere.beside(seq) if each in ends]
                nothing = [""] * len(beside), [b""] * len(beside)
                elsewhere.append(Kept(beside, *nothing, [ends.pop(each) for each in beside]))
        return Retired([job for job, _ in self._leave([seq for seq in seqs if seq in jobs])], ended, elsewhere)

    @property
    def _is_large(self) -> bool:
        return self._count > JOBS_MAX or self._bytes > BYTES_MAX

    # ---- looking ---------------------------------------------------------------------------------------

    def find(self, ids: list[str]) -> tuple[list[Record], list[str]]:
        """Those of the jobs with these ids that are here, and the other ids."""
        seqs = self._seqs
        others = [id for id in ids if id not in seqs]
        if len(others) == len(ids):
            return [], others
        return [self._record(seqs[id]) for id in dict.fromkeys(ids) if id in seqs], others

    def last_id(self) -> str:
        """No job here has an id above it."""
        return max(self._seqs, default="")

    def newest(self, before: int) -> Iterator[Record]:
        """The jobs below a seq, newest first."""
        return (self._record(seq) for seq in reversed(self._jobs) if seq < before)

    def live(self) -> list[Job]:
        """The live ones, by seq."""
        return jobs_of(array_of([packed for seq, (_, packed) in self._jobs.items() if seq not in self.ends]))

    def _record(self, seq: int) -> Record:
        return record_of(job_of(self._jobs[seq][1]), self.ends.get(seq))

    def _leave(self, seqs: list[int]) -> list[Opened]:
        """Lets go of some jobs, and of how they ended. Returns those that were here."""
        here = [seq for seq in seqs if seq in self._jobs]
        packed = [self._jobs.pop(seq) for seq in here]
        for id, _ in packed:
            del self._seqs[id]
        ends = {seq: self.ends.pop(seq, None) for seq in seqs}
        return [(job, ends[job.seq]) for job in jobs_of(array_of([job for _, job in packed]))]


def plain(jobs: list[Job]) -> list[bool]:
    """Whether journal and segments may keep these jobs."""
    return [not job.unique and len(job.payload) <= PLAIN_BYTES for job in jobs]


def not_plain(ended: list[Ended]) -> set[int]:
    """The jobs of whose ends the journal may not keep."""
    return {
        end.seq for end in ended if end.state != "succeeded" or end.failure or end.error or len(end.value) > PLAIN_BYTES
    }


def array_of(packed: Sequence[bytes]) -> bytes:
    """A msgpack array of what is packed already."""
    return b"\xdd" + len(packed).to_bytes(4, "big") + b"".join(packed)


def job_of(packed: bytes) -> Job:
    """The job, which is not handed out as far as the store knows."""
    job = decode(packed, Job)
    job.lease = 0
    return job


def jobs_of(packed: bytes) -> list[Job]:
    """The same of an array of jobs."""
    jobs = decode(packed, list[Job])
    for job in jobs:
        job.lease = 0
    return jobs


def record_of(job: Job, end: Ended | None) -> Record:
    """All that is known of a job; ends that the journal keeps have no failure."""
    if end is None:
        return Record(job, "waiting", 0.0, 0.0, 0.0, "", b"", b"")
    job.attempt, job.crashes = end.attempt, end.crashes
    return Record(job, end.state, end.finished, end.expires, end.run_s, end.worker, end.value, b"")
