"""The backend for job managers of eMQP/1.0: one job in each message, and no word for an attempt, a failure, a session.

A turn mostly has many of their messages. READYs and REPLYs that came one after the other are handled together, as if
each manager had said all that in one. Published names here: `on_ready`, `on_reply`.
"""

from __future__ import annotations

from collections import Counter

from eventmq.broker.backend import Backend
from eventmq.broker.outbox import BACKEND
from eventmq.broker.pool import Crew, Incarnation, Manager, PeerId, text_of
from eventmq.errors import InvalidMessageError
from eventmq.protocol import v1, v2
from eventmq.protocol.arguments import UNSENDABLE
from eventmq.protocol.v2 import Failure, Outcome


class BackendV1(Backend):
    """Handlers of what such managers say of their jobs."""

    def on_ready(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """An eMQP/1.0 manager has one more free slot."""
        self.heard(sender)
        self.requeue_worker(sender)

    def on_reply(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """An eMQP/1.0 manager's REPLY: a job's value.

        Raises:
            InvalidMessageError: It is not a REPLY.
        """
        id, value = v1.parse_reply(msg)
        manager = self.pool.managers.get(sender) or self._of_before(sender, id)
        manager = manager or self.heard(sender)
        manager.heard = self.now
        self._settle(manager, [self._outcome(id, value)])

    def on_worked_1_0(self, messages: list[list[bytes]]) -> None:
        """READYs and REPLYs that came together."""
        outcomes: dict[Manager, list[Outcome]] = {}
        freed: Counter[Manager] = Counter()
        for frames in messages:
            if frames[0] not in self.pool.managers:
                self.receive(BACKEND, frames)
                continue
            try:
                v1.text(frames[4])
                manager = self.heard(frames[0])
                if frames[3] == b"READY":
                    freed[manager] += 1
                else:
                    outcomes.setdefault(manager, []).append(self._outcome(*v1.parse_reply(frames[5:])))
            except InvalidMessageError as error:
                self.refuse(BACKEND, frames, error)
            else:
                self.understood[frames[3]] += 1
        for manager, some in outcomes.items():
            self._settle(manager, some)
        for manager, slots in freed.items():
            self._allow(manager, manager.limit + slots)

    def _outcome(self, id: str, value: object) -> Outcome:
        """What a REPLY says of a job. It names no attempt, so it is taken for the current one."""
        lease = self.ledger.leases.get(id)
        number = lease[0].lease if lease else 0
        if value == v1.TIMEOUT_VALUE:
            failure = Failure("eventmq.JobTimeout", "the job manager killed it at its timeout")
            return Outcome(id, number, "timeout", b"", failure)
        try:
            return Outcome(id, number, "succeeded", v2.pack(value))
        except UNSENDABLE as error:
            return Outcome(id, number, "failed", b"", Failure("eventmq.InvalidResult", f"not kept: {error}"))

    def _of_before(self, sender: PeerId, id: str) -> Manager | None:
        """An eMQP/1.0 manager that was connected before a restart, has not noticed it, and replies for a job that it
        had then: the job is counted as handed out to it, once more, for this reply."""
        incarnation = Incarnation(text_of(sender), "")
        if incarnation not in self.expected:
            return None
        self.commit()
        manager = Manager(sender, 1, incarnation, Crew(()), self.now)
        self.ledger.next_lease += 1
        if self.ledger.adopt(id, self.ledger.next_lease, manager, self.now) != "keep":
            self.ledger.counts["stale"] += 1
        return manager
