"""The frontend socket: clients hand in jobs and ask for outcomes; what concerns schedules is in `scheduling`.

Published names here: `process_client_message`, `on_request`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import msgspec

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.handlers import Handler, Handlers
from eventmq.broker.outbox import FRONTEND
from eventmq.broker.pool import PeerId
from eventmq.broker.scheduling import Scheduling
from eventmq.broker.stops import UNCONFIRMED
from eventmq.errors import REASONS, InvalidMessageError
from eventmq.protocol import scheduling, v1, v2
from eventmq.store.base import Record

HANDLERS: Handlers = {
    (v1.VERSION, b"REQUEST"): Handler("on_request", many="on_requests_1_0"),
    (v1.VERSION, b"INFORM"): Handler("on_inform"),
    (v1.VERSION, b"HEARTBEAT"): Handler("on_scheduler_heartbeat"),
    (v1.VERSION, b"SCHEDULE"): Handler("on_schedule"),
    (v1.VERSION, b"UNSCHEDULE"): Handler("on_unschedule"),
    (v1.VERSION, b"KBYE"): Handler("on_scheduler_kbye"),
    (v1.VERSION, b"KBAI"): Handler("on_scheduler_kbye"),
    (v2.VERSION, b"REQUEST"): Handler("on_requests", scheduling.Request),
    (v2.VERSION, b"WAIT"): Handler("on_wait", v2.Wait),
    (v2.VERSION, b"INFO"): Handler("on_info", v2.Info),
    (v2.VERSION, b"CANCEL"): Handler("on_cancel", v2.Cancel),
    (v2.VERSION, b"SCHEDULE"): Handler("on_arrange", scheduling.Arrange),
    (v2.VERSION, b"UNSCHEDULE"): Handler("on_call_off", scheduling.CallOff),
    (v2.VERSION, b"INFORM"): Handler("on_scheduler_informed", scheduling.Inform),
    (v2.VERSION, b"HEARTBEAT"): Handler("on_scheduler_heartbeat", v2.Beat),
    (v2.VERSION, b"KBYE"): Handler("on_scheduler_kbye", v2.Empty),
}


class Asked(NamedTuple):
    """What an eMQP/1.0 REQUEST asks for: a job, for whom, and whether that client wants the result."""

    job: v2.Job
    sender: PeerId
    wants_result: bool


class Frontend(Scheduling):
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
        asked = self._asked_1_0(sender, msgid, msg)
        for refusal in self._accept_1_0({msgid[: limits.ID_CHARS_MAX]: asked} if asked else {}):
            raise InvalidMessageError(refusal.text, refusal.reason)

    def on_requests_1_0(self, messages: list[list[bytes]]) -> None:
        """eMQP/1.0 REQUESTs that came together: their jobs are accepted as those of one eMQP/2.0 REQUEST are."""
        asked: dict[str, Asked] = {}
        for frames in messages:
            try:
                new = self._asked_1_0(frames[0], v1.text(frames[4]), frames[5:])
            except InvalidMessageError as error:
                self.refuse(FRONTEND, frames, error)
                continue
            if new is None:
                self.understood[b"REQUEST"] += 1
                continue
            id = new.job.id[: limits.ID_CHARS_MAX]
            if id in asked:  # one may be refused, and a refusal names an id
                self._accept_all_1_0(asked)
                asked = {}
            asked[id] = new
        self._accept_all_1_0(asked)

    def _accept_all_1_0(self, asked: dict[str, Asked]) -> None:
        refusals = self._accept_1_0(asked)
        self.understood[b"REQUEST"] += len(asked) - len(refusals)
        for refusal in refusals:
            self.refuse(FRONTEND, [], InvalidMessageError(refusal.text, refusal.reason))

    def _asked_1_0(self, sender: PeerId, msgid: str, msg: list[bytes]) -> Asked | None:
        """What a REQUEST asks for; None = it was a scheduler's tick, which has had its effect."""
        job, headers = v1.parse_request(msgid, msg)
        self.check_open()
        if sender in self.schedulers and self.schedules.tick_1_0(sender, job, self.wall, bool(self.expected)):
            self.heard_scheduler(sender)
            self.outbox.send(FRONTEND, sender, v1.encode(b"REPLY", self.new_id(), msgid))
            return None
        return Asked(job, sender, headers.reply_requested)

    def _accept_1_0(self, asked: dict[str, Asked]) -> list[v2.Refusal]:
        """Takes in jobs by id, as refusals name it; those that are not refused get a receipt. Returns the refusals."""
        refusals = self.ledger.accept([job for job, _, _ in asked.values()], self.wall).refusals
        refused = {refusal.id for refusal in refusals}
        for id, (_, sender, wants_result) in asked.items():
            if id in refused:
                continue
            if wants_result:
                self.waiters.add_1_0(id, sender)
            self.outbox.send(FRONTEND, sender, v1.encode(b"REPLY", self.new_id(), id))
        return refusals

    def on_requests(self, sender: PeerId, body: scheduling.Request) -> None:
        """An eMQP/2.0 REQUEST: many jobs of a client, or ticks of a scheduler; one ACK."""
        reason = self.closed
        if reason:
            self.send_refused(FRONTEND, sender, body.n, reason, REASONS[reason])
            return
        if len(body.jobs) + len(body.ticks) > limits.BATCH_JOBS_MAX:
            text = f"{len(body.jobs)} jobs in one REQUEST, the limit is {limits.BATCH_JOBS_MAX}"
            self.send_refused(FRONTEND, sender, body.n, "too_large", text)
            return
        accepted = self.ledger.accept(body.jobs, self.wall, recovering=bool(self.expected))
        if body.ticks:
            accepted.refusals.extend(self.tick_schedules(sender, body.ticks))
        for refusal in accepted.refusals:
            self.refusals[refusal.reason] += 1
        self.outbox.send(FRONTEND, sender, v2.encode(b"ACK", v2.Ack(body.n, *accepted)))

    def on_wait(self, sender: PeerId, body: v2.Wait) -> None:
        """A client's WAIT."""
        if len(body.ids) > limits.WAITS_PER_CLIENT_MAX or self.waiters.full:
            self.send_refused(FRONTEND, sender, body.n, "too_large", "too many jobs are waited for")
            return
        for start in range(0, len(body.ids), limits.TURN_ANSWERS):
            ids = body.ids[start : start + limits.TURN_ANSWERS]
            self.ask(len(ids), partial(self._answer_wait, sender, ids))

    def _answer_wait(self, sender: PeerId, ids: list[str]) -> None:
        stored = self.ledger.stored(ids)
        for id in ids:
            record = stored.get(id)
            if id in self.ledger.live or (record is not None and record.state not in lifecycle.TERMINAL):
                self.waiters.add(id, sender)
            else:
                self.outbox.tell(sender, result_of(record) if record else v2.Result(id, lifecycle.UNKNOWN))

    def on_cancel(self, sender: PeerId, body: v2.Cancel) -> None:
        """A client's CANCEL. The jobs have ended when this turn is durable, and no late outcome counts; the answer
        waits for the runs that have to be stopped."""
        if len(body.ids) > limits.BATCH_JOBS_MAX:
            text = f"{len(body.ids)} jobs in one CANCEL, the limit is {limits.BATCH_JOBS_MAX}"
            self.send_refused(FRONTEND, sender, body.n, "too_large", text)
            return
        grace_s = min(max(0.0, body.grace_s), limits.CANCEL_GRACE_S_MAX)  # 0.0 first: a NaN is 0, too
        again = [id for id in body.ids if id in self.stops.runs]
        stored = self.ledger.stored(body.ids)
        answer = {id: self._end_or_stop(id, grace_s, stored) for id in dict.fromkeys(body.ids)}
        for id in again:
            self.stops.order(id, self.now, self.pool, self.outbox, grace_s)
        if self.stops.ask(sender, body.n, answer):
            self.outbox.send(FRONTEND, sender, v2.encode(b"ACK", v2.Ack(body.n)))

    def _end_or_stop(self, id: str, grace_s: float, stored: dict[str, Record]) -> str:
        """Ends one job; what the client is told of it, "" = that depends on how its run ends."""
        word = self.ledger.cancel(id, self.wall, stored)
        if word == lifecycle.STOPPING:
            manager, held = self.ledger.kills[-1]
            if manager.wire == 1:
                return UNCONFIRMED  # eMQP/1.0 has no word for it: it runs to its end
            self.stops.begin(held, manager.incarnation, self.now, grace_s)
            return ""
        return "" if word == lifecycle.CANCELLED and id in self.stops.runs else word

    def on_info(self, sender: PeerId, body: v2.Info) -> None:
        """A client's INFO."""
        self.ask(1, partial(self._answer_info, sender, body))

    def _answer_info(self, sender: PeerId, body: v2.Info) -> None:
        record = self.ledger.find([body.id]).get(body.id)
        answer = None if record is None else self.describe(record)
        self.outbox.send(FRONTEND, sender, v2.encode(b"REPLY", v2.Answer(body.n, answer)))

    def describe(self, record: Record) -> dict[str, Any]:
        """Everything that is known of a job, for a person. Times are wall times, or None."""
        job = self.ledger.live.get(record.job.id, record.job)
        if 0.0 < job.due <= self.wall:
            job = msgspec.structs.replace(job, due=0.0)  # a copy: `timers` finds a job by its own `due`
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
            "failures": lifecycle.failures_of(record.state, job.failures, failure.type if failure else ""),
            "crashes": job.crashes,
            "due": job.due or None,
            "created": job.created,
            "started": self.started_at(lease[2]) if lease else None,
            "finished": record.finished or None,
            "run_s": record.run_s or None,
            "progress": opened(self.ledger.progress.get(job.id, b"")),
            "worker": lease[1].incarnation.name if lease else record.worker or None,
            "failure": {"type": failure.type, "message": failure.message, "traceback": failure.traceback}
            if failure
            else None,
        }

    def reply_1_0(self, peer: PeerId, result: v2.Result) -> None:
        """The result to a client that speaks eMQP/1.0 and asked for it; a failure comes as its text, as ever."""
        failure = result.failure
        value = plain_value(result.value) if failure is None else f"{failure.type}: {failure.message}"
        self.outbox.send(FRONTEND, peer, v1.encode(b"REPLY", self.new_id(), v1.format_value(value), result.id))


def plain_value(packed: bytes) -> Any:
    """What a job returned, as eMQP/1.0 has it: `true` for nothing."""
    value = opened(packed)
    return True if value is None else value


def opened(packed: bytes) -> Any:
    """What a manager has packed, which may be anything; None = nothing."""
    try:
        return v2.unpack(packed) if packed else None
    except msgspec.MsgspecError as error:
        return f"eventmq.InvalidResult: the value cannot be read: {error}"


def result_of(record: Record) -> v2.Result:
    """The outcome of an ended job as the store has it."""
    failure = v2.decode(record.failure, v2.Failure) if record.failure else None
    return v2.Result(record.job.id, record.state, record.value, failure, record.job.attempt)
