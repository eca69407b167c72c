"""Schedules on the frontend: clients arrange them, schedulers announce themselves and say what is due.

Published names here: `add_scheduler`, `clean_up_dead_schedulers`, `send_schedulers_heartbeats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventmq import limits
from eventmq.broker.core import Core
from eventmq.broker.outbox import FRONTEND
from eventmq.broker.pool import PeerId
from eventmq.broker.schedule import Entry, Scheduler
from eventmq.errors import REASONS, InvalidMessageError
from eventmq.protocol import calls, scheduling, v1, v2
from eventmq.protocol.scheduling import Assign, Schedule, Withdraw


class Scheduling(Core):
    """Handlers of the frontend that concern schedules and schedulers."""

    # ---- clients -------------------------------------------------------------------------------------

    def on_arrange(self, sender: PeerId, body: scheduling.Arrange) -> None:
        """A client's eMQP/2.0 SCHEDULE."""
        try:
            self.check_open()
            self.schedules.put(body.schedule, self.wall)
        except InvalidMessageError as error:
            self.refusals[error.reason] += 1
            self.send_refused(FRONTEND, sender, body.n, error.reason, str(error))
            return
        self.outbox.send(FRONTEND, sender, v2.encode(b"REPLY", v2.Answer(body.n, body.schedule.id)))

    def on_call_off(self, sender: PeerId, body: scheduling.CallOff) -> None:
        """A client's eMQP/2.0 UNSCHEDULE."""
        was_there = self.schedules.remove(body.id, self.wall)
        self.outbox.send(FRONTEND, sender, v2.encode(b"REPLY", v2.Answer(body.n, was_there)))

    def on_schedule(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A client's eMQP/1.0 SCHEDULE. It has no answer.

        Raises:
            InvalidMessageError: It is not a SCHEDULE, or is refused.
        """
        job, _, rule = v1.parse_schedule(msgid, msg)
        self.check_open()
        self.schedules.put(Schedule(calls.call_key(job.name, job.payload), msgid, rule, job), self.wall)

    def on_unschedule(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A client's eMQP/1.0 UNSCHEDULE: the schedule of that call is removed.

        Raises:
            InvalidMessageError: It is not an UNSCHEDULE.
        """
        job, _, _ = v1.parse_schedule(msgid, msg)
        self.schedules.remove(calls.call_key(job.name, job.payload), self.wall)

    # ---- peers ---------------------------------------------------------------------------------------

    def beat_s(self, wire: int) -> float:
        """Time between beats to a peer of this version."""
        return self.policy.heartbeat_s if wire == 2 else max(self.policy.heartbeat_s, limits.SUSPECT_GRACE_S)

    def beat(self, wire: int, sent: int, clock: float = 0.0) -> list[bytes]:
        """The frames of a heartbeat to a peer of this version; it counts as sent."""
        self.beats["sent"] += 1
        if wire == 1:
            return v1.encode(b"HEARTBEAT", self.new_id(), f"{self.wall:.2f}")
        return v2.encode(b"HEARTBEAT", v2.Beat(self.wall, sent, clock))

    def check_room(self, sender: PeerId) -> None:
        """Whether one more peer may come.

        Raises:
            InvalidMessageError: It may not.
        """
        peers = len(self.pool.managers) + len(self.schedulers)
        if peers >= limits.PEERS_MAX and sender not in self.pool.managers and sender not in self.schedulers:
            raise InvalidMessageError(f"there are {peers} peers already", "too_large")

    def on_scheduler_informed(self, sender: PeerId, body: scheduling.Inform) -> None:
        """An eMQP/2.0 scheduler comes, or comes back: in either case it holds nothing.

        Raises:
            InvalidMessageError: The Router is shutting down, or a name is not acceptable.
        """
        if self.received_disconnect:
            raise InvalidMessageError(REASONS["draining"], "draining")
        if not 0 < len(body.name) <= limits.NAME_CHARS_MAX or not 0 < len(body.nonce) <= limits.ID_CHARS_MAX:
            raise InvalidMessageError(f"name and nonce have 1 to {limits.NAME_CHARS_MAX} characters")
        self.check_room(sender)
        incarnation = (body.name, body.nonce)
        for peer, other in list(self.schedulers.items()):
            if peer == sender or (other.name, other.nonce) == incarnation:
                self.forget_scheduler(peer)
        self.outbox.send(FRONTEND, sender, v2.encode(b"ACK", v2.Ack(body.n)))
        self._add(sender, Scheduler(2, self.now, self.now, *incarnation))
        self.note("info", "scheduler_here", f"scheduler {body.name} is here")

    def add_scheduler(self, scheduler_id: PeerId) -> None:
        """Adds a scheduler that speaks eMQP/1.0 to the queue of those that receive SCHEDULE."""
        if scheduler_id in self.schedulers:
            self.forget_scheduler(scheduler_id)
        self._add(scheduler_id, Scheduler(1, self.now, self.now))

    def _add(self, peer: PeerId, scheduler: Scheduler) -> None:
        self.schedulers[peer] = scheduler
        self.scheduler_queue.append(peer)
        self.schedules.offer()

    def forget_scheduler(self, scheduler_id: PeerId) -> None:
        """The scheduler is gone; others take over what it had."""
        scheduler = self.schedulers.pop(scheduler_id, None)
        if scheduler is None:
            return
        self.scheduler_queue.remove(scheduler_id)
        released = self.schedules.release(scheduler_id)
        level = "warning" if released else "info"
        name = scheduler.name or "of 2020"
        self.note(level, f"scheduler_gone_{level}", f"scheduler {name} is gone; it had {released} schedules")

    def clean_up_dead_schedulers(self) -> None:
        """Removes the schedulers that were not heard from within the timeout."""
        for id, scheduler in list(self.schedulers.items()):
            if self.now - scheduler.hb > self.policy.silence_s:
                self.forget_scheduler(id)

    def send_schedulers_heartbeats(self) -> None:
        """A heartbeat to every scheduler."""
        for id, scheduler in self.schedulers.items():
            self._beat(id, scheduler)

    def beat_schedulers(self) -> None:
        """A heartbeat to every scheduler whose time for one has come."""
        for id, scheduler in self.schedulers.items():
            if self.now - scheduler.told >= self.beat_s(scheduler.wire):
                self._beat(id, scheduler)

    def _beat(self, id: PeerId, scheduler: Scheduler) -> None:
        scheduler.told = self.now
        self.outbox.send(FRONTEND, id, self.beat(scheduler.wire, scheduler.sent))

    def on_scheduler_heartbeat(self, sender: PeerId, *message: object) -> None:
        """A scheduler lives."""
        self.heard_scheduler(sender)

    def on_scheduler_kbye(self, sender: PeerId, *message: object) -> None:
        """A scheduler leaves."""
        self.forget_scheduler(sender)

    def heard_scheduler(self, sender: PeerId) -> Scheduler:
        """The scheduler that a frame came from; any frame counts as a heartbeat.

        Raises:
            InvalidMessageError: It is not known.
        """
        scheduler = self.schedulers.get(sender)
        if scheduler is None:
            raise InvalidMessageError("a scheduler must INFORM first", "unknown_peer")
        scheduler.hb = self.now
        return scheduler

    # ---- who ticks what ----------------------------------------------------------------------------------

    def tick_schedules(self, sender: PeerId, ticks: Iterable[scheduling.Tick]) -> list[v2.Refusal]:
        """What a scheduler says is due; returns what it has to say again.

        Raises:
            InvalidMessageError: It is not known.
        """
        self.heard_scheduler(sender)
        recovering = bool(self.expected)
        found = (self.schedules.tick(sender, tick, self.wall, recovering) for tick in ticks)
        return [refusal for refusal in found if refusal is not None]

    def distribute(self) -> None:
        """Tells schedulers of everything that has changed: each schedule has one of them, or waits for one."""
        news: dict[PeerId, tuple[list[Entry], list[Entry]]] = {}  # given and taken
        for entry in self.schedules.take_changed():
            if entry.holder is not None and not (entry.active and self._can(entry.holder, entry)):
                news.setdefault(entry.holder, ([], []))[1].append(entry)
                entry.holder = None
            if entry.active and entry.holder is None:
                entry.holder = self._choose(entry)
            if entry.active and entry.holder is not None:
                news.setdefault(entry.holder, ([], []))[0].append(entry)
        for peer, (given, taken) in news.items():
            self._give(peer, given, taken)
        if alarms := self.schedules.take_alarms():
            self._tell_alarms(alarms)

    def _tell_alarms(self, entries: list[Entry]) -> None:
        for level, overdue, text in (("warning", True, "overdue"), ("info", False, "not overdue any more")):
            names = [entry.schedule.id for entry in entries if entry.overdue == overdue]
            for id in names:
                self.tell("schedule_overdue" if overdue else "schedule_recovered", schedule=id)
            if names:
                more = f" and {len(names) - limits.NAMES_MAX} more" if len(names) > limits.NAMES_MAX else ""
                self.note(level, f"overdue_{level}", f"schedules {text}: {', '.join(names[: limits.NAMES_MAX])}{more}")

    def _choose(self, entry: Entry) -> PeerId | None:
        """The next one in the queue, those that speak eMQP/2.0 first: their ticks cannot be doubled."""
        able = [peer for peer in self.scheduler_queue if self._can(peer, entry)]
        chosen = max(able, key=lambda peer: self.schedulers[peer].wire, default=None)
        if chosen is not None:
            self.scheduler_queue.remove(chosen)
            self.scheduler_queue.append(chosen)
        return chosen

    def _can(self, peer: PeerId, entry: Entry) -> bool:
        if self.schedulers[peer].wire == 2:
            return True
        try:
            return bool(self._frames_1_0(entry))
        except InvalidMessageError:
            return False

    def _frames_1_0(self, entry: Entry) -> list[bytes]:
        begun, left = bool(entry.state.runs), entry.state.left
        return v1.format_schedule(self.new_id(), entry.schedule.job, entry.schedule.rule, begun, left)

    def _give(self, peer: PeerId, given: list[Entry], taken: list[Entry]) -> None:
        """What is a scheduler's from now on, and what is not any longer."""
        scheduler = self.schedulers[peer]
        if scheduler.wire == 1:
            for entry in taken:
                frames = v1.format_unschedule(self.new_id(), entry.schedule.job, entry.schedule.rule)
                self.outbox.send(FRONTEND, peer, frames)
            for entry in given:
                self.outbox.send(FRONTEND, peer, self._frames_1_0(entry))
            return
        messages: list[tuple[bytes, Assign | Withdraw]] = []
        messages += [(b"UNSCHEDULE", Withdraw(0, [entry.schedule.id for entry in some])) for some in _batches(taken)]
        messages += [(b"SCHEDULE", Assign(0, [entry.assignment for entry in some])) for some in _batches(given)]
        for command, body in messages:
            body.n = scheduler.sent = scheduler.sent + 1
            self.outbox.send(FRONTEND, peer, v2.encode(command, body))
        self._beat(peer, scheduler)  # it brings the Router's time


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), limits.BATCH_JOBS_MAX):
        yield entries[start : start + limits.BATCH_JOBS_MAX]
