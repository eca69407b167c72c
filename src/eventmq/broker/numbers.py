"""The Router in plain numbers, for monitoring systems: what the question METRICS answers. Changes nothing.

`docs/operations.md` says what they mean, and `monitoring/metrics.py` under which names they are seen. Bounded: of
queues and schedules only the first ones have numbers of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice
from typing import Any

from eventmq import limits
from eventmq.broker.operators import Operators
from eventmq.broker.pool import Manager
from eventmq.broker.problems import CRITICAL, WARNING, problems
from eventmq.broker.sketch import Sketch, cumulative
from eventmq.broker.tally import COUNTS
from eventmq.protocol.answers import ShownQueue

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets for what the Router itself does, seconds; the last bucket has none."""

JOB_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""The same for how long jobs wait and run."""


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
        """See `_plain`."""
        return _plain(BOUNDS_S, list(accumulate(self.counts)), self.total_s)


class Meter:
    """What is counted around the deciding code, where the clock and the sockets are.

    Attributes:
        sent: Messages by command.
        turns: How long turns took, from the first message to the last one sent.
        commits: How long commits took.
    """

    def __init__(self) -> None:
        self.sent: Counter[bytes] = Counter()
        self.turns = Histogram()
        self.commits = Histogram()


def _plain(bounds_s: Sequence[float], counts: list[int], total_s: float) -> dict[str, Any]:
    """A histogram: how many took at most so long, for each bound, and how many there are; and their sum."""
    return {"bounds_s": bounds_s, "counts": counts, "sum_s": total_s}


def _of_jobs(measured: Iterable[tuple[Sketch, float]]) -> dict[str, Any]:
    sketches, sums = zip(*measured, strict=True)
    return _plain(JOB_BOUNDS_S, cumulative(sketches, JOB_BOUNDS_S), sum(sums))


def numbers(router: Operators, meter: Meter) -> dict[str, Any]:
    """Everything. Times in seconds, those of schedules wall times; counters since the Router's start."""
    ledger, pool = router.ledger, router.pool
    totals = router.history.since_start()
    waits: defaultdict[str, list[tuple[Sketch, float]]] = defaultdict(list)
    for (queue, _), parts in totals.items():
        waits[queue] += [(tally.wait, tally.wait_s) for tally in parts]
    managers = {"serving": 0, "draining": 0, "gone": 0} | Counter(map(_state_of, pool.managers.values()))
    return {
        "uptime_s": router.now - router.started,
        "draining": router.received_disconnect,
        "problems": {CRITICAL: 0, WARNING: 0} | Counter(problem["level"] for problem in problems(router)),
        "counts": dict(ledger.counts),
        "refusals": dict(router.refusals),
        "leases": len(ledger.leases),
        "credits": sum(manager.credit for manager in pool.managers.values()),
        "managers": managers | {"expected": len(router.expected)},
        "workers": sum(map(_workers_of, pool.managers.values())),
        "schedulers": len(router.schedulers),
        "types": [
            (
                *series,
                {word: sum(tally.counts[word] for tally in parts) for word in COUNTS}
                | {"run": _of_jobs((tally.run, tally.run_s) for tally in parts)},
            )
            for series, parts in totals.items()
        ],
        "waits": {queue: _of_jobs(each) for queue, each in waits.items()},
        "queues": _queues(router),
        "queues_total": len(ledger.backlogs),
        "schedules": router.schedules.summary(),
        "each_schedule": _schedules(router),
        "store": router.store.info(),
        "received": {command.decode(): count for command, count in router.understood.items()},
        "sent": {command.decode(): count for command, count in meter.sent.items()},
        "spent_s": dict(router.spent_s),
        "turns": meter.turns.plain(),
        "commits": meter.commits.plain(),
    }


def _state_of(manager: Manager) -> str:
    return "gone" if manager.suspect_since else "draining" if manager.draining else "serving"


def _workers_of(manager: Manager) -> int:
    """As it says, unless that cannot be."""
    count = manager.about.get("workers")
    return count if isinstance(count, int) and 0 <= count <= limits.CREDIT_MAX else 0


def _queues(router: Operators) -> dict[str, ShownQueue]:
    running = router.ledger.running()
    some = islice(router.ledger.backlogs, limits.METRICS_QUEUES_MAX)
    return {name: router.describe_queue(name, running) for name in some}


def _schedules(router: Operators) -> list[tuple[str, dict[str, float | None]]]:
    """Of each schedule: when it is due next and was run last, and the due times since its last success."""
    live = ((id, entry.active, entry.state) for id, entry in router.schedules.entries.items() if not entry.state.over)
    return [
        (
            id,
            {
                "next": state.ahead[0] if active and state.ahead else None,
                "last": state.ran or None,
                "missed": state.missed,
            },
        )
        for id, active, state in islice(live, limits.METRICS_SCHEDULES_MAX)
    ]
