"""How a row that holds many jobs is found by the ids of those: by what they begin with, their range, and some bits of
each. Its table has the columns `made`, `id_min`, `id_max` and `marks`, the bits in order of the jobs.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from zlib import crc32

from eventmq.store.sums import Damaged

MADE_CHARS = 10
"""Of an id: the upper 40 of its 48 bits of milliseconds."""

SPANS = """SELECT n, marks FROM {0} INDEXED BY {0}_id
    WHERE made IN (SELECT value FROM json_each(?)) AND id_max >= ? AND id_min <= ?"""


def made(id: str) -> str:
    """What ids made at about this time begin with, as SQLite finds it in JSON: without NUL, where it would end. Ids in
    order have these in order, too: so all between two that begin alike do."""
    return id[:MADE_CHARS].replace("\0", "\1")


def marks(ids: Sequence[str]) -> bytes:
    """Some bits of each id: by them all others are passed by unopened."""
    return _packed(array("I", [crc32(id.encode()) for id in ids]))


def marks_at(places: list[int], marks: bytes) -> bytes:
    """The marks of some of the jobs of a row."""
    all_marks = _marks_in(marks)
    return _packed(array("I", [all_marks[place] for place in places]))


def rows_with(db: sqlite3.Connection, table: str, ids: list[str]) -> Iterator[tuple[int, list[int]]]:
    """The rows that may hold some of these jobs, and the places in them at which these would be."""
    times = json.dumps(list({made(id) for id in ids}))
    spans = db.execute(SPANS.format(table), (times, min(ids), max(ids))).fetchall()
    wanted = set(_marks_in(marks(ids))) if spans else set()
    for number, packed in spans:
        places = [place for place, mark in enumerate(_marks_in(packed)) if mark in wanted]
        if places:
            yield number, places


def _packed(marks: array[int]) -> bytes:
    packed = marks.tobytes()
    return packed + crc32(packed, 1).to_bytes(4, "big")  # they are believed before the row is


def _marks_in(marks: bytes) -> array[int]:
    if crc32(marks[:-4], 1) != int.from_bytes(marks[-4:], "big"):
        raise Damaged("the marks of a row are not what was written")
    return array("I", marks[:-4])
