"""The SQLite database of a store: opened, locked, checked, and trusted until it fails once. Knows nothing of jobs.

Owns the database from open to close. The lock is SQLite's own exclusive one, held by this connection, so the kernel
lets it go whatever happens to the process; `<file>.owner` only tells who holds it. No other connection may open the
file, and nothing in this process may open and close it by other means: that would drop the lock.

The write-ahead log is copied into the file here, not by SQLite behind COMMIT, which would hide an I/O error. After one
the state of the disk is unknown: every further call is refused, and nothing more is written or synced, also not on
closing. The next process goes on from the log.

SQLite checks its log, but takes damage in it for an end that a crash has torn, and it has no checksums over the file.
So commits are numbered and a `Witness` remembers how many there were, a small file is checked as a whole when it is
opened, and rows carry sums (`sums`).
"""

from __future__ import annotations

import ctypes
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import TracebackType

from eventmq.errors import StorageFull, StoreError
from eventmq.limits import CHECK_BYTES_MAX
from eventmq.store import place, sums, tables
from eventmq.store.base import Durability

PAGE_BYTES = 8_192
"""Twice SQLite's own: what commits in bulk write is in half as many pages, and copied in half as many steps."""

LOG_BYTES = 2 << 20
"""The write-ahead log is copied into the file when it is larger. Half the size halves the longest stall (about 10 ms)
and costs no throughput that can be measured."""

CACHE_KIB = 16 << 10
"""Page cache: the rows of the last 50,000 small jobs, so that ending them reads nothing."""

VACUUM_FREE_PAGES = 1_024
"""Free pages that the file may keep for the next burst (8 MiB)."""

VACUUM_PAGES = 128
"""Free pages given back to the file system by one `forget` (about 3 ms)."""

RESERVE_BYTES = 32 << 20
"""New jobs are refused while the disk has less than this free, so that outcomes of old ones can still be written."""

_SYNCHRONOUS: dict[Durability, str] = {"full": "FULL", "process": "NORMAL", "none": "OFF"}
# FULL syncs each commit. NORMAL syncs when the log is copied: a power cut takes the last commits, never the file.
# OFF never syncs: a power cut may take the file.

Turn = Callable[[int], bytes]


