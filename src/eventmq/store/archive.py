"""Jobs that have succeeded and are kept together: up to a hundred in one row of the table `archive`.

Owns that table. Jobs are in one row if they were made within a quarter of a second of each other, by their ids, and
expire within a minute; so a row is forgotten as a whole, and few rows can have an id that is looked for. The seqs of a
row are in one *block*, which begins at a multiple of `BLOCK_SEQS`, so where a job would be follows from its seq.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from eventmq.protocol.packing import batches
from eventmq.protocol.v2 import Job, decode, pack
from eventmq.store import ids, sums
from eventmq.store.base import Ended, Record
from eventmq.store.journal import Kept, Opened, array_of, job_of, record_of

BLOCK_SEQS = 256
"""Jobs in one row at most. More would save no room that can be measured, and a row is read as a whole for one of its
jobs. A part of the schema: rows are looked for by the number of their block."""

EXPIRES_S, EXPIRES_MAX = 64.0, 1e15
"""Jobs in one row expire within such a stretch of time; those that expire later than some time do not at all."""

INSERT = "INSERT INTO archive VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
REWRITE = "UPDATE archive SET count = ?, marks = ?, jobs = ?, ends = ?, sum = ? WHERE n = ?"
DELETE = "DELETE FROM archive WHERE n = ?"
READ = "SELECT * FROM archive WHERE n = ?"
READ_BLOCK = "SELECT * FROM archive WHERE block = ?"
BLOCKS = "SELECT DISTINCT block FROM archive WHERE block <= ? ORDER BY block DESC"
EXPIRED = "SELECT n, count FROM archive WHERE expires <= ? ORDER BY expires LIMIT ?"
OLDEST = "SELECT n, seq_last, count FROM archive ORDER BY block, n LIMIT 1"
COUNT = "SELECT ifnull(sum(count), 0), ifnull(max(seq_last), 0) FROM archive"


class Part(NamedTuple):
    """Jobs that make one row, see the table."""

    block: int
    seq_last: int
    jobs_count: int
    made: str
    id_min: str
    id_max: str
    expires: float
    marks: bytes
    jobs: bytes
    ends: bytes


class Archive:
    """The table.

    Attributes:
        count: How many jobs it has.
        ids: Finds its rows.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.ids = ids.Index(db, "archive")
        self.count = 0

    def load(self) -> int:
        """Counts. Returns the largest seq."""
        self.ids.load()
        self.count, last = self._db.execute(COUNT).fetchone()
        if not isinstance(self.count, int) or not isinstance(last, int):
            raise sums.Damaged("the archive's numbers are not what was written")
        return last

    # ---- writing ---------------------------------------------------------------------------------------

    def add(self, kept: Kept) -> None:
        """Keeps jobs that have ended."""
        start = 0
        while start < len(kept.seqs):
            block = kept.seqs[start] // BLOCK_SEQS
            stop = bisect_left(kept.seqs, (block + 1) * BLOCK_SEQS, start)
            for made, together in alike(kept.between(start, stop)):
                for row in _in_rows(together):
                    about = made, min(row.names), max(row.names), ids.marks(row.names)
                    self.keep(part_of(row, block, *about, array_of(row.jobs)))
            start = stop

    def keep(self, part: Part) -> None:
        """Keeps the jobs of one row."""
        row = self._db.execute(INSERT, (*part, sums.of(*part))).lastrowid
        self.ids.add(row or 0, part.made, part.id_max, part.marks)
        self.count += part.jobs_count

    def take(self, seqs: set[int]) -> list[Opened]:
        """Lets go of those of these jobs that are here."""
        taken: list[Opened] = []
        for block in {seq // BLOCK_SEQS for seq in seqs} if self.count else ():
            for row in self._db.execute(READ_BLOCK, (block,)).fetchall():
                taken += self._without(row, seqs)
        return taken

    def _without(self, row: tuple[Any, ...], seqs: set[int]) -> list[Opened]:
        jobs = _opened(row)
        left = [(job, end) for job, end in jobs if job.seq not in seqs]
        if len(left) == len(jobs):
            return []
        self.count -= len(jobs) - len(left)
        number, block, last, _, made, id_min, id_max, expires, *_ = row
        self.ids.drop(number)
        if left:
            packed = array_of([pack(job) for job, _ in left]), array_of([pack(end) for _, end in left])
            marks = ids.marks([job.id for job, _ in left])
            found = sums.of(block, last, len(left), made, id_min, id_max, expires, marks, *packed)
            self._db.execute(REWRITE, (len(left), marks, *packed, found, number))
            self.ids.add(number, made, id_max, marks)
        else:
            self._db.execute(DELETE, (number,))
        return [(job, end) for job, end in jobs if job.seq in seqs]

    # ---- forgetting ------------------------------------------------------------------------------------

    def forget_expired(self, now: float, jobs: int) -> int:
        """Forgets rows whose time is over, about so many jobs. Returns how many."""
        forgotten = 0
        for number, count in self._db.execute(EXPIRED, (now, jobs // 8 + 1)).fetchall():
            forgotten += self._delete(number, count)
            if forgotten >= jobs:
                break
        return forgotten

    @property
    def oldest(self) -> int | None:
        """A seq that all jobs of the oldest row are not behind."""
        row = self._db.execute(OLDEST).fetchone() if self.count else None
        return int(row[1]) if row else None

    def forget_oldest(self, jobs: int) -> int:
        """Forgets so many jobs of the oldest row, or all. Returns how many."""
        number, _, count = self._db.execute(OLDEST).fetchone()
        if count <= jobs:
            return self._delete(number, count)
        row = self._db.execute(READ, (number,)).fetchone()
        seqs = sorted(job.seq for job, _ in _opened(row))
        return len(self._without(row, set(seqs[:jobs])))

    def _delete(self, number: int, count: int) -> int:
        self.ids.drop(number)
        self._db.execute(DELETE, (number,))
        self.count -= count
        return count

    # ---- looking ---------------------------------------------------------------------------------------

    def find(self, wanted: list[str]) -> list[Record]:
        """Those of the jobs with these ids that are here."""
        found: list[Record] = []
        names = set(wanted)
        for number, places in self.ids.rows_with(wanted) if wanted and self.count else ():
            row = self._db.execute(READ, (number,)).fetchone()
            found += [record_of(job, end) for job, end in _opened_at(places, row) if job.id in names]
        return found

    def newest(self, before: int) -> Iterator[Record]:
        """The jobs below a seq, newest first."""
        for (block,) in self._db.execute(BLOCKS, ((before - 1) // BLOCK_SEQS,)) if self.count else ():
            rows = self._db.execute(READ_BLOCK, (block,)).fetchall()
            jobs = sorted((each for row in rows for each in _opened(row)), key=lambda each: each[0].seq, reverse=True)
            yield from (record_of(job, end) for job, end in jobs if job.seq < before)


def alike(kept: Kept) -> Iterable[tuple[str, Kept]]:
    """Those that may be in one row, and what their ids begin with. Mostly all may, as the first and the last one tell,
    by id and by time."""
    expires, wall = [end.expires for end in kept.ends], kept.ends[0].finished
    made, _ = kind = _kind(min(kept.names), min(expires), wall)
    if kind == _kind(max(kept.names), max(expires), wall):
        return [(made, kept)]
    found: dict[tuple[str, float], Kept] = {}
    for seq, name, job, end in zip(*kept, strict=True):
        some = found.setdefault(_kind(name, end.expires, wall), Kept([], [], [], []))
        some.seqs.append(seq)
        some.names.append(name)
        some.jobs.append(job)
        some.ends.append(end)
    return [(made, some) for (made, _), some in found.items()]


def _kind(id: str, expires: float, wall: float) -> tuple[str, float]:
    return ids.made(id, wall), min(expires, EXPIRES_MAX) // EXPIRES_S


def _in_rows(kept: Kept) -> Iterator[Kept]:
    """The same, as many in a row as their size allows."""
    start = 0
    for some in batches(kept.seqs, [len(job) + len(end.value) for job, end in zip(kept.jobs, kept.ends, strict=True)]):
        yield kept.between(start, start + len(some))
        start += len(some)


def part_of(kept: Kept, block: int, made: str, id_min: str, id_max: str, marks: bytes, jobs: bytes) -> Part:
    """A row of such jobs, which are in the order of `marks` and `jobs`."""
    expires = max([end.expires for end in kept.ends]) + 0.0
    return Part(block, kept.seqs[-1], len(kept.seqs), made, id_min, id_max, expires, marks, jobs, pack(kept.ends))


def _opened(row: tuple[Any, ...]) -> list[Opened]:
    """The jobs of a row; their leases mean nothing."""
    *_, jobs, ends = sums.checked(row[1:])
    return list(zip(decode(jobs, list[Job]), decode(ends, list[Ended]), strict=True))


def _opened_at(places: list[int], row: tuple[Any, ...]) -> list[Opened]:
    """The jobs at some places of a row, which costs a quarter of opening all."""
    jobs, ends = (decode(packed, list[msgspec.Raw]) for packed in sums.checked(row[1:])[-2:])
    return [(job_of(jobs[place]), decode(ends[place], Ended)) for place in places]
