"""A peer that sends what nobody should: garbage, outcomes of others, holdings that it made up, ids of others.

It must not stop the Router, end a job, or make one disappear. What it takes, it never runs.
"""

from __future__ import annotations

from random import Random

from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND
from eventmq.protocol import v2
from sim.network import Dealer, Host, Network
from sim.timeline import Timeline
from sim.truth import Plan, Truth
from sim.witness import Witness

VALUE = v2.pack("a lie")
NUMBERS = (0, 1, -1, 2**31, 2**62, -(2**62), 2**64 - 1)
COMMANDS = (
    b"REQUEST",
    b"INFORM",
    b"REPLY",
    b"PROGRESS",
    b"READY",
    b"HEARTBEAT",
    b"WAIT",
    b"INFO",
    b"STATUS",
    b"KBYE",
    b"ACK",
    b"\xff",
)


class Liar:
    """One such peer with a connection to each socket."""

    def __init__(
        self, name: str, timeline: Timeline, rng: Random, network: Network, truth: Truth, witness: Witness
    ) -> None:
        self.timeline = timeline
        self.rng = rng
        self.truth = truth
        self.witness = witness
        self.host = Host(name)
        self._n = 0
        self._dealers = {
            socket: Dealer(network, socket, self.host, b"", lambda: None)
            for socket in (FRONTEND, BACKEND, ADMINISTRATIVE)
        }

    def lie(self) -> None:
        """One lie or a few."""
        for _ in range(self.rng.randint(1, 4)):
            self.rng.choice((self._garbage, self._steal, self._pretend, self._collide, self._be_greedy, self._ask))()

    def leave(self) -> None:
        for dealer in self._dealers.values():
            dealer.close()

    def _send(self, socket: str, command: bytes, body: v2.Body) -> None:
        self.timeline.say(f"{self.host.name} sends {command.decode()} to the {socket}")
        self._dealers[socket].send(v2.encode(command, body))

    def _next_n(self) -> int:
        self._n += 1
        return self._n

    def _some_jobs(self) -> list[str]:
        """Mostly ones that run now."""
        jobs = self.witness.jobs
        running = [id for id, view in jobs.items() if view.lease]
        ids = running if running and self.rng.random() < 0.7 else list(jobs) or ["nobody"]
        return [self.rng.choice(ids) for _ in range(self.rng.randint(1, 5))]

    def _lease_of(self, id: str) -> int:
        view = self.witness.jobs.get(id)
        return self.rng.choice((*NUMBERS[:6], view.lease if view else 0, view.lease - 1 if view else 0))

    def _garbage(self) -> None:
        rng = self.rng
        frames = [b"", rng.choice((v2.VERSION, b"eMQP/1.0", b"eMQP/9.9")), rng.choice(COMMANDS)]
        bodies = (
            rng.randbytes(rng.randint(0, 20)),
            v2.pack([rng.choice(NUMBERS), rng.choice(("", None, [], {}, 1.5)), [[]]]),
            v2.pack([rng.choice(NUMBERS)]),
            b"\x91" * 2000,
        )
        frames += [rng.choice(bodies) for _ in range(rng.randint(0, 3))]
        self._dealers[rng.choice((FRONTEND, BACKEND))].send(frames[rng.choice((0, 0, 0, 1)) :])

    def _steal(self) -> None:
        """Outcomes of hand-outs that others hold."""
        self._inform([])
        outcomes = []
        for id in self._some_jobs():
            view = self.witness.jobs.get(id)
            lease = view.lease if view else 1
            outcomes.append(
                v2.Outcome(id, lease, self.rng.choice(("succeeded", "failed", "crashed", "returned", "?")), VALUE)
            )
        self._send(BACKEND, b"REPLY", v2.Reply(self._next_n(), outcomes, 0))

    def _pretend(self) -> None:
        """Holdings that it made up. Whoever really runs one of them may be told to stop."""
        held = [v2.Held(id, self._lease_of(id)) for id in self._some_jobs()]
        for each in held:
            self.truth.cause("a liar claimed it", each.id, 20.0)
        self._inform(held)

    def _inform(self, held: list[v2.Held]) -> None:
        queues = [(10, name) for name in ("q0", "q1")]
        name, nonce = self.host.name, f"{self.rng.getrandbits(32):08x}"
        self._send(BACKEND, b"INFORM", v2.Inform(self._next_n(), name, nonce, queues, held))

    def _be_greedy(self) -> None:
        self._inform([])
        self._send(BACKEND, b"READY", v2.Ready(self.rng.choice((1, 3, *NUMBERS[:6]))))

    def _collide(self) -> None:
        """Ids of others' jobs with other payloads, one new id twice in one REQUEST, jobs that are none."""
        fresh = f"liar-{self.host.name}-{self._n}"
        plain = v2.Job(fresh, "q0", "tasks.add", v2.pack(["fresh"]))
        self.truth.plans[fresh] = Plan(plain, [("ok", 0.001)])
        jobs = [v2.Job(id, "q0", "tasks.add", v2.pack(["other"])) for id in self._some_jobs()]
        jobs += [v2.Job(fresh, "q0", "tasks.add", v2.pack(["fresh"])) for _ in range(2)]
        jobs += [v2.Job("", "q0", "t.a", b""), v2.Job("x" * 99, "q0", "t.a", b""), v2.Job("p", "q0", "t.a", b"", 999)]
        jobs += [v2.Job("o", "q0", "t.a", b"", 0, b"\x81\xa1x\x01"), v2.Job("q", "", "t.a", b"")]
        self._send(FRONTEND, b"REQUEST", v2.Request(self._next_n(), [j for j in jobs if j.id != "nobody"]))

    def _ask(self) -> None:
        ids = self._some_jobs()
        self._send(FRONTEND, b"WAIT", v2.Wait(self._next_n(), ids))
        self._send(FRONTEND, b"INFO", v2.Info(self._next_n(), ids[0]))
        self._send(ADMINISTRATIVE, self.rng.choice((b"STATUS", b"WORKERS", b"QUEUES")), v2.Question(self._next_n()))