class Database:
    """The one connection to the database.

    Attributes:
        place: Where it is.
        db: The connection; to be used inside `trust` or `transaction` only.
        commits: Number of the last commit.
        epoch: How often a Router has opened it; 0 until `begin_epoch`.
    """

    def __init__(self, path: str | None, durability: Durability) -> None:
        """Opens the file, made with mode 0600 if it is missing, and locks it until `close`; None: in memory.

        Raises:
            StoreError: It is locked by another Router, damaged, not ours, newer than this release, or out of reach.
        """
        self.place = place.Memory() if path is None else place.File(path)
        self.epoch = 0
        self._durability = durability
        self.commits = 0
        self._log_bytes = 0  # after the last commit, if nobody has looked since
        self._log_bytes_max = LOG_BYTES
        self._unusable = ""
        self._is_locked = False
        self._as_it_is = False
        try:
            self.db = sqlite3.connect(self.place.database, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        try:
            with self.trust():
                self._open()
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Flushes and lets go. Idempotent."""
        if self._unusable == _CLOSED:
            return
        self._unusable = _CLOSED
        try:
            try:
                self.place.leave()  # while the lock is still ours
            finally:
                self._let_go()
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def _let_go(self) -> None:
        """Closes the file. After an I/O error or damage it does without what SQLite does on closing, which is to sync
        the log, copy it and delete it: the kernel may call a second sync a success and have thrown away what the first
        one could not write; and what is damaged is for people to look at."""
        if not self._as_it_is:
            self.db.close()
            if self._is_locked:
                self.place.witness.end()
            return
        if sys.version_info >= (3, 12):
            self.db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
            self.db.close()
        else:  # there is no such switch: it stays open, and its lock held, until the process ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.db))

    # ---- opening ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        db = self.db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = self._check_ours()
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if (mode := db.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != self.place.journal:
            raise StoreError(
                f"{self.place}: SQLite has no write-ahead log here, only {mode!r}; use another file system"
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
            first = (
                f"INSERT INTO router VALUES (0, {sums.of(0)}); INSERT INTO journal VALUES (0, x'', {sums.of(0, b'')});"
            )
            db.executescript(f"BEGIN IMMEDIATE; {tables.TABLES} {first} {marks} COMMIT;")
        db.execute("BEGIN IMMEDIATE").execute("COMMIT")
        self._is_locked = True
        self._check_whole()
        self.place.sign()
        # What is in an old log may come from the kernel's cache, after a sync that failed. Only what is copied and
        # synced now is sure to be on the disk.
        self.copy_log()

    def _check_ours(self) -> bool:
        """Reads only, so that a file that is not ours stays as it is. Returns whether the file is still empty."""
        mark, schema = self.number("PRAGMA application_id"), self.number("PRAGMA user_version")
        if mark == 0 and schema == 0 and self.number("SELECT count(*) FROM sqlite_master") == 0:
            return True
        if mark != tables.APPLICATION_ID:
            raise StoreError(f"{self.place} is a SQLite file but not a store of EventMQ; name another file")
        if schema != tables.SCHEMA:
            raise StoreError(
                f"{self.place} has schema {schema}, this release of EventMQ knows schema {tables.SCHEMA}; "
                "use the release that wrote it, or a newer one"
            )
        return False

    def _check_whole(self) -> None:
        """What can be seen of damage before anything is written."""
        with closing(sqlite3.connect(":memory:")) as right:
            right.executescript(tables.TABLES)
            if self.db.execute(tables.SHAPE).fetchall() != right.execute(tables.SHAPE).fetchall():
                raise sums.Damaged("its tables are not as they were made")
        first, self.commits, count = self.db.execute(tables.JOURNAL_SPAN).fetchone()
        if count != self.commits - first + 1:
            raise sums.Damaged("commits are missing in the journal")
        if (lost := self.place.witness.commits() - self.commits) > 0:
            raise sums.Damaged(
                f"the log does not hold the last {lost} commits, or this is an older copy; to go on with what "
                f"there is, delete {self.place.witness.path}"
            )
        if self.bytes("page_count") <= CHECK_BYTES_MAX:
            for (text,) in self.db.execute("PRAGMA integrity_check(1)"):
                if text != "ok":
                    raise sums.Damaged(text.splitlines()[-1])
            for row in self.db.execute(tables.EVERYTHING):
                sums.record_of(row)
            for row in self.db.execute(tables.ARCHIVE):
                sums.checked(row[1:])
            for sql in (tables.ALL_POINTS, tables.SEGMENTS, tables.SEGMENT_JOBS):
                for row in self.db.execute(sql):
                    sums.checked(row)

    def _checked(self, sql: str) -> int:
        """The one number of a table that has it and its sum."""
        rows = self.db.execute(sql).fetchall()
        if len(rows) != 1 or sums.of(rows[0][0]) != rows[0][1]:
            raise sums.Damaged(f"{sql}: {rows}")
        return int(rows[0][0])

    # ---- the log and the disk --------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether the disk, and what is free in the file, leave room for new jobs."""
        with self.trust():
            room = self.place.free_bytes()
            return room >= RESERVE_BYTES or room + self.bytes("freelist_count") >= RESERVE_BYTES

    def give_back_pages(self) -> None:
        """Gives some of many free pages back to the file system."""
        with self.trust():
            free, spare = self.number("PRAGMA freelist_count"), self.number("PRAGMA page_count") // 4
            if free <= max(spare, VACUUM_FREE_PAGES):
                return
            # `execute` would take one step only, which is one page.
            self.db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            self._log_bytes = self.place.log_bytes()
        if free - VACUUM_PAGES <= max(spare, VACUUM_FREE_PAGES):
            self.copy_log()  # which is what makes the file shorter

    def bound_log(self) -> None:
        """The commit after a copy starts the log anew and cuts it to `LOG_BYTES`, so it is longer than that only if
        that much was written since."""
        size, self._log_bytes = self._log_bytes, 0
        if size > self._log_bytes_max:
            self._log_bytes_max = LOG_BYTES if self.copy_log() else size + LOG_BYTES

    def copy_log(self) -> bool:
        """Copies the log into the file. Returns False if there is no room; nothing is lost then."""
        try:
            with self.trust():
                self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except StorageFull:
            return False
        return True

    def bytes(self, count: str) -> int:
        """What SQLite counts in pages, of the database itself."""
        return self.number(f"PRAGMA {count}") * self.number("PRAGMA page_size")

    def number(self, sql: str) -> int:
        """The one number that a query answers."""
        number: int = self.db.execute(sql).fetchone()[0]
        return number

    # ---- trust -----------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """A new epoch, synced whatever the durability; from then on commits are as durable as was asked for.

        Raises:
            StorageFull: There is no room for that; the epoch stays, if there is one.
        """
        with self.transaction():
            epoch = self._checked("SELECT epoch, sum FROM router") + 1
            self.db.execute("UPDATE router SET epoch = ?, sum = ?", (epoch, sums.of(epoch)))
        self.epoch = epoch
        with self.trust():
            self.db.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")  # _open left it at FULL
            self.place.witness.begin(self.commits if self._durability == "full" else 0)
            if self._durability == "full":
                self.place.lengthen_log(LOG_BYTES)

    @contextmanager
    def transaction(self, turn: Turn = lambda number: b"") -> Iterator[int]:
        """All that is written inside, or nothing; a row of the journal says so.

        Args:
            turn: Asked at the end, with the number of the commit, what that row says.

        Yields:
            The number of the commit, if anything is written.
        """
        with self.trust():
            self.db.execute("BEGIN IMMEDIATE")
            before, number = self.db.total_changes, self.commits + 1
            yield number
            said = turn(number)
            if said or self.db.total_changes != before:
                self.db.execute(tables.JOURNAL_ADD, (number, bytearray(said), sums.of(number, said)))
            self.db.execute("COMMIT")
            if self.db.total_changes != before:
                self.commits = number
                self.place.witness.saw(number)
                self._log_bytes = self.place.log_bytes()  # now, for whoever takes the log away takes this commit, too

    def trust(self) -> Database:
        """For `with`: refuses a file that has failed, and sees to it that one that fails now is not used again."""
        return self

    # Its own context manager, for each turn enters several times: one made by a generator takes three times as long.

    def __enter__(self) -> None:
        if self._unusable:
            raise StoreError(self._unusable)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._distrust(error)

    def _distrust(self, error: BaseException) -> None:
        if not isinstance(error, (sqlite3.Error, OSError, *_DAMAGE)):  # closing the file rolls back what is open
            self._unusable = f"{self.place} cannot be used any more: {error!r}"
            return
        trouble = self._trouble(error)
        if not (_code(error) == sqlite3.SQLITE_FULL and self._roll_back()):
            self._as_it_is = isinstance(error, _DAMAGE) or _code(error) in _LEAVES_AS_IT_IS
            self._unusable = f"{self.place} cannot be used any more: {trouble}"
        raise trouble from error

    def _roll_back(self) -> bool:
        """Undoes what was not committed. Returns whether the connection is as it was before."""
        with suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        return not self.db.in_transaction

    def _trouble(self, error: Exception) -> StoreError:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return StorageFull(f"{self.place}: no room; free some disk space")
        if code == sqlite3.SQLITE_BUSY:
            return StoreError(f"{self.place} is locked by another Router: {self.place.holder()}")
        if code == sqlite3.SQLITE_NOTADB:
            return StoreError(f"{self.place} is not a SQLite file, or its first page is damaged ({error})")
        if code == sqlite3.SQLITE_CORRUPT or isinstance(error, _DAMAGE):
            return StoreError(f"{self.place} is damaged ({error}); restore a copy of it")
        return StoreError(f"{self.place}: {getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}")


_CLOSED = "the store is closed"

_DAMAGE = (sums.Damaged, UnicodeDecodeError)
"""UnicodeDecodeError: what SQLite complains of is told in words of the file."""

_LEAVES_AS_IT_IS = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 for errors that do not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
