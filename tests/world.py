"""A Router without sockets: tests drive its turns with their own clock and read what it wants to send."""

from __future__ import annotations

from typing import Any

from model_store import ModelStore

from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.broker.policy import Policy
from eventmq.broker.pool import PeerId
from eventmq.protocol import calls, v1, v2
from eventmq.router import Router
from eventmq.store.base import Store

REPLIES: dict[tuple[str, bytes], type[v2.Body]] = {
    (FRONTEND, b"ACK"): v2.Ack,
    (FRONTEND, b"REPLY"): v2.Results,
    (BACKEND, b"ACK"): v2.Ack,
    (BACKEND, b"REQUEST"): v2.Request,
    (BACKEND, b"HEARTBEAT"): v2.Beat,
    (BACKEND, b"KBYE"): v2.Empty,
    (ADMINISTRATIVE, b"REPLY"): v2.Answer,
}


def job(id: str, queue: str = "default", name: str = "tasks.add", **fields: Any) -> v2.Job:
    return v2.Job(id, queue, name, fields.pop("payload", calls.pack_call((1, 2), {})), **fields)


class World:
    """A Router, its clock, and what it sent.

    Attributes:
        sent: Everything sent since the last `clear`.
    """

    def __init__(self, store: Store | None = None, **policy: Any) -> None:
        self.store = store or ModelStore()
        self.policy = Policy(**policy)
        self.now = 1000.0
        self.wall = 1_790_000_000.0
        self.sent: list[Send] = []
        self.router = self._new_router()
        self._n = self._informs = 0

    def _new_router(self) -> Router:
        return Router(self.store, self.policy, lambda: self.now, lambda: self.wall)

    def restart(self) -> None:
        """kill -9 of the Router and a new one on what the store has."""
        self.router = self._new_router()
        self.sent.clear()

    def turn(
        self, *received: tuple[str, list[bytes]], after: float = 0.001, gone: list[tuple[str, PeerId]] | None = None
    ) -> list[Send]:
        """One turn `after` seconds later; returns what that turn sent."""
        self.now += after
        self.wall += after
        sent = self.router.turn(received, gone or [], self.now, self.wall)
        self.sent += sent
        return sent

    def wait(self, seconds: float, step: float = 0.1) -> None:
        """Time passes, in turns in which nothing is received."""
        for _ in range(round(seconds / step)):
            self.turn(after=step)

    def client(self, sender: bytes, command: bytes, body: v2.Body) -> list[Send]:
        return self.turn((FRONTEND, [sender, *v2.encode(command, body)]))

    def manager(self, sender: bytes, command: bytes, body: v2.Body) -> list[Send]:
        return self.turn((BACKEND, [sender, *v2.encode(command, body)]))

    def enqueue(self, *jobs: v2.Job, sender: bytes = b"client") -> v2.Ack:
        """A REQUEST and its ACK."""
        self._n += 1
        sent = self.client(sender, b"REQUEST", v2.Request(self._n, list(jobs)))
        (ack,) = [v2.decode(each.frames[3], v2.Ack) for each in sent if each.frames[2] == b"ACK"]
        assert ack.n == self._n
        return ack

    def join(
        self,
        sender: bytes,
        credit: int = 0,
        queues: list[tuple[int, str]] | None = None,
        held: list[v2.Held] | None = None,
        name: str = "",
        nonce: str = "nonce",
        fair: bool = False,
    ) -> list[v2.Verdict]:
        """A manager's INFORM and READY; returns the verdicts on what it holds."""
        self._informs += 1
        inform = v2.Inform(self._informs, name or sender.decode(), nonce, queues or [], held or [], {}, fair)
        sent = self.manager(sender, b"INFORM", inform)
        (ack,) = [v2.decode(each.frames[3], v2.Informed) for each in sent if each.frames[2] == b"ACK"]
        if credit:
            self.manager(sender, b"READY", v2.Ready(credit))
        return ack.verdicts

    def finish(
        self, sender: bytes, *jobs: v2.Job, state: str = "succeeded", limit: int = 0, value: Any = None
    ) -> list[Send]:
        """A manager's REPLY for hand-outs that it got."""
        failure = None if state in ("succeeded", "returned") else v2.Failure("builtins.ValueError", "no")
        outcomes = [v2.Outcome(j.id, j.lease, state, v2.pack(value), failure, 0.001) for j in jobs]
        return self.manager(sender, b"REPLY", v2.Reply(1, outcomes, limit or self.router.pool.managers[sender].limit))

    def handed(self, sender: bytes) -> list[v2.Job]:
        """All jobs sent to a manager since the last `clear`."""
        return [
            job
            for each in self.sent
            if each.socket == BACKEND and each.peer == sender and each.frames[1:3] == [v2.VERSION, b"REQUEST"]
            for job in v2.decode(each.frames[3], v2.Request).jobs
        ]

    def results(self, sender: bytes) -> list[v2.Result]:
        """All results sent to a client since the last `clear`."""
        return [
            result
            for each in self.sent
            if each.socket == FRONTEND and each.peer == sender and each.frames[1:3] == [v2.VERSION, b"REPLY"]
            for result in v2.decode(each.frames[3], v2.Results).results
        ]

    def info(self, id: str) -> dict[str, Any] | None:
        """The answer to INFO."""
        (sent,) = [s for s in self.client(b"asker", b"INFO", v2.Info(1, id)) if s.peer == b"asker"]
        answer: dict[str, Any] | None = v2.decode(sent.frames[3], v2.Answer).answer
        return answer

    def frames_1_0(self, peer: bytes, command: bytes) -> list[list[bytes]]:
        """eMQP/1.0 messages of one command to one peer since the last `clear`, the frames after the message id."""
        return [e.frames[4:] for e in self.sent if e.peer == peer and e.frames[1:3] == [v1.VERSION, command]]

    def clear(self) -> None:
        self.sent.clear()
