"""What has happened to jobs in some time: how many, how long they waited and ran. Pure."""

from __future__ import annotations

from collections import Counter

from eventmq.broker import sketch
from eventmq.broker.sketch import Sketch
from eventmq.protocol.v2 import pack, unpack

COUNTS = ("enqueued", "succeeded", "failed", "dead", "cancelled", "expired", "lost")
"""What is counted; `failed` are attempts, whether they are tried again or not."""


class Tally:
    """Counts. What is counted for every job is only noted, and folded into the rest when there is much of it.

    Attributes:
        counts: How many, by word of `COUNTS`.
        wait: How long first attempts waited, from due to handed out.
        run: How long attempts ran that succeeded or failed.
        wait_s: Sum of `wait`.
        run_s: Sum of `run`.
        waiting: Jobs that waited at the end; nobody counts them by job type.
        enqueued: To be folded, as all that follows: how many were enqueued.
        waits: How long each one waited.
        runs: How long each one ran that succeeded.
    """

    __slots__ = ("counts", "enqueued", "run", "run_s", "runs", "wait", "wait_s", "waiting", "waits")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wait: Sketch = Counter()
        self.run: Sketch = Counter()
        self.wait_s = self.run_s = 0.0
        self.waiting = self.enqueued = 0
        self.waits: list[float] = []
        self.runs: list[float] = []

    def fold(self) -> None:
        """What is noted is counted."""
        self.counts.update(enqueued=self.enqueued, succeeded=len(self.runs))
        sketch.add(self.wait, self.waits)
        sketch.add(self.run, self.runs)
        self.wait_s += _sum(self.waits)
        self.run_s += _sum(self.runs)
        self.enqueued, self.waits, self.runs = 0, [], []

    def ran_badly(self, run_s: float) -> None:
        """An attempt failed."""
        self.counts["failed"] += 1
        sketch.add(self.run, [run_s])
        self.run_s += _sum([run_s])

    def add(self, later: Tally) -> None:
        """And what has happened after that, or elsewhere."""
        if later.enqueued or later.waits or later.runs:
            later.fold()
        self.counts.update(later.counts)
        self.wait.update(later.wait)
        self.run.update(later.run)
        self.wait_s += later.wait_s
        self.run_s += later.run_s
        self.waiting = later.waiting


def _sum(durations: list[float]) -> float:
    """Of what may be no time at all: a manager has said so."""
    total = sum(durations)
    return total if 0 <= total < sketch.LONGEST_S else sum(min(d, sketch.LONGEST_S) for d in durations if d > 0)


def packed(tally: Tally) -> bytes:
    """A tally as the store keeps it."""
    counts = [tally.counts[word] for word in COUNTS]
    sums = round(tally.wait_s, 6), round(tally.run_s, 6)
    return pack((counts, tally.waiting, *sums, sketch.packed(tally.wait), sketch.packed(tally.run)))


def unpacked(data: bytes) -> Tally:
    """See `packed`."""
    tally = Tally()
    counts, tally.waiting, tally.wait_s, tally.run_s, wait, run = unpack(data)
    tally.counts = Counter(dict(zip(COUNTS, counts, strict=True)))
    tally.wait, tally.run = sketch.unpacked(wait), sketch.unpacked(run)
    return tally
