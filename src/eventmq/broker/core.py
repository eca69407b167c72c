"""What every part of the Router shares, and the turn of its loop.

    turn:  receive ─▶ decide (memory only) ─▶ commit ─▶ answer questions ─▶ send ─▶ upkeep

`decide`, `commit`, `answer_questions` and `upkeep` make a turn. They get what was received and the time, and return
what to send; they read no clock and no socket. Whatever a peer sends, it comes out of `receive` as an effect, a refusal
or nothing. An exception that leaves a turn is a broken invariant or a broken store, and the Router stops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

import msgspec

from eventmq import limits
from eventmq.broker.events import Events
from eventmq.broker.handlers import Handlers, together
from eventmq.broker.history import History
from eventmq.broker.ledger import Ledger
from eventmq.broker.outbox import BACKEND, Outbox, Send
from eventmq.broker.policy import Policy
from eventmq.broker.pool import Manager, PeerId, Pool
from eventmq.broker.reunion import Reunion
from eventmq.broker.schedule import Scheduler
from eventmq.broker.schedules import Schedules
from eventmq.broker.stops import Stops
from eventmq.broker.waiters import Waiters
from eventmq.broker.watch import Watch
from eventmq.errors import REASONS, InvalidMessageError, StorageFull
from eventmq.protocol import v1, v2
from eventmq.store.base import Record, Store


class Note(NamedTuple):
    """Something for the log: level, a key that groups repetitions, the sentence."""

    level: str
    key: str
    text: str


class Core(ABC):
    """State and turn of the Router; the sockets' parts derive from it.

    Attributes:
        now: Monotonic time of this turn.
        wall: Wall time of this turn.
        ledger: The jobs.
        pool: The job managers.
        history: What has happened.
        schedules: What is due when.
        schedulers: The schedulers by connection.
        scheduler_queue: Their connections, in the order to use them.
        watch: What has been going on.
        events: What happens, for those who watch.
        waiters: Clients that wait for outcomes.
        stops: Cancelled jobs whose runs are being stopped.
        outbox: What this turn wants sent.
        turns: Turns of the loop since the start.
        spent_s: What they took by step, in seconds, kept by whoever runs the loop.
        asking: How many questions of each operator wait to be answered.
        questions: What is to be answered after the commit: what it costs in rows of the store, and how.
        expected: Managers that were connected before a restart and have not come back yet.
        understood, refusals: Messages understood, by command; messages and jobs refused, by reason.
        storage_full: The store has no room for new jobs.
        received_disconnect: The Router was told to end: it accepts nothing new.
        ending_since: Monotonic time at which it was told.
    """

    handlers: ClassVar[dict[str, Handlers]] = {}

    def __init__(self, store: Store, policy: Policy, now: float, wall: float) -> None:
        self.policy = policy
        self.now = now
        self.wall = wall
        self.started = now
        self.pool = Pool()
        self.store = store
        self.storage_full = False
        self.ledger = self._open_ledger()
        self.history = History(store.past, self.ledger.facts, wall)
        self.schedules = Schedules(self.ledger)
        self.schedulers: dict[PeerId, Scheduler] = {}
        self.scheduler_queue: list[PeerId] = []
        self.watch = Watch()
        self.events = Events(self.ledger.epoch << 32)
        self.waiters = Waiters()
        self.stops = Stops()
        self.outbox = Outbox()
        self.asking: Counter[PeerId] = Counter()
        self.questions: deque[tuple[int, Callable[[], None]]] = deque()
        self.notes: list[Note] = []
        self.understood: Counter[bytes] = Counter()
        self.refusals: Counter[str] = Counter()
        self.beats: Counter[str] = Counter()
        self.received_disconnect = False
        self.ending_since = now
        self._await_managers()
        self._next_check = now
        self._next_sweep = self._next_survey = now + limits.SWEEP_S
        self._messages = self.turns = 0
        self.spent_s: dict[str, float] = {}

    # ---- the turn ------------------------------------------------------------------------------------

    def decide(
        self,
        received: Sequence[tuple[str, list[bytes]]],
        unreachable: Iterable[tuple[str, PeerId]],
        now: float,
        wall: float,
        drained: bool,
    ) -> None:
        """What follows from what has come and from the time, in memory only.

        Args:
            received: (socket, frames with the sender's identity in front), in order of arrival.
            unreachable: Peers that an earlier send found gone.
            now: Monotonic time.
            wall: Wall time.
            drained: Whether `received` was all there was: only then may silence be judged.
        """
        since = now - self.now
        if since > limits.STALL_S and now - self.next_deadline() > limits.STALL_S:
            self.forgive(since)
        self.now, self.wall = now, wall
        self.turns += 1
        for many, messages in together(received, self.handlers):
            if many:
                getattr(self, many)([frames for _, frames in messages])
            else:
                for socket, frames in messages:
                    self.receive(socket, frames)
        for socket, peer in unreachable:
            self.on_unreachable(socket, peer)
        self.tick(drained)

    def commit(self) -> None:
        """Makes durable what was decided, then tells those who wait for it."""
        ledger = self.ledger
        self.schedules.ended(self.wall)
        if ledger.changes:
            try:
                self.store.apply(ledger.changes)
            except StorageFull as error:
                self._start_over(error)
                return
        self.history.count(ledger, self.wall)
        if self.now < self.events.until:
            self.events.observe(ledger, self.wall)
        if ledger.ended:
            for peer, result in self.waiters.ended(ledger.ended):
                self.outbox.tell(peer, result)
            for peer, result in self.waiters.ended_1_0(ledger.ended):
                self.reply_1_0(peer, result)
            for manager, held in ledger.kills:
                if manager.wire == 2:
                    self.stops.begin(held, manager.incarnation, self.now, limits.CANCEL_GRACE_S)
                    self.stops.order(held.id, self.now, self.pool, self.outbox)
        ledger.applied()

    def _start_over(self, error: StorageFull) -> None:
        """The store has no room for this turn's new jobs. Nothing of the turn has happened: not in the store, and
        nobody was told. So memory is made anew from the store, as after a restart; managers say again what they hold,
        and everybody repeats what was not acknowledged. New jobs are refused until there is room."""
        self.note("error", "storage_full", f"new jobs are refused, accepted ones go on: {error}")
        self.storage_full = True
        self.pool = Pool()
        self.ledger = self._open_ledger(self.ledger.next_lease)
        self.schedules = Schedules(self.ledger)
        self.schedulers, self.scheduler_queue = {}, []
        self._await_managers()
        self.outbox, self.stops = Outbox(), Stops()
        self.questions.clear()
        self.asking.clear()

    def _open_ledger(self, first_lease: int = 0) -> Ledger:
        ledger = Ledger(self.store, self.pool, self.policy, self.now, self.wall, first_lease)
        with suppress(StorageFull):  # that memory has no room for all is said in the next commit then
            self.store.apply(ledger.changes)
            ledger.applied()
            ledger.refill(self.wall)
        return ledger

    def _await_managers(self) -> None:
        self.reunion = Reunion(self.ledger, self.now + self.policy.reconcile_s)
        self.expected = self.reunion.expected

    def _look_for_managers(self) -> None:
        late = self.reunion.look(self.now, self.wall)
        if late:
            names = ", ".join(incarnation.name for incarnation in late)
            for incarnation in late:
                self.watch.lose(incarnation.name, 0, self.now)
            self.note("warning", "expected", f"did not come back within {self.policy.reconcile_s:g} s: {names}")

    def ask(self, cost: int, answer: Callable[[], None]) -> None:
        """To be answered behind the commit, for `cost` rows of the store.

        Raises:
            InvalidMessageError: Too many wait already; whoever asks asks again.
        """
        if len(self.questions) >= limits.QUESTIONS_MAX:
            raise InvalidMessageError("too many questions wait to be answered", "too_large")
        self.questions.append((cost, answer))

    def answer_questions(self) -> list[Send]:
        """As many as a turn has time for, in order; memory and store agree now. Returns what to send."""
        self.stops.answer(self.outbox)
        left = limits.TURN_ANSWERS
        while self.questions and left > 0:
            cost, answer = self.questions.popleft()
            answer()
            left -= cost
        return self.outbox.drain()

    def upkeep(self) -> None:
        """What nobody waits for, once the turn's messages have left."""
        if self.history.look(self.ledger, self.wall):
            self.commit()
        if not self.ledger.changes and (self.ledger.short_queues or self.ledger.timers.edge is not None):
            self.ledger.refill(self.wall)
        if self.now >= self._next_sweep:
            forgotten = self.store.forget(self.wall, limits.SWEEP_ROWS, self.policy.results_max, self.policy.dead_max)
            self._next_sweep = self.now + (limits.SWEEP_S if forgotten < limits.ACT_JOBS_MAX else limits.SWEEP_AGAIN_S)
        self.store.upkeep()

    def next_deadline(self) -> float:
        """Monotonic time at which `turn` has something to do even if nothing is received."""
        if self.ledger.changes:  # there was no room for them
            return self._next_check
        jobs = self.ledger.timers.wants_page(self.wall) or (self.ledger.changed_queues and not self.holding)
        if self.questions or self.history.busy or jobs:
            return self.now
        deadline = self._next_check if self.pool.managers or self.schedulers or self.expected else self._next_sweep
        for due in (self.ledger.timers.next_due, None if self.holding else self.ledger.room.expiries.next):
            if due is not None:
                deadline = min(deadline, self.now + max(0.0, due - self.wall))
        return deadline

    def tick(self, drained: bool) -> None:
        """Beats, silence, hand-outs."""
        if self.now >= self._next_check:
            self._next_check = self.now + min(0.1, self.policy.heartbeat_s / 2)
            self.check_peers(drained)
            self.waiters.grow_older(self.now)
            if self.storage_full and self.store.info()["room"]:
                self.storage_full = False
                self.note("info", "storage_room", "there is room again: new jobs are accepted")
        self._look_for_managers()
        self.ledger.wake(self.now, self.wall)
        if self.now >= self._next_survey:
            self._next_survey = self.now + limits.SWEEP_S
            # a scheduler of 2020 forgets nothing as long as it lives
            for queue in self.watch.look(self.now, self.ledger, self.pool, self.refusals, self.holding):
                self.note("error", f"stalled {queue}", f"queue {queue!r}: jobs could be handed out, and nothing moves")
            self.schedules.sweep(self.wall, keep=any(each.wire == 1 for each in self.schedulers.values()))
        self.distribute()
        if not self.holding:
            self.ledger.expire(self.wall)
            self.hand_out()

    @property
    def closed(self) -> str:
        """Why no jobs are accepted at all: a reason, or nothing."""
        if self.received_disconnect:
            return "draining"
        return "storage_full" if self.storage_full else ""

    def check_open(self) -> None:
        """Raises InvalidMessageError if no new jobs are accepted at all."""
        if self.closed:
            raise InvalidMessageError(REASONS[self.closed], self.closed)

    @property
    def holding(self) -> bool:
        """After a restart nothing is handed out while managers that may still run jobs are expected back; and
        nothing while the Router is shutting down."""
        return bool(self.expected) or self.received_disconnect

    def forgive(self, seconds: float) -> None:
        """The loop itself stood still: peers get the time back."""
        self.pool.forgive(seconds)
        for scheduler in self.schedulers.values():
            scheduler.hb += seconds
        self.reunion.until += seconds
        self.note("warning", "stall", f"the Router's loop stood still for {seconds:.2f} s")

    # ---- messages ------------------------------------------------------------------------------------

    def receive(self, socket: str, frames: list[bytes]) -> None:
        """One message of any content whatever."""
        try:
            self.process(socket, frames)
        except InvalidMessageError as error:
            self.refuse(socket, frames, error)

    def process(self, socket: str, frames: list[bytes]) -> None:
        """One message, by the socket's table.

        Raises:
            InvalidMessageError: It cannot be parsed, or has no handler.
        """
        if not 4 <= len(frames) <= limits.FRAMES_MAX or frames[1]:
            raise InvalidMessageError(f"{len(frames)} frames; expected identity, empty, version, command, …")
        version, command = frames[2], frames[3]
        handler = self.handlers[socket].get((version, command))
        if handler is None:
            if version not in (v1.VERSION, v2.VERSION):
                raise InvalidMessageError(f"version {version[:20]!r}", "unsupported_version")
            raise InvalidMessageError(f"command {command[:40]!r} on the {socket}", "unknown_command")
        if len(frames) < 5:
            raise InvalidMessageError(f"{command.decode()} ends after its command")
        if handler.body is None:
            said: tuple[Any, ...] = v1.text(frames[4]), frames[5:], *handler.more
        else:
            try:
                said = v2.decode(frames[4], handler.body), *handler.more
            except msgspec.MsgspecError as error:
                raise InvalidMessageError(f"the body of {command.decode()}: {error}") from error
        getattr(self, handler.method)(frames[0], *said)
        self.understood[command] += 1

    def refuse(self, socket: str, frames: list[bytes], error: InvalidMessageError) -> None:
        """Counts and notes a message that was not understood, and tells a peer that speaks eMQP/2.0."""
        self.refusals[error.reason] += 1
        text = str(error)[: limits.REFUSAL_TEXT_CHARS_MAX]
        self.note("warning", error.reason, f"refused a message on the {socket}, {error.reason}: {text}")
        if len(frames) > 2 and frames[2] == v2.VERSION:
            self.send_refused(socket, frames[0], 0, error.reason, text)

    def send_refused(self, socket: str, peer: PeerId, n: int, reason: str, text: str) -> None:
        self.outbox.send(socket, peer, v2.encode(b"REFUSED", v2.Refused(n, reason, text)))

    def note(self, level: str, key: str, text: str) -> None:
        """Leaves a sentence for whoever runs the loop to log."""
        if len(self.notes) < limits.BATCH_JOBS_MAX:
            self.notes.append(Note(level, key, text))

    def tell(self, event: str, **about: Any) -> None:
        """Tells those who watch, if anybody does."""
        if self.now < self.events.until:
            self.events.add(self.wall, event, about)

    def new_id(self) -> str:
        """An id for a message of ours, unique over restarts."""
        self._messages += 1
        return f"router-{self.ledger.epoch}-{self._messages}"

    # ---- what the parts provide ---------------------------------------------------------------------------

    def on_unreachable(self, socket: str, peer: PeerId) -> None:
        """A send found that the peer's connection is gone."""
        if socket == BACKEND:
            manager = self.pool.managers.get(peer)
            if manager is not None and manager.suspect_since is None:
                manager.suspect_since = self.now
                manager.crew.rested(manager)
        elif peer in self.schedulers:
            self.forget_scheduler(peer)

    @abstractmethod
    def check_peers(self, drained: bool) -> None:
        """Beats, and judges who is gone."""

    @abstractmethod
    def hand_out(self) -> None:
        """Gives waiting jobs to managers with credit."""

    @abstractmethod
    def reply_1_0(self, peer: PeerId, result: v2.Result) -> None:
        """Tells a client that speaks eMQP/1.0 of a job that ended."""

    @abstractmethod
    def describe(self, record: Record) -> dict[str, Any]:
        """Everything that is known of a job, for a person."""

    def started_at(self, since: float) -> float:
        """Wall time of a hand-out at monotonic time `since`."""
        return self.wall - (self.now - since)

    @abstractmethod
    def distribute(self) -> None:
        """Tells schedulers what is theirs."""

    @abstractmethod
    def forget_scheduler(self, scheduler_id: PeerId) -> None:
        """A scheduler is gone."""

    def drain_manager(self, manager: Manager) -> None:
        """Tells a manager to finish what it runs, give back the rest, and leave."""
        manager.draining = True
        manager.crew.rested(manager)
        frames = v2.encode(b"DISCONNECT", v2.Empty()) if manager.wire == 2 else v1.encode(b"DISCONNECT", self.new_id())
        self.outbox.send(BACKEND, manager.id, frames)
