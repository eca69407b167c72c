"""The files of a SQLite store as a crash may leave them: what was not synced is there, is not, or is torn.

A process that dies leaves its files as they are: nothing is closed, nothing is copied from the log into the file. When
the machine goes down in a commit, each sector of the log that the commit wrote may be there or not, in any order, and
the log as long as before or as after. A log that is begun anew, when all of it has been copied, has its new header
synced before anything else: what is behind is void from then on. Once the log is synced it is as it should be, and the
same holds for the sectors of the file into which it is copied.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from model_store import ModelStore

from eventmq.store.base import Record
from eventmq.store.sqlite import SqliteStore

SECTOR = 512

HEADER = 32
"""Bytes of a log's header."""

COLUMNS = "seq, id, state, paged, attempt, crashes, failures, due, settled, started, created, finished, expires, holds"

SUFFIXES = ("", "-wal", ".commits")

Content = list[tuple[Any, ...]]


class Image(NamedTuple):
    """What is in the file, in its log, and in the note of how many commits there were."""

    file: bytes
    log: bytes
    commits: bytes


def read(path: str) -> Image:
    files = [Path(path + suffix) for suffix in SUFFIXES]
    return Image(*(file.read_bytes() if file.exists() else b"" for file in files))


def write(path: str, image: Image) -> None:
    for suffix in ("-shm", ".owner"):
        Path(path + suffix).unlink(missing_ok=True)
    for suffix, content in zip(SUFFIXES, image, strict=True):
        Path(path + suffix).write_bytes(content)


def torn(before: Image, after: Image, rng: Random) -> Image:
    """A crash between the two."""
    if after.file != before.file and rng.random() < 0.5:
        return Image(_mixed(before.file, after.file, rng), after.log, before.commits)
    return Image(before.file, _torn_log(before.log, after.log, rng), before.commits)


def _torn_log(before: bytes, after: bytes, rng: Random) -> bytes:
    header = after[:HEADER]
    if before[:HEADER] in (b"", header):
        return _mixed(before, after, rng)
    if rng.random() < 0.2:
        cut = rng.randint(0, HEADER)
        return header[:cut] + before[cut:]
    return header + _mixed(before, after, rng)[HEADER:]


def _mixed(before: bytes, after: bytes, rng: Random) -> bytes:
    size = rng.choice((len(before), len(after), rng.randint(*sorted((len(before), len(after))))))
    share = rng.choice((0.1, 0.5, 0.9, 1.0))
    mixed = bytearray(before.ljust(size, b"\0")[:size])
    for start in range(0, size, SECTOR):
        if rng.random() < share:
            end = start + (SECTOR if rng.random() < 0.9 else rng.randrange(SECTOR))
            mixed[start:end] = after[start:end][: len(mixed[start:end])].ljust(len(mixed[start:end]), b"\0")
    return bytes(mixed)


def content(path: str) -> Content:
    """What whoever opens such files finds; looks at a copy."""
    copy = f"{path}.copy"
    write(copy, read(path))
    store = SqliteStore(copy, "none")
    try:
        store.load()
        rows: Content = store._db.execute(f"SELECT {COLUMNS} FROM job").fetchall()
        rows += [_row_of(record) for part in (store._journal, store._archive) for record in part.newest(1 << 60)]
        for record in store._segments.newest(1 << 60):
            segment = store._segments._of(record.job.seq)
            assert segment is not None
            rows.append(_row_of(record, segment.paged if record.state == "waiting" else 0))
        return sorted(rows) + store._db.execute("SELECT name, value FROM fact ORDER BY name").fetchall()
    finally:
        store.close()


def _row_of(record: Record, paged: int = 0) -> tuple[Any, ...]:
    job = record.job
    counters = (job.attempt, job.crashes, job.failures, job.due, job.settled, job.started, job.created)
    return job.seq, job.id, record.state, paged, *counters, record.finished, record.expires, 0


def content_of(model: ModelStore) -> Content:
    """The same of the model."""
    found: Content = []
    for seq in model._seqs:
        row = model._rows[seq]
        job, paged = row.job, 2 if row.put_off else int(row.paged)
        counters = (job.attempt, job.crashes, job.failures, job.due, job.settled, job.started, job.created)
        times = (0.0, 0.0) if row.end is None else (row.end.finished, row.end.expires)
        holds = int(seq in model._holders.get((job.name, job.unique), ()))
        found.append((seq, job.id, row.state, paged, *counters, *times, holds))
    return found + sorted(model._facts.items())
