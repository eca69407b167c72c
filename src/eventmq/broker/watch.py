"""What shows only over time: looked for at each survey of the Router, every `SWEEP_S`.

    stalled   jobs could be handed out, a manager has credit for them, and nothing moves: the Router itself is broken
    lost      managers that are gone without a goodbye, and not back
    recently  what was counted in the last `RECENT_S`

Knows no clock: `now` is monotonic time, in seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import chain

from eventmq import limits
from eventmq.broker.ledger import Ledger
from eventmq.broker.pool import Pool

STALLED_S = 10.0
"""Jobs that could be handed out and are not for this long: an alarm. A healthy Router hands them out at once."""

RECENT_S = 600.0
"""What counts as recent."""


class Watch:
    """What has been going on.

    Attributes:
        lost: By name of a manager: when it was lost, how many jobs it had.
        stalled: By queue: since when nothing moves.
    """

    def __init__(self) -> None:
        self.lost: dict[str, tuple[float, int]] = {}
        self.stalled: dict[str, float] = {}
        self._ready: dict[str, tuple[float, int]] = {}  # queue: since when, and what had been handed out by then
        self._past: deque[tuple[float, Counter[str], Counter[str]]] = deque()

    def lose(self, name: str, jobs: int, now: float) -> None:
        """A manager is gone that did not say goodbye."""
        self.lost.pop(name, None)
        self.lost[name] = (now, jobs)
        if len(self.lost) > limits.NAMES_MAX:
            del self.lost[next(iter(self.lost))]

    def look(self, now: float, ledger: Ledger, pool: Pool, refusals: Counter[str], holding: bool) -> list[str]:
        """A survey. Returns the queues that have stalled since the last one."""
        self.lost = {name: lost for name, lost in self.lost.items() if now - lost[0] < RECENT_S}
        if not self._past or now - self._past[-1][0] >= RECENT_S / 10:
            self._past.append((now, ledger.counts.copy(), refusals.copy()))
            while now - self._past[0][0] > RECENT_S:
                self._past.popleft()
        before, self._ready = self._ready, {}
        for queue in [] if holding else _ready(ledger, pool):
            handed = ledger.processed[queue]
            since, then = before.get(queue, (now, -1))
            self._ready[queue] = (since if handed == then else now, handed)
        known = self.stalled
        self.stalled = {q: since for q, (since, _) in self._ready.items() if now - since >= STALLED_S}
        return [queue for queue in self.stalled if queue not in known]

    def recently(self, counts: Counter[str], refusals: Counter[str]) -> tuple[Counter[str], Counter[str]]:
        """How much these have grown in the last `RECENT_S`."""
        _, old_counts, old_refusals = self._past[0] if self._past else (0.0, counts, refusals)
        return counts - old_counts, refusals - old_refusals


def _ready(ledger: Ledger, pool: Pool) -> list[str]:
    """Queues with jobs that somebody with credit could have now. It asks the managers themselves, and none of the
    lists by which jobs are handed out: those may be what is broken."""
    free = (crew.weights for crew in pool.crews.values() if any(manager.credit for manager in crew.members.values()))
    queues = set(chain.from_iterable(free))
    return [queue for queue in queues if ledger.backlogs.get(queue) and not ledger.rules.of(queue).paused]
