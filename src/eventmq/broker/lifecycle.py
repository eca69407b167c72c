"""The life of a job: every state, and every event that moves it. The one transition table of the system.

    accept ─▶ delayed ◀────put_off──────┐
                 │ wake                  │
                 ▼                       │
    accept ─▶ waiting ──hand_out──▶ running ──succeed──▶ succeeded
                 ▲ ▲                  │ ├────fail─────▶ dead
                 │ └────give_back─────┘ └────lose─────▶ lost
                 └───────────────requeue (dead)                cancel, expire: from where it makes sense

The diagram in `docs/lifecycle.md` is made from `TRANSITIONS`.
"""

from __future__ import annotations

from eventmq.protocol.v2 import Job
from eventmq.store.base import DEAD_LETTERS

WAITING = "waiting"
DELAYED = "delayed"
RUNNING = "running"
SUCCEEDED = "succeeded"
DEAD = "dead"
CANCELLED = "cancelled"
EXPIRED = "expired"
LOST = "lost"

UNKNOWN = "unknown"
"""Not a state: the answer about a job that nobody remembers."""

STOPPING = "stopping"
"""Not a state either: the answer about a job that is cancelled while it runs."""

CRASHED = "eventmq.JobCrashed"
"""The type of a failure that says: the worker process died."""

TERMINAL = frozenset({SUCCEEDED, DEAD, CANCELLED, EXPIRED, LOST})

TRANSITIONS: dict[str, tuple[frozenset[str], str]] = {
    "hand_out": (frozenset({WAITING}), RUNNING),
    "give_back": (frozenset({RUNNING}), WAITING),
    "succeed": (frozenset({RUNNING}), SUCCEEDED),
    "fail": (frozenset({RUNNING}), DEAD),
    "lose": (frozenset({RUNNING}), LOST),
    "put_off": (frozenset({RUNNING}), DELAYED),
    "wake": (frozenset({DELAYED}), WAITING),
    "cancel": (frozenset({DELAYED, WAITING, RUNNING}), CANCELLED),
    "expire": (frozenset({WAITING}), EXPIRED),
    "requeue": (frozenset({*DEAD_LETTERS, EXPIRED}), WAITING),
}
"""Event → (states it is legal in, state it leads to)."""


def failures_of(state: str, retried: int, cause: str) -> int:
    """How many runs of a job have failed: those that were tried again, and the one that a dead job died of, unless the
    cause (`error_of`) is a crash."""
    return retried + (state == DEAD and not cause.startswith(CRASHED))


def state_of(job: Job) -> str:
    """The state of a live job; its own fields tell."""
    if job.lease:
        return RUNNING
    return DELAYED if job.due else WAITING


def move(job: Job, event: str, state: str = "") -> str:
    """The state that a job is in after `event`; whoever calls makes it true.

    Args:
        job: The job.
        event: What happens to it.
        state: The state that it is in; needed for one that has ended, whose fields do not tell.

    Raises:
        AssertionError: The event is not legal in this state: a broken invariant of ours, never a peer's fault.
    """
    allowed, target = TRANSITIONS[event]
    state = state or state_of(job)
    if state not in allowed:
        raise AssertionError(f"event {event!r} met job {job.id}, which is {state}; legal only for {sorted(allowed)}")
    return target
