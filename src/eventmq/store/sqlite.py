"""The store: one table of jobs in one SQLite database, in a file or in memory. The database itself is `database`'s.

What it costs decides its shape. A row is found by `seq`, its rowid. Besides that there is one index over ids, which
are time-ordered, and partial ones over the rows that are only here (`paged`) and over those with a key. Small columns
come before the large ones, so scans do not follow overflow chains. An ended job is the same row with its outcome filled
in. Every row carries sums of what it says (`sums`), and is not believed without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from msgspec.structs import astuple, replace

from eventmq.errors import StorageFull, StoreError
from eventmq.protocol.v2 import Job
from eventmq.store import database, lists, sums, tables
from eventmq.store.base import Changes, Durability, Ended, Holder, Moved, Page, Record, Requeued, Snapshot, Wanted
from eventmq.store.database import Database
from eventmq.store.past import SqlitePast
from eventmq.store.retention import Retention


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
        self._retention = Retention(self._db)
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
            paged = dict(self._db.execute(tables.COUNT_PAGED))
            delayed = dict(self._db.execute(tables.COUNT_DELAYED))
            self._retention.load(len(jobs) + sum(paged.values()) + sum(delayed.values()))
            facts = dict(sums.fact_of(row) for row in self._db.execute(tables.FACTS))
            next_seq = 1 + self._database.number("SELECT ifnull(max(seq), 0) FROM job")
        return Snapshot(self._database.epoch, next_seq, jobs, paged, delayed, facts)

    def apply(self, changes: Changes) -> None:
        if (changes.added or changes.spilled or changes.delayed) and not self._database.has_room():
            least = f"less than {database.RESERVE_BYTES >> 20} MiB of disk space free"
            raise StorageFull(f"{self._database.place}: {least}; free some more")
        with self._database.transaction():
            self._write(tables.REQUEUE, changes.requeued, map(self._again, changes.requeued))
            self._write(tables.ADD, changes.added, map(_row_of_job, changes.added))
            self._write(tables.SPILL, changes.spilled, map(_row_of_job, changes.spilled))
            self._write(tables.DELAY, changes.delayed, map(_row_of_job, changes.delayed))
            self._write(tables.MOVE, changes.moved, map(_row_of_move, changes.moved))
            self._write(tables.PAGE_OUT, changes.paged_out, zip(changes.paged_out, strict=True))
            self._write(tables.PUT_OFF, changes.put_off, zip(changes.put_off, strict=True))
            self._write(tables.PAGE_IN, changes.paged_in, zip(changes.paged_in, strict=True))
            self._write(tables.END, changes.ended, map(_row_of_end, changes.ended))
            self._write(tables.RELEASE, changes.released, zip(changes.released, strict=True))
            self._write(tables.FORGET, changes.forgotten, changes.forgotten)
            for name, value in changes.facts.items():
                if value is None:
                    self._db.execute(tables.DROP_FACT, (name,))
                else:
                    self._db.execute(tables.SET_FACT, (name, value, sums.of(name, value)))
        self._retention.applied(changes)
        self._database.bound_log()

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        rank, seq = after
        with self._database.trust():
            rows = self._db.execute(tables.PAGE_SAME_RANK, (queue, rank, seq, limit)).fetchall()
            if len(rows) < limit:
                rows += self._db.execute(tables.PAGE_LOWER_RANKS, (queue, rank, limit - len(rows))).fetchall()
            return [sums.job_of(row) for row in rows]

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        due, seq = after
        with self._database.trust():
            rows = self._db.execute(tables.DUE_SAME_TIME, (due, seq, limit)).fetchall()
            if len(rows) < limit:
                rows += self._db.execute(tables.DUE_LATER, (due, limit - len(rows))).fetchall()
            return [sums.job_of(row) for row in rows]

    def find(self, ids: list[str]) -> list[Record]:
        found: list[Record] = []
        with self._database.trust():
            for some in _filled_up(ids):
                found += map(sums.record_of, self._db.execute(tables.FIND[len(some)], some).fetchall())
        return found

    def holders(self, name: str, unique: str) -> list[Holder]:
        with self._database.trust():
            return [sums.holder_of(row) for row in self._db.execute(tables.HOLDERS, (name, unique))]

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        with self._database.trust():
            return lists.browse(self._db, wanted, before, now, rows, limit)

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        try:
            with self._database.transaction():
                forgotten = self._retention.forget(now, rows, results_max, dead_max)
        except StorageFull:  # deleting needs room in the log; nothing is lost by trying again later
            self._retention.start_over()
            return 0
        self._retention.count(*forgotten)
        with suppress(StorageFull):
            self._database.give_back_pages()
        self._database.bound_log()
        return sum(forgotten)

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
    seq, state, finished, expires, attempt, crashes, run_s, worker, value, failure, error = end
    run_s = 0.0 if run_s != run_s else run_s  # SQLite has no NaN
    sum_end = sums.of_end(state, attempt, crashes, finished, expires, run_s, worker, value)
    head = (seq, state, finished, expires, attempt, crashes, run_s, worker, bytearray(value), bytearray(failure), error)
    return (*head, sum_end, sums.of_failure(failure, error))
