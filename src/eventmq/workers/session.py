"""What one job manager and its Router say to each other in eMQP/2.0. Pure: frames in, frames out, time is handed in.

    connect ─▶ INFORM (all that is held) ─▶ ACK with verdicts ─▶ open: REQUEST in; READY, REPLY, HEARTBEAT out
       ▲                                                           │
       └── REFUSED unknown_peer · a REQUEST is missing · silence · connection gone

Owns the outcomes that the Router has not ACKed: they are kept, over sessions and for as long as it takes, and sent
again until the ACK comes. What arrives between an INFORM and its ACK belongs to the session before and is ignored: the
Router gives those jobs to others when it reads in the INFORM that they are not held here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from eventmq import limits
from eventmq.protocol import v2
from eventmq.protocol.v2 import Held, Job, Outcome

CONNECT_S = 1.0
"""An INFORM that could not even be sent is tried again after this time, or when `on_sendable` says so."""

INFORM_S_MAX = 8.0
"""Longest pause between INFORMs that were sent and not answered; doubles from `RESEND_S`."""

_OUTCOME_BYTES = 64
"""What an outcome takes besides its value and texts, about."""


class Identity(NamedTuple):
    """Who this manager says it is.

    Attributes:
        name: Stable, for people.
        nonce: Made when the process started.
        queues: (weight, name) pairs; empty = the Router's default queues.
        about: For people: host, pid, version, workers.
        fair: The weights share the slots among the queues instead of ranking them.
    """

    name: str
    nonce: str
    queues: tuple[tuple[int, str], ...] = ()
    about: dict[str, Any] = {}
    fair: bool = False


class News(NamedTuple):
    """What one message from the Router asks for.

    Attributes:
        jobs: To be run.
        unwanted: Hand-outs to be stopped, nothing to be told of them.
        leave: Finish what runs, then go away.
    """

    jobs: list[Job] = []
    unwanted: list[Held] = []
    leave: bool = False


NOTHING = News()


class Session(Protocol):
    """A conversation with a Router, whatever the version of the protocol.

    Attributes:
        opened: The Router has answered our INFORM at least once.
        can_return: A job that was not started can be given back.
        outgoing: Messages to send, cleared by whoever does.
        complaints: Lines for people, cleared by whoever shows them.
        reconnect: A new socket is wanted; `connect` tells that it is there.
    """

    opened: bool
    can_return: bool
    outgoing: list[list[bytes]]
    complaints: list[str]
    reconnect: bool

    def connect(self, now: float) -> None:
        """There is a new socket."""

    def on_unsent(self, now: float) -> None:
        """A message could not be sent: nobody is connected."""

    def on_sendable(self, now: float) -> None:
        """Somebody is connected again."""

    def receive(self, frames: list[bytes], now: float) -> News:
        """One message from the Router, without identity."""

    def finish(self, outcomes: list[Outcome]) -> None:
        """These hand-outs have ended."""

    def flush(self, room: int, now: float) -> None:
        """End of a turn: tell outcomes, and that `room` more jobs can be taken."""

    def tick(self, now: float, wall: float) -> None:
        """Look at the clock: beats, resends, silence."""

    def settled(self) -> bool:
        """Whether the Router has everything that it should know."""

    def leave(self) -> None:
        """No more jobs are wanted; outcomes will still come."""

    def goodbye(self) -> None:
        """The last message."""


class _Sent(NamedTuple):
    outcomes: list[Outcome]
    at: float


class SessionV2:
    """A `Session` in eMQP/2.0.

    Args:
        identity: Who we are.
        holding: Every job that is here and has no outcome.
        heartbeat_s: Time between beats.
    """

    can_return = True

    def __init__(self, identity: Identity, holding: Callable[[], Iterable[Job]], heartbeat_s: float) -> None:
        self.opened = False
        self.outgoing: list[list[bytes]] = []
        self.complaints: list[str] = []
        self.reconnect = False
        self._identity = identity
        self._holding = holding
        self._heartbeat_s = heartbeat_s
        self._n = 0
        self._open = False
        self._inform_n = 0
        self._inform_at = 0.0
        self._unanswered = 0
        self._received = 0
        self._limit = 0
        self._heard = 0.0
        self._ticked: float | None = None
        self._beat_at = 0.0
        self._fresh: list[Outcome] = []
        self._unacked: dict[int, _Sent] = {}
        self._handlers: dict[bytes, tuple[type[v2.Body] | None, Callable[[Any, float], News]]] = {
            b"ACK": (None, self._on_ack),
            b"REQUEST": (v2.Request, self._on_request),
            b"HEARTBEAT": (v2.Beat, self._on_beat),
            b"REFUSED": (v2.Refused, self._on_refused),
            b"KILL": (v2.Kill, self._on_kill),
            b"DISCONNECT": (v2.Empty, self._on_disconnect),
            b"KBYE": (v2.Empty, self._on_kbye),
        }

    # ---- coming --------------------------------------------------------------------------------

    def connect(self, now: float) -> None:
        """There is a new socket."""
        self.reconnect = False
        self._heard = now
        self._unanswered = 0
        self._renew(now)

    def on_unsent(self, now: float) -> None:
        """A message could not be sent: nobody is connected. Announce ourselves as soon as somebody is."""
        self._unanswered = 0
        self._renew(now + CONNECT_S)

    def on_sendable(self, now: float) -> None:
        """Somebody is connected again."""
        self._renew(now)

    def _renew(self, at: float) -> None:
        """The session is over. INFORM at the end of a turn (`tick`), when all outcomes of the turn are known."""
        self._open = False
        self._inform_at = at

    def _inform(self, now: float) -> None:
        self._inform_n = self._next_n()
        self._inform_at = now + min(INFORM_S_MAX, limits.RESEND_S * 2**self._unanswered)
        self._unanswered = min(self._unanswered + 1, 10)
        who = self._identity
        body = v2.Inform(self._inform_n, who.name, who.nonce, list(who.queues), self._held(), who.about, who.fair)
        self._send(b"INFORM", body)

    def _held(self) -> list[Held]:
        held = [Held(job.id, job.lease) for job in self._holding()]
        held += [Held(outcome.id, outcome.lease) for outcome in self._fresh]
        return held + [Held(o.id, o.lease) for sent in self._unacked.values() for o in sent.outcomes]

    # ---- what the Router says --------------------------------------------------------------------

    def receive(self, frames: list[bytes], now: float) -> News:
        """One message from the Router, without identity. What cannot be read is reported and ignored."""
        self._heard = now
        if len(frames) != 4 or frames[1] != v2.VERSION or frames[2] not in self._handlers:
            self.complaints.append(f"the Router sent something that is not eMQP/2.0 for a manager: {frames[1:3]!r}")
            return NOTHING
        kind, handler = self._handlers[frames[2]]
        if kind is None:
            kind = v2.Informed if self._is_for_inform(frames[3]) else v2.Ack
        try:
            body = v2.decode(frames[3], kind)
        except msgspec.MsgspecError as error:
            self.complaints.append(f"the Router sent a {frames[2].decode()} that cannot be read: {error}")
            return NOTHING
        return handler(body, now)

    def _is_for_inform(self, body: bytes) -> bool:
        try:
            return bool(v2.decode(body, _Number).n == self._inform_n)
        except msgspec.MsgspecError:
            return False

    def _on_ack(self, body: v2.Informed | v2.Ack, now: float) -> News:
        if isinstance(body, v2.Ack):
            self._unacked.pop(body.n, None)
            return NOTHING
        self.opened = self._open = True
        self._unanswered = self._received = 0
        self._inform_n = self._limit = -1
        self._beat_at = now
        return self._obey(body.verdicts)

    def _obey(self, verdicts: list[v2.Verdict]) -> News:
        settled = dict.fromkeys((verdict.id, verdict.lease) for verdict in verdicts if verdict.verdict != "keep")
        kept = [o for sent in self._unacked.values() for o in sent.outcomes] + self._fresh
        self._fresh = [outcome for outcome in kept if (outcome.id, outcome.lease) not in settled]
        self._unacked.clear()
        return News(unwanted=[Held(id, lease) for id, lease in settled])

    def _on_request(self, body: v2.Request, now: float) -> News:
        expected = self._received + len(body.jobs)
        if not self._open or body.n < expected:
            return NOTHING  # of the session before, or repeated
        if body.n > expected:
            self._renew(now)  # one before it was lost; the Router learns that these are not held
            return NOTHING
        self._received = body.n
        return News(jobs=body.jobs)

    def _on_beat(self, body: v2.Beat, now: float) -> News:
        if self._open and body.count != self._received:
            self._renew(now)
        return NOTHING

    def _on_refused(self, body: v2.Refused, now: float) -> News:
        if body.reason != "unknown_peer":
            self.complaints.append(f"the Router refused a message: {body.reason}: {body.text}")
        elif self._open:
            self._renew(now)
        return NOTHING

    def _on_kill(self, body: v2.Kill, now: float) -> News:
        unwanted = {(held.id, held.lease) for held in body.held}
        self._fresh = [outcome for outcome in self._fresh if (outcome.id, outcome.lease) not in unwanted]
        return News(unwanted=body.held)

    def _on_disconnect(self, body: v2.Empty, now: float) -> News:
        return News(leave=True)

    def _on_kbye(self, body: v2.Empty, now: float) -> News:
        self._renew(now + limits.RESEND_S)
        return NOTHING

    # ---- what we say -------------------------------------------------------------------------------

    def finish(self, outcomes: list[Outcome]) -> None:
        """These hand-outs have ended; kept until ACKed."""
        self._fresh += outcomes

    def flush(self, room: int, now: float) -> None:
        """End of a turn: tell outcomes, and that `room` more jobs can be taken."""
        if not self._open:
            return
        limit = self._received + room
        if self._fresh:
            for batch in batches(self._fresh):
                self._reply(self._next_n(), batch, limit, now)
            self._fresh = []
        elif limit != self._limit:
            self._send(b"READY", v2.Ready(limit))
        self._limit = limit

    def _reply(self, n: int, outcomes: list[Outcome], limit: int, now: float) -> None:
        self._unacked[n] = _Sent(outcomes, now)
        self._send(b"REPLY", v2.Reply(n, outcomes, limit))

    def tick(self, now: float, wall: float) -> None:
        """Look at the clock: beats, resends, silence."""
        if self._ticked is not None and now - self._ticked > limits.STALL_S:
            self._heard += now - self._ticked  # it was we who did not listen
        self._ticked = now
        if now - self._heard >= limits.ROUTER_SILENCE_S:
            self._open, self.reconnect, self._heard = False, True, now
        elif not self._open:
            if now >= self._inform_at:
                self._inform(now)
        else:
            self._tick_open(now, wall)

    def _tick_open(self, now: float, wall: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat_s
            self._send(b"HEARTBEAT", v2.Beat(wall, max(0, self._limit)))
        for n, sent in list(self._unacked.items()):
            if now - sent.at >= limits.RESEND_S:
                self._reply(n, sent.outcomes, max(0, self._limit), now)

    # ---- leaving -----------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Whether the Router has everything that it should know."""
        return not self._fresh and not self._unacked

    def leave(self) -> None:
        """No more jobs are wanted; outcomes will still come."""
        if self._open:
            self._send(b"DISCONNECT", v2.Empty())

    def goodbye(self) -> None:
        """The last message."""
        if self.opened:
            self._send(b"KBYE", v2.Empty())

    def _next_n(self) -> int:
        self._n += 1
        return self._n

    def _send(self, command: bytes, body: v2.Body) -> None:
        self.outgoing.append(v2.encode(command, body))


class _Number(v2.Body):
    """The first element of any body."""

    n: int


def batches(outcomes: list[Outcome]) -> Iterable[list[Outcome]]:
    """The outcomes in lists of at most `BATCH_JOBS_MAX`, and of about `BATCH_BYTES` at most."""
    start = size = 0
    for i, outcome in enumerate(outcomes):
        size += _OUTCOME_BYTES + len(outcome.value)
        failure = outcome.failure
        if failure is not None:
            size += len(failure.message) + len(failure.traceback)
        if size >= limits.BATCH_BYTES or i - start + 1 >= limits.BATCH_JOBS_MAX:
            yield outcomes[start : i + 1]
            start, size = i + 1, 0
    if start < len(outcomes):
        yield outcomes[start:]
