"""How fair managers spend their slots while every queue that they serve has jobs waiting: by the weights of the queues.

Slot time is counted from what really runs. Stretches in which a queue has nothing to hand out do not count: the others
have its share then.
"""

from __future__ import annotations

from collections import Counter

from sim.manager import ManagerProcess
from sim.router import RouterProcess
from sim.timeline import Timeline, Violation

ENOUGH_RUNS = 60
"""In a world with fewer of them chance decides."""

OFF_SLOTS = 2.0
"""A queue may have so many slots more or less than its part: it has whole ones, at least one, and jobs are long."""


class Shares:
    """The slots of one fair manager.

    Args:
        queues: Its queues, by weight.
    """

    def __init__(self, timeline: Timeline, router: RouterProcess, manager: ManagerProcess) -> None:
        self.timeline = timeline
        self.router = router
        self.manager = manager
        self._used: Counter[str] = Counter()
        self._since = timeline.now
        self._running: Counter[str] = Counter()
        self._runs = 0
        self._contested = False

    def look(self) -> None:
        """A run begins or ends at this moment; what follows is not decided by it."""
        now = self.timeline.now
        if self._contested:
            for queue, slots in self._running.items():
                self._used[queue] += slots * (now - self._since)
            self._runs += 1
        self._since = now
        children = self.manager.children.values()
        self._running = Counter(child.current.queue for child in children if child.alive and child.current)
        router = self.router.router
        backlogs = {} if router is None else router.ledger.backlogs
        self._contested = all(name in backlogs and backlogs[name].head for _, name in self.manager.queues)

    def judge(self) -> None:
        """The world is over."""
        total, weights = self._used.total(), sum(weight for weight, _ in self.manager.queues)
        if self._runs < ENOUGH_RUNS:
            return
        for weight, queue in self.manager.queues:
            share, wanted = self._used[queue] / total, weight / weights
            if abs(share - wanted) > OFF_SLOTS / self.manager.rules.concurrent_jobs:
                raise Violation(f"queue {queue} had {share:.2f} of the slots of {self.manager.name}, not {wanted:.2f}")

    @property
    def judged(self) -> bool:
        """Whether there was enough to judge by."""
        return self._runs >= ENOUGH_RUNS
