"""The model that the store is tested against: plain containers, no shortcuts.

Owns copies of the jobs: what the Router does to its own objects afterwards changes nothing here. `load` may be called
again and finds everything, as after a restart.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

from msgspec.structs import replace

from eventmq.errors import StoreError
from eventmq.limits import ACT_JOBS_MAX, HISTORY_STEPS, SEARCH_BYTES
from eventmq.protocol.v2 import Job
from eventmq.store.base import (
    DEAD_LETTERS,
    Changes,
    Ended,
    Holder,
    Line,
    Page,
    Point,
    Record,
    Requeued,
    Series,
    Snapshot,
    Wanted,
)


@dataclass(slots=True)
class _Row:
    job: Job
    paged: bool
    put_off: bool = False
    failure: bytes = b""
    error: str = ""
    end: Ended | None = None

    @property
    def state(self) -> str:
        return "waiting" if self.end is None else self.end.state

    @property
    def key(self) -> tuple[int, int]:
        return (-self.job.priority, self.job.seq)


class ModelPast:
    """See `base.Past`."""

    def __init__(self) -> None:
        self._points: dict[Series, dict[tuple[int, int], bytes]] = {}  # by series in order of their first point

    def series(self) -> list[Series]:
        return list(self._points)

    def read(self, series: Series, length_s: int, since: int, until: int) -> list[tuple[int, bytes]]:
        points = self._points.get(series, {}).items()
        return sorted((start, data) for (each, start), data in points if each == length_s and since <= start < until)

    def write(self, points: list[Point]) -> None:
        for series, length_s, start, data in points:
            self._points.setdefault(series, {})[length_s, start] = data

    def forget(self, now: float) -> list[Series]:
        if not self._points:
            return []
        series = next(iter(self._points))
        kept_s, points = dict(HISTORY_STEPS), self._points.pop(series)
        kept = {
            (length_s, start): data
            for (length_s, start), data in points.items()
            if start + length_s >= now - kept_s[length_s]
        }
        if kept:
            self._points[series] = kept  # it is the last one now
        return [] if kept else [series]


def id_of(created: float, seq: int) -> str:
    """An id as clients make them."""
    return f"{int(created * 1e3):012x}7{seq:019x}"


class ModelStore:
    """See `base.Store`. Checks what it is told before it does any of it, so a refused `Changes` leaves no trace."""

    def __init__(self) -> None:
        self.past = ModelPast()
        self._rows: dict[int, _Row] = {}
        self._seqs: list[int] = []  # of all rows, ascending
        self._ids: dict[str, int] = {}
        self._paged: dict[str, list[tuple[int, int]]] = {}  # keys in dispatch order, by queue
        self._put_off: list[tuple[float, int]] = []  # (due, seq) in order
        self._holders: dict[tuple[str, str], list[int]] = {}  # seqs by name and key, ascending
        self._facts: dict[str, bytes] = {}
        self._unsuccessful: dict[str, list[int]] = {}  # seqs ascending, by terminal state
        self._ended: Counter[str] = Counter()  # by terminal state
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
            delayed=dict(Counter(self._rows[seq].job.queue for _, seq in self._put_off)),
            facts=dict(self._facts),
        )

    def apply(self, changes: Changes) -> None:
        self._check_open()
        self._check(changes)
        for again in changes.requeued:
            self._requeue(again)
        for job in changes.added:
            self._insert(job)
        for job in changes.spilled:
            self._insert(job)
            self._page(job.seq, True)
        for job in changes.delayed:
            self._insert(job)
            self._put(job.seq, True)
        for seq, attempt, crashes, failures, due, failure, settled, error, started in changes.moved:
            row = self._rows[seq]
            self._page(seq, False)
            self._put(seq, False)
            counters = {"attempt": attempt, "crashes": crashes, "failures": failures}
            row.job = replace(row.job, due=due, settled=settled, started=started, **counters)
            if failure:
                row.failure, row.error = failure, error
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
        self._delete([seq for seq, _ in changes.forgotten])
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

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        self._check_open()
        if wanted.ids is None:
            few = wanted.states and all(map(_is_unsuccessful, wanted.states))
            seqs = (
                sorted(s for state in wanted.states for s in self._unsuccessful.get(state, [])) if few else self._seqs
            )
            rows = rows // 4 + 1 if wanted.arguments else rows
            last = bisect_left(seqs, before)
            looked = seqs[max(0, last - rows) : last]
        else:
            looked = sorted({seq for id in wanted.ids if (seq := self._ids.get(id, before)) < before})
        lines, size = [], 0
        for row in map(self._rows.__getitem__, reversed(looked)):
            line = _line(row, now)
            if wanted._replace(arguments=()).fits(line, b""):
                size += len(row.job.payload) if wanted.arguments else 0
                if wanted.fits(line, row.job.payload):
                    lines.append(line)
                if len(lines) == limit or size >= SEARCH_BYTES:
                    return Page(lines, line.seq)
        more = wanted.ids is None and len(looked) == rows and self._rows[looked[0]].job.created >= wanted.stop
        return Page(lines, looked[0] if more else 0)

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        self._check_open()
        first = bisect_right(self._seqs, self._looked_at)
        slice = self._seqs[first : first + rows]
        self._looked_at = slice[-1] if len(slice) == rows else 0
        forgotten = self._delete([s for s in slice if (end := self._rows[s].end) and end.expires <= now])
        dead = heapq.merge(*(self._unsuccessful.get(state, []) for state in DEAD_LETTERS))
        forgotten += self._delete(list(islice(dead, max(0, min(ACT_JOBS_MAX, self._dead - dead_max)))))
        results = (s for s in self._seqs if (end := self._rows[s].end) and end.state not in DEAD_LETTERS)
        return forgotten + self._delete(list(islice(results, max(0, min(rows, self._results - results_max)))))

    def upkeep(self) -> None:
        self._check_open()

    def info(self) -> dict[str, Any]:
        self._check_open()
        size = sum(len(row.job.payload) + len(row.end.value if row.end else b"") for row in self._rows.values())
        return {
            "url": "model:",
            "bytes": size,
            "schema": 0,
            "durability": "none",
            "room": True,
            "results": self._results,
            "dead": self._dead,
            "rows": len(self._rows),
        }

    def close(self) -> None:
        self._closed = True

    # ---- one row -----------------------------------------------------------------------------------

    def _insert(self, job: Job) -> None:
        self._rows[job.seq] = _Row(replace(job, lease=0), paged=False)
        self._ids[job.id] = job.seq
        insort(self._seqs, job.seq)
        self._hold(job)

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
        row.failure, row.error = end.failure, end.error
        self._ended[end.state] += 1
        if _is_unsuccessful(end.state):
            insort(self._unsuccessful.setdefault(end.state, []), end.seq)

    def _requeue(self, again: Requeued) -> None:
        row = self._rows[again.seq]
        self._end_no_more(again.seq, again.state)
        row.end = None
        row.job = replace(
            row.job,
            attempt=again.attempt,
            created=again.created,
            settled=again.settled,
            crashes=0,
            failures=0,
            due=0.0,
        )
        self._release(row.job)
        self._hold(row.job)

    def _end_no_more(self, seq: int, state: str) -> None:
        self._ended[state] -= 1
        if _is_unsuccessful(state):
            seqs = self._unsuccessful[state]
            del seqs[bisect_left(seqs, seq)]

    @property
    def _dead(self) -> int:
        return sum(self._ended[state] for state in DEAD_LETTERS)

    @property
    def _results(self) -> int:
        return self._ended.total() - self._dead

    def _hold(self, job: Job) -> None:
        if job.unique:
            insort(self._holders.setdefault((job.name, job.unique), []), job.seq)

    def _release(self, job: Job) -> None:
        seqs = self._holders.get((job.name, job.unique), [])
        if job.seq in seqs:
            seqs.remove(job.seq)
        if not seqs:
            self._holders.pop((job.name, job.unique), None)

    def _delete(self, seqs: list[int]) -> int:
        for seq in seqs:
            row = self._rows.pop(seq)
            del self._ids[row.job.id]
            self._release(row.job)
            self._end_no_more(seq, row.state)
        if seqs:
            gone = set(seqs)
            self._seqs = [seq for seq in self._seqs if seq not in gone]
        return len(seqs)

    # ---- checks --------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("model: is closed")

    def _check(self, changes: Changes) -> None:
        """New jobs are new, those that are said to have ended have, all others exist and are live."""
        new = changes.added + changes.spilled + changes.delayed
        ids, seqs = {job.id for job in new}, {job.seq for job in new}
        if len(ids) + len(seqs) != 2 * len(new) or ids & self._ids.keys() or seqs & self._rows.keys():
            raise StoreError("model: was told to store an id or a seq for the second time")
        touched = Counter(end.seq for end in changes.ended)
        ended_twice = any(count > 1 for count in touched.values())
        touched.update([move.seq for move in changes.moved] + changes.paged_out + changes.put_off + changes.paged_in)
        seqs |= {again.seq for again in changes.requeued}
        if ended_twice or any(seq not in seqs and not self._is_live(seq) for seq in touched):
            raise StoreError("model: was told to change a job that is not live")
        ending = {end.seq for end in changes.ended}
        if any(s not in ending and (s not in self._rows or self._is_live(s)) for s in changes.released):
            raise StoreError("model: was told to release the key of a job that has not ended")
        over = [(again.seq, again.state) for again in changes.requeued] + changes.forgotten
        if len({seq for seq, _ in over}) < len(over) or any(not self._has_ended(*each) for each in over):
            raise StoreError("model: was told to change a job that has not ended so")

    def _is_live(self, seq: int) -> bool:
        row = self._rows.get(seq)
        return row is not None and row.end is None

    def _has_ended(self, seq: int, state: str) -> bool:
        row = self._rows.get(seq)
        return row is not None and row.end is not None and row.end.state == state


def _is_unsuccessful(state: str) -> bool:
    return state not in ("waiting", "delayed", "succeeded")


def _line(row: _Row, now: float) -> Line:
    job, end = row.job, row.end or _NO_END
    state = "delayed" if row.end is None and job.due > now else row.state
    return Line(
        job.seq, job.id, job.queue, job.name, job.priority, job.attempt, job.failures, job.crashes, job.created,
        job.due, state, end.finished, end.run_s, end.worker, row.error, len(job.payload),
    )  # fmt: skip


_NO_END = Ended(0, "", 0.0, 0.0, 0, 0, 0.0, "", b"", b"")


def _holder(job: Job, ended: bool) -> Holder:
    return Holder(job.id, job.seq, job.created, job.due, job.options, ended, job.queue)


def _record(row: _Row) -> Record:
    job, end = replace(row.job), row.end
    if end is None:
        return Record(job, "waiting", 0.0, 0.0, 0.0, "", b"", row.failure)
    return Record(job, end.state, end.finished, end.expires, end.run_s, end.worker, end.value, end.failure)
