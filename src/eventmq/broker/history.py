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
from typing import NamedTuple

from eventmq.broker.failures import Failures
from eventmq.broker.ledger import Ledger
from eventmq.broker.tally import Notes, Tally, packed, unpacked
from eventmq.limits import HISTORY_PRESENT_MAX, HISTORY_SERIES_MAX, HISTORY_SLICE, HISTORY_STEPS
from eventmq.protocol.v2 import ready_at
from eventmq.store.base import Past, Point, Series

OTHER = "other"
"""The queue, and the name, of what there is no series for."""

EVERYTHING: Series = ("", "")

MINUTE_S = HISTORY_STEPS[0].length_s

NOTED_MAX = 100
"""Durations of a queue and a job type that are noted, besides those of the last turns, before they are folded."""


class Minute(NamedTuple):
    """A minute that is over.

    Attributes:
        start: When it began.
        notes: What happened in it, by queue and name.
        waiting: How many jobs waited at its end, by series.
    """

    start: int
    notes: dict[Series, Notes]
    waiting: dict[Series, int]


class History:
    """Counts.

    Attributes:
        minute: Wall time at which the present minute began.
        present: What has happened in it, by queue and name.
        over: Minutes that are over and not summed up.
        closed: Sums that are to be written, of the minute that began at `closed_at`.
        series: All series that the store has, or will have.
        failures: Why attempts failed.
    """

    def __init__(self, past: Past, facts: Mapping[str, bytes], wall: float) -> None:
        self._past = past
        self._places: Counter[tuple[bool, bool]] = Counter()
        self._before: dict[Series, Tally] = {}
        self.minute = self.closed_at = start_of(wall, MINUTE_S)
        self.present: dict[Series, Notes] = {}
        self.over: deque[Minute] = deque()
        self.closed: dict[Series, Tally] = {}
        self.series: dict[Series, None] = {}
        for series in past.series():
            self._add(series)
        self.failures = Failures(facts)

    # ---- counting --------------------------------------------------------------------------------------

    def count(self, ledger: Ledger, wall: float) -> None:
        """What happened in a turn, which is durable now. Each job costs a few steps here, so what neighbours have in
        common is looked up once, and what can wait is left to `Notes.folded`."""
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
                    notes = known((queue, name)) or self.notes(queue, name)
                notes.enqueued += 1
        for jobs in ledger.handed:
            queue, name = jobs[0].queue, ""
            for job in jobs:
                if job.name != name:
                    name = job.name
                    notes = known((queue, name)) or self.notes(queue, name)
                    if len(notes.waits) + len(notes.runs) + len(notes.failed) > NOTED_MAX:
                        notes.folded()
                if job.attempt == 1:
                    notes.waits.append(wall - (ready_at(job) if job.options else job.created))
        for job, end in zip(ledger.over, changes.ended, strict=True):
            if job.name != name or job.queue != queue:
                queue, name = job.queue, job.name
                notes = known((queue, name)) or self.notes(queue, name)
            if end.state == "succeeded":
                notes.runs.append(end.run_s)
            else:
                notes.ends.append(end.state)
        for job, _, run_s in ledger.failed:
            notes = known((job.queue, job.name)) or self.notes(job.queue, job.name)
            notes.failed.append(run_s)
        self.failures.count(ledger.failed, wall)

    def notes(self, queue: str, name: str) -> Notes:
        """Where to note what happens now."""
        series = self._place((queue, ""))[0], self._place(("", name))[1]
        if series not in self.present and len(self.present) >= HISTORY_PRESENT_MAX:
            series = (OTHER, series[1])
        notes = self.present.get(series)
        if notes is None:
            self._place(series)
            notes = self.present[series] = Notes()
        return notes

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

    def since_start(self) -> dict[Series, list[Tally]]:
        """What has happened since the Router's start, by queue and name, in parts to be added up."""
        parts: dict[Series, list[Tally]] = {series: [tally] for series, tally in self._before.items()}
        for _, notes in self._all_notes():
            for series, noted in notes.items():
                parts.setdefault(self._place(series), []).append(noted.folded())
        return parts

    def read(self, series: Series, length_s: int, since: int, until: int) -> Iterator[tuple[int, Tally]]:
        """What has happened to a series in this time, by points of such a length, and not summed up as far as it is not
        written yet: when each began, and what happened in it."""
        for start, data in self._past.read(series, length_s, since, until):
            yield start, unpacked(data)
        if since <= self.closed_at < until and series in self.closed:
            yield self.closed_at, self.closed[series]
        queue, name = series
        for start, notes in self._all_notes():
            for each, noted in notes.items():
                if since <= start < until and queue in ("", each[0]) and name in ("", each[1]):
                    yield start, noted.folded()

    def _all_notes(self) -> Iterator[tuple[int, dict[Series, Notes]]]:
        yield from ((minute.start, minute.notes) for minute in self.over)
        yield self.minute, self.present

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
            self._before.pop(series, None)

    def _close(self, ledger: Ledger) -> None:
        backlogs = ledger.backlogs
        waiting = {series: len(backlogs.get(series[0], ())) for series in self.series if _kind(series) == (True, False)}
        waiting[EVERYTHING] = sum(map(len, backlogs.values()))
        self.over.append(Minute(self.minute, self.present, waiting))
        self.present = {}

    def _work(self) -> None:
        """One slice."""
        if self.over and (not self.closed or self.over[0].start == self.closed_at):
            self._sum_up(*self.over[0])
        else:
            self._write()

    def _sum_up(self, start: int, notes: dict[Series, Notes], waiting: dict[Series, int]) -> None:
        self.closed_at = start
        for _ in range(min(HISTORY_SLICE, len(notes))):
            (queue, name), noted = notes.popitem()
            self._before.setdefault(self._place((queue, name)), Tally()).add(noted.folded())
            for series in ((queue, name), (queue, ""), ("", name), EVERYTHING):
                self.closed.setdefault(self._place(series), Tally()).add(noted.folded())
        if not notes:
            for series, jobs in waiting.items():
                if jobs:
                    self.closed.setdefault(series, Tally()).waiting = jobs
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
