"""Every bound of the system in one place: its number, its unit, its reason.

A limit that an operator may move is a setting (`settings.py`) whose default stands here.
Nothing in this module is computed from anything else at run time.
"""

from __future__ import annotations

from typing import NamedTuple

# ---- what a peer may send --------------------------------------------------------------------

PAYLOAD_BYTES_MAX = 1 << 20
"""Arguments of one job, encoded. Jobs carry references, not files; 1 MiB is generous for arguments."""

FRAME_BYTES_MAX = 16 << 20
"""ZMQ_MAXMSGSIZE of every socket, per frame. A larger frame costs its sender the connection."""

BATCH_BYTES = 512 << 10
"""A sender closes a batch of jobs or results when it has grown to this many bytes."""

BATCH_JOBS_MAX = 1_000
"""Jobs in one REQUEST. Bounds how long one message can hold the Router's loop (about 10 ms)."""

FRAMES_MAX = 16
"""Frames of one message. eMQP/1.0's longest has nine with the sender's identity."""

ID_CHARS_MAX = 64
"""A job id. 36 for a UUID with dashes; 64 is what `django.tasks` stores."""

NAME_CHARS_MAX = 200
"""Names of queues, functions and managers."""

UNIQUE_CHARS_MAX = 200
"""The key of a job that is to be the only one. The client shortens longer ones to their beginning and a hash."""

UNIQUE_ANSWERS_MAX = 50_000
"""Calls for which another job stands, remembered in case their REQUEST comes again (about 300 bytes each)."""

QUEUES_MAX = 10_000
"""Distinct queues that the Router knows. A typing mistake in a loop must not eat its memory."""

QUEUES_PER_MANAGER_MAX = 1_000
"""Queues that one job manager may announce."""

CREDIT_MAX = 10_000
"""Jobs that a manager may ask for at a time; more takes effect as they are sent. `Router.queues` lists each."""

ABOUT_BYTES_MAX = 4_096
"""What a manager may tell of itself in INFORM, encoded."""

OPTIONS_BYTES_MAX = 2_048
"""Options of one job, encoded."""

HEADERS_BYTES_MAX = 1_024
"""Those headers of them in which a trace travels; of more only `traceparent` does."""

WAITS_PER_CLIENT_MAX = 100_000
"""Jobs whose outcome one client may await at a time."""

WAITS_MAX = 1_000_000
"""The same over all clients (about 100 bytes each)."""

PEERS_MAX = 10_000
"""Job managers and schedulers registered at a time."""

REFUSAL_TEXT_CHARS_MAX = 500
"""Text of a refusal: it may quote what a peer sent, so it is cut."""

ERROR_CHARS_MAX = 500
"""Type and message of a failure in lists and searches; the whole failure is kept beside it."""

ARGUMENTS_MAX = 20
"""Arguments that a search names."""

SEARCH_BYTES = 128 << 10
"""Arguments, encoded, that one slice of a search opens (about 2 ms); those of a job with more are not searched."""

TRACEBACK_CHARS_MAX = 32_000
"""A remote traceback keeps its tail, where the reason stands."""

VALUE_BYTES_MAX = PAYLOAD_BYTES_MAX
"""Result of one job, encoded."""

PROGRESS_BYTES_MAX = 1_024
"""How far a running job is, encoded. The Router keeps one for each running job."""

JOB_LOG_LINES_MAX = 200
"""Lines kept of what one job logs, the last ones: enough to see what it did, and 100 kB at most of a usual job."""

JOB_LOG_LINE_CHARS_MAX = 2_000
"""One such line with its traceback, which keeps its tail."""

JOB_LOG_SKIPPED_MAX = 1 << 32
"""Lines that are left out of one report: more than any job can log in the meantime, and sums of it stay numbers."""

LEVEL_CHARS_MAX = 20
"""Name of a line's level."""

JOBS_WITH_LOGS_MAX = 10_000
"""Jobs of whose log the Router keeps lines. Of those that have logged nothing for longest it forgets them first."""

JOB_LOGS_BYTES_MAX = 32 << 20
"""All these lines, in bytes of memory."""

