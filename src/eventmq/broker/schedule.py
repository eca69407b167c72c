"""One schedule as the Router has it: what was asked for, how far it is, who ticks it. And one scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec.structs import asdict, replace

from eventmq.broker.pool import PeerId
from eventmq.protocol import calls, v2
from eventmq.protocol.scheduling import Assignment, Schedule
from eventmq.protocol.v2 import Job, options_of
from eventmq.schedules import due as dues

OVERLAPS = {
    "allow": {},
    "skip": {"unique_scope": "running", "on_conflict": "existing"},
    "queue": {"unique_scope": "waiting", "on_conflict": "existing"},
    "replace": {"unique_scope": "running", "on_conflict": "replace"},
}
"""What happens when the run before has not ended, in the words of jobs with a key."""


class State(v2.Body):
    """How far a schedule is. Times are wall times; 0 = never.

    Attributes:
        anchor: When it was accepted: intervals are counted from it.
        last: The due time that was run last, or behind which the first one is.
        ahead: The due times that come next, as many as the alarm needs to know.
        paused: By an operator.
        over: When it ended: its last run was done, or it was removed.
        runs: Jobs that it has made.
        left: Jobs that it may still make; -1 = any number.
        job: Its last job.
        ran: When that was made.
        outcome: The state in which that ended; empty = it has not.
        missed: Due times since the last success.
    """

    anchor: float
    last: float
    ahead: list[float] = []
    paused: bool = False
    over: float = 0.0
    runs: int = 0
    left: int = -1
    job: str = ""
    ran: float = 0.0
    outcome: str = ""
    missed: int = 0


class Entry:
    """One schedule.

    Attributes:
        schedule: What was asked for.
        state: How far it is.
        holder: The scheduler that ticks it now.
        overdue: The alarm was raised.
        call: What it calls, as one word: a 2020 scheduler names a schedule by nothing else.
    """

    __slots__ = ("call", "holder", "job", "overdue", "schedule", "state")

    def __init__(self, schedule: Schedule, state: State) -> None:
        self.schedule = schedule
        self.state = state
        self.holder: PeerId | None = None
        self.overdue = False
        self.job = run_of(schedule)
        self.call = calls.call_key(schedule.job.name, schedule.job.payload)

    @property
    def active(self) -> bool:
        """Somebody is to tick it."""
        return not self.state.paused and not self.state.over

    def described(self, last_state: str) -> dict[str, Any]:
        """Everything that is known of it, for a person. Times are wall times, or None.

        Args:
            last_state: Of its last job.
        """
        schedule, state = self.schedule, self.state
        return {
            "id": schedule.id,
            "name": schedule.job.name,
            "queue": schedule.job.queue,
            "rule": asdict(schedule.rule),
            "owner": schedule.owner or None,
            "paused": state.paused,
            "overdue": self.overdue,
            "missed": state.missed,
            "assigned": self.holder is not None,
            "next": state.ahead[0] if self.active and state.ahead else None,
            "anchor": state.anchor,
            "last": state.last,
            "runs": state.runs,
            "runs_left": state.left if state.left >= 0 else None,
            "last_run": {"id": state.job, "at": state.ran, "state": last_state} if state.job else None,
        }

    @property
    def assignment(self) -> Assignment:
        schedule, state = self.schedule, self.state
        return Assignment(schedule.id, schedule.token, schedule.rule, state.anchor, state.last)


@dataclass
class Scheduler:
    """A connected scheduler; the published API reads it as a mapping.

    Attributes:
        wire: 1 or 2: the eMQP version that it speaks.
        hb: Monotonic time at which it was last heard.
        told: Monotonic time of the last heartbeat to it.
        name: For people.
        nonce: With its name, one process of it.
        sent: SCHEDULEs and UNSCHEDULEs sent to it in this session.
    """

    wire: int
    hb: float
    told: float
    name: str = ""
    nonce: str = ""
    sent: int = 0

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)


def run_of(schedule: Schedule) -> Job:
    """The job of one run, but for its id."""
    overlap = schedule.rule.overlap
    options = replace(options_of(schedule.job.options), schedule=schedule.id, **OVERLAPS[overlap])
    unique = schedule.job.unique if overlap == "allow" else dues.run_id(schedule.id, 0.0)
    return replace(schedule.job, options=v2.pack_options(options), unique=unique)
