"""What one scheduler has to do, and when: its schedules in order of their next run. Pure; `wall` is the Router's time.

At most one tick of a schedule is under way at a time. It leaves the order when it is taken, and the next one takes its
place when it is `done`; so ticks of a schedule reach the Router in order, and none is sent before the one before it is
durable.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice

from eventmq.protocol.scheduling import Assignment, Tick
from eventmq.schedules import due as dues


class _Task:
    """One schedule.

    Attributes:
        coming: The next due times, one more than a tick tells; so each run costs one step of the calendar.
        number: Of its place in the order; places with other numbers are void.
    """

    __slots__ = ("assignment", "coming", "number")

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.coming: list[float] = []
        self.number = 0

    def look(self, due: float | None) -> None:
        """Its next run is at `due`; None = there is none."""
        self.coming = [] if due is None else [due]
        self._fill()

    def step(self) -> None:
        """The first of the coming times has been."""
        self.assignment.last = self.coming.pop(0)
        self._fill()

    def _fill(self) -> None:
        rule = self.assignment.rule
        missing = rule.overdue + 2 - len(self.coming)
        if self.coming and missing > 0:
            self.coming += islice(dues.times(rule, self.assignment.anchor, self.coming[-1]), missing)


class Agenda:
    """The schedules of one scheduler."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}
        self._order: list[tuple[float, int, str]] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def clear(self) -> None:
        """Nothing is to be done any more."""
        self._tasks.clear()
        self._order.clear()

    def put(self, assignment: Assignment, wall: float) -> None:
        """A schedule to run from here on.

        Raises:
            InvalidSchedule: This machine knows no such time zone.
        """
        self.remove(assignment.id)
        task = _Task(assignment)
        task.look(self._next(assignment, wall))
        self._tasks[assignment.id] = task
        self._plan(task)

    def remove(self, id: str) -> None:
        """A schedule that is not ours any longer."""
        self._tasks.pop(id, None)

    def take_due(self, wall: float, limit: int) -> list[Tick]:
        """The ticks whose time has come, earliest first, at most `limit` of them."""
        ticks: list[Tick] = []
        while self._order and self._order[0][0] <= wall and len(ticks) < limit:
            _, number, id = heappop(self._order)
            task = self._tasks.get(id)
            if task is None or task.number != number:
                continue
            assignment = task.assignment
            if not dues.in_time(assignment.rule, id, task.coming[0], wall):
                task.look(self._next(assignment, wall))
            if task.coming and dues.runs_at(assignment.rule, id, task.coming[0]) <= wall:
                ticks.append(Tick(id, assignment.token, task.coming[0], task.coming[1:]))
            else:
                self._plan(task)
        return ticks

    def done(self, tick: Tick) -> None:
        """The Router has dealt with a tick: on to the next."""
        task = self._task_of(tick)
        if task is not None:
            task.step()
            self._plan(task)

    def again(self, tick: Tick, when: float) -> None:
        """The Router could not take a tick: once more at wall time `when`."""
        task = self._task_of(tick)
        if task is not None:
            self._place(task, when)

    @property
    def next_time(self) -> float | None:
        """Wall time at which something may be due."""
        return self._order[0][0] if self._order else None

    def _task_of(self, tick: Tick) -> _Task | None:
        """The task that a tick under way is of, unless it was changed meanwhile."""
        task = self._tasks.get(tick.schedule)
        same = task is not None and task.assignment.token == tick.token and task.coming[:1] == [tick.due]
        return task if same else None

    def _next(self, assignment: Assignment, wall: float) -> float | None:
        return dues.next_run(assignment.rule, assignment.id, assignment.anchor, assignment.last, wall)

    def _plan(self, task: _Task) -> None:
        if task.coming:
            self._place(task, dues.runs_at(task.assignment.rule, task.assignment.id, task.coming[0]))

    def _place(self, task: _Task, when: float) -> None:
        self._numbers += 1
        task.number = self._numbers
        heappush(self._order, (when, task.number, task.assignment.id))
