"""After a restart: the managers that were connected before, and the jobs that one of them may have begun.

While they are `expected`, nothing is handed out. A job in doubt (`Intake.in_doubt`) is held by nobody, `Ledger.absent`,
until a manager names it. When all have said what they hold, what nobody names never arrived; otherwise it is lost.
"""

from __future__ import annotations

from eventmq.broker.ledger import Ledger
from eventmq.broker.pool import Incarnation, fact_of, remembered
from eventmq.protocol.v2 import Failure


class Reunion:
    """Waiting for them, until monotonic time `until`.

    Attributes:
        expected: Those that have not come back yet.
    """

    def __init__(self, ledger: Ledger, until: float) -> None:
        self.expected = remembered(ledger.facts)
        self.until = until
        self._ledger = ledger
        self._in_doubt = bool(ledger.in_doubt)
        # A 2020 manager cannot say what it holds; and a job in doubt whose manager nobody remembers is not trusted.
        self._all_tell = bool(self.expected) and all(incarnation.nonce for incarnation in self.expected)

    def look(self, now: float, wall: float) -> list[Incarnation]:
        """They have come back, or have had the time. Returns those that are given up."""
        late = sorted(self.expected) if now >= self.until else []
        if late:
            self._all_tell = False
            self.expected.clear()
            self._ledger.changes.facts.update((fact_of(incarnation), None) for incarnation in late)
        if self._in_doubt and not self.expected and (self._all_tell or now >= self.until):
            self._in_doubt = False
            self._end_doubt(wall)
        return late

    def _end_doubt(self, wall: float) -> None:
        unnamed = self._ledger.held_by(self._ledger.absent)
        if self._all_tell:
            self._ledger.give_back(unnamed)
        else:
            text = "its job manager did not come back after a restart of the Router: it may have begun"
            self._ledger.cut_short(unnamed, Failure("eventmq.JobLost", text), wall)
