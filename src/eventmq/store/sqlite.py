"""The store: jobs in one SQLite database, in a file or in memory. The database itself is `database`'s.

What it costs decides its shape. A job is in one of four places: most are a part of some rows of the `journal`, then,
if they succeed, of one of the `archive`; those that wait for long are a part of a segment (`segments`) before. All
others are rows of the table `job`, and whatever happens to a job but that it succeeds makes such a row of it. There
a row is found by `seq`, its rowid. Besides that there is one index over ids, which mostly rise, and partial ones
over the rows that are only here (`paged`) and over those with a key. Small columns come before the large ones, so
scans do not follow overflow chains. An ended job is the same row with its outcome filled in. Every row of every table
carries sums of what it says (`sums`), and is not believed without.
"""

from __future__ import annotations

import sqlite3
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from itertools import islice
from math import inf
from operator import attrgetter
from typing import Any

from msgspec.structs import astuple, replace

from eventmq.errors import StorageFull, StoreError
from eventmq.protocol.v2 import Job
from eventmq.store import database, lists, sums, tables
from eventmq.store.archive import Archive
from eventmq.store.base import Changes, Durability, Ended, Holder, Moved, Page, Record, Requeued, Snapshot, Wanted
from eventmq.store.database import Database
from eventmq.store.journal import Journal, Opened, not_plain
from eventmq.store.past import SqlitePast
from eventmq.store.retention import Retention
from eventmq.store.segments import Segments

KEPT_ROWS = 4
"""Looking at a job that has no row costs about as much as looking at so many rows."""

AGED_S = 5.0
"""Jobs are retired when the journal has had them so long, or twice as long, a slice with each `forget`; what a Router
finds when it starts, with its first."""


