"""What has happened, by minute, queue and job type: counted turn by turn, kept in the store for 30 days.

What a turn has changed is counted when it is durable, in the tallies of the present minute. When the minute is over,
they are summed up by series (a queue and a name, a queue, a name, everything) and added to the store's points, one for
each length of `HISTORY_STEPS`, so nothing has to be merged when it gets older. All of that goes in slices, behind the
commits of turns. A Router that is killed loses the present minute, and what was still to be written of the last one.

`wall` is wall time. Where the clock brings a minute twice, both are one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping

from eventmq.broker.failures import Failures
from eventmq.broker.ledger import Ledger
from eventmq.broker.tally import Tally, packed, unpacked
from eventmq.limits import HISTORY_PRESENT_MAX, HISTORY_SERIES_MAX, HISTORY_SLICE, HISTORY_STEPS
from eventmq.protocol.v2 import ready_at
from eventmq.store.base import Past, Point, Series

OTHER = "other"
"""The queue, and the name, of what there is no series for."""

EVERYTHING: Series = ("", "")

MINUTE_S = HISTORY_STEPS[0].length_s

NOTED_MAX = 250
"""Durations that are noted in a tally, besides those of the last turns, before they are folded."""


class History:
    """Counts.

    Attributes:
        minute: Wall time at which the present minute began.
        present: What has happened in it, by queue and name.
        before: What has happened before since the Router's start, by queue and name.
        over: Minutes that are over and not summed up: when they began, what happened, how many jobs waited by queue.
        closed: Sums that are to be written, of the minute that began at `closed_at`.
        series: All series that the store has, or will have.
        failures: Why attempts failed.
    """

    def __init__(self, past: Past, facts: Mapping[str, bytes], wall: float) -> None:
        self._past = past
        self._places: Counter[tuple[bool, bool]] = Counter()
        self.minute = self.closed_at = start_of(wall, MINUTE_S)
        self.present: dict[Series, Tally] = {}
        self.before: dict[Series, Tally] = {}
        self.over: deque[tuple[int, dict[Series, Tally], dict[str, int]]] = deque()
        self.closed: dict[Series, Tally] = {}
        self.series: dict[Series, None] = {}
        for series in past.series():
            self._add(series)
        self.failures = Failures(facts)

    # ---- counting --------------------------------------------------------------------------------------

    def count(self, ledger: Ledger, wall: float) -> None:
        """What happened in a turn, which is durable now. Each job costs a few steps here, so what neighbours have in
        common is looked up once, and what can wait is left to `Tally.fold`."""
        changes = ledger.changes
        new = changes.added or changes.spilled or changes.delayed
        if not (new or ledger.handed or ledger.over or ledger.failed):
            return
        self._begin(ledger, wall)
        known = self.present.get
        queue = name = ""
        for jobs in (changes.added, changes.spilled, changes.delayed):
            for job in jobs:
                if job.name != name or job.queue != queue:
                    queue, name = job.queue, job.name
                    tally = known((queue, name)) or self.tally(queue, name)
                tally.enqueued += 1
        for jobs in ledger.handed:
            for job in jobs:
                if job.name != name or job.queue != queue:
                    queue, name = job.queue, job.name
                    tally = known((queue, name)) or self.tally(queue, name)
                    if len(tally.waits) + len(tally.runs) > NOTED_MAX:
                        tally.fold()
                if job.attempt == 1:
                    tally.waits.append(wall - (ready_at(job) if job.options else job.created))
        for job, end in zip(ledger.over, changes.ended, strict=True):
            if job.name != name or job.queue != queue:
                queue, name = job.queue, job.name
                tally = known((queue, name)) or self.tally(queue, name)
            if end.state == "succeeded":
                tally.runs.append(end.run_s)
            else:
                tally.counts[end.state] += 1
        for job, _, run_s in ledger.failed:
            self.tally(job.queue, job.name).ran_badly(run_s)
        self.failures.count(ledger.failed, wall)

    def tally(self, queue: str, name: str) -> Tally:
        """Where to count now."""
        series = self._place((queue, ""))[0], self._place(("", name))[1]
        if len(self.present) >= HISTORY_PRESENT_MAX:
            series = (OTHER, series[1])
        self._place(series)
        return self.present.setdefault(series, Tally())

    def _place(self, series: Series) -> Series:
        """The series itself; if there are too many of its kind already, that of all others."""
        if series not in self.series:
            if self._places[_kind(series)] >= HISTORY_SERIES_MAX:
                series = (series[0] and OTHER, series[1] and OTHER)
            self._add(series)
        return series

    def _add(self, series: Series) -> None:
        if series not in self.series:
            self.series[series] = None
            self._places[_kind(series)] += 1

    def since_start(self) -> dict[Series, Tally]:
        """What has happened since the Router's start, by queue and name."""
        totals: dict[Series, Tally] = {}
        for part in (self.before, self.present, *(present for _, present, _ in self.over)):
            for series, tally in part.items():
                totals.setdefault(self._place(series), Tally()).add(tally)
        return totals

    def unwritten(self, series: Series) -> Iterator[tuple[int, Tally]]:
        """What the store does not have yet of a series: when a minute began, and something that happened in it."""
        if series in self.closed:
            yield self.closed_at, self.closed[series]
        queue, name = series
        for minute, present in (*((minute, present) for minute, present, _ in self.over), (self.minute, self.present)):
            for each, tally in present.items():
                if queue in ("", each[0]) and name in ("", each[1]):
                    yield minute, tally

    # ---- keeping ---------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is something to sum up or to write."""
        return bool(self.over or self.closed)

    def look(self, ledger: Ledger, wall: float) -> bool:
        """To be called in each turn, behind its commit: does a slice of what is to do. Returns whether there is
        something to commit now."""
        self._begin(ledger, wall)
        if not self.over and not self.closed:
            return False
        self._work()
        ledger.changes.facts.update(self.failures.changed())
        return bool(ledger.changes.facts)

    def end(self, ledger: Ledger) -> None:
        """The Router ends: all is written."""
        self._close(ledger)
        ledger.changes.facts.update(self.failures.changed())
        while self.busy:
            self._work()

    def _begin(self, ledger: Ledger, wall: float) -> None:
        """Another minute may have begun."""
        if self.minute <= wall < self.minute + MINUTE_S:
            return
        self._close(ledger)
        self.minute = start_of(wall, MINUTE_S)
        for series in self._past.forget(wall):
            self._places[_kind(series)] -= 1
            del self.series[series]

    def _close(self, ledger: Ledger) -> None:
        waiting = {queue: len(backlog) for queue, backlog in ledger.backlogs.items() if len(backlog)}
        self.over.append((self.minute, self.present, waiting))
        self.present = {}

    def _work(self) -> None:
        """One slice."""
        if self.over and (not self.closed or self.over[0][0] == self.closed_at):
            self._sum_up()
        else:
            self._write()

    def _sum_up(self) -> None:
        self.closed_at, present, waiting = self.over[0]
        for _ in range(min(HISTORY_SLICE, len(present))):
            series, tally = present.popitem()
            self.before.setdefault(self._place(series), Tally()).add(tally)
            for each in (series, (series[0], ""), ("", series[1]), EVERYTHING):
                self.closed.setdefault(self._place(each), Tally()).add(tally)
        if not present:
            for queue, jobs in waiting.items():
                for each in ((queue, ""), EVERYTHING):
                    self.closed.setdefault(self._place(each), Tally()).waiting += jobs
            self.over.popleft()

    def _write(self) -> None:
        points = []
        for series in list(self.closed)[:HISTORY_SLICE]:
            added = self.closed.pop(series)
            self._add(series)  # it may have been forgotten meanwhile
            for step in HISTORY_STEPS:
                start = start_of(self.closed_at, step.length_s)
                known = self._past.read(series, step.length_s, start, start + 1)
                total = unpacked(known[0][1]) if known else Tally()
                total.add(added)
                points.append(Point(series, step.length_s, start, packed(total)))
        self._past.write(points)


def start_of(wall: float, length_s: int) -> int:
    """When the step began that a time is in."""
    return int(wall // length_s) * length_s


def _kind(series: Series) -> tuple[bool, bool]:
    return bool(series[0]), bool(series[1])
