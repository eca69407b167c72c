"""What one job manager and a Router of the 2020 release say to each other: eMQP/1.0. Pure, as `session`.

One READY per free slot, one job in each REQUEST, a REPLY where the headers ask for it. That Router keeps no jobs, so
there is nothing to compare after a reconnection, nothing can be given back, and a job that fails with retries left is
run again here. Source: `docs/protocol.md`, section 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from eventmq import limits
from eventmq.errors import InvalidMessageError
from eventmq.protocol import v1, v2
from eventmq.protocol.v2 import Job, Outcome
from eventmq.workers.session import CONNECT_S, NOTHING, Identity, News

SILENCE_S = 15.0
"""Three missed beats of five seconds: then the Router is given up (`docs/protocol.md`, section 2.5)."""


class SessionV1:
    """A `Session` in eMQP/1.0.

    Args:
        identity: Who we are; the Router learns only the queues.
        new_id: Makes message ids.
    """

    can_return = False

    def __init__(self, identity: Identity, new_id: Callable[[], str]) -> None:
        self.opened = False
        self.outgoing: list[list[bytes]] = []
        self.complaints: list[str] = []
        self.reconnect = False
        self._identity = identity
        self._new_id = new_id
        self._open = False
        self._informs: set[str] = set()
        self._inform_at = 0.0
        self._slots_told = 0
        self._heard = 0.0
        self._beat_at = 0.0
        self._leases = 0
        self._running: dict[int, tuple[Job, v1.Headers, int]] = {}
        self._again: list[Job] = []
        self._replies: list[Outcome] = []

    def connect(self, now: float) -> None:
        """There is a new socket."""
        self.reconnect = False
        self._heard = now
        self._informs.clear()
        self._open = False
        self._inform_at = now

    def on_unsent(self, now: float) -> None:
        """A message could not be sent: nobody is connected."""
        self._open = False
        self._inform_at = now + CONNECT_S

    def on_sendable(self, now: float) -> None:
        """Somebody is connected again."""
        self._open = False
        self._inform_at = now

    def _inform(self, now: float) -> None:
        self._open = False
        self._inform_at = now + SILENCE_S
        queues = json.dumps(self._identity.queues) if self._identity.queues else ""
        self._informs.add(self._send(b"INFORM", queues, "worker"))

    def receive(self, frames: list[bytes], now: float) -> News:
        """One message from the Router, without identity. What cannot be read is reported and ignored."""
        self._heard = now
        if len(frames) < 4 or frames[1] != v1.VERSION:
            self.complaints.append(f"the Router sent something that is not eMQP/1.0: {frames[1:3]!r}")
            return NOTHING
        try:
            return self._handle(frames[2], v1.text(frames[3]), frames[4:])
        except InvalidMessageError as error:
            self.complaints.append(f"the Router sent a {frames[2]!r} that cannot be read: {error}")
            return NOTHING

    def _handle(self, command: bytes, message_id: str, frames: list[bytes]) -> News:
        match command:
            case b"ACK" if frames and v1.text(frames[0]) in self._informs:
                self._informs.clear()
                self.opened = self._open = True
                self._slots_told = 0
            case b"REQUEST":
                self._slots_told = max(0, self._slots_told - 1)
                return self._on_request(message_id, frames)
            case b"DISCONNECT":
                return News(leave=True)
            case b"KBYE" | b"KBAI":
                self._open = False
                self._inform_at = self._heard + limits.RESEND_S
        return NOTHING

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
            if outcome.state not in ("succeeded", "returned") and retries > 0:
                job.attempt += 1
                self._running[job.lease] = (job, headers, retries - 1)
                self._again.append(job)
            elif outcome.state == "returned":
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

    def tick(self, now: float, wall: float) -> None:
        """Look at the clock: beats, silence."""
        if now - self._heard >= SILENCE_S:
            self._open, self.reconnect, self._heard = False, True, now
        elif not self._open:
            if now >= self._inform_at:
                self._inform(now)
        elif now >= self._beat_at:
            self._beat_at = now + limits.HEARTBEAT_1_0_S
            self._send(b"HEARTBEAT", f"{wall:.2f}")

    def settled(self) -> bool:
        """Whether everything is told; nothing here is ACKed."""
        return not self._replies

    def leave(self) -> None:
        """eMQP/1.0 has no word for it: no READY is sent any more."""

    def goodbye(self) -> None:
        """The last message."""
        if self.opened:
            self._send(b"KBYE")

    def _send(self, command: bytes, *frames: str | bytes) -> str:
        id = self._new_id()
        self.outgoing.append(v1.encode(command, id, *frames))
        return id


def _value_of(outcome: Outcome) -> Any:
    """What a 2020 manager says of this: the value (true for none), an exception's text, or `TimeoutError`."""
    if outcome.state == "timeout":
        return v1.TIMEOUT_VALUE
    if outcome.failure is not None:
        return outcome.failure.message
    value = v2.unpack(outcome.value)
    return True if value is None else value
