"""The backend socket: job managers announce themselves, ask for jobs with credits, report outcomes, beat.

The published API calls a job manager a worker. Its names here: `process_worker_message`, `add_worker`,
`get_available_worker`, `requeue_worker`, `on_inform`, `on_heartbeat`, `clean_up_dead_workers`,
`send_workers_heartbeats`. What eMQP/1.0 managers say of their jobs is `backend_v1`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventmq import limits
from eventmq.broker.admission import check_queues
from eventmq.broker.handlers import Handler, Handlers
from eventmq.broker.lifecycle import CRASHED
from eventmq.broker.outbox import BACKEND, FRONTEND
from eventmq.broker.pool import Incarnation, Manager, PeerId, fact_of, ordered, text_of
from eventmq.broker.scheduling import Scheduling
from eventmq.errors import InvalidMessageError, NoAvailableWorkerSlotsError, UnknownQueueError
from eventmq.protocol import v1, v2
from eventmq.protocol.scheduling import Announcement
from eventmq.protocol.v2 import Failure, Job, Outcome, options_of

HANDLERS: Handlers = {
    (v1.VERSION, b"INFORM"): Handler("on_inform"),
    (v1.VERSION, b"READY"): Handler("on_ready", many="on_worked_1_0"),
    (v1.VERSION, b"REPLY"): Handler("on_reply", many="on_worked_1_0"),
    (v1.VERSION, b"HEARTBEAT"): Handler("on_heartbeat"),
    (v1.VERSION, b"KBYE"): Handler("on_kbye"),
    (v1.VERSION, b"KBAI"): Handler("on_kbye"),
    (v2.VERSION, b"INFORM"): Handler("on_informed", Announcement),
    (v2.VERSION, b"READY"): Handler("on_credit", v2.Ready),
    (v2.VERSION, b"REPLY"): Handler("on_outcomes", v2.Reply),
    (v2.VERSION, b"HEARTBEAT"): Handler("on_beat", v2.Beat),
    (v2.VERSION, b"PROGRESS"): Handler("on_progress", v2.Progress),
    (v2.VERSION, b"DISCONNECT"): Handler("on_leaving", v2.Empty),
    (v2.VERSION, b"KBYE"): Handler("on_kbye", v2.Empty),
}


GOODBYE = "said goodbye"


class Backend(Scheduling):
    """Handlers of the backend."""

    def process_worker_message(self, msg: list[bytes]) -> None:
        """Handles one message from the backend, its sender's identity in front; what has no handler is a warning."""
        self.receive(BACKEND, msg)

    # ---- coming --------------------------------------------------------------------------------------

    def add_worker(self, worker_id: PeerId, queues: Iterable[tuple[int, str]] | None = None) -> None:
        """Adds a job manager that speaks eMQP/1.0 to one or more queues, without a free slot yet.

        Args:
            worker_id: Its connection.
            queues: (weight, name) pairs; None or empty = the Router's default queues.
        """
        known = self.pool.managers.get(worker_id)
        if known is not None:
            self.lose(known, "announced itself again")
        self._join(worker_id, 1, Incarnation(text_of(worker_id), ""), queues or ())

    def _join(
        self, id: PeerId, wire: int, incarnation: Incarnation, queues: Iterable[tuple[int, str]], fair: bool = False
    ) -> Manager:
        wanted = ordered(queues) or ordered(self.policy.default_queues)
        manager = self.pool.add(id, wire, incarnation, wanted, self.now, fair)
        self.ledger.welcome(manager.crew)
        self.ledger.changes.facts[fact_of(incarnation)] = b""
        self.expected.discard(incarnation)
        self.watch.lost.pop(incarnation.name, None)
        self.tell("manager_joined", manager=incarnation.name)
        return manager

    def on_inform(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """An eMQP/1.0 job manager or scheduler comes online: queues, kind.

        Raises:
            InvalidMessageError: It is not an INFORM, or there are too many peers.
        """
        if len(msg) < 2:
            raise InvalidMessageError(f"INFORM has {len(msg)} frames after its id, expected queues and kind")
        if self.received_disconnect:
            raise InvalidMessageError("the Router is shutting down", "draining")
        self.check_room(sender)
        match msg[1]:
            case b"worker":
                queues = v1.parse_queues(v1.text(msg[0]))
                check_queues(queues)
                self.add_worker(sender, queues)
                self.send_ack(BACKEND, sender, msgid)
                # A 2020 manager sends no READY before the first heartbeat has reached it.
                self._tell(self.pool.managers[sender])
            case b"scheduler":
                self.add_scheduler(sender)
                self.send_ack(FRONTEND, sender, msgid)
            case kind:
                raise InvalidMessageError(f"INFORM of a {kind[:40]!r}, expected worker or scheduler")

    def on_informed(self, sender: PeerId, body: Announcement) -> None:
        """An eMQP/2.0 job manager comes, or comes back: what it still holds is compared with what it was given.

        Raises:
            InvalidMessageError: A name or queue is not acceptable, or there are too many peers.
        """
        incarnation = Incarnation(body.name, body.nonce)
        check_queues(body.queues)
        if not 0 < len(body.name) <= limits.NAME_CHARS_MAX or not 0 < len(body.nonce) <= limits.ID_CHARS_MAX:
            raise InvalidMessageError(f"name and nonce have 1 to {limits.NAME_CHARS_MAX} characters")
        if len(v2.pack(body.about)) > limits.ABOUT_BYTES_MAX:
            raise InvalidMessageError(f"a manager tells of itself {limits.ABOUT_BYTES_MAX} bytes at most", "too_large")
        self.check_room(sender)
        before = self.pool.incarnations.get(incarnation)
        if before is not None and body.n <= before.informed:
            # From a connection that was given up: what has been handed out since looks as if it had never begun.
            raise InvalidMessageError(f"INFORM {body.n} of {body.name} after {before.informed}", "out_of_date")
        other = self.pool.managers.get(sender)
        if before is not None:
            self.pool.remove(before)
        if other is not None and other is not before:
            self.lose(other, "gave up its connection to another")
        self._forget_namesake(incarnation)
        self.commit()
        manager = self._join(sender, 2, incarnation, body.queues, body.fair)
        manager.about, manager.informed = body.about, body.n
        unwanted = self.stops.came_back(incarnation, body.held)
        verdicts = [v2.Verdict(held.id, held.lease, self._verdict(held, unwanted, manager)) for held in body.held]
        if before is not None:
            self.ledger.give_back(self.ledger.held_by(before))
        self._declare(body)
        self.note("info", "manager_here", f"job manager {body.name} is here, holding {len(body.held)} jobs")
        self.outbox.send(BACKEND, sender, v2.encode(b"ACK", v2.Informed(body.n, verdicts)))
        for held in unwanted:
            self.stops.order(held.id, self.now, self.pool, self.outbox)
        if before is not None and before.draining:
            self.drain_manager(manager)  # the order may have been lost with the connection

    def _verdict(self, held: v2.Held, unwanted: list[v2.Held], manager: Manager) -> str:
        return "keep" if held in unwanted else self.ledger.adopt(held.id, held.lease, manager, self.now)

    def _declare(self, body: Announcement) -> None:
        """What the manager's modules declare is scheduled, unless a manager with newer ones was here."""
        for each in body.declared:
            since = min(each.since, self.wall)
            for text in self.schedules.declare(each.module[: limits.NAME_CHARS_MAX], since, each.schedules, self.wall):
                self.note("error", "declared", text)

    def _forget_namesake(self, incarnation: Incarnation) -> None:
        """A manager of this name whose connection is gone was replaced by this one: no need to wait longer for it."""
        for other in list(self.pool.managers.values()):
            if other.incarnation.name == incarnation.name and other.suspect_since is not None:
                self.lose(other, "was replaced")

    # ---- credit --------------------------------------------------------------------------------------

    def heard(self, sender: PeerId) -> Manager:
        """The manager that a frame came from; any frame counts as a heartbeat.

        Raises:
            InvalidMessageError: It is not known.
        """
        manager = self.pool.managers.get(sender)
        if manager is None:
            raise InvalidMessageError("a job manager must INFORM first", "unknown_peer")
        manager.heard = self.now
        if manager.suspect_since is not None:
            manager.suspect_since = None
            self._rested(manager)
        return manager

    def _rested(self, manager: Manager) -> None:
        manager.crew.rested(manager)
        self.ledger.changed_crews[manager.crew] = None

    def requeue_worker(self, worker_id: PeerId) -> None:
        """Puts a manager back, with one more free slot, into the pools that it is a member of."""
        manager = self.pool.managers[worker_id]
        self._allow(manager, manager.limit + 1)

    def get_available_worker(self, queue_name: str = "default") -> PeerId:
        """Takes the next free slot for a queue.

        Returns:
            The manager that it belongs to.

        Raises:
            UnknownQueueError: Nobody has announced the queue.
            NoAvailableWorkerSlotsError: Nobody who serves it has a free slot.
        """
        crews = self.pool.crews_of(queue_name)
        if not crews:
            raise UnknownQueueError(f"no job manager has announced the queue {queue_name!r}")
        for crew in crews:
            manager = crew.next_idle()
            if manager is not None:
                manager.limit -= 1
                crew.used(manager)
                return manager.id
        raise NoAvailableWorkerSlotsError(f"no job manager that serves {queue_name!r} has a free slot")

    def on_credit(self, sender: PeerId, body: v2.Ready) -> None:
        """An eMQP/2.0 manager's credit."""
        self._allow(self.heard(sender), body.limit)

    def _allow(self, manager: Manager, limit: int) -> None:
        manager.limit = min(limit, manager.sent + limits.CREDIT_MAX)
        self._rested(manager)

    # ---- outcomes ------------------------------------------------------------------------------------

    def on_outcomes(self, sender: PeerId, body: v2.Reply) -> None:
        """An eMQP/2.0 manager's REPLY, ACKed when durable."""
        manager = self.heard(sender)
        self._settle(manager, body.outcomes)
        self._allow(manager, body.limit)
        self.outbox.send(BACKEND, sender, v2.encode(b"ACK", v2.Ack(body.n)))

    def on_progress(self, sender: PeerId, body: v2.Progress) -> None:
        """What jobs at an eMQP/2.0 manager say of themselves."""
        self.ledger.take_reports(body.reports, self.heard(sender))

    def _settle(self, manager: Manager, outcomes: list[Outcome]) -> None:
        if self.stops.runs:
            outcomes = self.stops.settle(outcomes, manager.incarnation)
        self.ledger.settle(outcomes, manager, self.now, self.wall)

    # ---- liveness ------------------------------------------------------------------------------------

    def on_heartbeat(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """Nothing by itself: any message counts as a heartbeat."""
        self.heard(sender)

    def on_beat(self, sender: PeerId, body: v2.Beat) -> None:
        """An eMQP/2.0 manager's heartbeat repeats its credit."""
        manager = self.heard(sender)
        manager.clock = body.clock
        manager.skew_s = body.time - self.wall
        self._allow(manager, body.count)

    def on_leaving(self, sender: PeerId, body: v2.Empty) -> None:
        """A manager finishes what it runs and takes no more."""
        manager = self.heard(sender)
        manager.draining = True
        self._rested(manager)

    def on_kbye(self, sender: PeerId, *message: object) -> None:
        """A manager leaves."""
        self.lose(self.heard(sender), GOODBYE)

    def lose(self, manager: Manager, why: str) -> None:
        """Forgets a manager; what it held waits again, and may have run in part."""
        held = self._cut_short(manager, why)
        if why != GOODBYE:
            self.watch.lose(manager.incarnation.name, held, self.now)
        event = "manager_left" if why == GOODBYE else "manager_lost"
        self.tell(event, manager=manager.incarnation.name, jobs=held)
        self.stops.lose(manager.incarnation)
        self.outbox.drop(manager)
        self.pool.remove(manager)
        self.ledger.changes.facts[fact_of(manager.incarnation)] = None
        level = "warning" if held else "info"
        self.note(level, f"manager_lost_{level}", f"job manager {manager.incarnation.name} {why}; it had {held} jobs")

    def _cut_short(self, manager: Manager, why: str) -> int:
        """What a manager held may have run in part, and may run on where we do not see it: those that are to stop then
        have stopped `LEASE_S` after we heard of it last. Returns how many jobs it held."""
        held = self.ledger.held_by(manager)
        cause = Failure("eventmq.JobLost", f"job manager {manager.incarnation.name} {why}: it may have begun")
        left_s = manager.heard + limits.LEASE_S + limits.LEASE_MARGIN_S - self.now
        self.ledger.cut_short(held, cause, self.wall, self.now, max(0.0, left_s))
        return len(held)

    def clean_up_dead_workers(self) -> None:
        """Removes the managers that were not heard from within the timeout."""
        for manager in list(self.pool.managers.values()):
            if self.now - manager.heard > self.policy.silence_s:
                self.lose(manager, f"was silent for {self.policy.silence_s:g} s")

    def check_peers(self, drained: bool) -> None:
        """Beats, and judges who is gone; silence only if everything that was there has been read."""
        for manager in list(self.pool.managers.values()):
            suspect = manager.suspect_since
            if suspect is not None and self.now - suspect >= limits.SUSPECT_GRACE_S:
                self.lose(manager, "lost its connection")
            elif self.now - manager.told >= self.beat_s(manager.wire):
                self._tell(manager)
        self._give_up_1_0()
        if not self.holding:
            self._recall()
        self.stops.expire(self.now)
        if drained:
            self.clean_up_dead_workers()
            self.clean_up_dead_schedulers()
        self.beat_schedulers()

    def _give_up_1_0(self) -> None:
        """An eMQP/1.0 manager says nothing of a job that took down its worker process. So each job has a timeout there,
        and one that is not heard of well after it has crashed."""
        for job, manager, since in list(self.ledger.leases.values()) if self._any_1_0() else ():
            timeout_s = self._timeout_1_0(job)
            if manager.wire == 1 and timeout_s and self.now - since > timeout_s + limits.OVERDUE_1_0_S:
                failure = Failure(CRASHED, "the job manager did not report it within its timeout")
                self._settle(manager, [Outcome(job.id, job.lease, "crashed", b"", failure)])

    def _recall(self) -> None:
        """While a manager has nothing to do, full ones of its crew are asked for what has not begun, once a job."""
        for manager in (each for crew in self.pool.crews.values() for each in crew.full()):
            if manager.recalled < manager.sent and manager.wire == 2:
                manager.recalled = manager.sent
                self.outbox.send(BACKEND, manager.id, v2.encode(b"RECALL", v2.Empty()))

    def _any_1_0(self) -> bool:
        return any(manager.wire == 1 for manager in self.pool.managers.values())

    def _timeout_1_0(self, job: Job) -> float:
        timeout_s = options_of(job.options).timeout_s
        return limits.JOB_TIMEOUT_S if timeout_s is None else timeout_s

    def _tell(self, manager: Manager) -> None:
        manager.told = self.now
        self.outbox.send(BACKEND, manager.id, self.beat(manager.wire, manager.sent, manager.clock))

    def send_workers_heartbeats(self) -> None:
        """A heartbeat to every job manager."""
        for manager in self.pool.managers.values():
            self._tell(manager)

    def send_ack(self, socket: str, recipient: PeerId, msgid: str) -> str:
        """Acknowledges `msgid` to an eMQP/1.0 peer.

        Returns:
            The id of the ACK.
        """
        id = self.new_id()
        self.outbox.send(socket, recipient, v1.encode(b"ACK", id, msgid))
        return id

    # ---- hand-outs -----------------------------------------------------------------------------------

    def hand_out(self) -> None:
        """Gives waiting jobs to managers with credit."""
        for manager, jobs in self.ledger.dispatch(self.now, self.wall):
            if manager.wire == 2:
                self.outbox.hand(manager, jobs)
            else:
                for job in jobs:
                    self._send_1_0(manager, job)

    def _send_1_0(self, manager: Manager, job: Job) -> None:
        try:
            frames = v1.format_request(job, self._timeout_1_0(job))
        except InvalidMessageError as error:
            self.ledger.refuse_to_run(job, Failure("eventmq.InvalidJob", str(error)), self.wall)
        else:
            self.outbox.send(BACKEND, manager.id, frames)
