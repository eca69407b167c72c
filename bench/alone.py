"""A Router with its real store, turned by hand: no sockets, no other processes, a clock of its own.

Its peers are a few lines here, so that what is measured is the Router and nothing else. What they say is made before
a measurement and read after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from eventmq.broker.outbox import BACKEND, FRONTEND, Send
from eventmq.protocol import calls, v2
from eventmq.router import Router
from eventmq.store.base import Store

Message = tuple[str, list[bytes]]

CALL = calls.pack_call((), {})
VALUE = v2.pack(None)
BATCH_JOBS = 500
TURN_S = 0.001
WALL = 1_790_000_000.0

_numbers = count(1)


def jobs(many: int, queues: Sequence[str] = ("default",), payload: bytes = CALL, **fields: int) -> list[v2.Job]:
    """New jobs, over the queues in turn; their ids begin with the time of `Alone`'s clock, as a client's do."""
    made = []
    for n in (next(_numbers) for _ in range(many)):
        id = f"{int(1e3 * WALL) + n // BATCH_JOBS:012x}{n:020x}"
        made.append(v2.Job(id, queues[n % len(queues)], "noop.noop", payload, **fields))
    return made


class Alone:
    """The Router and its clock."""

    def __init__(self, store: Store) -> None:
        self.now, self.wall = 1_000.0, WALL
        self.router = Router(store, clock=lambda: self.now, wall_clock=lambda: self.wall)
        self._n = count(1)

    def turn(self, received: Iterable[Message] = (), after_s: float = TURN_S) -> list[Send]:
        """One turn; what it sends."""
        self.now += after_s
        self.wall += after_s
        return self.router.turn(received, (), self.now, self.wall)

    # ---- what peers say ----------------------------------------------------------------------------------

    def requests(self, made: list[v2.Job], client: bytes = b"client", batch: int = BATCH_JOBS) -> list[Message]:
        """A client's REQUESTs."""
        batches = [made[first : first + batch] for first in range(0, len(made), batch)]
        return [self._from(FRONTEND, client, b"REQUEST", v2.Request(next(self._n), some)) for some in batches]

    def inform(self, manager: bytes = b"manager", queues: Sequence[str] = ("default",)) -> Message:
        """A manager is there."""
        names = [(10, queue) for queue in queues]
        body = v2.Inform(next(self._n), manager.decode(), "nonce", names, [], {})
        return self._from(BACKEND, manager, b"INFORM", body)

    def ready(self, credit: int, manager: bytes = b"manager") -> Message:
        """A manager can take so many jobs more."""
        sent = self.router.pool.managers[manager].sent
        return self._from(BACKEND, manager, b"READY", v2.Ready(sent + credit))

    def replies(self, sends: list[Send], credit: int = 0) -> list[Message]:
        """All that was handed out in a turn has succeeded, and managers can take so many jobs more."""
        found = []
        for each in sends:
            if each.socket == BACKEND and each.frames[2] == b"REQUEST":
                handed = v2.decode(each.frames[3], v2.Request).jobs
                outcomes = [v2.Outcome(job.id, job.lease, "succeeded", VALUE, None, 0.0001) for job in handed]
                assert isinstance(each.peer, bytes)
                limit = self.router.pool.managers[each.peer].sent + credit
                found.append(self._from(BACKEND, each.peer, b"REPLY", v2.Reply(next(self._n), outcomes, limit)))
        return found

    def _from(self, socket: str, peer: bytes, command: bytes, body: v2.Body) -> Message:
        return socket, [peer, *v2.encode(command, body)]
