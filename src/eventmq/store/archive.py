"""Jobs that have succeeded and are kept together: up to a hundred in one row of the table `archive`.

Owns that table. Jobs are in one row if they were made within a quarter of a second of each other, by their ids, and
expire within a minute; so a row is forgotten as a whole, and few rows can have an id that is looked for. Rows that
were made at once have the same range of seqs, and those ranges do not overlap otherwise.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from zlib import crc32

import msgspec

from eventmq.protocol.packing import batches
from eventmq.protocol.v2 import Job, decode, pack
from eventmq.store import sums
from eventmq.store.base import Ended, Record
from eventmq.store.journal import Kept, Opened, array_of, job_of, record_of

ROW_JOBS = 100
"""Jobs in one row, which holds about `BATCH_BYTES` at most. More would save no room that can be measured, and a row is
read as a whole for one of its jobs."""

MADE_CHARS = 10
"""Of an id: the upper 40 of its 48 bits of milliseconds."""

EXPIRES_S, EXPIRES_MAX = 64.0, 1e15
"""Jobs in one row expire within such a stretch of time; those that expire later than some time do not at all."""

INSERT = "INSERT INTO archive VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
REWRITE = "UPDATE archive SET count = ?, marks = ?, jobs = ?, ends = ?, sum = ? WHERE n = ?"
DELETE = "DELETE FROM archive WHERE n = ?"
SPANS = """SELECT n, marks FROM archive INDEXED BY archive_id
    WHERE made IN (SELECT value FROM json_each(?)) AND id_max >= ? AND id_min <= ?"""
READ = "SELECT * FROM archive WHERE n = ?"
READ_SLICE = "SELECT * FROM archive WHERE seq_first = ?"
SLICES = "SELECT DISTINCT seq_first FROM archive WHERE seq_first <= ? ORDER BY seq_first DESC"
EXPIRED = "SELECT n, count FROM archive WHERE expires <= ? ORDER BY expires LIMIT ?"
OLDEST = "SELECT n, seq_last, count FROM archive ORDER BY seq_first, n LIMIT 1"
COUNT = "SELECT ifnull(sum(count), 0), ifnull(max(seq_last), 0) FROM archive"


class Archive:
    """The table.

    Attributes:
        count: How many jobs it has.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.count = 0

    def load(self) -> int:
        """Counts. Returns the largest seq."""
        self.count, last = self._db.execute(COUNT).fetchone()
        return int(last)

    def last_id(self) -> str:
        """No job here has an id above it."""
        (last,) = self._db.execute("SELECT ifnull(max(id_max), '') FROM archive").fetchone()
        return str(last)

    # ---- writing ---------------------------------------------------------------------------------------

    def add(self, kept: list[Kept]) -> None:
        """Keeps jobs that have ended, in order of seq."""
        for start in range(0, len(kept), ROW_JOBS):
            some = kept[start : start + ROW_JOBS]
            (first, *_), (last, *_) = some[0], some[-1]
            for together in _alike(some):
                for row in batches(together, [len(job) + len(end.value) for _, _, job, end in together]):
                    self._insert(first, last, row)

    def _insert(self, first: int, last: int, kept: list[Kept]) -> None:
        _, ids, jobs, ends = zip(*kept, strict=True)
        which = first, last, len(kept), _made(ids[0]), min(ids), max(ids), max([end.expires for end in ends]) + 0.0
        row = *which, _marks(ids), array_of(jobs), pack(ends)
        self._db.execute(INSERT, (*row, sums.of(*row)))
        self.count += len(kept)

    def take(self, seqs: set[int]) -> list[Opened]:
        """Lets go of those of these jobs that are here."""
        taken: list[Opened] = []
        while seqs and self.count:
            first = self._db.execute(SLICES, (max(seqs),)).fetchone()
            for row in self._db.execute(READ_SLICE, first or (0,)).fetchall():
                taken += self._without(row, seqs)
            seqs = {seq for seq in seqs if first and seq < first[0]}
        return taken

    def _without(self, row: tuple[Any, ...], seqs: set[int]) -> list[Opened]:
        jobs = _opened(row)
        left = [(job, end) for job, end in jobs if job.seq not in seqs]
        if len(left) == len(jobs):
            return []
        self.count -= len(jobs) - len(left)
        number, first, last, _, made, id_min, id_max, expires, *_ = row
        if left:
            packed = array_of([pack(job) for job, _ in left]), array_of([pack(end) for _, end in left])
            marks = _marks([job.id for job, _ in left])
            found = sums.of(first, last, len(left), made, id_min, id_max, expires, marks, *packed)
            self._db.execute(REWRITE, (len(left), marks, *packed, found, number))
        else:
            self._db.execute(DELETE, (number,))
        return [(job, end) for job, end in jobs if job.seq in seqs]

    # ---- forgetting ------------------------------------------------------------------------------------

    def forget_expired(self, now: float, jobs: int) -> int:
        """Forgets rows whose time is over, about so many jobs. Returns how many."""
        forgotten = 0
        for number, count in self._db.execute(EXPIRED, (now, jobs // 8 + 1)).fetchall():
            self._db.execute(DELETE, (number,))
            self.count -= count
            forgotten += count
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
            self._db.execute(DELETE, (number,))
            self.count -= count
            return int(count)
        row = self._db.execute(READ, (number,)).fetchone()
        seqs = sorted(job.seq for job, _ in _opened(row))
        return len(self._without(row, set(seqs[:jobs])))

    # ---- looking ---------------------------------------------------------------------------------------

    def find(self, ids: list[str]) -> list[Record]:
        """Those of the jobs with these ids that are here."""
        if not (ids and self.count):
            return []
        made = json.dumps(list({_made(id) for id in ids}))
        found: list[Record] = []
        spans = self._db.execute(SPANS, (made, min(ids), max(ids))).fetchall()
        wanted, its_marks = set(ids), set(_marks_in(_marks(ids))) if spans else set()
        for number, marks in spans:
            places = [place for place, mark in enumerate(_marks_in(marks)) if mark in its_marks]
            if places:
                row = self._db.execute(READ, (number,)).fetchone()
                found += [record_of(job, end) for job, end in _opened_at(places, row) if job.id in wanted]
        return found

    def newest(self, before: int) -> Iterator[Record]:
        """The jobs below a seq, newest first."""
        for (first,) in self._db.execute(SLICES, (before - 1,)) if self.count else ():
            rows = self._db.execute(READ_SLICE, (first,)).fetchall()
            jobs = sorted((each for row in rows for each in _opened(row)), key=lambda each: each[0].seq, reverse=True)
            yield from (record_of(job, end) for job, end in jobs if job.seq < before)


def _alike(kept: list[Kept]) -> Iterable[list[Kept]]:
    """Those that may be in one row. Mostly all may, as the first and the last one tell, by id and by time."""
    _, ids, _, ends = zip(*kept, strict=True)
    expires = [end.expires for end in ends]
    if _kind(min(ids), min(expires)) == _kind(max(ids), max(expires)):
        return [kept]
    found: dict[tuple[str, float], list[Kept]] = {}
    for each in kept:
        _, id, _, end = each
        found.setdefault(_kind(id, end.expires), []).append(each)
    return found.values()


def _kind(id: str, expires: float) -> tuple[str, float]:
    return id[:MADE_CHARS], min(expires, EXPIRES_MAX) // EXPIRES_S


def _made(id: str) -> str:
    """What ids made at about this time begin with, as SQLite finds it in JSON: without NUL, where it would end."""
    return id[:MADE_CHARS].replace("\0", " ")


def _marks(ids: Sequence[str]) -> bytes:
    """Some bits of each id, in order of the jobs: by them all others are passed by unopened."""
    marks = array("I", [crc32(id.encode()) for id in ids]).tobytes()
    return marks + crc32(marks, 1).to_bytes(4, "big")  # they are believed before the row is


def _marks_in(marks: bytes) -> array[int]:
    if crc32(marks[:-4], 1) != int.from_bytes(marks[-4:], "big"):
        raise sums.Damaged("the marks of a row of the archive are not what was written")
    return array("I", marks[:-4])


def _opened(row: tuple[Any, ...]) -> list[Opened]:
    """The jobs of a row; their leases mean nothing."""
    *_, jobs, ends = sums.checked(row[1:])
    return list(zip(decode(jobs, list[Job]), decode(ends, list[Ended]), strict=True))


def _opened_at(places: list[int], row: tuple[Any, ...]) -> list[Opened]:
    """The jobs at some places of a row, which costs a quarter of opening all."""
    jobs, ends = (decode(packed, list[msgspec.Raw]) for packed in sums.checked(row[1:])[-2:])
    return [(job_of(jobs[place]), decode(ends[place], Ended)) for place in places]