CANCELS_MAX = 100_000
"""Jobs named in CANCELs that wait for runs to stop (about 200 bytes each); CANCELs beyond are answered at once."""

# ---- memory ----------------------------------------------------------------------------------

HEAD_JOBS_MAX = 100_000
"""Waiting jobs held in memory (about 500 bytes each), and one page of each queue; the rest come in pages."""

HEADS_BYTES_MAX = 64 << 20
"""Payload bytes of all heads. Over it, a queue keeps only one small page in memory."""

TIMERS_MAX = 50_000
"""Delayed jobs held in memory (about 600 bytes each); those that are due later stay in the store."""

EXPIRIES_SPARE = 1_000
"""Times of jobs that are to expire and have begun or ended since, kept besides as many as wait (100 bytes each)."""

TIMERS_AHEAD_S = 60.0
"""The store is asked for delayed jobs this long before they are due."""

FUTURE_S_MAX = 100e9
"""No job is due, and nothing lasts, longer than this: times stay exact, and sums of them finite."""

PAGE_JOBS = 1_000
"""Jobs read from the store at once (about 3 ms), and delayed ones that begin to wait in one turn (about 10 ms)."""

SMALL_PAGE_JOBS = 16
"""The same at least when memory for heads is used up; it is shared by all queues then."""

RESULTS_MAX = 1_000_000
"""Ended jobs that the store keeps, oldest forgotten first (about 250 bytes each); dead ones not counted."""

DEAD_MAX = 100_000
"""Dead and lost jobs that the store keeps, oldest forgotten first (about 2 kB each, with its traceback)."""

CHECK_BYTES_MAX = 4 << 20
"""A store of at most this size is checked as a whole when it is opened (less than 100 ms)."""

# ---- history -----------------------------------------------------------------------------------


class Step(NamedTuple):
    """Points of one length, and for how long they are kept, in seconds."""

    length_s: int
    kept_s: int


DAY_S = 86_400
HISTORY_S = 30 * DAY_S
HISTORY_STEPS = (Step(60, DAY_S), Step(900, 7 * DAY_S), Step(3600, HISTORY_S), Step(DAY_S, HISTORY_S))
"""What has happened is kept as points, the shorter ones not for so long: about 2,900 of each series. A point has 140
bytes, mostly, and 900 at most."""

HISTORY_SERIES_MAX = 100
"""Queues with a history of their own, job types, and pairs of both; what comes later is counted as "other". So
there are less than 900,000 points, and 50 MB of them if 50 job types never rest."""

HISTORY_PRESENT_MAX = 150
"""Pairs of queue and job type that one minute tells apart; in which queue more of them are is not told."""

HISTORY_SLICE = 4
"""Series that are summed up or written in one turn (about 3 ms)."""

HISTORY_POINTS = 61
"""Points that an answer reads (about 2 ms), an hour's; the asker goes on from there."""

FAILURES_MAX = 200
"""Groups of failures that are remembered (about 1 kB each); the one seen last the longest time ago makes room."""

# ---- time, in seconds ------------------------------------------------------------------------

HEARTBEAT_S = 0.5
"""Beat of eMQP/2.0 peers. With ROUTER_MANDATORY a beat to a dead local manager fails, so this finds it."""

HEARTBEAT_1_0_S = 3.0
"""Beat of eMQP/1.0 peers (`emqp-1.0`, section 5)."""

SUSPECT_GRACE_S = 1.0
"""A manager whose connection is gone may come back within this time before its jobs are given to others."""

SILENCE_S = 15.0
"""A peer that is connected but not heard for this long is dead. Well above any stall of a healthy process."""

ROUTER_SILENCE_S = 5.0
"""A manager that has not heard the Router for this long opens a new connection and INFORMs again."""

RECONCILE_S = 10.0
"""After a restart the Router waits this long for managers it knew before it hands their jobs to others."""

LEASE_S = 8.0
"""A manager that does not know that the Router has heard it for this long stops its jobs with `on_partition="stop"`.
Above a Router's restart or stall of a few seconds; with `LEASE_MARGIN_S` below `RECONCILE_S` and `SILENCE_S`."""