class SqliteStore:
    """See `base.Store`.

    After an error other than `StorageFull` the state of the disk is unknown and every further call is refused.
    """

    def __init__(self, path: str | None, durability: Durability) -> None:
        """Opens the file, made with mode 0600 if it is missing, and locks it until `close`; None: in memory.

        Raises:
            StoreError: It is locked by another Router, damaged, not ours, newer than this release, or out of reach.
        """
        self._durability = durability
        self._database = Database(path, durability)
        self._db = self._database.db
        self._segments = Segments(self._db)
        self._journal = Journal(self._segments)
        self._last_id = self._last_row_id = ""  # no job, and no row of one, has an id above it
        self._archive = Archive(self._db)
        self._retention = Retention(self._db, self._archive)
        self._mark = self._old_mark = (0.0, 0)
        self.past = SqlitePast(self._database)

    # ---- the contract --------------------------------------------------------------------------------

    def load(self) -> Snapshot:
        try:
            self._database.begin_epoch()
        except StorageFull:
            if not self._database.epoch:
                raise
        with self._database.trust():
            jobs = [sums.job_of(row) for row in self._db.execute(tables.HELD)]
            paged = Counter(dict(self._db.execute(tables.COUNT_PAGED)))
            delayed = dict(self._db.execute(tables.COUNT_DELAYED))
            self._replay()
            kept = len(self._journal.ends) + self._archive.count
            self._retention.load(len(jobs) + paged.total() + sum(delayed.values()), kept)
            jobs += self._journal.live() + self._segments.held()
            paged += self._segments.paged()
            facts = dict(sums.checked(row) for row in self._db.execute(tables.FACTS))
        self._mark = 0.0, self._database.commits
        jobs.sort(key=attrgetter("seq"))
        return Snapshot(self._database.epoch, self._journal.last + 1, jobs, dict(paged), delayed, facts)

    def _replay(self) -> None:
        """What memory knows of the journal, the segments and the archive, made anew."""
        self._segments.load()
        last = max(self._database.number("SELECT ifnull(max(seq), 0) FROM job"), self._archive.load())
        rows = map(sums.checked, self._db.execute(tables.JOURNAL))
        self._journal = Journal(self._segments, rows, max(last, self._segments.last))
        self._segments.ends = self._journal.ends
        (self._last_row_id,) = self._db.execute("SELECT ifnull(max(id), '') FROM job").fetchone()
        lasts = self._last_row_id, self._journal.last_id(), self._archive.ids.last_id, self._segments.ids.last_id
        self._last_id = max(lasts)

    def apply(self, changes: Changes) -> None:
        if (changes.added or changes.spilled or changes.delayed) and not self._database.has_room():
            least = f"less than {database.RESERVE_BYTES >> 20} MiB of disk space free"
            raise StorageFull(f"{self._database.place}: {least}; free some more")
        for jobs in (changes.added, changes.spilled, changes.delayed):
            if jobs:
                self._last_id = max(self._last_id, max([job.id for job in jobs]))
        with self._turn():
            touched = _touched(changes)
            if touched:
                self._make_rows(changes, touched)
            self._write(tables.REQUEUE, changes.requeued, map(self._again, changes.requeued))
            added = self._journal.add(changes.added, touched)
            self._add(tables.ADD, added)
            spilled = self._segments.spill(changes.spilled, touched)
            self._add(tables.SPILL, spilled)
            self._add(tables.DELAY, changes.delayed)
            self._write(tables.MOVE, changes.moved, map(_row_of_move, changes.moved))
            self._write(tables.PAGE_OUT, changes.paged_out, zip(changes.paged_out, strict=True))
            self._write(tables.PUT_OFF, changes.put_off, zip(changes.put_off, strict=True))
            self._write(tables.PAGE_IN, changes.paged_in, zip(changes.paged_in, strict=True))
            ended = self._journal.end(changes.ended)
            self._write(tables.END, ended, map(_row_of_end, ended))
            self._write(tables.RELEASE, changes.released, zip(changes.released, strict=True))
            self._write(tables.FORGET, changes.forgotten, changes.forgotten)
            for name, value in changes.facts.items():
                if value is None:
                    self._db.execute(tables.DROP_FACT, (name,))
                else:
                    self._db.execute(tables.SET_FACT, (name, value, sums.of(name, value)))
        self._retention.applied(changes)

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        with self._database.trust():
            jobs = self._segments.page(queue, after, limit)
            for job in self._paged_rows(queue, after, limit):
                if jobs and _place(job) < _place(jobs[-1]):
                    insort(jobs, job, key=_place)
                elif len(jobs) < limit:
                    jobs.append(job)
                else:
                    break
            return jobs[:limit]

    def _paged_rows(self, queue: str, after: tuple[int, int], limit: int) -> Iterator[Job]:
        rank, seq = after
        yield from map(sums.job_of, self._db.execute(tables.PAGE_SAME_RANK, (queue, rank, seq, limit)))
        yield from map(sums.job_of, self._db.execute(tables.PAGE_LOWER_RANKS, (queue, rank, limit)))

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        due, seq = after
        with self._database.trust():
            rows = self._db.execute(tables.DUE_SAME_TIME, (due, seq, limit)).fetchall()
            if len(rows) < limit:
                rows += self._db.execute(tables.DUE_LATER, (due, limit - len(rows))).fetchall()
            return [sums.job_of(row) for row in rows]

    def find(self, ids: list[str]) -> list[Record]:
        with self._database.trust():
            ids = [id for id in ids if id <= self._last_id]
            if not ids:
                return []  # a client's ids rise, so most that are new end here
            found, ids = self._journal.find(ids)
            for some in _filled_up(id for id in ids if id <= self._last_row_id):
                found += map(sums.record_of, self._db.execute(tables.FIND[len(some)], some).fetchall())
            return found + self._archive.find(ids) + self._segments.find(ids)

    def holders(self, name: str, unique: str) -> list[Holder]:
        with self._database.trust():
            return [sums.holder_of(row) for row in self._db.execute(tables.HOLDERS, (name, unique))]

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        with self._database.trust():
            page = lists.browse(self._db, wanted, before, now, rows, limit)
            if wanted.only_unsuccessful:
                return page
            if wanted.ids is None:
                most = rows // KEPT_ROWS + 1
                sources = [part.newest(before) for part in (self._journal, self._archive, self._segments)]
                kept = list(islice(merge(*sources, key=lists.seq_of, reverse=True), most))
                ends = len(kept) < most or kept[-1].job.created < wanted.stop
            else:
                kept, ids = self._journal.find(list(wanted.ids))
                kept, ends = kept + self._archive.find(ids) + self._segments.find(ids), True
        last = max(page.before, 0 if ends else kept[-1].job.seq)
        return lists.joined(page.lines, kept, wanted, range(last, before), now, limit)

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        try:
            with self._turn(self._aged(now)):
                forgotten = self._retention.forget(now, rows, results_max, dead_max)
        except StorageFull:  # deleting needs room in the log; nothing is lost by trying again later
            self._retention.start_over()
            return 0
        self._retention.count(*forgotten)
        with suppress(StorageFull):
            self._database.give_back_pages()
        return sum(forgotten)

    def upkeep(self) -> None:
        self._database.bound_log()

    def info(self) -> dict[str, Any]:
        held = self._database
        with held.trust():
            log_bytes = held.place.log_bytes()
            return {
                "url": held.place.url,
                "bytes": held.bytes("page_count") + log_bytes,
                "log_bytes": log_bytes,
                "unused_bytes": held.bytes("freelist_count"),
                "free_bytes": None if (free := held.place.free_bytes()) == inf else free,
                "schema": tables.SCHEMA,
                "durability": self._durability,
                "room": held.has_room(),
                "results": self._retention.results,
                "dead": self._retention.dead,
                "sqlite": sqlite3.sqlite_version,
            }

    def close(self) -> None:
        self._database.close()

    # ---- writing ---------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, aged: int = 0) -> Iterator[None]:
        """One transaction, in which some of the journal is retired first."""
        journal = self._journal
        try:
            with self._database.transaction(journal.turn) as number:
                first = journal.first
                retired = journal.retire(number, aged)
                self._archive.add(retired.ended)
                for kept in retired.elsewhere:
                    for part in self._segments.retire(kept):
                        self._archive.keep(part)
                self._insert([(job, None) for job in self._segments.add(retired.live, paged=0)])
                if journal.first != first:
                    self._db.execute(tables.JOURNAL_DROP, (journal.first,))
                yield
        except StorageFull:
            with self._database.trust():
                self._replay()
            raise

    def _aged(self, now: float) -> int:
        """Number of a turn that was `AGED_S` ago."""
        if not 0 <= now - self._mark[0] < AGED_S:
            self._mark, self._old_mark = (now, self._database.commits), self._mark
        return self._old_mark[1]

    def _make_rows(self, changes: Changes, touched: set[int]) -> None:
        """What `changes` do something to becomes an ordinary row, if it is none."""
        over = [(again.seq, again.state) for again in changes.requeued] + changes.forgotten
        left = self._segments.take(touched) + self._journal.leave(touched)
        self._insert(left + self._archive.take({seq for seq, state in over if state == "succeeded"}))

    def _insert(self, kept: Sequence[Opened]) -> None:
        if not kept:
            return
        ends = [end for _, end in kept if end is not None]
        self._add(tables.ADD, [job for job, _ in kept])
        self._write(tables.END, ends, map(_row_of_end, ends))

    def _add(self, sql: str, jobs: list[Job]) -> None:
        """Each becomes an ordinary row."""
        if jobs:
            self._last_row_id = max(self._last_row_id, max([job.id for job in jobs]))
            self._write(sql, jobs, map(_row_of_job, jobs))

    def _write(self, sql: str, sized: Sequence[Any], rows: Iterable[Any]) -> None:
        """Runs `sql` for each row; each must meet exactly one row of the table."""
        if sized and (count := self._db.executemany(sql, rows).rowcount) != len(sized):
            raise StoreError(
                f"{self._database.place}: {len(sized) - count} of {len(sized)} jobs are not as they should be: {sql}"
            )

    def _again(self, again: Requeued) -> tuple[Any, ...]:
        """The row that a requeued job becomes: its sum is made anew, for it counts as accepted now."""
        row = self._db.execute(tables.REQUEUED, (again.seq,)).fetchone()
        if row is None:
            raise StoreError(f"{self._database.place}: there is no job {again.seq} to requeue")
        job = replace(sums.record_of(row).job, created=again.created)
        return (
            *again,
            sums.of_job(job),
            sums.of_retry(0, 0.0, again.settled, job.started),
            sums.of_waiting(again.attempt, 0),
        )


