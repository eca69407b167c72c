"""What operators have said about queues: paused, draining, how many jobs may wait. Kept over restarts as facts.

A queue that nobody has said anything about has no rule, and no fact `queue:<name>`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventmq import limits
from eventmq.errors import InvalidMessageError
from eventmq.protocol import v2
from eventmq.values import ALL_QUEUES, Bounds

QUEUE_FACT = "queue:"


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was said about one queue.

    Attributes:
        paused: Nothing is handed out.
        draining: Nothing new is accepted.
        jobs_max: Jobs that may wait or be delayed in it; None = as the setting says.
    """

    paused: bool = False
    draining: bool = False
    jobs_max: int | None = None


NO_RULE = Rule()


class Rules:
    """All rules.

    Args:
        facts: Of the store.
        bounds: The setting `queue_jobs_max`.

    Attributes:
        by_queue: Those that there are.
    """

    def __init__(self, facts: dict[str, bytes], bounds: Bounds) -> None:
        self._bounds = dict(bounds)
        self.by_queue = {
            fact.removeprefix(QUEUE_FACT): msgspec.msgpack.decode(value, type=Rule)
            for fact, value in facts.items()
            if fact.startswith(QUEUE_FACT)
        }

    def of(self, queue: str) -> Rule:
        return self.by_queue.get(queue, NO_RULE)

    def jobs_max(self, queue: str) -> int | None:
        """Jobs that may wait or be delayed in a queue; None = any number."""
        said = self.of(queue).jobs_max
        return self._bounds.get(queue, self._bounds.get(ALL_QUEUES)) if said is None else said

    def change(self, queue: str, **what: Any) -> tuple[str, bytes | None]:
        """Says something about a queue; returns the fact that has to be remembered.

        Raises:
            InvalidMessageError: There are rules for too many queues.
        """
        rule = msgspec.structs.replace(self.of(queue), **what)
        if rule == NO_RULE:
            self.by_queue.pop(queue, None)
            return QUEUE_FACT + queue, None
        if queue not in self.by_queue and len(self.by_queue) >= limits.QUEUES_MAX:
            raise InvalidMessageError(f"something was said about {limits.QUEUES_MAX} queues already", "too_large")
        self.by_queue[queue] = rule
        return QUEUE_FACT + queue, v2.pack(rule)