LEASE_MARGIN_S = 1.0
"""The Router waits this much longer before it gives such a job to others: the kill takes its time, and clocks drift."""

TURN_MESSAGES_MAX = 256
"""Messages taken from one socket in one turn of the Router's loop, so that a flood delays others only briefly."""

TURN_BYTES = 128 << 10
"""The same in bytes: about 2,000 small jobs, which take about 40 ms and share one sync."""

TURN_ANSWERS = 500
"""Jobs looked up in the store for questions in one turn (about 3 ms); the other questions wait for the next one."""

QUESTIONS_MAX = 4_000
"""Questions that wait for their turn; a WAIT counts as one for each `TURN_ANSWERS` jobs. Those beyond are refused."""

ASKER_QUESTIONS_MAX = 16
"""The same of one operator, who has use for one answer at a time; and messages that one turn takes from them all."""

LIST_JOBS_MAX = 250
"""Jobs in one answer to JOBS (about 2 ms), and half of what a COUNT counts; the asker goes on from there."""

ACT_JOBS_MAX = 25
"""Jobs that one REQUEUE, PURGE or CANCEL changes, and dead ones forgotten at once (about 2 ms: rows are large)."""

NEWEST = 1 << 62
"""Above every order of acceptance: where a list begins."""

LIST_ROWS = 1_000
"""Rows of the store that one such question looks at (about 1 ms)."""

CLOCK_BACK_S = 60.0
"""A wall clock is set back by less than this: what was accepted this much later stands behind, whatever it said."""

EVENTS_KEEP_S = 10.0
"""Events are noted for so long after somebody has asked for them."""

EVENTS_MAX = 5_000
"""Events that are kept for those who watch (about 500 bytes each)."""

EVENTS_AT_ONCE = 100
"""Events that are noted of one commit (about 0.2 ms): nobody reads more, and a busy Router has better things to do."""

PROBLEMS_MAX = 50
"""Problems told at a time."""

STALL_S = 0.25
"""A turn of the Router that comes later than planned by more than this is its own fault: peers get the time back."""

RESULT_TTL_S = 3600.0
"""How long a finished job's outcome is kept, unless its `result_ttl` says otherwise."""

DEAD_TTL_S = 30 * 86_400.0
"""How long a dead or lost job is kept, so that somebody can look at it and requeue it."""

DEDUPE_S = 600.0
"""How long the id of a finished job is remembered at least, so that a resent REQUEST runs nothing twice."""

SWEEP_S = 5.0
"""Every so often a slice of the store is searched for outcomes whose time is over."""

SWEEP_ROWS = 2_000
"""Rows in that slice (about 1 ms)."""

SWEEP_AGAIN_S = 0.02
"""The next slice comes this soon while slices are worth it, so forgetting keeps pace with 100,000 jobs a second."""

OVERDUE_1_0_S = 10.0
"""A job at an eMQP/1.0 manager that is not heard of so long after its timeout took down its worker process."""

CRASH_LIMIT = 3
"""A job that took down its worker process this many times is dead, not unlucky."""

WINDOW_S = 0.010
"""A manager asks for about this much work ahead of what its workers run now."""

WINDOW_JOBS_MAX = 500
"""The same in jobs, per worker process."""

STUCK_S = 0.010
"""A worker that stays this long on one job gives back what waits behind it."""

KILL_GRACE_S = 5.0
"""Between SIGTERM and SIGKILL when a worker process is asked to stop."""

CANCEL_GRACE_S = 5.0
"""A cancelled job is killed after this long, unless whoever cancels it says otherwise; SIGTERM comes at half time."""

CANCEL_GRACE_S_MAX = 3600.0
"""Longest such time."""

CANCEL_ANSWER_S = 3.0
"""A CANCEL is answered so long after the grace even if nobody has said how the run ended."""

PROGRESS_S = 0.25
"""A worker tells how far its job is and what it logs at most this often: enough to watch, little for the Router."""

DRAIN_S = 30.0
"""How long SIGTERM lets running jobs finish before they are given back."""

