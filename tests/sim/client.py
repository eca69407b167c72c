"""A client's loop on the simulated clock, as `client/sync.py` does it: the real `Exchange`, and an application on top.

The application enqueues its batches at their times, tries again with the same ids when the Router does not answer
(or gives up), and then awaits every outcome. When the process dies it starts again with what it had written down: its
batches, and which of them it knows to be stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from random import Random

from eventmq.client.exchange import Exchange
from eventmq.client.pending import NEVER, Call, Delivery, Waiting
from eventmq.errors import BrokerUnavailable, JobRefused
from eventmq.protocol import v2
from sim.network import Dealer, Host, Network
from sim.timeline import Timeline, Violation, Waker
from sim.truth import Truth

TIMEOUT_S = 5.0
AWAIT_S = (20.0, 1e6)
PASSING = {"draining", "storage_full", "queue_full", "queue_draining", "duplicate"}
"""Refusals after which an application tries again later, or needs not."""

GIVES_UP = 0.1
"""Share of unanswered batches that are not tried again."""


@dataclass
class Batch:
    """Jobs of one `deliver`, and how far they are: `new`, `asked`, `stored`, `done`, `abandoned`.

    Attributes:
        due: When they are enqueued.
        cancel_at: When some of them are cancelled; None = never.
        instead: By id of those in whose way another job is: that one, which is awaited instead.
    """

    due: float
    jobs: list[v2.Job]
    cancel_at: float | None = None
    state: str = "new"
    call: Call | None = None
    instead: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [job.id for job in self.jobs]

    @property
    def awaited(self) -> list[str]:
        """The jobs whose outcomes are wanted."""
        return list(dict.fromkeys(self.instead.get(id, id) for id in self.ids))


class ClientProcess:
    """One client."""

    def __init__(
        self, name: str, batches: list[Batch], timeline: Timeline, rng: Random, network: Network, truth: Truth
    ) -> None:
        self.name = name
        self.batches = batches
        self.timeline = timeline
        self.rng = rng
        self.network = network
        self.truth = truth
        self.host = Host(name)
        self.waker = Waker(timeline, self._turn)
        self.exchange: Exchange | None = None
        self.calm = False
        self.dealer: Dealer | None = None

    def boot(self) -> None:
        if self.exchange is not None:
            return
        self.exchange = Exchange("sim")
        self._connect()
        for batch in self.batches:
            if batch.state in ("new", "asked"):
                batch.state = "new"
                self.timeline.at(batch.due, self._deliver, batch, self.exchange)
            elif batch.state == "stored":
                self._await(batch, self.exchange)
            if batch.cancel_at is not None:
                self.timeline.at(batch.cancel_at, self._cancel, batch, self.exchange)
        self.wake()

    def crash(self) -> None:
        if self.exchange is None:
            return
        self.timeline.say(f"{self.name} dies")
        self.exchange = None
        assert self.dealer is not None
        self.dealer.close()
        self.waker.cancel()
        self.timeline.after(self.rng.choice((0.1, 3.0)), self.boot)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.timeline.say(f"{self.name} stands still for {seconds:.3f} s")
        self.waker.pause(self.timeline.now + seconds)

    # ---- the application ---------------------------------------------------------------------------------

    def _deliver(self, batch: Batch, exchange: Exchange) -> None:
        if exchange is self.exchange and batch.state == "new":
            batch.state = "asked"
            copies = [v2.decode(v2.pack(job), v2.Job) for job in batch.jobs]
            batch.call = exchange.deliver(copies, self.timeline.now, TIMEOUT_S)
            self.wake()

    def _await(self, batch: Batch, exchange: Exchange) -> None:
        if exchange is self.exchange:
            self.truth.awaited.update(batch.awaited)
            batch.call = exchange.wait(batch.awaited, self.timeline.now + self.rng.choice(AWAIT_S))
            self.wake()

    def _cancel(self, batch: Batch, exchange: Exchange) -> None:
        """Some of the batch, whether it is stored or not, or all that is older; asked once."""
        if exchange is self.exchange:
            batch.cancel_at = None
            older = [id for other in self.batches for id in other.ids if other.due <= batch.due]
            ids = self.rng.choice((self.rng.sample(batch.ids, self.rng.randint(1, len(batch.ids))), older))
            self.truth.cancelled.update(ids)
            self.timeline.say(f"{self.name} cancels {ids}")
            grace_s = self.rng.choice((0.0, 0.5, 5.0))
            cancel = partial(v2.Cancel, ids=ids, grace_s=grace_s)
            exchange.query(b"CANCEL", cancel, self.timeline.now + TIMEOUT_S + grace_s)
            self.wake()

    def _react(self, batch: Batch) -> None:
        call, batch.call = batch.call, None
        if isinstance(call, Delivery):
            self._delivered(batch, call)
        elif isinstance(call, Waiting):
            self._told(batch, call)

    def _delivered(self, batch: Batch, call: Delivery) -> None:
        exchange = self.exchange
        assert exchange is not None
        batch.instead = call.existing
        refused = {refusal.reason for refusal in call.refusals}
        if not call.unanswered:
            for id in batch.ids:
                if id not in batch.instead and id not in {refusal.id for refusal in call.refusals}:
                    self.truth.acked.setdefault(id, self.timeline.now)
        if call.error is None or (refused == {"duplicate"} and not call.unanswered):
            batch.state = "stored"
            self.timeline.say(f"{self.name} knows {len(batch.jobs)} jobs stored, from {batch.jobs[0].id}")
            self._await(batch, exchange)
            return
        late = isinstance(call.error, BrokerUnavailable | JobRefused) and not refused
        if not (late or (refused and refused <= PASSING)):
            raise Violation(f"{self.name}: {call.error}")
        self.timeline.say(f"{self.name} failed to enqueue from {batch.jobs[0].id}: {type(call.error).__name__}")
        batch.state = "new"
        if not self.calm and self.rng.random() < GIVES_UP:
            batch.state = "abandoned"
        else:
            self.timeline.after(self.rng.choice((0.0, 0.5, 3.0)), self._deliver, batch, exchange)

    def _told(self, batch: Batch, call: Waiting) -> None:
        assert self.exchange is not None
        for result in call.results.values():
            self.truth.told.add(result.id)
            if result.state != "unknown":
                self.truth.check_result(result)
            elif result.id not in self.truth.forgotten:
                raise Violation(f"{self.name} is told that {result.id}, which was stored, is unknown")
        if call.missing:
            self._await(batch, self.exchange)
        else:
            batch.state = "done"

    # ---- the loop ------------------------------------------------------------------------------------

    def wake(self) -> None:
        if self.exchange is not None:
            self.waker.wake(self.timeline.now + 0.00005)

    def _connect(self) -> Dealer:
        self.dealer = Dealer(self.network, "frontend", self.host, b"", self.wake)
        return self.dealer

    def _turn(self) -> None:
        exchange, dealer = self.exchange, self.dealer
        assert exchange is not None
        assert dealer is not None
        now = self.timeline.now
        while dealer.inbox:
            exchange.receive(dealer.read(), now)
        exchange.expire(now)
        messages = exchange.outgoing(now)
        if exchange.suspect:
            self.timeline.say(f"{self.name} opens a new socket")
            dealer.close()
            exchange.reopened()
            messages = exchange.outgoing(now)
            dealer = self._connect()
        for frames in messages:
            dealer.send(frames)
        for batch in self.batches:
            if batch.call is not None and batch.call.done:
                self._react(batch)
        when = exchange.next_time()
        if when < NEVER:
            self.waker.wake(max(when, now + 0.0001))

    # ---- for the end ---------------------------------------------------------------------------------

    def pending(self) -> str:
        """What it still wants; "" = nothing."""
        if self.exchange is None:
            return f"{self.name} is not there"
        left = [f"{batch.state} {batch.ids}" for batch in self.batches if batch.state not in ("done", "abandoned")]
        return f"{self.name} awaits {left}" if left else ""
