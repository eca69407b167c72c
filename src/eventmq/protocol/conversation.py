"""One side of a session with a Router, as everybody has it who stays connected: job managers and schedulers. Pure.

    connect ─▶ INFORM ─▶ ACK ─▶ open: beats, and what each kind of peer has to say
       ▲                          │
       └── REFUSED unknown_peer · something is missing · silence · connection gone

Frames in, frames out; time is handed in, monotonic (`now`) and of the wall (`wall`). Who runs the loop sends what is in
`outgoing`, and opens a new socket when `reconnect` says so.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from eventmq import limits
from eventmq.errors import InvalidMessageError
from eventmq.protocol import v1, v2

CONNECT_S = 1.0
"""An INFORM that could not even be sent is tried again after this time, or when `on_sendable` says so."""

INFORM_S_MAX = 8.0
"""Longest pause between INFORMs that were sent and not answered; doubles from `RESEND_S`."""

UNANSWERED_S = 5.0
UNANSWERED_AGAIN_S = 30.0
"""Nobody has ever answered our INFORM for so long: people should hear of it, and every so often again."""

SILENCE_1_0_S = 15.0
"""Three missed beats of five seconds: then a Router of 2020 is given up (`docs/protocol.md`, section 2.2)."""

T = TypeVar("T")


class Conversation(ABC, Generic[T]):
    """What both versions have in common; `T` is what a message asks for.

    Args:
        silence_s: A Router that says nothing for so long is given up.

    Attributes:
        opened: The Router has answered our INFORM at least once.
        outgoing: Messages to send, cleared by whoever does.
        complaints: Lines for people, cleared by whoever shows them.
        reconnect: A new socket is wanted; `connect` tells that it is there.
    """

    def __init__(self, silence_s: float) -> None:
        self.opened = False
        self.outgoing: list[list[bytes]] = []
        self.complaints: list[str] = []
        self.reconnect = False
        self._silence_s = silence_s
        self._open = False
        self._inform_at = 0.0
        self._unanswered = 0
        self._heard = 0.0
        self._ticked: float | None = None
        self._complain_at = math.inf
        self._beat_at = 0.0

    @property
    def in_session(self) -> bool:
        """The Router knows us now, as far as we know."""
        return self._open

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
        """The session is over. INFORM at the end of a turn (`tick`), when everything of the turn is known."""
        self._open = False
        self._inform_at = at

    def tick(self, now: float, wall: float) -> None:
        """Look at the clock: beats, resends, silence."""
        if self._ticked is None:
            self._complain_at = now + UNANSWERED_S
        elif now - self._ticked > limits.STALL_S:
            self._heard += now - self._ticked  # it was we who did not listen
        self._ticked = now
        if not self.opened and now >= self._complain_at:
            self._complain_at = now + UNANSWERED_AGAIN_S
            self.complaints.append("no Router answers; it is tried again until one does")
        if now - self._heard >= self._silence_s:
            self._open, self.reconnect, self._heard = False, True, now
        elif not self._open:
            if now >= self._inform_at:
                self._inform(now)
        else:
            self._tick_open(now, wall)

    @abstractmethod
    def receive(self, frames: list[bytes], now: float) -> T:
        """One message from the Router, without identity. What cannot be read is reported and ignored."""

    @abstractmethod
    def _inform(self, now: float) -> None:
        """Sends INFORM, and says when the next one is due."""

    @abstractmethod
    def _tick_open(self, now: float, wall: float) -> None:
        """The time in a session."""


class ConversationV2(Conversation[T]):
    """In eMQP/2.0. `_handlers` has for each command how to find the type of its body, and who handles it."""

    nothing: T

    def __init__(self, heartbeat_s: float) -> None:
        super().__init__(limits.ROUTER_SILENCE_S)
        self._heartbeat_s = heartbeat_s
        self._n = 0
        self._inform_n = 0
        self._handlers: dict[bytes, tuple[Callable[[bytes], type[v2.Body]], Callable[[Any, float], T]]] = {
            b"REFUSED": (lambda body: v2.Refused, self._on_refused),
            b"KBYE": (lambda body: v2.Empty, self._on_kbye),
        }

    def receive(self, frames: list[bytes], now: float) -> T:
        self._heard = now
        if len(frames) != 4 or frames[1] != v2.VERSION or frames[2] not in self._handlers:
            self.complaints.append(f"the Router sent something that is not eMQP/2.0 for us: {frames[1:3]!r}")
            return self.nothing
        kind, handler = self._handlers[frames[2]]
        try:
            body = v2.decode(frames[3], kind(frames[3]))
        except msgspec.MsgspecError as error:
            self.complaints.append(f"the Router sent a {frames[2].decode()} that cannot be read: {error}")
            return self.nothing
        return handler(body, now)

    def _on_refused(self, body: v2.Refused, now: float) -> T:
        if body.reason != "unknown_peer":
            self.complaints.append(f"the Router refused a message: {body.reason}: {body.text}")
        elif self._open:
            self._renew(now)
        return self.nothing

    def _on_kbye(self, body: v2.Empty, now: float) -> T:
        self._renew(now + limits.RESEND_S)
        return self.nothing

    def _inform(self, now: float) -> None:
        self._inform_n = self._next_n()
        self._inform_at = now + min(INFORM_S_MAX, limits.RESEND_S * 2**self._unanswered)
        self._unanswered = min(self._unanswered + 1, 10)
        self._send(b"INFORM", self._introduction(self._inform_n))

    @abstractmethod
    def _introduction(self, n: int) -> v2.Body:
        """The body of INFORM number `n`."""

    def _begin(self, now: float) -> None:
        """The INFORM was answered: a session begins."""
        self.opened = self._open = True
        self._unanswered = 0
        self._inform_n = -1
        self._beat_at = now

    def _beats(self, now: float) -> bool:
        """Whether it is time for a beat, which is then sent."""
        if now < self._beat_at:
            return False
        self._beat_at = now + self._heartbeat_s
        return True

    def goodbye(self) -> None:
        """The last message."""
        if self.opened:
            self._send(b"KBYE", v2.Empty())

    def _next_n(self) -> int:
        self._n += 1
        return self._n

    def _send(self, command: bytes, body: v2.Body) -> None:
        self.outgoing.append(v2.encode(command, body))


class ConversationV1(Conversation[T]):
    """In eMQP/1.0, with a Router of the 2020 release.

    Args:
        new_id: Makes message ids.
        kind: `worker` or `scheduler`.
        queues: The queues frame of INFORM.
    """

    nothing: T

    def __init__(self, new_id: Callable[[], str], kind: str, queues: str = "") -> None:
        super().__init__(SILENCE_1_0_S)
        self._new_id = new_id
        self._introduction = (queues, kind)
        self._informs: set[str] = set()

    def _renew(self, at: float) -> None:
        super()._renew(at)
        self._informs.clear()

    def _inform(self, now: float) -> None:
        self._inform_at = now + SILENCE_1_0_S
        self._informs.add(self._send(b"INFORM", *self._introduction))

    def receive(self, frames: list[bytes], now: float) -> T:
        self._heard = now
        if len(frames) < 4 or frames[1] != v1.VERSION:
            self.complaints.append(f"the Router sent something that is not eMQP/1.0: {frames[1:3]!r}")
            return self.nothing
        try:
            return self._handle(frames[2], v1.text(frames[3]), frames[4:])
        except InvalidMessageError as error:
            self.complaints.append(f"the Router sent a {frames[2]!r} that cannot be read: {error}")
            return self.nothing

    def _handle(self, command: bytes, message_id: str, frames: list[bytes]) -> T:
        match command:
            case b"ACK" if frames and v1.text(frames[0]) in self._informs:
                self._informs.clear()
                self.opened = self._open = True
                self._begin()
            case b"KBYE" | b"KBAI":
                self._renew(self._heard + limits.RESEND_S)
        return self.nothing

    def _begin(self) -> None:
        """The INFORM was answered: a session begins."""

    def _tick_open(self, now: float, wall: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + limits.HEARTBEAT_1_0_S
            self._send(b"HEARTBEAT", f"{wall:.2f}")

    def goodbye(self) -> None:
        """The last message."""
        if self.opened:
            self._send(b"KBYE")

    def _send(self, command: bytes, *frames: str | bytes) -> str:
        id = self._new_id()
        self.outgoing.append(v1.encode(command, id, *frames))
        return id
