"""The life of a job: every state, and every event that moves it. The one transition table of the system.

    accept ─▶ waiting ──hand_out──▶ running ──succeed──▶ succeeded
                 ▲                    │ └────fail─────▶ dead
                 └─────give_back──────┘

The diagram in `docs/lifecycle.md` is made from `TRANSITIONS`.
"""

from __future__ import annotations

WAITING = "waiting"
RUNNING = "running"
SUCCEEDED = "succeeded"
DEAD = "dead"

UNKNOWN = "unknown"
"""Not a state: the answer about a job that nobody remembers."""

TERMINAL = frozenset({SUCCEEDED, DEAD})

TRANSITIONS: dict[str, tuple[frozenset[str], str]] = {
    "hand_out": (frozenset({WAITING}), RUNNING),
    "give_back": (frozenset({RUNNING}), WAITING),
    "succeed": (frozenset({RUNNING}), SUCCEEDED),
    "fail": (frozenset({RUNNING}), DEAD),
}
"""Event → (states it is legal in, state it leads to)."""


def next_state(state: str, event: str) -> str:
    """The state after `event`.

    Raises:
        AssertionError: The event is not legal in this state: a broken invariant of ours, never a peer's fault.
    """
    allowed, target = TRANSITIONS[event]
    if state not in allowed:
        raise AssertionError(f"event {event!r} met a job that is {state}; legal only for {sorted(allowed)}")
    return target