def _touched(changes: Changes) -> set[int]:
    """The jobs that something is done to, but that they succeed."""
    touched = not_plain(changes.ended)
    touched.update(changes.paged_out, changes.put_off, changes.paged_in, changes.released)
    touched.update(each.seq for each in changes.moved)
    touched.update(each.seq for each in changes.requeued)
    touched.update(seq for seq, _ in changes.forgotten)
    return touched


def _place(job: Job) -> tuple[int, int]:
    return -job.priority, job.seq


def _filled_up(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, each once, in lists of `FIND_SIZES`, filled up by repeating one."""
    wanted = list(dict.fromkeys(ids))
    for start in range(0, len(wanted), tables.FIND_SIZES[-1]):
        some = wanted[start : start + tables.FIND_SIZES[-1]]
        size = next(size for size in tables.FIND_SIZES if size >= len(some))
        yield some + some[-1:] * (size - len(some))


# sqlite3 takes a plain tuple of exact types as it is, but looks up an adapter for each bytes object, which costs more
# than all the rest of binding it; a bytearray it takes as it is.


def _row_of_job(job: Job) -> tuple[Any, ...]:
    id, queue, name, payload, priority, options, *counters = astuple(job)
    head = (id, queue, name, bytearray(payload), priority, bytearray(options), *counters)
    return (*head, sums.of_job(job), sums.retry_of(job), sums.of_waiting(job.attempt, job.crashes))


def _row_of_move(move: Moved) -> tuple[Any, ...]:
    retry = sums.of_retry(move.failures, move.due, move.settled, move.started)
    return (*move, sums.of_failure(move.failure, move.error), retry, sums.of_waiting(move.attempt, move.crashes))


def _row_of_end(end: Ended) -> tuple[Any, ...]:
    seq, state, finished, expires, attempt, crashes, run_s, worker, value, failure, error = astuple(end)
    sum_end = sums.of_end(state, attempt, crashes, finished, expires, run_s, worker, value)
    head = (seq, state, finished, expires, attempt, crashes, run_s, worker, bytearray(value), bytearray(failure), error)
    return (*head, sum_end, sums.of_failure(failure, error))
