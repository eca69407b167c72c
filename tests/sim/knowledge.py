"""What is known of the Router from outside: its jobs as they stood after the last turn, and what it has read and told.

Owns all that `moves`, `told` and `witness` judge by; judges nothing itself.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from eventmq.broker.policy import Policy
from eventmq.protocol import v2
from eventmq.router import Router
from sim.disk import Disk
from sim.keys import Keys
from sim.orders import Orders
from sim.timeline import Timeline, Violation
from sim.truth import Truth


class View(NamedTuple):
    """One job as the Router has it."""

    state: str
    attempt: int
    crashes: int
    failures: int
    lease: int = 0
    holder: bytes | str = b""
    due: float = 0.0


class Announced(NamedTuple):
    """A connection of a real manager."""

    manager: str
    queues: frozenset[str]


class Heard(NamedTuple):
    """What the Router reads in one turn that may change something, in order."""

    outcomes: list[tuple[bytes, v2.Outcome]]
    replies: dict[tuple[bytes, int], list[v2.Outcome]]
    informs: dict[tuple[bytes, int], v2.Inform]
    cancels: set[str]
    left: set[bytes]
    """Connections that said goodbye."""
    acked: set[tuple[bytes | str, int]]
    """Messages of managers that the turn answers."""
    new: list[str]
    """Jobs that were not there before the turn, in order of acceptance."""


class Session:
    """Credit and hand-outs of one session, counted from the wire."""

    __slots__ = ("limit", "sent")

    def __init__(self) -> None:
        self.limit = 0
        self.sent = 0


class Knowledge:
    """The base of the witness.

    Attributes:
        jobs: All jobs as they stood after the last turn.
        turns: Turns judged.
        accepted: How often each job was new in the store.
        heard: When the Router last read anything of a manager, by its name.
    """

    def __init__(self, timeline: Timeline, disk: Disk, truth: Truth) -> None:
        self.timeline = timeline
        self.disk = disk
        self.truth = truth
        self.jobs: dict[str, View] = {}
        self.turns = 0
        self.accepted = Counter[str]()
        self.orders = Orders(disk, truth)
        self.keys = Keys(timeline, disk, truth)
        self.heard: dict[str, float] = {}
        self._heard: dict[bytes, float] = {}
        self._managers: dict[bytes, Announced] = {}
        self._sessions: dict[bytes, Session] = {}
        self._requests: dict[tuple[bytes, int], list[v2.Job]] = {}
        self._cancels: dict[tuple[bytes, int], dict[str, bool]] = {}
        self._stopping: set[int] = set()
        self._informed: dict[str, int] = {}
        self._ledger: object = None
        self._policy = Policy()
        self._lease = 0
        self._leases: set[int] = set()
        self._settled: dict[tuple[str, int], int] = {}
        self._attempts: dict[str, int] = {}
        self._changed = 0, 0
        self._gone: set[str] = set()
        self._over: set[str] = set()
        self._killed: dict[tuple[bytes | str, int], int] = {}

    def _look(self, router: Router) -> None:
        """All jobs, ended ones from the store, live ones from store and memory."""
        leases, live = router.ledger.leases, router.ledger.live
        if not router.ledger.progress.keys() <= leases.keys():
            raise Violation("progress is kept of a job that does not run")
        jobs = {}
        for job, _, put_off, end in self.disk.rows():
            if end is not None:
                jobs[job.id] = View(end.state, end.attempt, end.crashes, job.failures)
            elif (lease := leases.get(job.id)) is not None:
                held = lease[0]
                jobs[job.id] = View("running", held.attempt, held.crashes, held.failures, held.lease, lease[1].id)
            else:
                known = live.get(job.id)
                delayed = put_off if known is None else known.due > 0
                known = job if known is None else known
                due = known.due if delayed else 0.0
                state = "delayed" if delayed else "waiting"
                jobs[job.id] = View(state, known.attempt, known.crashes, known.failures, due=due)
        self.jobs = jobs
