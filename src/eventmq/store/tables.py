"""What the SQLite file holds, and most statements that are run over and over on it. Text only.

Schema 4. To change a table, raise `SCHEMA` and teach `sqlite` to turn the schema before into this one.
"""

from __future__ import annotations

from eventmq.store.base import DEAD_LETTERS

SCHEMA = 4
"""Version of the tables, kept as `user_version`."""

APPLICATION_ID = int.from_bytes(b"EvMQ", "big")
"""Marks a SQLite file as ours."""

FIND_SIZES = tuple(1 << n for n in range(11))
"""Ids in one query. Few sizes, filled up by repeating an id, so that each query is compiled once."""

TABLES = """
CREATE TABLE job (
    seq      INTEGER PRIMARY KEY,
    state    TEXT    NOT NULL,            -- 'waiting', or how it ended
    paged    INTEGER NOT NULL,            -- a live job that the Router does not hold in memory: 1 waiting, 2 delayed
    rank     INTEGER NOT NULL,            -- minus the priority
    attempt  INTEGER NOT NULL,
    crashes  INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    due      REAL    NOT NULL,            -- not to run before; 0: at once
    settled  INTEGER NOT NULL,            -- lease of the last hand-out whose outcome is known
    started  INTEGER NOT NULL,            -- lease of the last hand-out, if it may begin only once
    created  REAL    NOT NULL,
    finished REAL    NOT NULL DEFAULT 0,
    expires  REAL    NOT NULL DEFAULT 0,
    run_s    REAL    NOT NULL DEFAULT 0,
    sum_job     INTEGER NOT NULL,         -- the sums: see sums.py
    sum_retry   INTEGER NOT NULL,
    sum_end     INTEGER NOT NULL,
    sum_failure INTEGER NOT NULL DEFAULT 0,
    holds    INTEGER NOT NULL,            -- 1: it has a key and holds it
    id       TEXT    NOT NULL,
    queue    TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    unique_key TEXT  NOT NULL,
    worker   TEXT    NOT NULL DEFAULT '',
    error    TEXT    NOT NULL DEFAULT '', -- type and message of the failure, for lists
    options  BLOB    NOT NULL,
    payload  BLOB    NOT NULL,
    value    BLOB    NOT NULL DEFAULT x'',
    failure  BLOB    NOT NULL DEFAULT x''
);
CREATE UNIQUE INDEX job_id ON job (id);
CREATE INDEX job_paged ON job (queue, rank, seq) WHERE paged = 1;
CREATE INDEX job_due ON job (due, seq, queue) WHERE paged = 2;
CREATE INDEX job_unique ON job (name, unique_key, seq) WHERE holds = 1;
CREATE INDEX job_unsuccessful ON job (state, seq) WHERE state NOT IN ('waiting', 'succeeded');
CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, queue TEXT NOT NULL, name TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE past (
    series   INTEGER NOT NULL,
    length_s INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    data     BLOB    NOT NULL,
    sum      INTEGER NOT NULL,
    PRIMARY KEY (series, length_s, start) -- so what a chart shows lies side by side
) WITHOUT ROWID;
CREATE TABLE router (epoch INTEGER NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE journal (                    -- see journal.py
    n        INTEGER PRIMARY KEY,         -- of the commit
    turn     BLOB    NOT NULL,
    sum      INTEGER NOT NULL
);
CREATE TABLE archive (                    -- see archive.py
    n        INTEGER PRIMARY KEY,
    block    INTEGER NOT NULL,            -- of seqs
    seq_last INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    made     TEXT    NOT NULL,            -- what all ids begin with; empty: strays
    id_min   TEXT    NOT NULL,
    id_max   TEXT    NOT NULL,
    expires  REAL    NOT NULL,            -- when the last one does
    marks    BLOB    NOT NULL,
    jobs     BLOB    NOT NULL,
    ends     BLOB    NOT NULL,
    sum      INTEGER NOT NULL
);
CREATE INDEX archive_id ON archive (made, id_max, id_min);
CREATE INDEX archive_block ON archive (block);
CREATE INDEX archive_expires ON archive (expires);
CREATE TABLE segment (                    -- see segments.py
    n        INTEGER PRIMARY KEY,
    block    INTEGER NOT NULL,            -- of seqs
    paged    INTEGER NOT NULL,            -- 1: the Router does not hold these jobs in memory
    queue    TEXT    NOT NULL,
    rank     INTEGER NOT NULL,
    left     BLOB    NOT NULL,            -- a bit for each seq of the block: the job is still here
    sum      INTEGER NOT NULL
);
CREATE INDEX segment_block ON segment (block);
CREATE INDEX segment_paged ON segment (queue, rank, block, n) WHERE paged = 1;
CREATE TABLE segment_jobs (
    n        INTEGER PRIMARY KEY,
    made     TEXT    NOT NULL,            -- what all ids begin with; empty: strays
    id_min   TEXT    NOT NULL,
    id_max   TEXT    NOT NULL,
    marks    BLOB    NOT NULL,
    seqs     BLOB    NOT NULL,            -- the bits that `left` had at first
    jobs     BLOB    NOT NULL,
    sum      INTEGER NOT NULL
);
CREATE INDEX segment_jobs_id ON segment_jobs (made, id_max, id_min);
"""
SHAPE = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"

