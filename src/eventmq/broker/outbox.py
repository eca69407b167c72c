"""What a turn wants sent, held back until what it says is durable.

Jobs for one manager and results for one client are collected over the turn, so that each leaves in as few messages as
their size allows.
"""

from __future__ import annotations

from typing import NamedTuple

from eventmq.broker.pool import Manager, PeerId
from eventmq.protocol import v2
from eventmq.protocol.packing import batches
from eventmq.protocol.v2 import Job, Result

FRONTEND = "frontend"
BACKEND = "backend"
ADMINISTRATIVE = "administrative"


class Send(NamedTuple):
    """One message on its way: the socket, who gets it, the frames behind the identity."""

    socket: str
    peer: PeerId
    frames: list[bytes]


class Outbox:
    """Messages of one turn."""

    def __init__(self) -> None:
        self.messages: list[Send] = []
        self.jobs: dict[Manager, list[Job]] = {}
        self.results: dict[PeerId, list[Result]] = {}
        self.kills: list[Send] = []

    def send(self, socket: str, peer: PeerId, frames: list[bytes]) -> None:
        self.messages.append(Send(socket, peer, frames))

    def hand(self, manager: Manager, jobs: list[Job]) -> None:
        """Jobs for a manager that speaks eMQP/2.0. The list stays the giver's: it is counted by queue later."""
        waiting = self.jobs.get(manager)
        self.jobs[manager] = waiting + jobs if waiting else jobs

    def kill(self, manager: Manager, frames: list[bytes]) -> None:
        """An order to stop hand-outs. It leaves behind the jobs of this turn: it may be about one of them, and who gets
        it first runs that all the same."""
        self.kills.append(Send(BACKEND, manager.id, frames))

    def tell(self, client: PeerId, result: Result) -> None:
        """A result for a client that speaks eMQP/2.0."""
        self.results.setdefault(client, []).append(result)

    def drain(self) -> list[Send]:
        """All messages, and an empty outbox. Managers come first: a job begins while its client hears of it."""
        messages = [each for each in self.messages if each.socket == BACKEND]
        others = [each for each in self.messages if each.socket != BACKEND]
        for manager, jobs in self.jobs.items():
            n = manager.sent - len(jobs)
            for batch in batches(jobs, [len(job.payload) for job in jobs]):
                n += len(batch)
                messages.append(Send(BACKEND, manager.id, v2.encode(b"REQUEST", v2.Request(n, batch))))
        messages += self.kills
        messages += others
        for client, results in self.results.items():
            for some in batches(results, list(map(size_of, results))):
                messages.append(Send(FRONTEND, client, v2.encode(b"REPLY", v2.Results(some))))
        self.messages, self.jobs, self.results, self.kills = [], {}, {}, []
        return messages

    def drop(self, manager: Manager) -> None:
        """A manager is gone: what it was to get stays here no longer."""
        self.jobs.pop(manager, None)


def size_of(result: Result) -> int:
    """Bytes of a result on the wire, about; what a job raised may be longer than what it returns."""
    failure = result.failure
    return len(result.value) + (len(failure.message) + len(failure.traceback) if failure else 0)
