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
from typing import Any, NamedTuple

from eventmq import limits
from eventmq.protocol import v2
from eventmq.protocol.conversation import ConversationV2
from eventmq.protocol.packing import batches
from eventmq.protocol.scheduling import Announcement, Declared
from eventmq.protocol.v2 import Held, Job, Outcome

_OUTCOME_BYTES = 64
"""What an outcome, or a line of a log, takes besides its value and texts, about."""


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
        unwanted: Hand-outs to be stopped.
        grace_s: How long those of them that run have to stop before they are killed.
        report: It is to be told how each was stopped; else nothing is told of them any more.
        recall: Give back what has not begun: others have nothing to do.
        leave: Finish what runs, then go away.
    """

    jobs: list[Job] = []
    unwanted: list[Held] = []
    grace_s: float = 0.0
    report: bool = False
    recall: bool = False
    leave: bool = False


NOTHING = News()


class _Sent(NamedTuple):
    outcomes: list[Outcome]
    at: float


class SessionV2(ConversationV2[News]):
    """A manager's session in eMQP/2.0.

    Args:
        identity: Who we are.
        holding: Every job that is here and has no outcome.
        heartbeat_s: Time between beats.
        declared: The schedules that stand in our modules.

    Attributes:
        can_return: A job that was not started can be given back.
        lease_until: Monotonic time from which on the Router may give jobs with `on_partition="stop"` to others.
    """

    can_return = True
    nothing = NOTHING

    def __init__(
        self,
        identity: Identity,
        holding: Callable[[], Iterable[Job]],
        heartbeat_s: float,
        declared: Callable[[], list[Declared]] = list,
    ) -> None:
        super().__init__(heartbeat_s)
        self._identity = identity
        self._holding = holding
        self.lease_until = 0.0
        self._informed_at = 0.0
        self._declared = declared
        self._received = 0
        self._limit = 0
        self._fresh: list[Outcome] = []
        self._unacked: dict[int, _Sent] = {}
        self._handlers |= {
            b"ACK": (self._kind_of_ack, self._on_ack),
            b"REQUEST": (lambda body: v2.Request, self._on_request),
            b"HEARTBEAT": (lambda body: v2.Beat, self._on_beat),
            b"KILL": (lambda body: v2.Kill, self._on_kill),
            b"RECALL": (lambda body: v2.Empty, lambda body, now: News(recall=True)),
            b"DISCONNECT": (lambda body: v2.Empty, self._on_disconnect),
        }

    # ---- coming --------------------------------------------------------------------------------

    def _inform(self, now: float) -> None:
        self._informed_at = now
        super()._inform(now)

    def _introduction(self, n: int) -> v2.Body:
        who = self._identity
        queues, declared = list(who.queues), self._declared()
        return Announcement(n, who.name, who.nonce, queues, self._held(), who.about, who.fair, declared)

    def _held(self) -> list[Held]:
        held = [Held(job.id, job.lease) for job in self._holding()]
        held += [Held(outcome.id, outcome.lease) for outcome in self._fresh]
        return held + [Held(o.id, o.lease) for sent in self._unacked.values() for o in sent.outcomes]

    # ---- what the Router says --------------------------------------------------------------------

    def _kind_of_ack(self, body: bytes) -> type[v2.Body]:
        return v2.Informed if v2.decode(body, _Number).n == self._inform_n else v2.Ack

    def _on_ack(self, body: v2.Informed | v2.Ack, now: float) -> News:
        if isinstance(body, v2.Ack):
            self._unacked.pop(body.n, None)
            return NOTHING
        self._begin(now)
        self._received, self._limit = 0, -1
        self._heard_at(self._informed_at)
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

    def _heard_at(self, at: float) -> None:
        """The Router has heard what we said at this time. When it answers counts for nothing: a cut may be one-way."""
        self.lease_until = max(self.lease_until, at + limits.LEASE_S)

    def _on_beat(self, body: v2.Beat, now: float) -> News:
        self._heard_at(min(body.clock, now))
        if self._open and body.count != self._received:
            self._renew(now)
        return NOTHING

    def _on_kill(self, body: v2.Kill, now: float) -> News:
        return News(unwanted=body.held, grace_s=body.grace_s, report=True)

    def _on_disconnect(self, body: v2.Empty, now: float) -> News:
        return News(leave=True)

    # ---- what we say -------------------------------------------------------------------------------

    def finish(self, outcomes: list[Outcome]) -> None:
        """These hand-outs have ended; kept until ACKed."""
        self._fresh += outcomes

    def report(self, reports: list[v2.Report]) -> None:
        """What running jobs say of themselves; lost while there is no session."""
        for batch in batches(reports, list(map(_size_of_report, reports))) if self._open else ():
            self._send(b"PROGRESS", v2.Progress(batch))

    def flush(self, room: int, now: float) -> None:
        """End of a turn: tell outcomes, and that `room` more jobs can be taken."""
        if not self._open:
            return
        limit = self._received + room
        if self._fresh:
            for batch in batches(self._fresh, list(map(size_of, self._fresh))):
                self._reply(self._next_n(), batch, limit, now)
            self._fresh = []
        elif limit != self._limit:
            self._send(b"READY", v2.Ready(limit))
        self._limit = limit

    def _reply(self, n: int, outcomes: list[Outcome], limit: int, now: float) -> None:
        self._unacked[n] = _Sent(outcomes, now)
        self._send(b"REPLY", v2.Reply(n, outcomes, limit))

    def _tick_open(self, now: float, wall: float) -> None:
        if self._beats(now):
            self._send(b"HEARTBEAT", v2.Beat(wall, max(0, self._limit), now))
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


class _Number(v2.Body):
    """The first element of any body."""

    n: int


def _size_of_report(report: v2.Report) -> int:
    return _OUTCOME_BYTES + len(report.value) + sum(_OUTCOME_BYTES + len(line.text) for line in report.lines)


def size_of(outcome: Outcome) -> int:
    """Bytes of an outcome on the wire, about."""
    failure = outcome.failure
    told = len(failure.message) + len(failure.traceback) if failure is not None else 0
    return _OUTCOME_BYTES + len(outcome.value) + told