# ?N is the N-th field of Job, Ended, Moved or Requeued; then come the sums.
_INSERT = """INSERT INTO job
    (seq, state, paged, rank, attempt, crashes, failures, due, settled, started, created, holds, id, queue, name,
     unique_key, options, payload, sum_job, sum_retry, sum_end)
    VALUES (?12, 'waiting', {paged}, -?5, ?9, ?11, ?13, ?14, ?15, ?16, ?8, ?7 <> '', ?1, ?2, ?3,
     ?7, ?6, ?4, ?17, ?18, ?19)"""
ADD, SPILL, DELAY = (_INSERT.format(paged=paged) for paged in (0, 1, 2))
MOVE = """UPDATE job SET attempt = ?2, crashes = ?3, failures = ?4, due = ?5, settled = ?7, started = ?9,
    failure = CASE ?6 WHEN x'' THEN failure ELSE ?6 END, error = CASE ?6 WHEN x'' THEN error ELSE ?8 END,
    sum_failure = CASE ?6 WHEN x'' THEN sum_failure ELSE ?10 END, sum_retry = ?11, sum_end = ?12, paged = 0
    WHERE seq = ?1 AND state = 'waiting'"""
PAGE_OUT = "UPDATE job SET paged = 1 WHERE seq = ? AND state = 'waiting'"
PUT_OFF = "UPDATE job SET paged = 2 WHERE seq = ? AND state = 'waiting'"
PAGE_IN = "UPDATE job SET paged = 0 WHERE seq = ? AND state = 'waiting'"
END = """UPDATE job SET state = ?2, finished = ?3, expires = ?4, attempt = ?5, crashes = ?6, run_s = ?7, worker = ?8,
    value = ?9, failure = ?10, error = ?11, sum_end = ?12, sum_failure = ?13, paged = 0
    WHERE seq = ?1 AND state = 'waiting'"""
RELEASE = "UPDATE job SET holds = 0 WHERE seq = ? AND state <> 'waiting'"
REQUEUE = """UPDATE job SET state = 'waiting', attempt = ?3, created = ?4, settled = ?5, holds = unique_key <> '',
    crashes = 0, failures = 0, due = 0, finished = 0, expires = 0, run_s = 0, worker = '', value = x'',
    sum_job = ?6, sum_retry = ?7, sum_end = ?8
    WHERE seq = ?1 AND state = ?2 AND ?2 <> 'waiting'"""
FORGET = "DELETE FROM job WHERE seq = ?1 AND state = ?2 AND ?2 <> 'waiting'"
SET_FACT = """INSERT INTO fact VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, sum = excluded.sum"""
JOURNAL = "SELECT n, turn, sum FROM journal ORDER BY n"
JOURNAL_SPAN = "SELECT min(n), max(n), count(*) FROM journal"
JOURNAL_ADD = "INSERT INTO journal VALUES (?, ?, ?)"
JOURNAL_DROP = "DELETE FROM journal WHERE n < ?"
ARCHIVE = "SELECT * FROM archive"
SEGMENTS, SEGMENT_JOBS = "SELECT * FROM segment ORDER BY n", "SELECT * FROM segment_jobs ORDER BY n"
FACTS = "SELECT name, value, sum FROM fact"
DROP_FACT = "DELETE FROM fact WHERE name = ?"

