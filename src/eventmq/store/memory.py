"""The store of `memory:`, and the model that the other stores are tested against: plain containers, no shortcuts.

Owns copies of the jobs: what the Router does to its own objects afterwards changes nothing here. Nothing survives the
process; within it `load` may be called again and finds everything, as after a restart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from eventmq.errors import StoreError
from eventmq.protocol.v2 import Job
from eventmq.store.base import Changes, Ended, Holder, Record, Snapshot

SCHEMA = 0
"""There is none."""


@dataclass(slots=True)
class _Row:
    job: Job
    paged: bool
    put_off: bool = False
    failure: bytes = b""
    end: Ended | None = None

    @property
    def key(self) -> tuple[int, int]:
        return (-self.job.priority, self.job.seq)


class MemoryStore:
    """See `base.Store`. Checks what it is told before it does any of it, so a refused `Changes` leaves no trace."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._seqs: list[int] = []  # of all rows, ascending
        self._ids: dict[str, int] = {}
        self._paged: dict[str, list[tuple[int, int]]] = {}  # keys in dispatch order, by queue
        self._put_off: list[tuple[float, int]] = []  # (due, seq) in order
        self._holders: dict[tuple[str, str], list[int]] = {}  # seqs by name and key, ascending
        self._facts: dict[str, bytes] = {}
        self._ended = 0
        self._epoch = 0
        self._looked_at = 0
        self._closed = False

    def load(self) -> Snapshot:
        self._check_open()
        self._epoch += 1
        self._looked_at = 0
        rows = map(self._rows.__getitem__, self._seqs)
        held = [row.job for row in rows if row.end is None and not row.paged and not row.put_off]
        return Snapshot(
            epoch=self._epoch,
            next_seq=self._seqs[-1] + 1 if self._seqs else 1,
            jobs=[replace(job) for job in held],
            paged={queue: len(keys) for queue, keys in self._paged.items() if keys},
            delayed=len(self._put_off),
            ended=self._ended,
            facts=dict(self._facts),
        )

    def apply(self, changes: Changes) -> None:
        self._check_open()
        self._check(changes)
        for job in changes.added:
            self._insert(job)
        for job in changes.spilled:
            self._insert(job)
            self._page(job.seq, True)
        for job in changes.delayed:
            self._insert(job)
            self._put(job.seq, True)
        for seq, attempt, crashes, failures, due, failure, settled in changes.moved:
            row = self._rows[seq]
            self._page(seq, False)
            self._put(seq, False)
            row.job = replace(row.job, attempt=attempt, crashes=crashes, failures=failures, due=due, settled=settled)
            row.failure = failure or row.failure
        for seq in changes.paged_out:
            self._put(seq, False)
            self._page(seq, True)
        for seq in changes.put_off:
            self._page(seq, False)
            self._put(seq, True)
        for seq in changes.paged_in:
            self._put(seq, False)
            self._page(seq, False)
        for end in changes.ended:
            self._end(end)
        for seq in changes.released:
            self._release(self._rows[seq].job)
        self._facts.update({name: value for name, value in changes.facts.items() if value is not None})
        for name in [name for name, value in changes.facts.items() if value is None]:
            self._facts.pop(name, None)

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        self._check_open()
        keys = self._paged.get(queue, [])
        first = bisect_right(keys, after)
        return [replace(self._rows[seq].job) for _, seq in keys[first : first + limit]]

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        self._check_open()
        first = bisect_right(self._put_off, after)
        return [replace(self._rows[seq].job) for _, seq in self._put_off[first : first + limit]]

    def find(self, ids: list[str]) -> list[Record]:
        self._check_open()
        return [_record(self._rows[self._ids[id]]) for id in dict.fromkeys(ids) if id in self._ids]

    def holders(self, name: str, unique: str) -> list[Holder]:
        self._check_open()
        rows = [self._rows[seq] for seq in reversed(self._holders.get((name, unique), []))]
        return [_holder(row.job, row.end is not None) for row in rows]

    def forget(self, now: float, rows: int, keep: int) -> int:
        self._check_open()
        first = bisect_right(self._seqs, self._looked_at)
        slice = self._seqs[first : first + rows]
        self._looked_at = slice[-1] if len(slice) == rows else 0
        forgotten = self._delete([s for s in slice if (end := self._rows[s].end) and end.expires <= now])
        excess = min(rows, self._ended - keep)
        if excess > 0:
            forgotten += self._delete([s for s in self._seqs if self._rows[s].end][:excess])
        return forgotten

    def info(self) -> dict[str, Any]:
        self._check_open()
        size = sum(len(row.job.payload) + len(row.end.value if row.end else b"") for row in self._rows.values())
        return {
            "url": "memory:",
            "bytes": size,
            "schema": SCHEMA,
            "durability": "none",
            "room": True,
            "rows": len(self._rows),
        }

    def close(self) -> None:
        self._closed = True

    # ---- one row -----------------------------------------------------------------------------------

    def _insert(self, job: Job) -> None:
        self._rows[job.seq] = _Row(replace(job, lease=0), paged=False)
        self._ids[job.id] = job.seq
        insort(self._seqs, job.seq)
        if job.unique:
            insort(self._holders.setdefault((job.name, job.unique), []), job.seq)

    def _page(self, seq: int, paged: bool) -> None:
        row = self._rows[seq]
        if row.paged == paged:
            return
        row.paged = paged
        keys = self._paged.setdefault(row.job.queue, [])
        if paged:
            insort(keys, row.key)
        else:
            del keys[bisect_left(keys, row.key)]

    def _put(self, seq: int, put_off: bool) -> None:
        row = self._rows[seq]
        if row.put_off == put_off:
            return
        row.put_off = put_off
        if put_off:
            insort(self._put_off, (row.job.due, seq))
        else:
            del self._put_off[bisect_left(self._put_off, (row.job.due, seq))]

    def _end(self, end: Ended) -> None:
        self._page(end.seq, False)
        self._put(end.seq, False)
        row = self._rows[end.seq]
        row.end = end
        row.job = replace(row.job, attempt=end.attempt, crashes=end.crashes)
        self._ended += 1

    def _release(self, job: Job) -> None:
        seqs = self._holders.get((job.name, job.unique), [])
        if job.seq in seqs:
            seqs.remove(job.seq)
        if not seqs:
            self._holders.pop((job.name, job.unique), None)

    def _delete(self, seqs: list[int]) -> int:
        for seq in seqs:
            job = self._rows.pop(seq).job
            del self._ids[job.id]
            self._release(job)
        if seqs:
            gone = set(seqs)
            self._seqs = [seq for seq in self._seqs if seq not in gone]
            self._ended -= len(seqs)
        return len(seqs)

    # ---- checks --------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("memory: is closed")

    def _check(self, changes: Changes) -> None:
        """New jobs are new, all others exist and are live."""
        new = changes.added + changes.spilled + changes.delayed
        ids, seqs = {job.id for job in new}, {job.seq for job in new}
        if len(ids) + len(seqs) != 2 * len(new) or ids & self._ids.keys() or seqs & self._rows.keys():
            raise StoreError("memory: was told to store an id or a seq for the second time")
        touched = Counter(end.seq for end in changes.ended)
        ended_twice = any(count > 1 for count in touched.values())
        touched.update([move.seq for move in changes.moved] + changes.paged_out + changes.put_off + changes.paged_in)
        if ended_twice or any(seq not in seqs and not self._is_live(seq) for seq in touched):
            raise StoreError("memory: was told to change a job that is not live")
        ending = {end.seq for end in changes.ended}
        if any(s not in ending and (s not in self._rows or self._is_live(s)) for s in changes.released):
            raise StoreError("memory: was told to release the key of a job that has not ended")

    def _is_live(self, seq: int) -> bool:
        row = self._rows.get(seq)
        return row is not None and row.end is None


def _holder(job: Job, ended: bool) -> Holder:
    return Holder(job.id, job.seq, job.created, job.due, job.options, ended)


def _record(row: _Row) -> Record:
    job, end = replace(row.job), row.end
    if end is None:
        return Record(job, "waiting", 0.0, 0.0, 0.0, "", b"", row.failure)
    return Record(job, end.state, end.finished, end.expires, end.run_s, end.worker, end.value, end.failure)
