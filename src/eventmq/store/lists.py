"""Pages of lists of jobs out of the SQLite file, newest first, each found by looking at a bounded number of rows.

What is wanted becomes the text of a query, made of the conditions below and named parameters; there are few such texts.
Only small columns are read; payloads where arguments are wanted, and then no more than `SEARCH_BYTES` of them at once.
"""

from __future__ import annotations

import sqlite3
from itertools import starmap
from typing import Any

from eventmq.limits import SEARCH_BYTES
from eventmq.protocol.calls import has_arguments
from eventmq.store.base import Line, Page, Record, Wanted
from eventmq.store.tables import UNSUCCESSFUL

STATE = "CASE WHEN state = 'waiting' AND due > :now THEN 'delayed' ELSE state END"
LINE = f"""SELECT seq, id, queue, name, -rank, attempt, failures, crashes, created, due, {STATE}, finished, run_s,
    worker, error, length(payload)"""
CONDITIONS = {
    "queue": "queue = :queue",
    "name": "name = :name",
    "worker": "worker = :worker",
    "error": "instr(error, :error)",
    "since": "created >= :since",
    "until": "created < :until",
}
"""By field of `Wanted`."""

LOOKED_AT = "SELECT min(seq), count(*) FROM ({} ORDER BY seq DESC LIMIT :rows)"
CREATED = "SELECT created FROM job WHERE seq = ?"
ARGUMENT_ROWS = 4
"""A row whose arguments are looked at costs about as much as so many others."""


def browse(db: sqlite3.Connection, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
    """See `base.Store.browse`."""
    given: dict[str, Any] = {"now": now, "before": before, "last": 0, "limit": -1 if wanted.arguments else limit}
    sources, conditions = _rows_of(wanted, given)
    ends = True
    if wanted.ids is None:
        given["rows"] = rows // ARGUMENT_ROWS + 1 if wanted.arguments else rows
        seqs = " UNION ALL ".join(f"SELECT seq FROM job {source} AND seq < :before" for source in sources)
        last, looked = db.execute(LOOKED_AT.format(seqs), given).fetchone()
        given["last"] = last or 0
        ends = looked < given["rows"] or db.execute(CREATED, (last,)).fetchone()[0] < wanted.stop
    columns = f"{LINE}, payload" if wanted.arguments else LINE
    more = {name: value for name in CONDITIONS if (value := getattr(wanted, name)) != Wanted._field_defaults[name]}
    given |= more
    conditions += map(CONDITIONS.__getitem__, more)
    arms = " UNION ALL ".join(f"{columns} FROM job {' AND '.join((source, *conditions))}" for source in sources)
    lines, cut = _lines(db.execute(f"{arms} ORDER BY seq DESC LIMIT :limit", given), wanted, limit)
    return Page(lines, cut or (0 if ends else given["last"]))


def joined(lines: list[Line], kept: list[Record], wanted: Wanted, seqs: range, now: float, limit: int) -> Page:
    """One page of these lines and of those wanted jobs that have no rows, as far as all of them were looked at."""
    told = [(_line(each, now), each.job.payload) for each in kept if each.job.seq in seqs]
    lines = lines + [line for line, payload in told if wanted.fits(line, payload)]
    lines = sorted((line for line in lines if line.seq in seqs), reverse=True)[:limit]
    return Page(lines, lines[-1].seq if len(lines) == limit else seqs.start)


def seq_of(record: Record) -> int:
    return record.job.seq


def _line(record: Record, now: float) -> Line:
    job, state, finished, _, run_s, worker, *_ = record
    state = "delayed" if state == "waiting" and job.due > now else state
    return Line(
        job.seq, job.id, job.queue, job.name, job.priority, job.attempt, job.failures, job.crashes, job.created,
        job.due, state, finished, run_s, worker, "", len(job.payload),
    )  # fmt: skip


def _rows_of(wanted: Wanted, given: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Where to look, best in an index, and what of the states and ids is left to look for there."""
    named = {f"state{number}": state for number, state in enumerate(wanted.states)}
    given |= named
    conditions = ["seq < :before", "seq >= :last"]
    if wanted.ids is None and wanted.only_unsuccessful:
        return [f"{UNSUCCESSFUL} :{name}" for name in named], conditions
    if named:
        conditions.append(f"{STATE} IN ({', '.join(f':{name}' for name in named)})")
    if wanted.ids is None:
        return ["WHERE TRUE"], conditions
    ids = {f"id{number}": id for number, id in enumerate(wanted.ids)}
    given |= ids
    return [f"WHERE id IN ({', '.join(f':{name}' for name in ids)})"], conditions


def _lines(rows: sqlite3.Cursor, wanted: Wanted, limit: int) -> tuple[list[Line], int]:
    """Those with the arguments that are wanted, and where to go on if these are not all."""
    if not wanted.arguments:
        lines = list(starmap(Line, rows))
        return lines, lines[-1].seq if len(lines) == limit else 0
    lines, size = [], 0
    for *line, payload in rows:
        size += len(payload)
        if has_arguments(payload, wanted.arguments):
            lines.append(Line(*line))
        if len(lines) == limit or size >= SEARCH_BYTES:
            return lines, line[0]
    return lines, 0
