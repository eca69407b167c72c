"""What one scheduler and its Router say to each other in eMQP/2.0. Pure: frames in, frames out, time is handed in.

A scheduler owns nothing. What it is to run it is told in each session anew, and the only clock is the Router's, whose
heartbeats bring its time: two schedulers on two machines, or one whose own clock is wrong, agree on when something is
due. A REQUEST with ticks is sent again until it is ACKed; the Router runs each due time once, however often it comes.
"""

from __future__ import annotations

import math

from eventmq import limits
from eventmq.errors import InvalidSchedule
from eventmq.protocol import scheduling, v2
from eventmq.protocol.conversation import Conversation, ConversationV2
from eventmq.protocol.scheduling import Assign, Tick, Withdraw
from eventmq.schedules.agenda import Agenda

LEAVE = True
"""What a message may ask for: to leave."""


class Scheduling(Conversation[bool]):
    """What a scheduler does in either version.

    Attributes:
        agenda: What it has to do.
    """

    nothing = not LEAVE
    agenda: Agenda
    _ahead: float | None = None  # how far the Router's clock is ahead of our `now`, if that is known
    _leaving = False

    def _due(self, now: float) -> list[Tick]:
        """What is due and may be said, as many at a time as fit."""
        if not self._open or self._ahead is None or self._leaving:
            return []
        return self.agenda.take_due(now + self._ahead, limits.BATCH_JOBS_MAX)

    def next_time(self) -> float:
        """Monotonic time at which there is something to do even if nothing is received."""
        if not self._open:
            return self._inform_at
        when = self.agenda.next_time
        if when is None or self._ahead is None or self._leaving:
            return self._beat_at
        return min(self._beat_at, when - self._ahead)

    def leave(self) -> None:
        """Say nothing new; what is under way may still be answered."""
        self._leaving = True


class SchedulerSession(Scheduling, ConversationV2[bool]):
    """A scheduler that speaks eMQP/2.0.

    Args:
        name: For people.
        nonce: Made when the process started.
        heartbeat_s: Time between beats.
    """

    def __init__(self, name: str, nonce: str, heartbeat_s: float) -> None:
        super().__init__(heartbeat_s)
        self.agenda = Agenda()
        self._who = (name, nonce)
        self._received = 0
        self._ahead_now = -math.inf  # by the last beat: its way here makes it seem less, so the last two count
        self._unacked: dict[int, tuple[list[Tick], float]] = {}
        self._handlers |= {
            b"ACK": (lambda body: v2.Ack, self._on_ack),
            b"SCHEDULE": (lambda body: Assign, self._on_assign),
            b"UNSCHEDULE": (lambda body: Withdraw, self._on_withdraw),
            b"HEARTBEAT": (lambda body: v2.Beat, self._on_beat),
            b"DISCONNECT": (lambda body: v2.Empty, lambda body, now: LEAVE),
        }

    def _introduction(self, n: int) -> v2.Body:
        return scheduling.Inform(n, *self._who)

    def _renew(self, at: float) -> None:
        """What belongs to the session is void: the Router tells all of it again."""
        super()._renew(at)
        self.agenda = Agenda()
        self._unacked.clear()
        self._ahead, self._ahead_now = None, -math.inf

    # ---- what the Router says --------------------------------------------------------------------

    def _on_ack(self, body: v2.Ack, now: float) -> bool:
        if body.n == self._inform_n:
            self._begin(now)
            self._received = 0
        elif body.n in self._unacked and self._ahead is not None:
            refused = {refusal.id for refusal in body.refusals}
            for tick in self._unacked.pop(body.n)[0]:
                if tick.schedule in refused:
                    self.agenda.again(tick, now + self._ahead + limits.RESEND_S)
                else:
                    self.agenda.done(tick)
        return self.nothing

    def _on_beat(self, body: v2.Beat, now: float) -> bool:
        if not self._open:
            return self.nothing
        if body.count != self._received:
            self._renew(now)
            return self.nothing
        before, self._ahead_now = self._ahead_now, body.time - now
        self._ahead = max(before, self._ahead_now)
        return self.nothing

    def _on_assign(self, body: Assign, now: float) -> bool:
        if self._is_next(body.n, now):
            for assignment in body.assignments:
                try:
                    self.agenda.put(assignment, now + (self._ahead or 0.0))
                except InvalidSchedule as error:
                    self.complaints.append(f"schedule {assignment.id!r} cannot run here: {error}")
        return self.nothing

    def _on_withdraw(self, body: Withdraw, now: float) -> bool:
        if self._is_next(body.n, now):
            for id in body.ids:
                self.agenda.remove(id)
        return self.nothing

    def _is_next(self, n: int, now: float) -> bool:
        """Whether a message follows on the one before; if one is missing, the session begins anew."""
        if not self._open or n <= self._received:
            return False  # of the session before, or repeated
        if n > self._received + 1:
            self._renew(now)
            return False
        self._received = n
        return True

    # ---- what we say -------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """End of a turn: say what is due."""
        while ticks := self._due(now):
            self._request(self._next_n(), ticks, now)

    def _request(self, n: int, ticks: list[Tick], now: float) -> None:
        self._unacked[n] = (ticks, now)
        self._send(b"REQUEST", scheduling.Request(n, [], ticks))

    def _tick_open(self, now: float, wall: float) -> None:
        if self._beats(now):
            self._send(b"HEARTBEAT", v2.Beat(wall, len(self.agenda)))
        for n, (ticks, sent) in list(self._unacked.items()):
            if now - sent >= limits.RESEND_S:
                self._request(n, ticks, now)

    def settled(self) -> bool:
        """Whether the Router has ACKed everything that it was told."""
        return not self._unacked
