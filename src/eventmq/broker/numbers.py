"""The Router in plain numbers, for monitoring systems: what the question METRICS answers. Changes nothing.

`docs/operations.md` says what they mean, and `monitoring/metrics.py` under which names they are seen. Bounded: of
queues and schedules only the first ones have numbers of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import islice
from typing import Any

from eventmq import limits
from eventmq.broker.operators import Operators

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets for what the Router itself does, seconds; the last bucket has none."""


class Histogram:
    """How often something took how long.

    Attributes:
        counts: By bucket, not cumulative.
        total_s: All of it together.
    """

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def plain(self) -> dict[str, Any]:
        return {"bounds_s": BOUNDS_S, "counts": self.counts, "sum_s": self.total_s}


class Meter:
    """What is counted around the deciding code, where the clock and the sockets are.

    Attributes:
        received, sent: Messages by command; of those received, the ones that were understood.
        turns: How long turns took, from the first message to the last one sent.
        commits: How long commits took.
    """

    def __init__(self) -> None:
        self.received: Counter[bytes] = Counter()
        self.sent: Counter[bytes] = Counter()
        self.turns = Histogram()
        self.commits = Histogram()


def numbers(router: Operators, meter: Meter) -> dict[str, Any]:
    """Everything. Times in seconds, those of schedules wall times; counters since the Router's start."""
    ledger, pool = router.ledger, router.pool
    managers = Counter(
        "gone" if m.suspect_since else "draining" if m.draining else "serving" for m in pool.managers.values()
    )
    managers["expected"] = len(router.expected)
    return {
        "uptime_s": router.now - router.started,
        "draining": router.received_disconnect,
        "counts": dict(ledger.counts),
        "refusals": dict(router.refusals),
        "leases": len(ledger.leases),
        "credits": sum(manager.credit for manager in pool.managers.values()),
        "managers": dict(managers),
        "schedulers": len(router.schedulers),
        "queues": _queues(router),
        "queues_total": len(ledger.backlogs),
        "schedules": router.schedules.summary(),
        "each_schedule": _schedules(router),
        "store": router.store.info(),
        "received": {command.decode(): count for command, count in meter.received.items()},
        "sent": {command.decode(): count for command, count in meter.sent.items()},
        "spent_s": dict(router.spent_s),
        "turns": meter.turns.plain(),
        "commits": meter.commits.plain(),
    }


def _queues(router: Operators) -> dict[str, dict[str, float]]:
    ledger = router.ledger
    running = Counter(job.queue for job, _, _ in ledger.leases.values())
    serving: Counter[str] = Counter()
    for crew in {crew for crews in router.pool.serving.values() for crew in crews}:
        for queue in crew.weights:
            serving[queue] += len(crew.members)
    return {
        name: {
            "waiting": len(backlog),
            "delayed": backlog.delayed,
            "running": running[name],
            "oldest_s": backlog.oldest_s(router.wall),
            "managers": serving[name],
            "paused": ledger.rules.of(name).paused,
            "draining": ledger.rules.of(name).draining,
        }
        for name, backlog in islice(ledger.backlogs.items(), limits.METRICS_QUEUES_MAX)
    }


def _schedules(router: Operators) -> list[tuple[str, float, float, int]]:
    """Of each schedule: its id, when it is due next and was last, and the due times since its last success."""
    live = (entry for entry in router.schedules.entries.values() if not entry.state.over)
    return [
        (
            entry.schedule.id,
            entry.state.ahead[0] if entry.active and entry.state.ahead else 0.0,
            entry.state.ran,
            entry.state.missed,
        )
        for entry in islice(live, limits.METRICS_SCHEDULES_MAX)
    ]
