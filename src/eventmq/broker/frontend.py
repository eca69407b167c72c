"""The frontend socket: clients hand in jobs and ask for outcomes, schedulers announce themselves.

Published names here: `process_client_message`, `on_request`, `add_scheduler`, `clean_up_dead_schedulers`,
`send_schedulers_heartbeats`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.core import Core, Handler, Handlers, Scheduler
from eventmq.broker.outbox import FRONTEND
from eventmq.broker.pool import PeerId
from eventmq.errors import REASONS, InvalidMessageError
from eventmq.protocol import v1, v2
from eventmq.store.base import Record

HANDLERS: Handlers = {
    (v1.VERSION, b"REQUEST"): Handler("on_request"),
    (v1.VERSION, b"INFORM"): Handler("on_inform"),
    (v1.VERSION, b"HEARTBEAT"): Handler("on_scheduler_heartbeat"),
    (v1.VERSION, b"SCHEDULE"): Handler("on_schedule"),
    (v1.VERSION, b"UNSCHEDULE"): Handler("on_unschedule"),
    (v1.VERSION, b"KBYE"): Handler("on_scheduler_kbye"),
    (v1.VERSION, b"KBAI"): Handler("on_scheduler_kbye"),
    (v2.VERSION, b"REQUEST"): Handler("on_requests", v2.Request),
    (v2.VERSION, b"WAIT"): Handler("on_wait", v2.Wait),
    (v2.VERSION, b"INFO"): Handler("on_info", v2.Info),
    (v2.VERSION, b"CANCEL"): Handler("on_cancel", v2.Cancel),
}


class Frontend(Core):
    """Handlers of the frontend."""

    def process_client_message(self, original_msg: list[bytes], depth: int = 0) -> None:
        """Handles one message from the frontend, its sender's identity in front.

        Args:
            original_msg: The frames.
            depth: How often this message was tried before.

        Raises:
            InvalidMessageError: It cannot be parsed.
        """
        self.process(FRONTEND, original_msg)

    # ---- clients -------------------------------------------------------------------------------------

    def on_request(self, sender: PeerId, msgid: str, msg: list[bytes], depth: int = 1) -> None:
        """A client's eMQP/1.0 REQUEST. Its receipt is a REPLY with the id, sent when the job is durable.

        Raises:
            InvalidMessageError: It is not a REQUEST, or the job is refused: eMQP/1.0 has no word for that.
        """
        job, headers = v1.parse_request(msgid, msg)
        reason = self._closed()
        if reason:
            raise InvalidMessageError(REASONS[reason], reason)
        for refusal in self.ledger.accept([job], self.wall).refusals:
            raise InvalidMessageError(refusal.text, refusal.reason)
        if headers.reply_requested:
            self.waiters.add_1_0(msgid, sender)
        self.outbox.send(FRONTEND, sender, v1.encode(b"REPLY", self.new_id(), msgid))

    def on_requests(self, sender: PeerId, body: v2.Request) -> None:
        """A client's eMQP/2.0 REQUEST: many jobs, one ACK."""
        reason = self._closed()
        if reason:
            self.send_refused(FRONTEND, sender, body.n, reason, REASONS[reason])
            return
        if len(body.jobs) > limits.BATCH_JOBS_MAX:
            text = f"{len(body.jobs)} jobs in one REQUEST, the limit is {limits.BATCH_JOBS_MAX}"
            self.send_refused(FRONTEND, sender, body.n, "too_large", text)
            return
        accepted = self.ledger.accept(body.jobs, self.wall, recovering=bool(self.expected))
        for refusal in accepted.refusals:
            self.refusals[refusal.reason] += 1
        self.outbox.send(FRONTEND, sender, v2.encode(b"ACK", v2.Ack(body.n, *accepted)))

    def _closed(self) -> str:
        """Why no jobs are accepted at all: a reason, or nothing."""
        if self.received_disconnect:
            return "draining"
        return "storage_full" if self.storage_full else ""

    def on_wait(self, sender: PeerId, body: v2.Wait) -> None:
        """A client's WAIT."""
        if len(body.ids) > limits.WAITS_PER_CLIENT_MAX or self.waiters.full:
            self.send_refused(FRONTEND, sender, body.n, "too_large", "too many jobs are waited for")
            return
        for start in range(0, len(body.ids), limits.TURN_ANSWERS):
            ids = body.ids[start : start + limits.TURN_ANSWERS]
            self.questions.append((len(ids), partial(self._answer_wait, sender, ids)))

    def _answer_wait(self, sender: PeerId, ids: list[str]) -> None:
        live = self.ledger.live
        elsewhere = []
        for id in ids:
            if id in live:
                self.waiters.add(id, sender)
            else:
                elsewhere.append(id)
        records = self.ledger.find(elsewhere) if elsewhere else {}
        for id in elsewhere:
            record = records.get(id)
            if record is None:
                self.outbox.tell(sender, v2.Result(id, lifecycle.UNKNOWN))
            elif record.state in lifecycle.TERMINAL:
                self.outbox.tell(sender, result_of(record))
            else:
                self.waiters.add(id, sender)

    def on_cancel(self, sender: PeerId, body: v2.Cancel) -> None:
        """A client's CANCEL: durable when it is answered. What runs is killed; no late outcome counts."""
        if len(body.ids) > limits.BATCH_JOBS_MAX:
            text = f"{len(body.ids)} jobs in one CANCEL, the limit is {limits.BATCH_JOBS_MAX}"
            self.send_refused(FRONTEND, sender, body.n, "too_large", text)
            return
        answer = {id: self.ledger.cancel(id, self.wall) for id in dict.fromkeys(body.ids)}
        self.outbox.send(FRONTEND, sender, v2.encode(b"REPLY", v2.Answer(body.n, answer)))

    def on_info(self, sender: PeerId, body: v2.Info) -> None:
        """A client's INFO."""
        self.questions.append((1, partial(self._answer_info, sender, body)))

    def _answer_info(self, sender: PeerId, body: v2.Info) -> None:
        record = self.ledger.find([body.id]).get(body.id)
        answer = None if record is None else self.describe(record)
        self.outbox.send(FRONTEND, sender, v2.encode(b"REPLY", v2.Answer(body.n, answer)))

    def describe(self, record: Record) -> dict[str, Any]:
        """Everything that is known of a job, for a person. Times are wall times, or None."""
        job = self.ledger.live.get(record.job.id, record.job)
        if job.due <= self.wall:
            job.due = 0.0
        lease = self.ledger.leases.get(job.id)
        failure = v2.decode(record.failure, v2.Failure) if record.failure else None
        return {
            "id": job.id,
            "state": record.state if record.state in lifecycle.TERMINAL else lifecycle.state_of(job),
            "queue": job.queue,
            "name": job.name,
            "priority": job.priority,
            "unique": job.unique or None,
            "attempt": job.attempt,
            "failures": job.failures,
            "crashes": job.crashes,
            "due": job.due or None,
            "created": job.created,
            "started": self.started_at(lease[2]) if lease else None,
            "finished": record.finished or None,
            "run_s": record.run_s if record.finished else None,
            "worker": lease[1].incarnation.name if lease else record.worker or None,
            "failure": {"type": failure.type, "message": failure.message, "traceback": failure.traceback}
            if failure
            else None,
        }

    def reply_1_0(self, peer: PeerId, result: v2.Result) -> None:
        """The result to a client that speaks eMQP/1.0 and asked for it; a failure comes as its text, as ever."""
        failure = result.failure
        value: Any = True
        if failure is not None:
            value = f"{failure.type}: {failure.message}"
        elif result.value:
            value = plain_value(result.value)
        self.outbox.send(FRONTEND, peer, v1.encode(b"REPLY", self.new_id(), v1.format_value(value), result.id))

    # ---- schedulers ----------------------------------------------------------------------------------

    def add_scheduler(self, scheduler_id: PeerId) -> None:
        """Adds a scheduler to the queue of those that receive SCHEDULE."""
        if scheduler_id not in self.schedulers:
            self.scheduler_queue.append(scheduler_id)
        self.schedulers[scheduler_id] = Scheduler(1, self.now, self.now)

    def forget_scheduler(self, scheduler_id: PeerId) -> None:
        """The scheduler is gone."""
        if self.schedulers.pop(scheduler_id, None) is not None:
            self.scheduler_queue.remove(scheduler_id)
            self.note("warning", "scheduler", "a scheduler is gone")

    def clean_up_dead_schedulers(self) -> None:
        """Removes the schedulers that were not heard from within the timeout."""
        for id, scheduler in list(self.schedulers.items()):
            if self.now - scheduler.hb > self.policy.silence_s:
                self.forget_scheduler(id)

    def send_schedulers_heartbeats(self) -> None:
        """A heartbeat to every scheduler."""
        for id, scheduler in self.schedulers.items():
            scheduler.told = self.now
            self.beats["sent"] += 1
            self.outbox.send(FRONTEND, id, v1.encode(b"HEARTBEAT", self.new_id(), f"{self.wall:.2f}"))

    def on_scheduler_heartbeat(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A scheduler lives."""
        self._known_scheduler(sender).hb = self.now

    def on_scheduler_kbye(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A scheduler leaves."""
        self.forget_scheduler(sender)

    def _known_scheduler(self, sender: PeerId) -> Scheduler:
        scheduler = self.schedulers.get(sender)
        if scheduler is None:
            raise InvalidMessageError("a scheduler must INFORM first", "unknown_peer")
        return scheduler

    def on_schedule(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A client's SCHEDULE goes to one scheduler, each in its turn.

        Raises:
            InvalidMessageError: No scheduler is connected.
        """
        if not self.scheduler_queue:
            raise InvalidMessageError("SCHEDULE: no scheduler is connected", "no_scheduler")
        scheduler = self.scheduler_queue.pop(0)
        self.scheduler_queue.append(scheduler)
        self.outbox.send(FRONTEND, scheduler, v1.encode(b"SCHEDULE", msgid, *msg))

    def on_unschedule(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """A client's UNSCHEDULE goes to every scheduler."""
        for scheduler in self.scheduler_queue:
            self.outbox.send(FRONTEND, scheduler, v1.encode(b"UNSCHEDULE", msgid, *msg))


def plain_value(packed: bytes) -> Any:
    """What a job returned, as eMQP/1.0 has it: `true` for nothing. It came from a manager, so it may be anything."""
    try:
        value = v2.unpack(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"eventmq.InvalidResult: the value cannot be read: {error}"
    return True if value is None else value


def result_of(record: Record) -> v2.Result:
    """The outcome of an ended job as the store has it."""
    failure = v2.decode(record.failure, v2.Failure) if record.failure else None
    return v2.Result(record.job.id, record.state, record.value, failure, record.job.attempt)
