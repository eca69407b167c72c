"""Clients that wait for the outcome of jobs.

Waiting is a wish, not a fact: it lives in memory only, and a client that speaks eMQP/2.0 repeats it every
`WAIT_AGAIN_S`. So wishes age in two generations: one that was not repeated for a whole generation is dropped, and a
client that died costs nothing for long.
"""

from __future__ import annotations

from collections.abc import Iterator

from eventmq import limits
from eventmq.broker.ledger import Ending
from eventmq.broker.pool import PeerId
from eventmq.protocol.v2 import Result

GENERATION_S = 6 * limits.WAIT_AGAIN_S
"""Long enough that a busy client's repetition is not missed."""


class Waiters:
    """Who waits for which job. 2020 clients ask once, in their REQUEST, so their wishes do not age; the oldest go
    when there are too many."""

    def __init__(self) -> None:
        self.young: dict[str, list[PeerId]] = {}
        self.old: dict[str, list[PeerId]] = {}
        self.wire_1_0: dict[str, PeerId] = {}
        self._next_generation = 0.0

    def __len__(self) -> int:
        return len(self.young) + len(self.old) + len(self.wire_1_0)

    @property
    def full(self) -> bool:
        return len(self.young) >= limits.WAITS_MAX

    def add(self, id: str, peer: PeerId) -> None:
        peers = self.young.setdefault(id, [])
        if peer not in peers:
            peers.append(peer)

    def add_1_0(self, id: str, peer: PeerId) -> None:
        self.wire_1_0[id] = peer
        if len(self.wire_1_0) > limits.WAITS_MAX:
            del self.wire_1_0[next(iter(self.wire_1_0))]

    def ended(self, endings: dict[str, Ending]) -> Iterator[tuple[PeerId, Result]]:
        """Whom to tell of jobs that ended; each is told once."""
        for generation in (self.young, self.old):
            for id in [id for id in endings if id in generation] if generation else ():
                for peer in generation.pop(id):
                    yield peer, Result(id, *endings[id])

    def ended_1_0(self, endings: dict[str, Ending]) -> Iterator[tuple[PeerId, Result]]:
        """The same for clients that speak eMQP/1.0."""
        for id in [id for id in endings if id in self.wire_1_0]:
            yield self.wire_1_0.pop(id), Result(id, *endings[id])

    def grow_older(self, now: float) -> None:
        """Drops what was not repeated; `now` is monotonic."""
        if now >= self._next_generation:
            self._next_generation = now + GENERATION_S
            self.old, self.young = self.young, {}
