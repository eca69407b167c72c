"""What the Router may say: what is durable, to whom it concerns, in order, no more hand-outs than there is credit."""

from __future__ import annotations

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.backlog import key
from eventmq.broker.outbox import BACKEND, FRONTEND, Send
from eventmq.broker.stops import UNCONFIRMED
from eventmq.protocol import v2
from eventmq.router import Router
from sim.knowledge import Heard, Session, View
from sim.moves import Moves
from sim.timeline import Violation

ENDS = {"stopped", "terminated", "killed", UNCONFIRMED}
"""What a CANCEL is told of the run of a job that it has ended."""

IDENTICAL = ("queue", "name", "payload")
"""What a job must have in common with another one to be the same, sent again."""


class Told(Moves):
    """Judges the messages that a turn has sent."""

    def _judge_send(self, router: Router, send: Send, number: int, before: dict[str, View], heard: Heard) -> None:
        peer = send.peer
        assert isinstance(peer, bytes)
        command, body = send.frames[2], send.frames[3]
        if send.socket == FRONTEND and command == b"ACK":
            self._judge_ack(peer, v2.decode(body, v2.Ack))
        elif send.socket == FRONTEND and command == b"REPLY":
            first = v2.unpack(body)[0]
            if isinstance(first, list):
                for result in v2.decode(body, v2.Results).results:
                    self._judge_result(result)
            elif (peer, first) in self._cancels:
                self._judge_cancelled(peer, v2.decode(body, v2.Answer))
        elif send.socket == BACKEND and command == b"REQUEST":
            self._judge_hand_out(router, peer, v2.decode(body, v2.Request), number)
        elif send.socket == BACKEND and command == b"ACK":
            n = v2.unpack(body)[0]
            if (peer, n) in heard.replies:
                self._judge_settled(peer, heard.replies[peer, n], before, heard)
            elif (peer, n) in heard.informs:
                self._judge_verdicts(router.ledger.epoch, peer, v2.decode(body, v2.Informed), before, heard)

    def _judge_ack(self, peer: bytes, ack: v2.Ack) -> None:
        for id, was_there in self._cancels.get((peer, ack.n), {}).items():
            record = self.disk.record(id)
            if record is not None and record.state not in lifecycle.TERMINAL and was_there and id not in self._over:
                raise Violation(f"CANCEL of {id} is ACKed, and what is durable is {record}")
        refused, existing = {refusal.id: refusal.reason for refusal in ack.refusals}, dict(ack.existing)
        for job in self._requests.get((peer, ack.n), ()):
            id = job.id[: limits.ID_CHARS_MAX]
            record = self.disk.record(id)
            same = record is not None and all(getattr(record.job, name) == getattr(job, name) for name in IDENTICAL)
            if id in existing:
                self.keys.judge_existing(id, existing[id])
            elif id not in refused and not same and id not in self._gone:
                raise Violation(f"{job} is ACKed to {peer.decode()}, and what is durable is {record}")
            elif refused.get(id) == "conflict" and (record is None or same) and id not in self._gone:
                raise Violation(f"{job} is refused as a conflict, and what is durable is {record}")

    def _judge_result(self, result: v2.Result) -> None:
        record = self.disk.record(result.id)
        if result.state == lifecycle.UNKNOWN:
            if record is not None:
                raise Violation(f"a client is told that {result.id} is unknown, and it is {record.state}")
            return
        known = None if record is None else (record.state, record.value, record.job.attempt)
        if result.id in self._over:
            return
        if known != (result.state, result.value, result.attempt):
            raise Violation(f"a client is told {result}, and what is durable is {record}")
        self.truth.check_result(result)

    def _judge_cancelled(self, peer: bytes, answer: v2.Answer) -> None:
        was_there = self._cancels[peer, answer.n]
        for id, told in answer.answer.items():
            record = self.disk.record(id)
            state = "unknown" if record is None else record.state
            if id in self.truth.forgotten or self.truth.requeued[id]:
                continue  # it may have been before the answer was complete
            if told == state or (told == lifecycle.UNKNOWN and not was_there[id]):
                continue  # it came behind the CANCEL
            if state != (lifecycle.CANCELLED if told in ENDS else told):
                raise Violation(f"CANCEL of {id} is answered {told}, and what is durable is {record}")
            going_on = [run for run in self.truth.runs.get(id, []) if run.lease in self._stopping and not run.ended]
            if going_on and told != UNCONFIRMED:
                raise Violation(f"CANCEL of {id} is answered {told}, and it runs: {going_on}")

    def _kills(self, sends: list[Send]) -> dict[tuple[bytes | str, int], int]:
        """Who is told to stop which hand-outs, and by which of the messages."""
        return {
            (send.peer, held.lease): number
            for number, send in enumerate(sends)
            if send.frames[1:3] == [v2.VERSION, b"KILL"]
            for held in v2.decode(send.frames[3], v2.Kill).held
        }

    def _judge_kills(self, ran: dict[str, View]) -> None:
        """Who runs a job that is cancelled is told; `ran` are jobs as they were, but for runs that are known to be over
        and managers that are gone."""
        told = {lease for _, lease in self._killed}  # its manager may have a new connection
        for id, old in ran.items():
            ends = id in self.jobs and self.jobs[id].state == lifecycle.CANCELLED
            if ends and old.lease and old.lease not in told:
                raise Violation(f"{id} was cancelled, and {old.holder!r}, who runs it, was not told: {old}")

    def _judge_hand_out(self, router: Router, peer: bytes, request: v2.Request, number: int) -> None:
        session = self._sessions.setdefault(peer, Session())
        session.sent += len(request.jobs)
        announced = self._managers.get(peer)
        for job in request.jobs:
            self.orders.judge_hand_out(job)
            if job.lease <= self._lease or job.lease in self._leases:
                raise Violation(f"hand-out {job.lease:#x} of {job.id} after {self._lease:#x}: they only grow")
            self._leases.add(job.lease)
            if job.attempt < self._attempts.get(job.id, 0):
                raise Violation(f"{job.id} is handed out as attempt {job.attempt} after {self._attempts[job.id]}")
            self._attempts[job.id] = job.attempt
            called_off = self._killed.get((peer, job.lease), 0) > number
            if (self.jobs[job.id].lease != job.lease and not called_off) or not self.disk.has(job.id):
                raise Violation(f"{job.id} is handed out as {job.lease:#x}, and it is {self.jobs.get(job.id)}")
            marked = v2.options_of(job.options).redeliver or self.disk.started(job.id) == job.lease
            if not marked:
                raise Violation(f"{job.id} may begin only once, and that it leaves as {job.lease:#x} is not durable")
            late = v2.options_of(job.options).expires_s
            if late is not None and self.disk.created(job.id) + late <= self.timeline.wall:
                raise Violation(f"{job.id} is handed out, and was not to begin later than {late} s after it came")
            if announced is not None and job.queue not in announced.queues:
                raise Violation(f"{job.id} of queue {job.queue} is handed to {announced}")
        if announced is not None and (session.sent > session.limit or session.sent != request.n):
            raise Violation(f"{announced.manager} got {session.sent} jobs ({request.n}), its limit is {session.limit}")
        for queue in {job.queue for job in request.jobs}:
            self._judge_order(router, queue, max(key(job) for job in request.jobs if job.queue == queue))

    def _judge_order(self, router: Router, queue: str, last: tuple[int, int]) -> None:
        """Nothing that waits should have gone before the last one handed out."""
        backlog = router.ledger.backlogs[queue]
        late = router.ledger.leases.keys() | self._over  # requeued behind the hand-outs of the turn
        firsts = [key(job) for rank in backlog.ranks[:1] for job in backlog.lanes[rank] if job.id not in late][:1]
        if backlog.edge is not None:
            firsts += [key(each.job) for each in self.disk.rows() if each.paged and each.job.queue == queue]
            firsts = [each for each in firsts if self.disk.id_of(each[1]) not in late]
        if firsts and min(firsts) < last:
            raise Violation(f"queue {queue}: {last} was handed out while {min(firsts)} waits (rank, seq)")

    def _judge_settled(self, peer: bytes, outcomes: list[v2.Outcome], before: dict[str, View], heard: Heard) -> None:
        for outcome in outcomes:
            old, new = before.get(outcome.id), self.jobs.get(outcome.id)
            if old is None or new is None or old.lease != outcome.lease or old.holder != peer:
                continue
            if heard.informs:
                continue  # which of the two was read first decides
            first = self._settled.setdefault((outcome.id, outcome.lease), self.turns)
            if first != self.turns and outcome.state != "returned":
                raise Violation(f"{outcome} has counted for the second time")
            if new.lease == outcome.lease:
                raise Violation(f"{outcome} was ACKed and changed nothing")
            if outcome.state == "succeeded" and new.state != "succeeded" and outcome.id not in self.truth.cancelled:
                raise Violation(f"{outcome} was ACKed, and what is durable is {new}")

    def _judge_verdicts(
        self, epoch: int, peer: bytes, informed: v2.Informed, before: dict[str, View], heard: Heard
    ) -> None:
        if len(heard.informs) > 1 or peer in heard.left:
            return  # one may have undone what the other was told
        kept = {each.id: each.lease for each in informed.verdicts if each.verdict == "keep"}
        for id, lease, verdict in ((each.id, each.lease, each.verdict) for each in informed.verdicts):
            old, new = before.get(id), self.jobs.get(id)
            if verdict == "keep" and kept[id] != lease:
                continue  # the same INFORM named a later hand-out of it, too
            mine = new is not None and new.lease == lease and new.holder == peer
            over = new is None or new.state == lifecycle.CANCELLED or id in self.truth.forgotten
            stopping = over and lease in self._stopping
            if verdict == "keep" and stopping:
                continue  # its end is awaited
            if mine != (verdict == "keep"):
                raise Violation(f"verdict {verdict} on {id} {lease:#x}, and it is {new}")
            before_restart = old is not None and old.lease < lease < epoch << 32
            if (
                verdict == "keep"
                and old is not None
                and old.lease not in (0, lease)
                and not (before_restart or old.holder == peer)
            ):
                raise Violation(f"verdict keep on {id} {lease:#x}, and its hand-out was {old}")
            if verdict == "done" and (new.state not in lifecycle.TERMINAL if new else id not in self._gone):
                raise Violation(f"verdict done on {id} {lease:#x}, and it is {new}")
