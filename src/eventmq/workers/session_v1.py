"""What one job manager and a Router of the 2020 release say to each other: eMQP/1.0. Pure, as `session`.

One READY per free slot, one job in each REQUEST, a REPLY where the headers ask for it. That Router keeps no jobs, so
there is nothing to compare after a reconnection, nothing can be given back, and a job that fails with retries left is
run again here. Source: `docs/protocol.md`, section 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from eventmq.protocol import v1, v2
from eventmq.protocol.conversation import ConversationV1
from eventmq.protocol.v2 import Job, Outcome
from eventmq.workers.session import NOTHING, Identity, News


class SessionV1(ConversationV1[News]):
    """The same in eMQP/1.0, with the same methods.

    Args:
        identity: Who we are; the Router learns only the queues.
        new_id: Makes message ids.
    """

    can_return = False
    nothing = NOTHING
    lease_until = math.inf
    """That Router gives no job to anybody else."""

    def __init__(self, identity: Identity, new_id: Callable[[], str]) -> None:
        super().__init__(new_id, "worker", json.dumps(identity.queues) if identity.queues else "")
        self._slots_told = 0
        self._leases = 0
        self._running: dict[int, tuple[Job, v1.Headers, int]] = {}
        self._again: list[Job] = []
        self._replies: list[Outcome] = []

    def _handle(self, command: bytes, message_id: str, frames: list[bytes]) -> News:
        match command:
            case b"REQUEST":
                self._slots_told = max(0, self._slots_told - 1)
                return self._on_request(message_id, frames)
            case b"DISCONNECT":
                return News(leave=True)
        return super()._handle(command, message_id, frames)

    def _begin(self) -> None:
        self._slots_told = 0

    def _on_request(self, message_id: str, frames: list[bytes]) -> News:
        job, headers = v1.parse_request(message_id, frames)
        self._leases += 1
        job.lease = self._leases
        self._running[job.lease] = (job, headers, headers.retry_count)
        return News(jobs=[job])

    def finish(self, outcomes: list[Outcome]) -> None:
        """These hand-outs have ended: to be told, or run again if they failed with retries left."""
        for outcome in outcomes:
            job, headers, retries = self._running.pop(outcome.lease)
            if outcome.state not in ("succeeded", "returned", "interrupted") and retries > 0:
                job.attempt += 1
                self._running[job.lease] = (job, headers, retries - 1)
                self._again.append(job)
            elif outcome.state in ("returned", "interrupted"):
                self.complaints.append(f"{job.name}[{job.id}] is lost: a 2020 Router takes no job back")
            elif headers.reply_requested:
                self._replies.append(outcome)

    def retries(self) -> list[Job]:
        """The jobs to be run again here."""
        again, self._again = self._again, []
        return again

    def flush(self, room: int, now: float) -> None:
        """End of a turn: tell outcomes, and that `room` more jobs can be taken."""
        if not self._open:
            return
        for outcome in self._replies:
            self._send(b"REPLY", v1.format_value(_value_of(outcome)), outcome.id)
        self._replies.clear()
        while self._slots_told < room:
            self._slots_told += 1
            self._send(b"READY")

    def report(self, reports: list[v2.Report]) -> None:
        """eMQP/1.0 has no word for it."""

    def settled(self) -> bool:
        """Whether everything is told; nothing here is ACKed."""
        return not self._replies

    def leave(self) -> None:
        """eMQP/1.0 has no word for it: no READY is sent any more."""


def _value_of(outcome: Outcome) -> Any:
    """What a 2020 manager says of this: the value (true for none), an exception's text, or `TimeoutError`."""
    if outcome.state == "timeout":
        return v1.TIMEOUT_VALUE
    if outcome.failure is not None:
        return outcome.failure.message
    value = v2.unpack(outcome.value)
    return True if value is None else value
