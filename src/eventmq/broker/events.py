"""What happens, told to those who watch: a ring of the last events, in order. Changes nothing.

Nothing is noted unless somebody has asked within `EVENTS_KEEP_S`, so while nobody watches it costs one comparison a
commit. Of what one commit makes true at most `EVENTS_AT_ONCE` are noted; the others are numbered all the same, as are
those that have left the ring, so whoever watches knows how many he has not been told of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from eventmq import limits
from eventmq.broker.intake import error_of
from eventmq.broker.ledger import Ledger
from eventmq.broker.lifecycle import TERMINAL
from eventmq.protocol.v2 import Failure, Job, options_of

Failed = tuple[Job, Failure, float]
"""An attempt that failed: why, and how many seconds it ran."""


EVENTS = TERMINAL | {
    "enqueued", "started", "failed", "requeued", "purged", "queue_paused", "queue_resumed", "queue_drained",
    "queue_limited", "manager_joined", "manager_left", "manager_lost", "schedule_overdue", "schedule_recovered",
    "schedule_pause", "schedule_resume", "schedule_remove", "schedule_run",
}  # fmt: skip
"""Every event."""


class Events:
    """The ring.

    Args:
        first: Numbers are above this; those of a Router before were below.

    Attributes:
        until: Monotonic time until which events are noted.
        n: Number of the last event.
    """

    def __init__(self, first: int) -> None:
        self.until = 0.0
        self.n = self._first = first
        self._ring: deque[dict[str, Any]] = deque(maxlen=limits.EVENTS_MAX)

    def read(self, after: int | None, limit: int, now: float) -> dict[str, Any]:
        """What happened behind event `after` (None: from now on), as far as it is still there."""
        if now >= self.until:
            self.n += 1  # what was not noted meanwhile counts as one
        self.until = now + limits.EVENTS_KEEP_S
        if after is None:
            return {"events": [], "next": self.n, "missed": 0}
        after = min(after, self.n) if after >= self._first else self._first - 1
        newer: list[dict[str, Any]] = []
        for event in reversed(self._ring):
            if event["n"] <= after:
                break
            newer.append(event)
        events = newer[: -limit - 1 : -1]
        next = events[-1]["n"] if len(newer) > limit else self.n
        return {"events": events, "next": next, "missed": next - after - len(events)}

    def add(self, wall: float, event: str, about: dict[str, Any]) -> None:
        """Something has happened."""
        assert event in EVENTS, event
        self.n += 1
        self._ring.append({"n": self.n, "at": wall, "event": event} | about)

    def observe(self, ledger: Ledger, wall: float) -> None:
        """What a commit has made true."""
        ended = {job.id for job in ledger.over} if ledger.failed else ()
        again = [failed for failed in ledger.failed if failed[0].id not in ended]
        changes = ledger.changes
        new = list(chain(changes.added, changes.spilled, changes.delayed))
        end = self.n + len(again) + len(ledger.over) + len(new) + sum(map(len, ledger.handed))
        for event, about in islice(_all(ledger, again, new), limits.EVENTS_AT_ONCE):
            self.add(wall, event, about)
        self.n = end


def _all(ledger: Ledger, again: list[Failed], new: list[Job]) -> Iterator[tuple[str, dict[str, Any]]]:
    for job, why, run_s in again:
        yield "failed", _about(job) | {"error": error_of(why), "run_s": run_s}
    for job, end in zip(ledger.over, ledger.changes.ended, strict=True):
        ran = {"worker": end.worker, "run_s": end.run_s} if end.worker else {}
        yield end.state, _about(job) | ran | ({"error": end.error} if end.error else {})
    for job in new:
        schedule = options_of(job.options).schedule
        yield "enqueued", _about(job) | ({"schedule": schedule} if schedule else {})
    for job in chain.from_iterable(ledger.handed):
        lease = ledger.leases.get(job.id)
        yield "started", _about(job) | ({"worker": lease[1].incarnation.name} if lease else {})


def _about(job: Job) -> dict[str, Any]:
    return {"id": job.id, "queue": job.queue, "name": job.name, "attempt": job.attempt}
