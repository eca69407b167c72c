"""What one scheduler has to do, and when: its schedules in order of their next run. Pure; `wall` is the Router's time.

At most one tick of a schedule is under way at a time. It leaves the order when it is taken, and the next one takes its
place when it is `done`; so ticks of a schedule reach the Router in order, and none is sent before the one before it is
durable.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice

from eventmq.protocol.scheduling import Assignment, Tick
from eventmq.schedules import due as dues

VOID_MAX = 10_000
"""Void places are taken out of the order each time that so many new ones are in it."""


class Agenda:
    """The schedules of one scheduler."""

    def __init__(self) -> None:
        self._assignments: dict[str, Assignment] = {}
        self._places: dict[str, int] = {}  # by schedule: the number of its place in the order; others are void
        self._order: list[tuple[float, int, str]] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._assignments)

    def put(self, assignment: Assignment, wall: float) -> None:
        """A schedule to run from here on.

        Raises:
            InvalidSchedule: This machine knows no such time zone.
        """
        self.remove(assignment.id)
        self._plan(assignment, self._next(assignment, wall))
        self._assignments[assignment.id] = assignment

    def remove(self, id: str) -> None:
        """A schedule that is not ours any longer."""
        self._assignments.pop(id, None)
        self._places.pop(id, None)

    def take_due(self, wall: float, limit: int) -> list[Tick]:
        """The ticks whose time has come, earliest first, at most `limit` of them."""
        ticks: list[Tick] = []
        while self._order and self._order[0][0] <= wall and len(ticks) < limit:
            _, number, id = heappop(self._order)
            assignment = self._assignments.get(id)
            if assignment is None or self._places.get(id) != number:
                continue
            due = self._next(assignment, wall)  # asked again: it may have become too late meanwhile
            if due is None or dues.runs_at(assignment.rule, id, due) > wall:
                self._plan(assignment, due)
                continue
            coming = islice(dues.times(assignment.rule, assignment.anchor, due), assignment.rule.overdue + 1)
            ticks.append(Tick(id, assignment.token, due, list(coming)))
        return ticks

    def done(self, tick: Tick) -> None:
        """The Router has dealt with a tick: on to the next."""
        assignment = self._assignments.get(tick.schedule)
        if assignment is not None and assignment.token == tick.token and assignment.last < tick.due:
            assignment.last = tick.due
            self._plan(assignment, next(iter(tick.ahead), None))

    def again(self, tick: Tick, when: float) -> None:
        """The Router could not take a tick: once more at wall time `when`."""
        self._place(tick.schedule, when)

    @property
    def next_time(self) -> float | None:
        """Wall time at which something may be due."""
        return self._order[0][0] if self._order else None

    def _next(self, assignment: Assignment, wall: float) -> float | None:
        return dues.next_run(assignment.rule, assignment.id, assignment.anchor, assignment.last, wall)

    def _plan(self, assignment: Assignment, due: float | None) -> None:
        if due is not None:
            self._place(assignment.id, dues.runs_at(assignment.rule, assignment.id, due))

    def _place(self, id: str, when: float) -> None:
        self._numbers += 1
        self._places[id] = self._numbers
        heappush(self._order, (when, self._numbers, id))
        if self._numbers % VOID_MAX == 0:
            self._order = [place for place in self._order if self._places.get(place[2]) == place[1]]
            heapify(self._order)
