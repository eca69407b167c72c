"""Which ended jobs of the SQLite file are to go: those whose time is over, and the oldest of what is too much.

Owns the counts of ended jobs, `dead` (the `DEAD_LETTERS`) apart from `results` (all others), and how far it has looked.
What it deletes counts when the transaction around it has been committed: then `count` is called, else `start_over`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from heapq import heappop, heappush, merge
from itertools import islice

from eventmq.limits import ACT_JOBS_MAX
from eventmq.store import tables
from eventmq.store.archive import Archive
from eventmq.store.base import DEAD_LETTERS, Changes

ARCHIVE_ROWS = 200
"""Rows of the archive that are forgotten at once to make room (about 5 ms): each may have a single job."""


class Retention:
    """Ended jobs.

    Attributes:
        dead: How many of the `DEAD_LETTERS` there are.
        results: How many others.
    """

    def __init__(self, db: sqlite3.Connection, archive: Archive) -> None:
        self._db = db
        self._archive = archive
        self.dead = 0
        self.results = 0
        self._looked_at = 0
        self._oldest = 0  # no result has a smaller seq, but for those in _late
        self._late: list[int] = []  # heap

    def load(self, live: int, kept: int) -> None:
        """Counts, beside `live` live jobs in rows, and `kept` results elsewhere."""
        self.dead = sum(self._db.execute(tables.COUNT_STATE, (state,)).fetchone()[0] for state in DEAD_LETTERS)
        self.results = int(self._db.execute(tables.COUNT_ALL).fetchone()[0]) - live - self.dead + kept

    def applied(self, changes: Changes) -> None:
        """What ended, ended no more or was forgotten is committed."""
        for again in changes.requeued:
            self._add(again.state, -1)
        results = [end.seq for end in changes.ended if end.state not in DEAD_LETTERS]
        self.results += len(results)
        self.dead += len(changes.ended) - len(results)
        for seq in results if self._oldest else ():
            if seq <= self._oldest:
                heappush(self._late, seq)
        for _, state in changes.forgotten:
            self._add(state, -1)

    def _add(self, state: str, count: int) -> None:
        if state in DEAD_LETTERS:
            self.dead += count
        else:
            self.results += count

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> tuple[int, int]:
        """Deletes; see `base.Store.forget`. Returns how many results and how many dead ones."""
        results, dead = self._forget_expired(now, rows)
        results += self._forget_oldest(min(rows, self.results - results - results_max), rows)
        dead += self._forget_dead(min(ACT_JOBS_MAX, self.dead - dead - dead_max))
        return results, dead

    def count(self, results: int, dead: int) -> None:
        """What `forget` deleted is committed."""
        self.results -= results
        self.dead -= dead

    def start_over(self) -> None:
        """What `forget` deleted is not committed."""
        self._oldest, self._late = 0, []

    def _forget_expired(self, now: float, rows: int) -> tuple[int, int]:
        last, count = self._db.execute(tables.SLICE, (self._looked_at, rows)).fetchone()
        which = (self._looked_at, last or 0, now)
        dead = sum(self._db.execute(tables.COUNT_EXPIRED, (state, *which)).fetchone()[0] for state in DEAD_LETTERS)
        deleted = self._db.execute(tables.DELETE_EXPIRED, which).rowcount
        self._looked_at = last if count == rows else 0
        return deleted - dead + self._archive.forget_expired(now, rows), dead

    def _forget_dead(self, excess: int) -> int:
        if excess <= 0:
            return 0
        oldest = [self._db.execute(tables.OLDEST, (state, excess)).fetchall() for state in DEAD_LETTERS]
        return self._delete(tables.DELETE_DEAD, (seq for (seq,) in islice(merge(*oldest), excess)))

    def _forget_oldest(self, excess: int, rows: int) -> int:
        """Deletes up to `excess` results, smallest seq first. Looks at no more than `rows` late ones, some of which may
        be forgotten or dead by now, `ARCHIVE_ROWS`, and `rows` rows behind `_oldest` for each of those."""
        forgotten = looked = opened = 0
        while forgotten < excess and self._late and looked < rows:
            count = min(excess - forgotten, len(self._late), rows - looked)
            forgotten += self._delete(tables.DELETE_RESULT, [heappop(self._late) for _ in range(count)])
            looked += count
        while forgotten < excess and opened < ARCHIVE_ROWS:
            oldest = self._archive.oldest
            passed, is_all = self._oldest_results(excess - forgotten, rows, oldest)
            forgotten += self._delete(tables.DELETE_RESULT, passed)
            if oldest is None or not is_all or forgotten == excess:
                break
            forgotten += self._archive.forget_oldest(excess - forgotten)
            opened += 1
        return forgotten

    def _oldest_results(self, count: int, rows: int, last: int | None) -> tuple[list[int], bool]:
        """Moves `_oldest` on until it has passed `count` results, `rows` rows, or seq `last`. Returns those it passed,
        and whether that was all up to `last`."""
        passed: list[int] = []
        states = self._db.execute(tables.STATES, (self._oldest, _ANY if last is None else last, rows)).fetchall()
        for seq, state in states:
            self._oldest = seq
            if state not in ("waiting", *DEAD_LETTERS):
                passed.append(seq)
                if len(passed) == count:
                    break
        return passed, len(states) < rows and len(passed) < count

    def _delete(self, sql: str, seqs: Iterable[int]) -> int:
        """Returns how many there were."""
        return max(0, self._db.executemany(sql, ((seq,) for seq in seqs)).rowcount)


_ANY = (1 << 63) - 1
"""No seq is larger."""
