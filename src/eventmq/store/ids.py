"""How a row that holds many jobs is found by the ids of those: by what they begin with, their range, and some bits of
each. Its table has the columns `made`, `id_min`, `id_max` and `marks`, the bits in order of the jobs.

Clients of ours make ids that begin with the time. One that does not, or with quite another time, is a *stray*, as all
ids of 2020 clients are. Strays share rows, too, whose `made` is empty; but each may be in any of those, so memory has
the bits of each and the number of its row, about 25 bytes a job.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from eventmq.store.sums import Damaged

MADE_CHARS = 10
"""Of an id: the upper 40 of its 48 bits of milliseconds."""

STRAY_S = 86_400.0
"""How far a clock may be off without making strays. Few random ids look as if they were made within two days."""

LAST_IDS = "SELECT ifnull(max(id_max), ''), ifnull(max(id_max) FILTER (WHERE made <> ''), '') FROM {0}"
SPANS = """SELECT n, marks FROM {0} INDEXED BY {0}_id
    WHERE made IN (SELECT value FROM json_each(?)) AND id_max >= ? AND id_min <= ?"""
STRAYS = "SELECT n, made, id_max, marks FROM {0} INDEXED BY {0}_id WHERE made = ''"
STRAY = "SELECT n, marks FROM {0} WHERE n = ? AND made = ''"

KEY_BITS, ROW_BITS = 16, 48
"""Of a mark of a stray that is in memory, the upper bits are a key. The others stand there, before the row's number."""


def made(id: str, wall: float) -> str:
    """What ids made at about this time begin with; empty: it is a stray at wall time `wall`."""
    earliest, latest = _made_within(wall // STRAY_S)
    return _begin(id) if earliest <= id < latest else ""


@lru_cache(maxsize=4)
def _made_within(day: float) -> tuple[str, str]:
    return f"{max(0, int((day - 1) * STRAY_S * 1e3)):012x}", f"{max(0, int((day + 2) * STRAY_S * 1e3)):012x}"


def _begin(id: str) -> str:
    """As SQLite finds it in JSON: without NUL, where it would end. Ids in order have these in order, too: so all
    between two that begin alike do."""
    return id[:MADE_CHARS].replace("\0", "\1")


def marks(ids: Sequence[str]) -> bytes:
    """Some bits of each id: by them all others are passed by unopened."""
    return _packed(_marks_of(ids))


def marks_at(places: list[int], marks: bytes) -> bytes:
    """The marks of some of the jobs of a row."""
    all_marks = _marks_in(marks)
    return _packed(array("I", [all_marks[place] for place in places]))


class Index:
    """The rows of one table, whose owner says what it writes there.

    Attributes:
        last_id: No job here has an id above it.
    """

    def __init__(self, db: sqlite3.Connection, table: str) -> None:
        self._db = db
        self._sql = {sql: sql.format(table) for sql in (LAST_IDS, SPANS, STRAYS, STRAY)}
        self._strays: dict[int, array[int]] = {}
        self.last_id = self._last_timely = ""

    def load(self) -> None:
        """What memory knows, made anew."""
        self._strays = {}
        self.last_id, self._last_timely = self._db.execute(self._sql[LAST_IDS]).fetchone()
        for row in self._db.execute(self._sql[STRAYS]):
            self.add(*row)

    def add(self, number: int, made: str, id_max: str, marks: bytes) -> None:
        """There is a new row, or one has other marks."""
        self.last_id = max(self.last_id, id_max)
        if made:
            self._last_timely = max(self._last_timely, id_max)
            return
        strays = self._strays
        for mark in _marks_in(marks):
            key, noted = mark >> KEY_BITS, mark << ROW_BITS & _NOTED | number
            if key in strays:
                strays[key].append(noted)
            else:
                strays[key] = array("Q", (noted,))

    def drop(self, number: int) -> None:
        """A row will be gone, or have other marks."""
        for _, marks in self._db.execute(self._sql[STRAY], (number,)) if self._strays else ():
            for mark in _marks_in(marks):
                here = self._strays[mark >> KEY_BITS]
                here.remove(mark << ROW_BITS & _NOTED | number)
                if not here:
                    del self._strays[mark >> KEY_BITS]

    def rows_with(self, ids: list[str]) -> list[tuple[int, list[int]]]:
        """The rows that may hold some of these jobs, and the places in them at which these would be."""
        rows: list[tuple[int, bytes]] = []
        if timely := [id for id in ids if id <= self._last_timely]:
            times = json.dumps(list({_begin(id) for id in timely}))
            rows += self._db.execute(self._sql[SPANS], (times, min(timely), max(timely)))
        if not (rows or self._strays):
            return []
        wanted, strays = set(_marks_of(ids)), self._strays
        for number in {
            noted & _ROW
            for mark in wanted
            for noted in strays.get(mark >> KEY_BITS, ())
            if noted >> ROW_BITS == mark & _REST
        }:
            rows += self._db.execute(self._sql[STRAY], (number,))
        found = ((number, [n for n, mark in enumerate(_marks_in(marks)) if mark in wanted]) for number, marks in rows)
        return [(number, places) for number, places in found if places]


_REST, _ROW = (1 << KEY_BITS) - 1, (1 << ROW_BITS) - 1
_NOTED = _REST << ROW_BITS


def _marks_of(ids: Sequence[str]) -> array[int]:
    return array("I", [crc32(id.encode()) for id in ids])


def _packed(marks: array[int]) -> bytes:
    packed = marks.tobytes()
    return packed + crc32(packed, 1).to_bytes(4, "big")  # they are believed before the row is


def _marks_in(marks: bytes) -> array[int]:
    if crc32(marks[:-4], 1) != int.from_bytes(marks[-4:], "big"):
        raise Damaged("the marks of a row are not what was written")
    return array("I", marks[:-4])
