"""Jobs that wait and are kept together: up to some hundred of one queue and rank in one segment.

Owns the tables `segment` and `segment_jobs`. What a segment was made of is written once; as its jobs go, only the bits
of those that are `left` are written anew, and both rows go with the last one. The seqs of a segment are in one *block*,
which begins at a multiple of `archive.BLOCK_SEQS`, so where a job would be follows from its seq.

A job that succeeds stays until it is retired: how it did is in the journal till then (`ends`). So an end opens nothing,
and most segments go into the archive as they are.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from eventmq.protocol.packing import batches
from eventmq.protocol.v2 import Job, decode, pack
from eventmq.store import archive, ids, sums, tables
from eventmq.store.archive import Part
from eventmq.store.base import Ended, Record
from eventmq.store.journal import Kept, Opened, array_of, job_of, jobs_of, plain, record_of

SEGMENT_JOBS_MIN = 4
"""Fewer are ordinary rows: a segment costs about as much as so many."""

ADD = "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)"
ADD_JOBS = "INSERT INTO segment_jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
LEFT = "UPDATE segment SET left = ?, sum = ? WHERE n = ?"
DROP = ("DELETE FROM segment WHERE n = ?", "DELETE FROM segment_jobs WHERE n = ?")
JOBS = "SELECT * FROM segment_jobs WHERE n = ?"
BLOCKS = "SELECT DISTINCT block FROM segment WHERE block <= ? ORDER BY block DESC"
_PAGED = "SELECT n FROM segment INDEXED BY segment_paged WHERE paged = 1 AND queue = ?"
SAME_RANK = f"{_PAGED} AND rank = ? AND block >= ? ORDER BY block, n"
LOWER_RANKS = f"{_PAGED} AND rank > ? ORDER BY rank, block, n"


class Segment:
    """What memory knows of a segment.

    Attributes:
        n: Its number.
        block: Its seqs are from `block * archive.BLOCK_SEQS` on.
        paged: Whether the Router does not hold these jobs in memory.
        left: Bit k: the job with the k-th seq of the block is still here.
    """

    __slots__ = ("block", "left", "n", "paged", "queue", "rank")

    def __init__(self, n: int, block: int, paged: int, queue: str, rank: int, left: int) -> None:
        self.n, self.block, self.paged, self.queue, self.rank, self.left = n, block, paged, queue, rank, left

    def row(self) -> tuple[Any, ...]:
        told = (
            self.n,
            self.block,
            self.paged,
            self.queue,
            self.rank,
            self.left.to_bytes((archive.BLOCK_SEQS + 7) // 8, "big"),
        )
        return (*told, sums.of(*told))

    def has(self, seq: int) -> bool:
        return bool(self.left >> seq % archive.BLOCK_SEQS & 1)


class Segments:
    """The tables.

    Attributes:
        ids: Finds the segments.
        ends: How jobs have succeeded that are here yet: the journal's, see `Journal.ends`.
        last: The largest seq that is here, or has come here since the start.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.ids = ids.Index(db, "segment_jobs")
        self._segments: dict[int, Segment] = {}  # by number
        self._blocks: dict[int, list[Segment]] = {}
        self._next = 1
        self._last_paged = 0
        self.ends: Mapping[int, Ended] = {}
        self.last = 0

    def load(self) -> None:
        """What memory knows, made anew."""
        self.ids.load()
        self._segments, self._blocks, self._next, self._last_paged, self.last = {}, {}, 1, 0, 0
        for row in self._db.execute(tables.SEGMENTS):
            n, block, paged, queue, rank, left = sums.checked(row)
            self._note(Segment(n, block, paged, queue, rank, int.from_bytes(left, "big")))

    def _note(self, segment: Segment) -> None:
        self._segments[segment.n] = segment
        self._blocks.setdefault(segment.block, []).append(segment)
        self._next = segment.n + 1
        last = segment.block * archive.BLOCK_SEQS + segment.left.bit_length() - 1
        self.last = max(self.last, last)
        if segment.paged:
            self._last_paged = max(self._last_paged, last)

    # ---- writing ---------------------------------------------------------------------------------------

    def add(self, jobs: list[Job], paged: int) -> list[Job]:
        """Keeps jobs that wait. Returns those that are to be ordinary rows."""
        others: list[Job] = []
        for (block, queue, priority), some in _alike(sorted(jobs, key=_seq)):
            for made, together in _made_together(some):
                if len(together) < SEGMENT_JOBS_MIN:
                    others += together
                    continue
                for batch in batches(together, [len(job.payload) for job in together]):
                    bits = _bits([job.seq for job in batch])
                    self._insert(Segment(self._next, block, paged, queue, -priority, bits), made, batch)
        return others

    def spill(self, jobs: list[Job], touched: set[int]) -> list[Job]:
        """Keeps those new jobs that nothing else is done to. Returns those that are to be ordinary rows."""
        last = self._last_paged  # so the segments of a rank are in order
        kept: list[Job] = []
        others: list[Job] = []
        for job, may_stay in zip(jobs, plain(jobs), strict=True):
            (kept if may_stay and job.seq > last and job.seq not in touched else others).append(job)
        return others + self.add(kept, paged=1)

    def _insert(self, segment: Segment, made: str, jobs: list[Job]) -> None:
        names, row = [job.id for job in jobs], segment.row()
        told = segment.n, made, min(names), max(names), ids.marks(names), row[-2], pack(jobs)
        self._db.execute(ADD, row)
        self._db.execute(ADD_JOBS, (*told, sums.of(*told)))
        self.ids.add(*told[:2], *told[3:5])
        self._note(segment)

    def take(self, seqs: Iterable[int]) -> list[Opened]:
        """Lets go of those of these jobs that are here."""
        taken: list[Opened] = []
        for seq in sorted(seqs) if self._blocks else ():
            segment = self._of(seq)
            if segment is not None:
                *_, bits, packed = self._read(segment)
                (job,) = _jobs_at([_place(bits, seq)], packed)
                taken.append((job_of(job), self.ends.get(seq)))
                self._leave(segment, 1 << seq % archive.BLOCK_SEQS)
        return taken

    def retire(self, kept: Kept) -> Iterator[Part]:
        """Lets go of jobs of one segment, in order of seq, that have ended."""
        segment = self._of(kept.seqs[0])
        assert segment is not None
        _, made, id_min, id_max, all_marks, bits, all_jobs = self._read(segment)
        for _, together in archive.alike(kept):
            gone, marks, jobs = _bits(together.seqs), all_marks, all_jobs
            if gone != bits:
                places = [_place(bits, seq) for seq in together.seqs]
                marks, jobs = ids.marks_at(places, marks), array_of(_jobs_at(places, jobs))
            yield archive.part_of(together, segment.block, made, id_min, id_max, marks, jobs)
            self._leave(segment, gone)

    def _leave(self, segment: Segment, gone: int) -> None:
        segment.left &= ~gone
        if segment.left:
            *_, left, found = segment.row()
            self._db.execute(LEFT, (left, found, segment.n))
            return
        self.ids.drop(segment.n)
        for sql in DROP:
            self._db.execute(sql, (segment.n,))
        del self._segments[segment.n]
        self._blocks[segment.block].remove(segment)
        if not self._blocks[segment.block]:
            del self._blocks[segment.block]

    # ---- looking ---------------------------------------------------------------------------------------

    def kept(self, seqs: list[int]) -> set[int]:
        """Those of these jobs that are here."""
        found: set[int] = set()
        left, first = 0, 0
        for seq in seqs:
            if not first <= seq < first + archive.BLOCK_SEQS or not left >> seq - first & 1:
                segment = self._of(seq)
                if segment is None:
                    continue
                left, first = segment.left, segment.block * archive.BLOCK_SEQS
            found.add(seq)
        return found

    def beside(self, seq: int) -> list[int]:
        """All that are in one segment with this one, by seq."""
        segment = self._of(seq)
        if segment is None:
            return []
        bits = enumerate(bin(segment.left)[:1:-1], segment.block * archive.BLOCK_SEQS)
        return [seq for seq, bit in bits if bit == "1"]

    def held(self) -> list[Job]:
        """All that wait here and are in the Router's memory."""
        return [job for segment in self._segments.values() if not segment.paged for job in self._waiting(segment)]

    def paged(self) -> Counter[str]:
        """How many wait here that the Router does not hold, by queue."""
        counts: Counter[str] = Counter()
        for segment in self._segments.values():
            if segment.paged:
                counts[segment.queue] += segment.left.bit_count()
        for seq in self.ends:
            its = self._of(seq)
            if its is not None and its.paged:
                counts[its.queue] -= 1
        return +counts

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        """Those of a queue that wait here, paged, behind a (rank, seq), in dispatch order."""
        rank, seq = after
        page: list[Job] = []
        for (number,) in self._db.execute(SAME_RANK, (queue, rank, seq // archive.BLOCK_SEQS)):
            jobs = self._waiting(self._segments[number])
            page += jobs if jobs and jobs[0].seq > seq else [job for job in jobs if job.seq > seq]
            if len(page) >= limit:
                return page[:limit]
        for (number,) in self._db.execute(LOWER_RANKS, (queue, rank)):
            page += self._waiting(self._segments[number])
            if len(page) >= limit:
                break
        return page[:limit]

    def find(self, wanted: list[str]) -> list[Record]:
        """Those of the jobs with these ids that are here."""
        found: list[Record] = []
        names = set(wanted)
        for number, places in self.ids.rows_with(wanted) if wanted and self._blocks else ():
            segment = self._segments[number]
            *_, packed = self._read(segment)
            jobs = [job for job in map(job_of, _jobs_at(places, packed)) if job.id in names and segment.has(job.seq)]
            found += [record_of(job, self.ends.get(job.seq)) for job in jobs]
        return found

    def newest(self, before: int) -> Iterator[Record]:
        """Those below a seq, newest first."""
        for (block,) in self._db.execute(BLOCKS, ((before - 1) // archive.BLOCK_SEQS,)) if self._blocks else ():
            jobs = [job for segment in self._blocks[block] for job in self._jobs(segment) if job.seq < before]
            for job in sorted(jobs, key=_seq, reverse=True):
                yield record_of(job, self.ends.get(job.seq))

    def _of(self, seq: int) -> Segment | None:
        """The segment that has this job."""
        for segment in self._blocks.get(seq // archive.BLOCK_SEQS, ()):
            if segment.left >> seq % archive.BLOCK_SEQS & 1:
                return segment
        return None

    def _waiting(self, segment: Segment) -> list[Job]:
        ends = self.ends
        return [job for job in self._jobs(segment) if job.seq not in ends]

    def _jobs(self, segment: Segment) -> list[Job]:
        """All that are left in it, by seq."""
        *_, bits, packed = self._read(segment)
        jobs = jobs_of(packed)
        return jobs if segment.left == bits else [job for job in jobs if segment.has(job.seq)]

    def _read(self, segment: Segment) -> tuple[Any, ...]:
        *told, bits, packed = sums.checked(self._db.execute(JOBS, (segment.n,)).fetchone())
        return *told, int.from_bytes(bits, "big"), packed


def _alike(jobs: list[Job]) -> Iterator[tuple[tuple[int, str, int], list[Job]]]:
    """Those that may be in one segment, by block, queue and priority."""
    start = 0
    while start < len(jobs):
        block = jobs[start].seq // archive.BLOCK_SEQS
        stop = bisect_left(jobs, (block + 1) * archive.BLOCK_SEQS, start, key=_seq)
        some, start = jobs[start:stop], stop
        kinds: dict[tuple[str, int], list[Job]] = dict.fromkeys([(job.queue, job.priority) for job in some], some)
        if len(kinds) > 1:
            kinds = {kind: [] for kind in kinds}
            for job in some:
                kinds[job.queue, job.priority].append(job)
        yield from (((block, *kind), alike) for kind, alike in kinds.items())


def _made_together(jobs: list[Job]) -> list[tuple[str, list[Job]]]:
    """Runs of jobs whose ids begin alike, and how."""
    names, wall = [job.id for job in jobs], jobs[0].created
    made = ids.made(min(names), wall)
    if made == ids.made(max(names), wall):
        return [(made, jobs)]
    return [(made, list(run)) for made, run in groupby(jobs, lambda job: ids.made(job.id, wall))]


_seq = attrgetter("seq")


def _bits(seqs: list[int]) -> int:
    """A bit for each of these jobs of one block, which are in order; mostly they are a run."""
    if seqs[-1] - seqs[0] == len(seqs) - 1:
        return (1 << len(seqs)) - 1 << seqs[0] % archive.BLOCK_SEQS
    bits = 0
    for seq in seqs:
        bits |= 1 << seq % archive.BLOCK_SEQS
    return bits


def _place(bits: int, seq: int) -> int:
    """Where a job stands in a segment that was made of such seqs."""
    return (bits & (1 << seq % archive.BLOCK_SEQS) - 1).bit_count()


def _jobs_at(places: list[int], packed: bytes) -> list[bytes]:
    """The jobs at some places of a segment: much less work than opening all."""
    jobs = decode(packed, list[msgspec.Raw])
    return [bytes(jobs[place]) for place in places]
