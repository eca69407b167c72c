"""Every bound of the dashboard alone, in the form of `eventmq.limits`: its number, its unit, its reason."""

from __future__ import annotations

PATIENCE_S = 2.0
"""How long a page waits for the Router: well above what an answer takes, and short of what a person bears."""

QUESTIONS_MAX = 4
"""Questions of pages that the Router has at a time: it answers a few hundred a second."""

SHARED_S = 0.4
"""An answer serves everybody who asks the same within this time, so that ten browsers cost the Router what one does."""

SUMS_SHARED_S = 5.0
"""The same of sums over whole minutes, which cost more and change less."""

AGAIN_S = 5
"""A page for which the Router did not answer is loaded again after so long."""

PACE_S = 0.5
"""Pages that are watched are told at most this often that something has changed."""

STREAMS_MAX = 100
"""Event streams at a time: each is an open connection."""

STREAM_NOTES_MAX = 8
"""Notes that wait for one slow browser. More is dropped: a note says only that there is something new."""

BODY_BYTES_MAX = 2 << 20
"""A form: room for the arguments of one job, written as JSON and percent-encoded."""

QUERY_CHARS_MAX = 2_000
"""What stands in the query box: what fits in any browser's URL."""

ROWS = 50
"""Jobs on one page: what a person reads, and 10 ms of work for the template."""

SEARCH_S = 0.1
"""A page of jobs searches for so long at most; then it shows what it has, and where to go on."""

ACTS_MAX = 50
"""Acts on many jobs that the dashboard remembers, running ones included."""

ACTS_RUNNING_MAX = 4
"""Acts that run at a time: each keeps a thread, and the Router, busy."""

EXPORTS_MAX = 4
"""Exports at a time: each keeps the Router answering page after page."""

CONNECTIONS_MAX = 1_000
"""Requests and streams under way at a time; more are turned away."""

STOP_S = 2
"""How long requests may go on after SIGTERM; event streams are closed at once."""