JOB_TIMEOUT_S = 300.0
"""A job manager's global timeout, as in 0.3.13. A job's own `timeout` takes its place."""

# ---- schedules ---------------------------------------------------------------------------------

SCHEDULES_MAX = 50_000
"""Schedules that the Router keeps, in memory too (about 2 kB each)."""

MODULES_MAX = 1_000
"""Modules of which the Router remembers how old the newest was that it has heard of."""

SCHEDULE_BYTES_MAX = 16 << 10
"""Arguments of a schedule, encoded: they stay in the Router's memory."""

EARLY_S = 1.0
"""A tick that is early by more than this is from a scheduler that has not heard yet that the Router's clock was set."""

INTERVAL_S_MIN = 0.1
"""Shortest interval of a schedule. What is due more often is a loop inside one job."""

CRON_CHARS_MAX = 200
"""A cron expression. Bounds what parsing and explaining it may cost."""

GRACE_S = 60.0
"""How late a run may be and still count as in time: well above what it takes to notice that a scheduler is gone."""

RUN_COUNT_MAX = 1_000_000_000
"""Runs after which a schedule may be told to end."""

OVERDUE_PERIODS = 3
"""A schedule that has not succeeded for so many periods is overdue: one failure may be bad luck."""

NAMES_MAX = 20
"""Schedules named in one line of the log, or in STATUS."""

OVERDUE_PERIODS_MAX = 10
"""Most that may be asked for: the Router keeps that many due times of each schedule."""

# ---- the client, in seconds ------------------------------------------------------------------

ENQUEUE_TIMEOUT_S = 5.0
"""`.delay()` raises BrokerUnavailable when no ACK has come within this time."""

RESEND_S = 1.0
"""An unACKed message is sent again after this time."""

ROOM_AGAIN_S = 0.25
"""A client that waits for room in a full queue (`block_for`) asks again after this time."""

ROOM_JOBS = 100
"""It asks with so many jobs, and with more only once these were taken: what has no room need not travel."""

RESULT_TIMEOUT_S = 60.0
"""`handle.result()` raises TimeoutError after this time unless told otherwise."""

WAIT_AGAIN_S = 5.0
"""A client that awaits outcomes asks again this often: a restarted Router has forgotten who waits."""

# ---- monitoring ----------------------------------------------------------------------------------

METRICS_QUEUES_MAX = 300
"""Queues with metrics of their own: each is ten series in the monitoring system, and 4 µs of the Router's loop."""

METRICS_SCHEDULES_MAX = 200
"""Schedules with metrics of their own."""

LIVE_S = 15.0
"""A loop that has not turned for so long is stuck: well above `SWEEP_S`, which is when an idle Router turns."""

HTTP_REQUEST_S = 2.0
"""What one HTTP request may take, from its first byte to the last one of its answer."""

HTTP_REQUEST_BYTES_MAX = 8_192
"""First line and headers of an HTTP request."""

SWITCH_S = 0.0005
"""A thread of the Router's process that makes metrics gives way to its loop after this long; Python's own 5 ms for each
message that the loop sends would add up."""

HTTP_THREADS = 4
"""HTTP requests that are answered side by side, so that a slow one does not hold up the question whether we live."""

# ---- sockets (see docs/protocol.md, "Sockets") --------------------------------------------------

BACKLOG = 4096
"""listen() backlog: a restart brings all peers at once; ZeroMQ's own 100 drops most of them."""

HANDSHAKE_MS = 5_000
"""ZMQ_HANDSHAKE_IVL: a connection that never finishes its handshake gives its descriptor back."""

RECONNECT_MS = 100
RECONNECT_MS_MAX = 2_000
"""ZMQ_RECONNECT_IVL and _MAX: quick at first, then patient; ZeroMQ's own never backs off."""

HWM_MESSAGES = 10_000
"""High-water marks per peer. Credits bound what flows; this bounds what does not obey them."""

HWM_ANSWERS = 32
"""The same for who asks on the administrative socket, and may never read: an answer has up to 100 kB."""

LOG_PER_REASON_S = 5.0
"""A refusal of one kind is logged at most once in this time; the counter counts them all."""