_JOB = """id, queue, name, payload, -rank, options, unique_key, created, attempt, 0, crashes, seq, failures, due,
    settled, started"""
_LIVE = f"{_JOB}, sum_job, sum_retry, sum_end"
HELD = f"SELECT {_LIVE} FROM job WHERE state = 'waiting' AND paged = 0 ORDER BY seq"
_PAGED = f"SELECT {_LIVE} FROM job INDEXED BY job_paged WHERE paged = 1 AND queue = ?"
# Two queries: SQLite would answer `(rank, seq) > (?, ?)` by reading the whole rank; the same for `due`.
PAGE_SAME_RANK = f"{_PAGED} AND rank = ? AND seq > ? ORDER BY seq LIMIT ?"
PAGE_LOWER_RANKS = f"{_PAGED} AND rank > ? ORDER BY rank, seq LIMIT ?"
_DUE = f"SELECT {_LIVE} FROM job INDEXED BY job_due WHERE paged = 2"
DUE_SAME_TIME = f"{_DUE} AND due = ? AND seq > ? ORDER BY seq LIMIT ?"
DUE_LATER = f"{_DUE} AND due > ? ORDER BY due, seq LIMIT ?"
_RECORD = f"""SELECT {_JOB}, state, finished, expires, run_s, worker, value, failure, error,
    sum_job, sum_retry, sum_end, sum_failure FROM job"""
EVERYTHING, REQUEUED = _RECORD, f"{_RECORD} WHERE seq = ?"
FIND = {size: f"{_RECORD} WHERE id IN ({','.join('?' * size)})" for size in FIND_SIZES}
HOLDERS = f"""{_RECORD} INDEXED BY job_unique
    WHERE holds = 1 AND name = ? AND unique_key = ? ORDER BY seq DESC"""
SLICE = "SELECT max(seq), count(*) FROM (SELECT seq FROM job WHERE seq > ? ORDER BY seq LIMIT ?)"
COUNT_PAGED = "SELECT queue, count(*) FROM job WHERE paged = 1 GROUP BY queue"
COUNT_DELAYED = "SELECT queue, count(*) FROM job WHERE paged = 2 GROUP BY queue"
COUNT_ALL = "SELECT count(*) FROM job"

# ---- retention ------------------------------------------------------------------------------------------------------

UNSUCCESSFUL = "INDEXED BY job_unsuccessful WHERE state NOT IN ('waiting', 'succeeded') AND state ="
STATES = "SELECT seq, state FROM job WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
OLDEST = f"SELECT seq FROM job {UNSUCCESSFUL} ? ORDER BY seq LIMIT ?"
COUNT_STATE = f"SELECT count(*) FROM job {UNSUCCESSFUL} ?"
COUNT_EXPIRED = f"SELECT count(*) FROM job {UNSUCCESSFUL} ? AND seq > ? AND seq <= ? AND expires <= ?"
DELETE_EXPIRED = "DELETE FROM job WHERE seq > ? AND seq <= ? AND state <> 'waiting' AND expires <= ?"
_DEAD = ", ".join(f"'{state}'" for state in DEAD_LETTERS)
DELETE_DEAD = f"DELETE FROM job WHERE seq = ? AND state IN ({_DEAD})"
DELETE_RESULT = f"DELETE FROM job WHERE seq = ? AND state NOT IN ('waiting', {_DEAD})"

# ---- the past -------------------------------------------------------------------------------------------------------

SERIES = "SELECT id, queue, name, sum FROM series"
ADD_SERIES = "INSERT INTO series VALUES (?, ?, ?, ?)"
DROP_SERIES = "DELETE FROM series WHERE id = ? AND NOT EXISTS (SELECT 1 FROM past WHERE series = id)"
ALL_POINTS = "SELECT series, length_s, start, data, sum FROM past"
POINTS = f"{ALL_POINTS} WHERE series = ? AND length_s = ? AND start >= ? AND start < ?"
SET_POINT = "INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?, ?)"
FORGET_POINTS = "DELETE FROM past WHERE series = ? AND length_s = ? AND start < ?"
