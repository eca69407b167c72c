"""The store: one SQLite database, in a file or in memory, one connection, one table of jobs.

Owns the database from open to close. The lock is SQLite's own exclusive one, held by this connection, so the kernel
lets it go whatever happens to the process; `<file>.owner` only tells who holds it. No other connection may open the
file, and nothing in this process may open and close it by other means: that would drop the lock.

What it costs decides its shape. A row is found by `seq`, its rowid. Besides that there is one index over ids, which
are time-ordered, and partial ones over the rows that are only here (`paged`) and over those with a key. Small columns
come before the large ones, so scans do not follow overflow chains. An ended job is the same row with its outcome filled
in.

The write-ahead log is copied into the file here, not by SQLite behind COMMIT, which would hide an I/O error.
SQLite has no checksums over the file: damaged structure is refused when met, damaged content is not seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import starmap
from typing import Any

from msgspec.structs import astuple

from eventmq.errors import StorageFull, StoreError
from eventmq.protocol.v2 import Job
from eventmq.store import place, tables
from eventmq.store.base import Changes, Durability, Ended, Holder, Line, Page, Record, Snapshot, Wanted
from eventmq.store.retention import Retention

LOG_BYTES = 2 << 20
"""The write-ahead log is copied into the file when it is larger. Half the size halves the longest stall (about 10 ms)
and costs no throughput that can be measured."""

CACHE_KIB = 16 << 10
"""Page cache: the rows of the last 50,000 small jobs, so that ending them reads nothing."""

VACUUM_FREE_PAGES = 2_048
"""Free pages that the file may keep for the next burst (8 MiB)."""

VACUUM_PAGES = 256
"""Free pages given back to the file system by one `forget` (about 3 ms)."""

RESERVE_BYTES = 32 << 20
"""New jobs are refused while the disk has less than this free, so that outcomes of old ones can still be written."""

_SYNCHRONOUS: dict[Durability, str] = {"full": "FULL", "process": "NORMAL", "none": "OFF"}
# FULL syncs each commit. NORMAL syncs when the log is copied: a power cut takes the last commits, never the file.
# OFF never syncs: a power cut may take the file.


class SqliteStore:
    """See `base.Store`.

    After an error other than `StorageFull` the state of the disk is unknown and every further call is refused.
    """

    def __init__(self, path: str | None, durability: Durability) -> None:
        """Opens the file, made with mode 0600 if it is missing, and locks it until `close`; None: in memory.

        Raises:
            StoreError: It is locked by another Router, damaged, not ours, newer than this release, or out of reach.
        """
        self._place = place.Memory() if path is None else place.File(path)
        self._durability = durability
        self._log_bytes_max = LOG_BYTES
        self._epoch = 0
        self._unusable = ""
        try:
            self._db = sqlite3.connect(self._place.database, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        self._retention = Retention(self._db)
        try:
            self._open()
        except BaseException as error:
            self._db.close()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise self._trouble(error) from error
            raise

    # ---- the contract --------------------------------------------------------------------------------

    def load(self) -> Snapshot:
        try:
            with self._transaction():
                self._db.execute("UPDATE router SET epoch = epoch + 1")
        except StorageFull:
            if not self._epoch:
                raise
        with self._trust():
            self._epoch = self._number("SELECT epoch FROM router")
            self._db.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")  # _open left it at FULL
            jobs = list(starmap(Job, self._db.execute(tables.HELD)))
            paged = dict(self._db.execute(tables.COUNT_PAGED))
            delayed = dict(self._db.execute(tables.COUNT_DELAYED))
            self._retention.load(len(jobs) + sum(paged.values()) + sum(delayed.values()))
            facts = dict(self._db.execute("SELECT name, value FROM fact"))
            next_seq = 1 + self._number("SELECT ifnull(max(seq), 0) FROM job")
        return Snapshot(self._epoch, next_seq, jobs, paged, delayed, facts)

    def apply(self, changes: Changes) -> None:
        if (changes.added or changes.spilled or changes.delayed) and not self._has_room():
            raise StorageFull(f"{self._place}: less than {RESERVE_BYTES >> 20} MiB of disk space free; free some more")
        with self._transaction():
            self._write(tables.REQUEUE, changes.requeued, changes.requeued)
            self._write(tables.ADD, changes.added, map(_row_of_job, changes.added))
            self._write(tables.SPILL, changes.spilled, map(_row_of_job, changes.spilled))
            self._write(tables.DELAY, changes.delayed, map(_row_of_job, changes.delayed))
            self._write(tables.MOVE, changes.moved, changes.moved)
            self._write(tables.PAGE_OUT, changes.paged_out, zip(changes.paged_out, strict=True))
            self._write(tables.PUT_OFF, changes.put_off, zip(changes.put_off, strict=True))
            self._write(tables.PAGE_IN, changes.paged_in, zip(changes.paged_in, strict=True))
            self._write(tables.END, changes.ended, map(_row_of_end, changes.ended))
            self._write(tables.RELEASE, changes.released, zip(changes.released, strict=True))
            self._write(tables.FORGET, changes.forgotten, changes.forgotten)
            for name, value in changes.facts.items():
                self._db.execute(*((tables.DROP_FACT, (name,)) if value is None else (tables.SET_FACT, (name, value))))
        self._retention.applied(changes)
        self._bound_log()

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        rank, seq = after
        with self._trust():
            rows = self._db.execute(tables.PAGE_SAME_RANK, (queue, rank, seq, limit)).fetchall()
            if len(rows) < limit:
                rows += self._db.execute(tables.PAGE_LOWER_RANKS, (queue, rank, limit - len(rows))).fetchall()
        return list(starmap(Job, rows))

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        due, seq = after
        with self._trust():
            rows = self._db.execute(tables.DUE_SAME_TIME, (due, seq, limit)).fetchall()
            if len(rows) < limit:
                rows += self._db.execute(tables.DUE_LATER, (due, limit - len(rows))).fetchall()
        return list(starmap(Job, rows))

    def find(self, ids: list[str]) -> list[Record]:
        rows: list[tuple[Any, ...]] = []
        with self._trust():
            for some in _filled_up(ids):
                rows += self._db.execute(tables.FIND[len(some)], some).fetchall()
        return [Record(Job(*row[: tables.JOB_FIELDS]), *row[tables.JOB_FIELDS :]) for row in rows]

    def holders(self, name: str, unique: str) -> list[Holder]:
        with self._trust():
            rows = self._db.execute(tables.HOLDERS, (name, unique)).fetchall()
        return list(starmap(Holder, rows))

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        *which, ids = wanted
        if ids is not None:
            lines = self._lines_of(ids, (*which, now, before, 0))[:limit]
            return Page(lines, lines[-1].seq if len(lines) == limit else 0)
        few = wanted.state not in ("", "waiting", "delayed", "succeeded")
        with self._trust():
            if few:
                last, looked = self._db.execute(tables.LAST_ROW_OF_STATE, (wanted.state, before, rows)).fetchone()
            else:
                last, looked = self._db.execute(tables.LAST_ROW, (before, rows)).fetchone()
            browse = tables.BROWSE_STATE if few else tables.BROWSE
            found = self._db.execute(browse, (*which, now, before, last or 0, limit)).fetchall()
        lines = list(starmap(Line, found))
        if len(lines) == limit:
            return Page(lines, lines[-1].seq)
        return Page(lines, last if looked == rows else 0)

    def _lines_of(self, ids: Iterable[str], which: tuple[Any, ...]) -> list[Line]:
        rows: list[tuple[Any, ...]] = []
        with self._trust():
            for some in _filled_up(ids):
                rows += self._db.execute(tables.BROWSE_IDS[len(some)], (*which, *some)).fetchall()
        return sorted(starmap(Line, rows), reverse=True)

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        try:
            with self._transaction():
                forgotten = self._retention.forget(now, rows, results_max, dead_max)
        except StorageFull:  # deleting needs room in the log; nothing is lost by trying again later
            self._retention.start_over()
            return 0
        self._retention.count(*forgotten)
        with suppress(StorageFull):
            self._give_back_pages()
        self._bound_log()
        return sum(forgotten)

    def info(self) -> dict[str, Any]:
        with self._trust():
            log_bytes = self._place.log_bytes()
            return {
                "url": self._place.url,
                "bytes": self._bytes("page_count") + log_bytes,
                "log_bytes": log_bytes,
                "free_bytes": self._bytes("freelist_count"),
                "schema": tables.SCHEMA,
                "durability": self._durability,
                "room": self._has_room(),
                "results": self._retention.results,
                "dead": self._retention.dead,
                "sqlite": sqlite3.sqlite_version,
            }

    def close(self) -> None:
        if self._unusable == _CLOSED:
            return
        self._unusable = _CLOSED
        try:
            try:
                self._place.leave()  # while the lock is still ours
            finally:
                self._db.close()
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    # ---- opening ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = self._check_ours()
        db.execute("PRAGMA page_size = 4096")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if (mode := db.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != self._place.journal:
            raise StoreError(
                f"{self._place}: SQLite has no write-ahead log here, only {mode!r}; use another file system"
            )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's cache too; no effect elsewhere
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA trusted_schema = OFF")
        if is_new:
            marks = f"PRAGMA application_id = {tables.APPLICATION_ID}; PRAGMA user_version = {tables.SCHEMA};"
            db.executescript(f"BEGIN IMMEDIATE; {tables.TABLES} {marks} COMMIT;")
        db.execute("BEGIN IMMEDIATE").execute("COMMIT")  # from here on the lock is ours
        self._place.sign()

    def _check_ours(self) -> bool:
        """Reads only, so that a file that is not ours stays as it is. Returns whether the file is still empty."""
        mark, schema = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        if mark == 0 and schema == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0:
            return True
        if mark != tables.APPLICATION_ID:
            raise StoreError(f"{self._place} is a SQLite file but not a store of EventMQ; name another file")
        if schema != tables.SCHEMA:
            raise StoreError(
                f"{self._place} has schema {schema}, this release of EventMQ knows schema {tables.SCHEMA}; "
                "use the release that wrote it, or a newer one"
            )
        return False

    # ---- writing ---------------------------------------------------------------------------------------

    def _write(self, sql: str, sized: Sequence[Any], rows: Iterable[Any]) -> None:
        """Runs `sql` for each row; each must meet exactly one row of the table."""
        if sized and (count := self._db.executemany(sql, rows).rowcount) != len(sized):
            raise StoreError(
                f"{self._place}: {len(sized) - count} of {len(sized)} jobs are not as they should be: {sql}"
            )

    def _has_room(self) -> bool:
        """Whether the disk, and what is free in the file, leave room for new jobs."""
        with self._trust():
            room = self._place.free_bytes()
            return room >= RESERVE_BYTES or room + self._bytes("freelist_count") >= RESERVE_BYTES

    def _give_back_pages(self) -> None:
        """Gives some of many free pages back to the file system."""
        with self._trust():
            free, spare = self._number("PRAGMA freelist_count"), self._number("PRAGMA page_count") // 4
            if free <= max(spare, VACUUM_FREE_PAGES):
                return
            # `execute` would take one step only, which is one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        if free - VACUUM_PAGES <= max(spare, VACUUM_FREE_PAGES):
            self._copy_log()  # which is what makes the file shorter

    def _bound_log(self) -> None:
        """The commit after a copy starts the log anew and cuts it to `LOG_BYTES`, so it is longer than that only if
        that much was written since."""
        with self._trust():
            size = self._place.log_bytes()
        if size > self._log_bytes_max:
            self._log_bytes_max = LOG_BYTES if self._copy_log() else size + LOG_BYTES

    def _copy_log(self) -> bool:
        """Copies the log into the file. Returns False if there is no room; nothing is lost then."""
        try:
            with self._trust():
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except StorageFull:
            return False
        return True

    def _bytes(self, count: str) -> int:
        """What SQLite counts in pages, of the database itself."""
        return self._number(f"PRAGMA {count}") * self._number("PRAGMA page_size")

    def _number(self, sql: str) -> int:
        number: int = self._db.execute(sql).fetchone()[0]
        return number

    # ---- trust -----------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing."""
        with self._trust():
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")

    @contextmanager
    def _trust(self) -> Iterator[None]:
        """Refuses a store that has failed, and sees to it that one that fails now is not used again."""
        if self._unusable:
            raise StoreError(self._unusable)
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if _is_full(error) and self._roll_back():
                raise self._trouble(error) from error
            trouble = self._trouble(error)
            self._unusable = f"{self._place} cannot be used any more: {trouble}"
            raise trouble from error
        except BaseException as error:  # closing the file rolls back what is open
            self._unusable = f"{self._place} cannot be used any more: {error!r}"
            raise

    def _roll_back(self) -> bool:
        """Undoes what was not committed. Returns whether the connection is as it was before."""
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return not self._db.in_transaction

    def _trouble(self, error: Exception) -> StoreError:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return StorageFull(f"{self._place}: no room; free some disk space")
        if code == sqlite3.SQLITE_BUSY:
            return StoreError(f"{self._place} is locked by another Router: {self._place.holder()}")
        if code == sqlite3.SQLITE_NOTADB:
            return StoreError(f"{self._place} is not a SQLite file, or its first page is damaged ({error})")
        if code == sqlite3.SQLITE_CORRUPT:
            return StoreError(f"{self._place} is damaged ({error}); restore a copy of it")
        return StoreError(f"{self._place}: {getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}")


_CLOSED = "the store is closed"


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 for errors that do not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_full(error: BaseException) -> bool:
    return _code(error) == sqlite3.SQLITE_FULL


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
    return (id, queue, name, bytearray(payload), priority, bytearray(options), *counters)


def _row_of_end(end: Ended) -> tuple[Any, ...]:
    *scalars, value, failure, error = end
    return (*scalars, bytearray(value), bytearray(failure), error)
