"""What has happened to jobs in some time: how many, how long they waited and ran. Pure."""

from __future__ import annotations

from collections import Counter

from eventmq.broker import sketch
from eventmq.broker.sketch import Sketch
from eventmq.protocol.v2 import pack, unpack

COUNTS = ("enqueued", "succeeded", "failed", "dead", "cancelled", "expired", "lost")
"""What is counted; `failed` are attempts, whether they are tried again or not."""


class Tally:
    """Sums.

    Attributes:
        counts: How many, by word of `COUNTS`.
        wait: How long first attempts waited, from due to handed out.
        run: How long attempts ran that succeeded or failed, as far as anybody has said.
        wait_s: Sum of `wait`.
        run_s: Sum of `run`.
        waiting: Jobs that waited at the end; nobody counts them by job type.
    """

    __slots__ = ("counts", "run", "run_s", "wait", "wait_s", "waiting")

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wait: Sketch = Counter()
        self.run: Sketch = Counter()
        self.wait_s = self.run_s = 0.0
        self.waiting = 0

    def add(self, more: Tally) -> None:
        """And what has happened after that, or elsewhere."""
        self.counts.update(more.counts)
        self.wait.update(more.wait)
        self.run.update(more.run)
        self.wait_s += more.wait_s
        self.run_s += more.run_s
        self.waiting = more.waiting


class Notes:
    """What has happened to some jobs, noted one by one, to be folded into tallies when there is much of it: that is a
    matter of a few calls, and noting it of a few steps.

    Attributes:
        enqueued: How many.
        waits: How long each one waited.
        runs: How long each one ran that succeeded.
        failed: How long each attempt ran that failed.
        ends: How others ended.
    """

    __slots__ = ("_tally", "ends", "enqueued", "failed", "runs", "waits")

    def __init__(self) -> None:
        self._tally = Tally()
        self._clear()

    def _clear(self) -> None:
        self.enqueued = 0
        self.waits: list[float] = []
        self.runs: list[float] = []
        self.failed: list[float] = []
        self.ends: list[str] = []

    def folded(self) -> Tally:
        """All that has been noted."""
        tally = self._tally
        if self.enqueued or self.waits or self.runs or self.failed or self.ends:
            tally.counts["enqueued"] += self.enqueued
            tally.counts["succeeded"] += len(self.runs)
            tally.counts["failed"] += len(self.failed)
            for state in self.ends:
                tally.counts[state] += 1
            runs = list(filter(None, self.runs + self.failed))
            tally.wait_s += sketch.add(tally.wait, self.waits)
            tally.run_s += sketch.add(tally.run, runs)
            self._clear()
        return tally


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
