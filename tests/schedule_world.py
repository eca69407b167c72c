"""The real Router, real schedulers' sessions and a manager that runs everything at once, on a clock of the test's own.

Nothing sleeps and nothing is sent: messages are lists, and a step of time is a turn of everybody who is awake.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from world import World

from eventmq.broker.outbox import BACKEND, FRONTEND, Send
from eventmq.protocol import calls, scheduling, v2
from eventmq.schedules.rule import Rule
from eventmq.schedules.session import SchedulerSession

STEP_S = 0.05


class Peer:
    """A scheduler, or where one was.

    Attributes:
        awake: It has its turns; SIGSTOP takes them away, and it can still be sent to.
        deaf: Messages of the Router that are lost on the way to it.
    """

    def __init__(self, id: bytes, now: float) -> None:
        self.id = id
        self.session = SchedulerSession(id.decode(), f"nonce of {id!r}", 0.5)
        self.session.connect(now)
        self.inbox: list[list[bytes]] = []
        self.awake = True
        self.deaf = 0

    def turn(self, now: float, wall: float) -> list[list[bytes]]:
        for frames in self.inbox:
            self.session.receive(frames, now)
        self.inbox.clear()
        self.session.tick(now, wall)
        self.session.flush(now)
        out, self.session.outgoing = self.session.outgoing, []
        return out


class ScheduleWorld(World):
    """See the module.

    Attributes:
        ran: Every run that the manager got: (schedule, due time, wall time).
        outcome: What runs end as; empty = they go on and on.
        limit: What the manager asks for.
        deaf_router: Messages of schedulers that are lost.
    """

    def __init__(self, **policy: Any) -> None:
        super().__init__(**policy)
        self.peers: dict[bytes, Peer] = {}
        self.ran: list[tuple[str, float, float]] = []
        self.outcome = "succeeded"
        self.deaf_router = 0
        self.limit = 10_000_000
        self._gone: list[tuple[str, bytes]] = []
        self.join(b"manager", self.limit)

    def restart(self) -> None:
        super().restart()
        self.join(b"manager", self.limit)

    # ---- schedulers ------------------------------------------------------------------------------------

    def start(self, id: bytes) -> Peer:
        self.peers[id] = Peer(id, self.now)
        return self.peers[id]

    def kill(self, id: bytes) -> None:
        """SIGKILL: its connection is gone, as the next message to it will show."""
        del self.peers[id]

    def step(self, seconds: float = STEP_S, clock: float = 0.0) -> None:
        """Time passes, and everybody has a turn; `clock` sets the Router's wall clock besides."""
        self.now += seconds
        self.wall += seconds + clock
        received = [(BACKEND, [b"manager", *v2.encode(b"HEARTBEAT", v2.Beat(0.0, self.limit))])]
        for peer in self.peers.values():
            for frames in peer.turn(self.now, 0.0) if peer.awake else ():
                if self.deaf_router:
                    self.deaf_router -= 1
                else:
                    received.append((FRONTEND, [peer.id, *frames]))
        gone, self._gone = self._gone, []
        self._deliver(self.turn(*received, after=0.0, gone=gone))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def _deliver(self, sent: list[Send]) -> None:
        for each in sent:
            if each.socket == BACKEND and each.frames[2] == b"REQUEST":
                self._work(v2.decode(each.frames[3], v2.Request).jobs)
            elif each.socket == FRONTEND and each.frames[2] != b"REPLY":
                peer = self.peers.get(each.peer)  # type: ignore[call-overload]
                if peer is None:
                    self._gone.append((FRONTEND, each.peer))  # type: ignore[arg-type]
                elif peer.deaf:
                    peer.deaf -= 1
                else:
                    peer.inbox.append(each.frames)

    def _work(self, jobs: list[v2.Job]) -> None:
        for job in jobs:
            schedule = v2.decode(job.options, v2.Options).schedule
            self.ran.append((schedule, int(job.id[:12], 16) / 1000, self.wall))
        if self.outcome:
            self._deliver(self.finish(b"manager", *jobs, state=self.outcome, limit=self.limit))

    # ---- clients ----------------------------------------------------------------------------------------

    def schedule(self, id: str, rule: Rule, token: str = "", **fields: Any) -> Any:
        """SCHEDULE; the answer, or the REFUSED."""
        payload = fields.pop("payload", calls.pack_call((1, 2), {}))
        job = v2.Job("", fields.pop("queue", "default"), fields.pop("name", "tasks.add"), payload, **fields)
        self._n += 1
        body = scheduling.Arrange(self._n, scheduling.Schedule(id, token or f"token {self._n}", rule, job))
        return self._answer(self.client(b"client", b"SCHEDULE", body))

    def unschedule(self, id: str) -> Any:
        self._n += 1
        return self._answer(self.client(b"client", b"UNSCHEDULE", scheduling.CallOff(self._n, id)))

    def _answer(self, sent: list[Send]) -> Any:
        self._deliver(sent)
        (answer,) = [each.frames for each in sent if each.peer == b"client"]
        return v2.decode(answer[3], v2.Answer).answer if answer[2] == b"REPLY" else v2.decode(answer[3], v2.Refused)

    # ---- what can be seen -------------------------------------------------------------------------------

    def holders(self) -> dict[str, bytes | None]:
        """Who ticks each schedule, as the Router has it."""
        return {id: entry.holder for id, entry in self.router.schedules.entries.items()}  # type: ignore[misc]

    def dues(self, schedule: str) -> list[float]:
        return [due for id, due, _ in self.ran if id == schedule]

    def late(self) -> float:
        """The latest run so far: seconds behind its time."""
        return max(at - due for _, due, at in self.ran)

    def each_once(self) -> None:
        doubled = {run: count for run, count in Counter(run[:2] for run in self.ran).items() if count > 1}
        assert not doubled

    def shown(self, id: str) -> dict[str, Any]:
        return self.router.schedules.describe(self.router.schedules.entries[id])
