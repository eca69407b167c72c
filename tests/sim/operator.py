"""An operator at the administrative socket: pauses, drains and bounds queues, requeues, purges, cancels and lists jobs.

Asks one question at a time, again every second until it is answered, and on and on while the answer says where. When
the trouble is over every queue is set free again, and only when the Router says that all of them are is that done.
"""

from __future__ import annotations

from random import Random
from typing import Any

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.protocol import v2
from sim.network import Dealer, Host, Network
from sim.timeline import Timeline, Waker
from sim.witness import Witness

ASKS_PER_SOCKET = 4
"""A question that was asked so often without an answer: a new connection is tried."""

UNDO_S = (0.1, 1.0, 6.0)
"""What is said about a queue is taken back after this time at most."""

REQUEUABLE = sorted(lifecycle.TRANSITIONS["requeue"][0] & lifecycle.TERMINAL)
ENDED = sorted(lifecycle.TERMINAL)

Params = dict[str, Any]


class OperatorProcess:
    """One operator.

    Attributes:
        calm: There is no trouble any more: everything is set free.
    """

    def __init__(
        self,
        name: str,
        every_s: float,
        queues: tuple[str, ...],
        timeline: Timeline,
        rng: Random,
        network: Network,
        witness: Witness,
    ) -> None:
        self.name = name
        self.host = Host(name)
        self.timeline = timeline
        self.calm = False
        self._every_s = every_s
        self._queues = queues
        self._rng = rng
        self._network = network
        self._witness = witness
        self._waker = Waker(timeline, self._turn)
        self._dealer: Dealer | None = None
        self._n = 0
        self._wanted: list[tuple[bytes, Params]] = []
        self._asked: tuple[bytes, Params] | None = None
        self._asked_at = 0.0
        self._asks = 0
        self._free = False

    def boot(self) -> None:
        self._connect()
        self._plan()

    def _connect(self) -> None:
        self._dealer = Dealer(self._network, ADMINISTRATIVE, self.host, b"", self.wake)
        self._asks = 0

    def wake(self) -> None:
        self._waker.wake(self.timeline.now + 0.0001)

    # ---- what it wants -----------------------------------------------------------------------------------

    def _plan(self) -> None:
        self.timeline.after(self._rng.expovariate(1 / self._every_s), self._think)

    def _think(self) -> None:
        if not self.calm:
            self._rng.choice((self._rule, self._rule, self._requeue, self._purge, self._cancel, self._look))()
            self.wake()
            self._plan()

    def relax(self) -> None:
        """The trouble is over."""
        self.calm = True
        self._wanted = [(b"QUEUES", {})]
        self.wake()

    def _rule(self) -> None:
        rng, queue = self._rng, self._rng.choice(self._queues)
        order: tuple[bytes, Params] = rng.choice((
            (b"PAUSE", {"queue": queue}),
            (b"PAUSE", {"queue": queue}),
            (b"DRAIN", {"queue": queue}),
            (b"LIMIT", {"queue": queue, "jobs_max": rng.choice((0, 1, 3, 10))}),
        ))  # fmt: skip
        self._wanted.append(order)
        undo = (b"LIMIT", {"queue": queue, "jobs_max": None}) if order[0] == b"LIMIT" else (b"RESUME", {"queue": queue})
        self.timeline.after(rng.choice(UNDO_S) * rng.random(), self._want, *undo)

    def _want(self, command: bytes, params: Params) -> None:
        if not self.calm:
            self._wanted.append((command, params))
            self.wake()

    def _selection(self, *states: str) -> Params:
        rng = self._rng
        chosen: Params = {"limit": rng.choice((1, 3, limits.LIST_JOBS_MAX))}
        if rng.random() < 0.3:
            chosen["ids"] = self._ids()
        else:
            chosen["states"] = rng.sample(states, k=min(len(states), rng.choice((1, 1, 3))))
        if rng.random() < 0.3:
            chosen["queue"] = rng.choice(self._queues)
        return chosen

    def _ids(self) -> list[str]:
        live = [id for id, view in self._witness.jobs.items() if view.state not in lifecycle.TERMINAL]
        jobs = (live if self._rng.random() < 0.5 else list(self._witness.jobs)) or ["nobody"]
        return [self._rng.choice(jobs) for _ in range(self._rng.randint(1, 8))]

    def _requeue(self) -> None:
        self._wanted.append((b"REQUEUE", self._selection(*REQUEUABLE)))

    def _purge(self) -> None:
        self._wanted.append((b"PURGE", self._selection(*ENDED)))

    def _cancel(self) -> None:
        if self._rng.random() < 0.3:
            chosen = {"states": ["waiting", "delayed"], "queue": self._rng.choice(self._queues)}
        else:
            chosen = {"ids": self._ids()}
        self._wanted.append((b"CANCEL", chosen))

    def _look(self) -> None:
        selection = self._selection("waiting", "delayed", "running", *ENDED)
        if self._rng.random() < 0.2:
            selection["states"] = []
        questions: tuple[tuple[bytes, Params], ...] = (
            (b"JOBS", selection),
            (b"COUNT", selection),
            (b"WHY", {"id": self._ids()[0]}),
            (b"EVENTS", {"after": 0}),
            (b"PROBLEMS", {}),
            (b"QUEUES", {}),
        )
        self._wanted.append(self._rng.choice(questions))

    # ---- the conversation ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        assert self._dealer is not None
        while self._dealer.inbox:
            self._hear(self._dealer.read())
        now = self.timeline.now
        if self._asked is None and self._wanted:
            self._n += 1
            self._asked, self._asked_at, self._asks = self._wanted.pop(0), -1e9, 0
        if self._asked is not None:
            if now >= self._asked_at + limits.RESEND_S:
                self._ask(now)
            self._waker.wake(self._asked_at + limits.RESEND_S)

    def _ask(self, now: float) -> None:
        assert self._asked is not None
        assert self._dealer is not None
        if self._asks >= ASKS_PER_SOCKET:
            self._dealer.close()
            self._connect()
        self._asked_at = now
        self._asks += 1
        command, params = self._asked
        self.timeline.say(f"{self.name} asks {command.decode()} {params}")
        self._dealer.send(v2.encode(command, v2.Question(self._n, params)))

    def _hear(self, frames: list[bytes]) -> None:
        n = v2.unpack(frames[3])[0]
        if self._asked is None or n != self._n:
            return  # answered before
        (command, params), self._asked = self._asked, None
        if frames[2] == b"REPLY":
            self._on_answer(command, params, v2.decode(frames[3], v2.Answer).answer)

    def _on_answer(self, command: bytes, params: Params, answer: Any) -> None:
        if (
            command in (b"JOBS", b"COUNT", b"REQUEUE", b"PURGE", b"CANCEL")
            and answer["next"] is not None
            and not self.calm
        ):
            self._wanted.insert(0, (command, params | {"before": answer["next"]}))
        elif command == b"QUEUES" and self.calm:
            bound = [row for row in answer.items() if row[1]["paused"] or row[1]["draining"]]
            self._wanted = [(b"RESUME", {"queue": name}) for name, _ in bound]
            limited = [name for name, row in answer.items() if row["jobs_max"] is not None]
            self._wanted += [(b"LIMIT", {"queue": name, "jobs_max": None}) for name in limited]
            self._free = not self._wanted
            self._wanted += [(b"QUEUES", {})] if self._wanted else []

    # ---- for the end ---------------------------------------------------------------------------------------

    def pending(self) -> str:
        """What it still wants; "" = nothing."""
        return "" if self._free else f"{self.name} has not set all queues free yet"
